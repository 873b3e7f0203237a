/* Who leads. Runs on the scan thread; see standby.h. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "standby.h"

#define PLAUSIBLE_NS 90000000000000ll /* the longest interval is an hour: nothing is due more than a day away */
#define GRACE_NS 2000000000ll /* a standby that starts without ever hearing a leader waits that long for one */

static uint64_t mixed(uint64_t hash, const void *data, size_t size) { /* FNV-1a: against mistakes, not against attacks */
  for (const uint8_t *p = data, *end = p + size; p < end; p++) hash = (hash ^ *p) * 0x100000001B3ull;
  return hash;
}

/* What two hosts must have in common; and a name for people. */
static void identify(struct host *host) {
  struct pair *p = host->pair;
  const struct plan *plan = host->program.plan;
  const struct plan_task *t = at(plan, plan->tasks_at);
  const char *abi = at(plan, plan->abi_at);
  uint64_t hash = mixed(0xCBF29CE484222325ull, abi, strlen(abi));
  hash = mixed(hash, &plan->state_size, sizeof plan->state_size);
  for (uint32_t i = 0; i < plan->tasks; i++) hash = mixed(hash, &t[i].interval_ns, sizeof t[i].interval_ns);
  p->identity = hash;
  const char *source = strstr(abi, "source="), *layout = strstr(abi, "layout=");
  snprintf(p->program, sizeof p->program, "source %.12s, layout %.12s", source ? source + 7 : "?", layout ? layout + 7 : "?");
}

void pair_changed(struct host *host) {
  identify(host);
  host->pair->ready = false;
  host->pair->heard = 0;
  host->pair->link->identified(host);
}

static void tell(struct host *host, const char *reason) {
  snprintf(host->status->pair.reason, sizeof host->status->pair.reason, "%s", reason);
}

static void show(struct host *host) {
  struct pair_status *s = &host->status->pair;
  atomic_store(&s->duty, host->duty);
  atomic_store(&s->epoch, host->epoch);
}

static size_t room_for(const struct plan *plan) {
  return sizeof(struct frame) + ACCESS_ENTRIES * sizeof(struct plan_patch) + ACCESS_BYTES + 8 + plan->state_size;
}

bool pair_has_room(struct host *host, const struct plan *plan) { return room_for(plan) <= host->pair->frame_room; }

bool pair_open(struct host *host) {
  const struct plan *plan = host->program.plan;
  const struct plan_task *t = at(plan, plan->tasks_at);
  struct pair *p = calloc(1, sizeof *p);
  if (!p) return false;
  host->pair = p;
  p->link = *(const char *)at(plan, plan->channel_at) ? &memory_link : &network_link;
  p->side = plan->side & 1;
  p->prefers = p->side == 0;
  p->missed_scans = plan->missed_scans;
  p->interval = INT64_MAX;
  for (uint32_t i = 0; i < plan->tasks; i++)
    if ((int64_t)t[i].interval_ns < p->interval) p->interval = (int64_t)t[i].interval_ns;
  p->lease = (int64_t)plan->lease_ns;
  p->grace = GRACE_NS > 20 * p->interval ? GRACE_NS : 20 * p->interval;
  p->frame_room = room_for(plan);
  identify(host);
  host->duty = FOLLOWING;
  host->side = p->side;
  atomic_store(&host->status->pair.side, p->side);
  show(host);
  tell(host, "no leader heard yet");
  return p->link->open(host);
}

/* ---- leading ---- */

void pair_send(struct host *host, uint32_t flags) {
  struct pair *p = host->pair;
  const struct plan *plan = host->program.plan;
  const struct forces *forces = &host->forces;
  uint32_t used = 0;
  struct frame *f = p->link->room(host);
  *f = (struct frame){.identity = p->identity,
                      .sequence = ++p->sequence,
                      .epoch = host->epoch,
                      .side = p->side,
                      .flags = flags,
                      .leased_to = p->leased_to,
                      .tasks = plan->tasks,
                      .force_count = forces->count,
                      .force_set = forces->set,
                      .state_size = plan->state_size,
                      .faulted = host->faulted,
                      .scan_time_ns = atomic_load_explicit(&host->scan_time_ns, memory_order_relaxed),
                      .time_base_ns = (int64_t)host->time_base_ns,
                      .start_ns = host->start_ns,
                      .sent_ns = image_now()};
  memcpy(f->program, p->program, sizeof f->program);
  memcpy(f->next_ns, host->next_ns, plan->tasks * sizeof *f->next_ns);
  uint8_t *to = (uint8_t *)(f + 1);
  struct plan_patch *entry = (struct plan_patch *)to;
  uint8_t *data = to + forces->count * sizeof *entry;
  for (uint32_t i = 0; i < forces->count; i++) { /* packed anew: an online change keeps them inside its plan */
    uint32_t size = forces->entry[i].mask ? 1 : forces->entry[i].size;
    entry[i] = forces->entry[i];
    entry[i].data_at = used;
    memcpy(data + used, forces->data + forces->entry[i].data_at, size);
    used += size;
  }
  f->force_used = used;
  uint8_t *state = (uint8_t *)(((uintptr_t)(data + used) + 7) & ~(uintptr_t)7);
  memcpy(state, host->program.state, plan->state_size);
  if (p->link->send(host, f, (size_t)(state + plan->state_size - (uint8_t *)f)))
    atomic_fetch_add_explicit(&host->status->pair.frames, 1, memory_order_relaxed);
}

