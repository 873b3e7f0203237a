/* The process image: what the scan host and the drivers exchange in shared memory.
 *
 * Each driver owns two triple buffers, one per direction, with one writer and one reader each. The three slot numbers
 * and the "fresh" mark share one atomic word, so a process killed between any two instructions leaves it whole.
 * The scan host tries a bounded number of times and then keeps what it has: it never waits for a driver.
 */
#ifndef VPLC_IMAGE_H
#define VPLC_IMAGE_H

#include <stdatomic.h>
#include <stdint.h>

#define IMAGE_MAGIC "VPLCIMG1"
#define DIRECTIONS 2 /* 0: inputs, driver to host; 1: outputs, host to driver */

/* Quality of a value. The first four come from a writer; the others say what the host did about it. */
enum quality { NEVER = 0, GOOD = 1, UNCERTAIN = 2, BAD = 3, STALE = 4, SAFE = 5 };

struct record {
  uint64_t value;    /* little-endian bits of the value, the rest zero */
  int64_t stamp_ns;  /* CLOCK_MONOTONIC */
  uint32_t quality;
  uint32_t spare;
};

struct triple {
  _Atomic uint32_t word; /* bits 0-1 the writer's slot, 2-3 the middle, 4-5 the reader's, 6 fresh */
  uint32_t count;        /* records per slot */
  uint64_t records;      /* byte offset of slot 0 from the beginning of the image */
  _Atomic uint64_t published;
  _Atomic int64_t stamp_ns; /* of the last publication */
};

struct driver_image {
  struct triple direction[DIRECTIONS];
  uint64_t effective; /* byte offset of one uint32 per input: the quality the program's value really has */
};

struct image {
  char magic[8];
  uint64_t size;
  uint32_t drivers;
  uint32_t spare;
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
/* Makes an empty image in zeroed memory of `size` bytes; counts holds inputs and outputs per driver. Returns the
 * bytes needed (nothing is written when they exceed `size`). */
uint64_t image_format(struct image *image, uint64_t size, uint32_t drivers, const uint32_t *counts);

#endif
