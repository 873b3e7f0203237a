/* The process image: what the scan host and the drivers exchange in shared memory.
 *
 * Each driver owns two exchanges, one per direction. An exchange has one reader and up to two writers (two scan hosts
 * that stand by for each other), each with a slot of its own, and one slot in the middle. The slot numbers, the "fresh"
 * mark and the epoch of the leading host share one atomic word: a process killed between any two instructions leaves
 * it whole, and a host whose epoch is over cannot publish any more, whenever it was frozen.
 * The scan host tries a bounded number of times and then keeps what it has: it never waits for a driver.
 */
#ifndef VPLC_IMAGE_H
#define VPLC_IMAGE_H

#include <stdatomic.h>
#include <stdint.h>

#define IMAGE_MAGIC "VPLCIMG2"
#define DIRECTIONS 2 /* 0: inputs, driver to host; 1: outputs, host to driver */
#define SLOTS 4
#define ANY_EPOCH UINT32_MAX
#define MAX_EPOCH 0x7FFFFFu

/* Quality of a value. The first four come from a writer; the others say what the host did about it. */
enum quality { NEVER = 0, GOOD = 1, UNCERTAIN = 2, BAD = 3, STALE = 4, SAFE = 5 };

struct record {
  uint64_t value;   /* little-endian bits of the value, the rest zero */
  int64_t stamp_ns; /* CLOCK_MONOTONIC */
  uint32_t quality;
  uint32_t epoch; /* outputs: of the host that wrote it; 0 without a standby */
};

struct exchange {
  _Atomic uint32_t word; /* two bits each: slots of writer 0 and 1, middle, reader; bit 8 fresh; above: the epoch */
  uint32_t count;        /* records per slot */
  uint64_t records;      /* byte offset of slot 0 from the beginning of the image */
  _Atomic uint64_t published;
  _Atomic int64_t stamp_ns; /* of the last publication */
};

struct driver_image {
  struct exchange direction[DIRECTIONS];
  uint64_t effective; /* byte offset of one uint32 per input: the quality the program's value really has */
};

struct image {
  char magic[8];
  uint64_t size;
  uint32_t drivers;
  _Atomic uint32_t epoch;
  _Atomic int64_t drive_until_ns; /* CLOCK_MONOTONIC; drivers leave their devices alone after it */
  struct driver_image driver[];
};

/* The writer's own slot; fill all of it, then publish. */
struct record *image_back(struct image *image, uint32_t driver, uint32_t direction);
/* Hands the writer's slot over. Returns 0, or -1 when the peer kept changing the word (the old values stay). */
int image_publish(struct image *image, uint32_t driver, uint32_t direction);
/* The newest complete set of records, the same one again when nothing new was published. */
const struct record *image_take(struct image *image, uint32_t driver, uint32_t direction);
/* CLOCK_MONOTONIC, ns. */
int64_t image_now(void);
/* What a peer needs to know without reading the structs itself. */
uint64_t image_published(struct image *image, uint32_t driver, uint32_t direction);
int64_t image_stamp(struct image *image, uint32_t driver, uint32_t direction);
uint32_t image_effective(struct image *image, uint32_t driver, uint32_t channel);
/* Whether the drivers of this image may write to their devices now. */
int image_may_drive(struct image *image);
/* Of the host that leads now: what another one wrote before it is nobody's any more. */
uint32_t image_epoch(struct image *image);
/* Makes an empty image in zeroed memory of `size` bytes; counts holds inputs and outputs per driver. Returns the
 * bytes needed (nothing is written when they exceed `size`). */
uint64_t image_format(struct image *image, uint64_t size, uint32_t drivers, const uint32_t *counts);

/* ---- for scan hosts ---- */

#define EXCHANGE_BEGIN (0u | 1u << 2 | 2u << 4 | 3u << 6)
#define FENCED (-2) /* another host leads */

uint32_t exchange_back(_Atomic uint32_t *word, uint32_t writer);
int exchange_publish(_Atomic uint32_t *word, uint32_t writer, uint32_t epoch);
/* The reader's slot; a reader of another epoch gets it without disturbing the present one. */
uint32_t exchange_take(_Atomic uint32_t *word, uint32_t epoch);
/* From now on only this epoch publishes and takes; epochs only go up. */
void exchange_raise(_Atomic uint32_t *word, uint32_t epoch);

struct record *image_back_of(struct image *image, uint32_t driver, uint32_t writer); /* outputs */
int image_publish_of(struct image *image, uint32_t driver, uint32_t writer, uint32_t epoch);
const struct record *image_take_in(struct image *image, uint32_t driver, uint32_t epoch); /* inputs */
void image_raise(struct image *image, uint32_t epoch);

#endif