void pair_driven(struct host *host) { host->pair->link->driven(host, host->pair->sequence); }

bool pair_leads(struct host *host) {
  struct pair *p = host->pair;
  p->link->alive(host);
  if (!p->link->leads(host)) {
    pair_fenced(host, "the other host took over");
    return false;
  }
  atomic_store_explicit(&host->status->pair.ready, p->link->follower_ready(host), memory_order_relaxed);
  return true;
}

static void become_follower(struct host *host, const char *why) {
  struct pair *p = host->pair;
  host->duty = FOLLOWING;
  p->since = image_now();
  p->expected = p->since + p->interval;
  p->misses = p->excused = 0;
  p->ready = false;
  p->heard = 0;
  atomic_store(&host->status->on_trial, 0); /* a change on trial is as good as it got */
  atomic_store(&host->status->pair.ready, false);
  tell(host, why);
  show(host);
}

void pair_fenced(struct host *host, const char *why) {
  host->pair->link->gave_up(host, false);
  atomic_fetch_add(&host->status->pair.fenced, 1);
  become_follower(host, why);
}

bool pair_hand_over(struct host *host) {
  struct pair *p = host->pair;
  if (host->duty != LEADING) return false;
  if (!p->link->follower_ready(host)) {
    if (!atomic_load(&host->stop)) p->link->go_alone(host);
    return false;
  }
  pair_send(host, FRAME_HANDOVER);
  pair_driven(host);
  become_follower(host, "handed over");
  /* Its own state is whole: should the other one have died in this moment, this host goes on. */
  p->ready = true;
  p->heard = p->since;
  p->expected = host->next_ns[0];
  for (uint32_t i = 1; i < host->program.plan->tasks; i++)
    if (host->next_ns[i] < p->expected) p->expected = host->next_ns[i];
  p->link->gave_up(host, true);
  return true;
}

/* ---- following ---- */

/* What comes over a link may be anything: no overflow of signed numbers. */
static int64_t wrapped(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }

static bool fits(const struct host *host, const struct frame *f, int64_t offset, size_t size) {
  const struct plan *plan = host->program.plan;
  if (size < sizeof *f || f->tasks != plan->tasks || f->state_size != plan->state_size || f->force_count > ACCESS_ENTRIES ||
      f->force_used > ACCESS_BYTES)
    return false;
  int64_t now = image_now();
  for (uint32_t i = 0; i < plan->tasks; i++)
    if (wrapped(f->next_ns[i], offset) < now - PLAUSIBLE_NS || wrapped(f->next_ns[i], offset) > now + PLAUSIBLE_NS) return false;
  size_t before = sizeof *f + f->force_count * sizeof(struct plan_patch) + f->force_used;
  return size == ((before + 7) & ~(size_t)7) + plan->state_size;
}

