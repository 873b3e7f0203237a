#define _GNU_SOURCE
#include "image.h"

#include <string.h>
#include <time.h>

#define TRIES 8 /* a peer changes the word once per scan or cycle, so even the second try is rare */
#define FRESH 256u
#define EPOCH_AT 9
#define MIDDLE 4
#define READER 6

static uint32_t swapped(uint32_t word, uint32_t a, uint32_t b) {
  uint32_t x = word >> a & 3, y = word >> b & 3;
  return (word & ~(3u << a) & ~(3u << b)) | y << a | x << b;
}

uint32_t exchange_back(_Atomic uint32_t *word, uint32_t writer) {
  return atomic_load_explicit(word, memory_order_acquire) >> 2 * writer & 3;
}

int exchange_publish(_Atomic uint32_t *word, uint32_t writer, uint32_t epoch) {
  uint32_t old = atomic_load_explicit(word, memory_order_acquire);
  for (int i = 0; i < TRIES; i++) {
    if (epoch != ANY_EPOCH && old >> EPOCH_AT != epoch) return FENCED;
    if (atomic_compare_exchange_strong_explicit(word, &old, swapped(old, 2 * writer, MIDDLE) | FRESH,
                                                memory_order_acq_rel, memory_order_acquire))
      return 0;
  }
  return -1;
}

uint32_t exchange_take(_Atomic uint32_t *word, uint32_t epoch) {
  uint32_t old = atomic_load_explicit(word, memory_order_acquire);
  for (int i = 0; i < TRIES && (old & FRESH) && (epoch == ANY_EPOCH || old >> EPOCH_AT == epoch); i++) {
    uint32_t next = swapped(old, MIDDLE, READER) & ~FRESH;
    if (atomic_compare_exchange_strong_explicit(word, &old, next, memory_order_acq_rel, memory_order_acquire))
      return next >> READER & 3;
  }
  return old >> READER & 3;
}

void exchange_raise(_Atomic uint32_t *word, uint32_t epoch) {
  uint32_t old = atomic_load_explicit(word, memory_order_acquire);
  while (old >> EPOCH_AT < epoch &&
         !atomic_compare_exchange_weak_explicit(word, &old, (old & ((1u << EPOCH_AT) - 1)) | epoch << EPOCH_AT,
                                                memory_order_acq_rel, memory_order_acquire)) {
  }
}

static struct exchange *exchange_of(struct image *image, uint32_t driver, uint32_t direction) {
  return &image->driver[driver].direction[direction];
}

static struct record *slot_of(struct image *image, struct exchange *e, uint32_t slot) {
  return (struct record *)((char *)image + e->records) + (size_t)slot * e->count;
}

static int published(struct exchange *e, int result) {
  if (result == 0) {
    atomic_store_explicit(&e->stamp_ns, image_now(), memory_order_relaxed);
    atomic_fetch_add_explicit(&e->published, 1, memory_order_relaxed);
  }
  return result;
}

struct record *image_back(struct image *image, uint32_t driver, uint32_t direction) {
  struct exchange *e = exchange_of(image, driver, direction);
  return slot_of(image, e, exchange_back(&e->word, 0));
}

struct record *image_back_of(struct image *image, uint32_t driver, uint32_t writer) {
  struct exchange *e = exchange_of(image, driver, 1);
  return slot_of(image, e, exchange_back(&e->word, writer));
}

int image_publish(struct image *image, uint32_t driver, uint32_t direction) {
  struct exchange *e = exchange_of(image, driver, direction);
  return published(e, exchange_publish(&e->word, 0, ANY_EPOCH));
}

int image_publish_of(struct image *image, uint32_t driver, uint32_t writer, uint32_t epoch) {
  struct exchange *e = exchange_of(image, driver, 1);
  return published(e, exchange_publish(&e->word, writer, epoch));
}

const struct record *image_take(struct image *image, uint32_t driver, uint32_t direction) {
  struct exchange *e = exchange_of(image, driver, direction);
  return slot_of(image, e, exchange_take(&e->word, ANY_EPOCH));
}

const struct record *image_take_in(struct image *image, uint32_t driver, uint32_t epoch) {
  struct exchange *e = exchange_of(image, driver, 0);
  return slot_of(image, e, exchange_take(&e->word, epoch));
}

void image_raise(struct image *image, uint32_t epoch) {
  for (uint32_t i = 0; i < image->drivers * DIRECTIONS; i++)
    exchange_raise(&exchange_of(image, i / DIRECTIONS, i % DIRECTIONS)->word, epoch);
  atomic_store(&image->epoch, epoch);
}

int64_t image_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

uint64_t image_published(struct image *image, uint32_t driver, uint32_t direction) {
  return atomic_load(&exchange_of(image, driver, direction)->published);
}

int64_t image_stamp(struct image *image, uint32_t driver, uint32_t direction) {
  return atomic_load(&exchange_of(image, driver, direction)->stamp_ns);
}

uint32_t image_effective(struct image *image, uint32_t driver, uint32_t channel) {
  _Atomic uint32_t *all = (_Atomic uint32_t *)((char *)image + image->driver[driver].effective);
  return atomic_load_explicit(&all[channel], memory_order_relaxed);
}

int image_may_drive(struct image *image) { return image_now() < atomic_load(&image->drive_until_ns); }

uint32_t image_epoch(struct image *image) { return atomic_load(&image->epoch); }

uint64_t image_format(struct image *image, uint64_t size, uint32_t drivers, const uint32_t *counts) {
  uint64_t at = sizeof(struct image) + (uint64_t)drivers * sizeof(struct driver_image);
  for (int write = 0; write < 2; write++) {
    if (write && at > size) return at;
    at = (sizeof(struct image) + (uint64_t)drivers * sizeof(struct driver_image) + 63) & ~63ull;
    for (uint32_t d = 0; d < drivers; d++) {
      for (uint32_t k = 0; k < DIRECTIONS; k++) {
        uint32_t count = counts[d * DIRECTIONS + k];
        if (write) {
          struct exchange *e = exchange_of(image, d, k);
          e->count = count;
          e->records = at;
          atomic_store(&e->word, EXCHANGE_BEGIN);
        }
        at += ((uint64_t)count * SLOTS * sizeof(struct record) + 63) & ~63ull;
      }
      if (write) image->driver[d].effective = at;
      at += ((uint64_t)counts[d * DIRECTIONS] * 4 + 63) & ~63ull;
    }
  }
  image->size = at;
  image->drivers = drivers;
  atomic_store(&image->drive_until_ns, INT64_MAX);
  memcpy(image->magic, IMAGE_MAGIC, 8);
  return at;
}
