#define _GNU_SOURCE
#include "image.h"

#include <string.h>
#include <time.h>

#define TRIES 8 /* a peer changes the word once per scan or cycle, so even the second try is rare */
#define FRESH 64u

static struct triple *triple_of(struct image *image, uint32_t driver, uint32_t direction) {
  return &image->driver[driver].direction[direction];
}

static struct record *slot_of(struct image *image, struct triple *t, uint32_t slot) {
  return (struct record *)((char *)image + t->records) + (size_t)(slot % 3) * t->count;
}

struct record *image_back(struct image *image, uint32_t driver, uint32_t direction) {
  struct triple *t = triple_of(image, driver, direction);
  return slot_of(image, t, atomic_load_explicit(&t->word, memory_order_acquire) & 3);
}

int image_publish(struct image *image, uint32_t driver, uint32_t direction) {
  struct triple *t = triple_of(image, driver, direction);
  uint32_t old = atomic_load_explicit(&t->word, memory_order_acquire);
  for (int i = 0; i < TRIES; i++) {
    uint32_t next = ((old >> 2) & 3) | (old & 3) << 2 | (old & 48) | FRESH;
    if (atomic_compare_exchange_strong_explicit(&t->word, &old, next, memory_order_acq_rel, memory_order_acquire)) {
      atomic_store_explicit(&t->stamp_ns, image_now(), memory_order_relaxed);
      atomic_fetch_add_explicit(&t->published, 1, memory_order_relaxed);
      return 0;
    }
  }
  return -1;
}

const struct record *image_take(struct image *image, uint32_t driver, uint32_t direction) {
  struct triple *t = triple_of(image, driver, direction);
  uint32_t old = atomic_load_explicit(&t->word, memory_order_acquire);
  for (int i = 0; i < TRIES && (old & FRESH); i++) {
    uint32_t next = (old & 3) | ((old >> 4) & 3) << 2 | ((old >> 2) & 3) << 4;
    if (atomic_compare_exchange_strong_explicit(&t->word, &old, next, memory_order_acq_rel, memory_order_acquire))
      return slot_of(image, t, next >> 4 & 3);
  }
  return slot_of(image, t, old >> 4 & 3);
}

int64_t image_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

uint64_t image_published(struct image *image, uint32_t driver, uint32_t direction) {
  return atomic_load(&triple_of(image, driver, direction)->published);
}

int64_t image_stamp(struct image *image, uint32_t driver, uint32_t direction) {
  return atomic_load(&triple_of(image, driver, direction)->stamp_ns);
}

uint32_t image_effective(struct image *image, uint32_t driver, uint32_t channel) {
  _Atomic uint32_t *all = (_Atomic uint32_t *)((char *)image + image->driver[driver].effective);
  return atomic_load_explicit(&all[channel], memory_order_relaxed);
}

uint64_t image_format(struct image *image, uint64_t size, uint32_t drivers, const uint32_t *counts) {
  uint64_t at = sizeof(struct image) + (uint64_t)drivers * sizeof(struct driver_image);
  for (int write = 0; write < 2; write++) {
    if (write && at > size) return at;
    at = (sizeof(struct image) + (uint64_t)drivers * sizeof(struct driver_image) + 63) & ~63ull;
    for (uint32_t d = 0; d < drivers; d++) {
      for (uint32_t k = 0; k < DIRECTIONS; k++) {
        uint32_t count = counts[d * DIRECTIONS + k];
        if (write) {
          struct triple *t = triple_of(image, d, k);
          t->count = count;
          t->records = at;
          atomic_store(&t->word, 0u | 1u << 2 | 2u << 4);
        }
        at += ((uint64_t)count * 3 * sizeof(struct record) + 63) & ~63ull;
      }
      if (write) image->driver[d].effective = at;
      at += ((uint64_t)counts[d * DIRECTIONS] * 4 + 63) & ~63ull;
    }
  }
  image->size = at;
  image->drivers = drivers;
  memcpy(image->magic, IMAGE_MAGIC, 8);
  return at;
}