/* Takes the leader's state over into this host's; false: it is not of this program. */
static bool adopt(struct host *host, const struct frame *f, int64_t offset, size_t size) {
  struct pair *p = host->pair;
  const struct plan *plan = host->program.plan;
  if (size < sizeof *f || f->identity != p->identity) {
    char text[160];
    snprintf(text, sizeof text, "refused: the leader runs another program (%.47s), this host has %.47s", f->program, p->program);
    if (strcmp(text, host->status->pair.reason) != 0) raise_alarm(host, 0, "standby %s", text);
    tell(host, text);
    p->ready = false;
    return false;
  }
  if (!fits(host, f, offset, size)) return false;
  const struct plan_patch *entry = (const struct plan_patch *)(f + 1);
  const uint8_t *data = (const uint8_t *)(entry + f->force_count);
  if (!adopt_forces(host, entry, f->force_count, data, f->force_used, f->force_set)) return false;
  memcpy(host->program.state, (const uint8_t *)f + size - plan->state_size, plan->state_size);
  for (uint32_t i = 0; i < plan->tasks; i++) host->next_ns[i] = wrapped(f->next_ns[i], offset);
  host->faulted = f->faulted;
  host->time_base_ns = (uint64_t)f->time_base_ns;
  host->start_ns = wrapped(f->start_ns, offset);
  atomic_store_explicit(&host->scan_time_ns, f->scan_time_ns, memory_order_relaxed);
  for (uint32_t i = 0; i < plan->tasks; i++)
    atomic_store(&host->status->task[i].state, host->faulted >> i & 1 ? TASK_FAULT : TASK_RUN);
  p->sequence = f->sequence;
  p->heard = image_now();
  if (!p->ready) tell(host, "ready");
  p->leased = f->leased_to == p->life;
  p->ready = true;
  return true;
}

static void lead(struct host *host, const char *why) {
  struct pair *p = host->pair;
  int64_t offset = 0, now = image_now();
  size_t size = 0;
  image_raise(host->image, host->epoch); /* from here on the former leader's outputs stay with it */
  if (p->ready && p->link == &memory_link) { /* what it may still have streamed, and driven, before that */
    const struct frame *f = p->link->receive(host, 0, &offset, &size);
    if (f) adopt(host, f, offset, size);
  }
  if (!p->heard) { /* nobody led before */
    host->start_ns = now + 1000000;
    for (uint32_t i = 0; i < host->program.plan->tasks; i++) host->next_ns[i] = host->start_ns;
  }
  host->duty = LEADING;
  atomic_fetch_add(&host->status->pair.takeovers, 1);
  tell(host, why);
  show(host);
}

void pair_begin(struct host *host) {
  struct pair *p = host->pair;
  p->since = image_now();
  p->expected = p->since + p->interval;
}

static void missed(struct host *host, int64_t now, int64_t check) {
  struct pair *p = host->pair;
  if (p->expected <= now) p->expected += ((now - p->expected) / p->interval + 1) * p->interval;
  if (!p->ready) return;
  /* One that was itself kept from running has no say about the other, but not for ever. */
  if (now - check > p->interval / 2 && p->excused < p->missed_scans) {
    p->excused++;
    return;
  }
  p->misses++;
  struct pair_status *s = &host->status->pair;
  atomic_fetch_add_explicit(&s->misses, 1, memory_order_relaxed);
  if (p->misses > atomic_load(&s->misses_in_a_row)) atomic_store(&s->misses_in_a_row, p->misses);
}

void pair_follow(struct host *host) {
  struct pair *p = host->pair;
  int64_t offset = 0, check = p->expected + p->interval / 4;
  size_t size = 0;
  bool overdue = p->ready && p->misses >= p->missed_scans;
  if (overdue) check = image_now() + (p->interval < 1000000 ? p->interval : 1000000);
  const struct frame *f = p->link->receive(host, check, &offset, &size);
  int64_t now = image_now();
  atomic_store_explicit(&host->status->heartbeat_ns, now, memory_order_relaxed);
  p->link->alive(host);
  if (f && adopt(host, f, offset, size)) {
    p->misses = p->excused = 0;
    p->expected = host->next_ns[0];
    for (uint32_t i = 1; i < host->program.plan->tasks; i++)
      if (host->next_ns[i] < p->expected) p->expected = host->next_ns[i];
    atomic_fetch_add_explicit(&host->status->pair.frames, 1, memory_order_relaxed);
    if (f->flags & FRAME_HANDOVER && p->link->claim(host)) lead(host, "took over as asked");
  } else if (f) {
    p->expected = now + p->interval;
  } else if (now >= check && !overdue) {
    missed(host, now, check);
  }
  atomic_store_explicit(&host->status->pair.ready, p->ready, memory_order_relaxed);
  if (host->duty == LEADING) return;
  if (p->ready && p->misses >= p->missed_scans) {
    if (p->link->claim(host)) lead(host, "took over: the leader went silent");
  } else if (!p->ready && (atomic_exchange(&host->lead_wanted, false) || p->link->may_begin(host))) {
    if (p->link->claim(host)) lead(host, "leads");
  }
}

void pair_close(struct host *host) { host->pair->link->leave(host); }
