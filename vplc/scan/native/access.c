/* What others ask of the scan between two scans: variables to look at, to write once, and to hold (force).
 *
 * Requests lie in shared memory that any process of the same user can write to, at any time. They are copied first and
 * checked on the copy; what does not fit the running program is refused whole. Runs on the scan thread: no waiting, no
 * allocation, and a bounded amount of work.
 */
#include <string.h>

#include "scan.h"

/* The reader may change the ranges while they are read: each is checked on the value that is used. */
static void answer_watch(struct host *host) {
  struct watch *w = host->watch;
  uint32_t request = atomic_load_explicit(&w->request, memory_order_acquire);
  if (request == atomic_load_explicit(&w->done, memory_order_relaxed)) return;
  uint32_t state_size = host->program.plan->state_size;
  uint32_t count = w->count < WATCH_RANGES ? w->count : WATCH_RANGES, filled = 0;
  for (uint32_t i = 0; i < count; i++) {
    volatile struct plan_run *range = &w->range[i];
    uint32_t offset = range->offset, size = range->size;
    if (size > WATCH_BYTES - filled || offset > state_size || size > state_size - offset) break;
    memcpy(w->data + filled, host->program.state + offset, size);
    filled += size;
  }
  w->version = host->program.plan->version;
  w->time_ns = atomic_load_explicit(&host->scan_time_ns, memory_order_relaxed);
  atomic_store_explicit(&w->done, request, memory_order_release);
}

void patch_state(uint8_t *state, const struct plan_patch *patch, uint32_t count, const uint8_t *data) {
  for (const struct plan_patch *end = patch + count; patch < end; patch++) {
    uint8_t *to = state + patch->offset, mask = (uint8_t)patch->mask;
    if (mask)
      *to = (uint8_t)((*to & ~mask) | (data[patch->data_at] & mask));
    else
      memcpy(to, data + patch->data_at, patch->size);
  }
}

void hold_forces(struct host *host) {
  patch_state(host->program.state, host->forces.entry, host->forces.count, host->forces.data);
}

static bool fits(const struct plan_patch *p, uint32_t count, uint32_t state_size, uint32_t used) {
  for (const struct plan_patch *end = p + count; p < end; p++) {
    uint32_t size = p->mask ? 1 : p->size;
    if (p->offset > state_size || size > state_size - p->offset || p->data_at > used || size > used - p->data_at)
      return false;
  }
  return true;
}

/* Replaces all forces by copies of these; false: they do not fit. */
bool adopt_forces(struct host *host, const struct plan_patch *entry, uint32_t count, const uint8_t *data, uint32_t used,
                  uint32_t set) {
  static struct plan_patch held[ACCESS_ENTRIES];
  static uint8_t held_data[ACCESS_BYTES];
  if (count > ACCESS_ENTRIES || used > ACCESS_BYTES || !fits(entry, count, host->program.plan->state_size, used)) return false;
  if (!count && !host->forces.count && host->forces.set == set) return true; /* the usual case of a follower */
  memcpy(held, entry, count * sizeof *entry);
  memcpy(held_data, data, used);
  host->forces = (struct forces){.count = count, .set = set, .entry = held, .data = held_data};
  show_forces(host);
  return true;
}

/* Names and values go to those that look; the names of a set that came from elsewhere are found by the places. */
void show_forces(struct host *host) {
  struct access *a = host->access;
  const struct forces *f = &host->forces;
  uint32_t used = 0;
  a->held_count = 0;
  for (uint32_t i = 0; i < f->count; i++) {
    uint32_t size = f->entry[i].mask ? 1 : f->entry[i].size;
    a->held[i] = f->entry[i];
    a->held[i].data_at = used;
    memcpy(a->held_data + used, f->data + f->entry[i].data_at, size);
    used += size;
  }
  a->held_count = f->count;
  atomic_store_explicit(&a->active_set, f->set, memory_order_release);
  atomic_store_explicit(&host->status->forces, f->count, memory_order_relaxed);
}

static enum access_verdict perform(struct host *host, struct access *a) {
  static struct plan_patch entry[ACCESS_ENTRIES];
  volatile struct access *asked = a;
  uint32_t kind = asked->kind, count = asked->count, used = asked->used, set = asked->set;
  if (host->duty == FOLLOWING) return ACCESS_FOLLOWING;
  if (asked->version != host->program.plan->version) return ACCESS_OTHER_VERSION;
  if (count > ACCESS_ENTRIES || used > ACCESS_BYTES) return ACCESS_INVALID;
  memcpy(entry, a->entry, count * sizeof *entry);
  if (!fits(entry, count, host->program.plan->state_size, used)) return ACCESS_INVALID;
  if (kind == ACCESS_WRITE) {
    patch_state(host->program.state, entry, count, a->data);
    return ACCESS_DONE;
  }
  if (kind != ACCESS_FORCE) return ACCESS_INVALID;
  /* The forces of the program before are held for its return. */
  if (atomic_load_explicit(&host->status->on_trial, memory_order_relaxed)) return ACCESS_ON_TRIAL;
  adopt_forces(host, entry, count, a->data, used, set);
  hold_forces(host);
  return ACCESS_DONE;
}

static void answer_access(struct host *host) {
  struct access *a = host->access;
  uint32_t request = atomic_load_explicit(&a->request, memory_order_acquire);
  if (request == atomic_load_explicit(&a->done, memory_order_relaxed)) return;
  a->verdict = perform(host, a);
  atomic_store_explicit(&a->done, request, memory_order_release);
}

void answer_requests(struct host *host) {
  answer_access(host);
  answer_watch(host);
}
