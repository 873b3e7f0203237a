/* The link between two hosts on one machine: `channel` in a folder that both share, beside the image they both drive.
 *
 * The fence is one atomic word, epoch and leading side. Whoever changes it raises the epoch of all exchanges, and from
 * then on nothing of the former leader can be published, however long it was frozen in the middle of a scan.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "standby.h"

#define CHANNEL_MAGIC "VPLCPAR1"

struct member {
  _Atomic int64_t seen_ns;
  _Atomic uint32_t ready;
  _Atomic int32_t pid;
  uint64_t identity;
  char program[PROGRAM_TEXT];
};

struct channel {
  char magic[8];
  uint64_t size, slot_size;
  _Atomic uint64_t fence; /* twice the epoch plus the side that leads; 0: nobody ever led */
  _Atomic uint64_t driven;
  _Atomic uint32_t word; /* an exchange of frames */
  uint32_t spare;
  struct member member[2];
};

struct slot {
  uint64_t size;
  struct frame frame;
};

struct memory {
  struct channel *channel;
  uint64_t driven_seen;
};

static struct memory *memory_of(struct host *host) { return host->pair->detail; }
static struct channel *channel_of(struct host *host) { return memory_of(host)->channel; }

static struct slot *slot_of(struct channel *c, uint32_t number) {
  return (struct slot *)((char *)c + 4096 + number * (size_t)c->slot_size);
}

/* The files stay open as long as the process lives: closing them would give the locks up. */
static bool lock_file(const char *folder, const char *name, bool wait, bool *taken) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0660);
  if (fd < 0) {
    say("%s: %s", path, strerror(errno));
    return false;
  }
  *taken = fcntl(fd, wait ? F_SETLKW : F_SETLK, &lock) == 0;
  return true;
}

static bool other_lives(const char *folder, uint32_t side) {
  char path[4096];
  snprintf(path, sizeof path, "%s/side.%u.lock", folder, 1 - side);
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return false;
  bool lives = fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
  close(fd);
  return lives;
}

static bool memory_open(struct host *host) {
  struct pair *p = host->pair;
  const char *folder = at(host->program.plan, host->program.plan->channel_at);
  struct memory *m = p->detail = calloc(1, sizeof *m);
  char mine[32];
  bool taken;
  snprintf(mine, sizeof mine, "side.%u.lock", p->side);
  if (!m || !lock_file(folder, mine, false, &taken)) return false;
  if (!taken) {
    say("%s: another host has the role \"%s\" already; it goes on", folder, p->side ? "standby" : "primary");
    return false;
  }
  /* Room for the program to grow in online changes. */
  size_t slot = (sizeof(uint64_t) + 2 * p->frame_room + 4095) & ~(size_t)4095, size = 4096 + SLOTS * slot;
  struct channel *c = m->channel = map_file(folder, "channel", 0, false);
  bool alone = !other_lives(folder, p->side);
  if (c && !alone && memcmp(c->magic, CHANNEL_MAGIC, 8) == 0 && c->member[1 - p->side].identity != p->identity) {
    say("%s: refused: the other host runs another program (%.47s), this one has %.47s; change one of them first", folder,
        c->member[1 - p->side].program, p->program);
    return false;
  }
  if (c && (memcmp(c->magic, CHANNEL_MAGIC, 8) != 0 || c->slot_size < sizeof(uint64_t) + p->frame_room)) c = NULL;
  if (c) p->frame_room = (size_t)c->slot_size - sizeof(uint64_t);
  if (!c && !alone) {
    say("%s: the other host made a channel for a smaller program; stop both once", folder);
    return false;
  }
  if (!c) {
    c = m->channel = map_file(folder, "channel", size, true);
    if (!c) return false;
    c->size = size;
    c->slot_size = slot;
    p->frame_room = slot - sizeof(uint64_t);
    atomic_store(&c->word, EXCHANGE_BEGIN);
    memcpy(c->magic, CHANNEL_MAGIC, 8);
  }
  struct member *self = &c->member[p->side];
  self->identity = p->identity;
  memcpy(self->program, p->program, sizeof self->program);
  atomic_store(&self->pid, getpid());
  atomic_store(&self->ready, 0);
  m->driven_seen = atomic_load(&c->driven);
  return true;
}

static bool recent(struct host *host, uint32_t side) {
  int64_t limit = 10 * host->pair->interval > 1000000000 ? 10 * host->pair->interval : 1000000000;
  return image_now() - atomic_load(&channel_of(host)->member[side].seen_ns) < limit;
}

static bool memory_may_begin(struct host *host) {
  struct pair *p = host->pair;
  uint64_t fence = atomic_load(&channel_of(host)->fence);
  bool other = recent(host, 1 - p->side);
  if (fence && (fence & 1) != p->side && other) return false;              /* it leads */
  if (other && atomic_load(&channel_of(host)->member[1 - p->side].ready)) return false; /* it is about to */
  return p->prefers || image_now() - p->since > p->grace;
}

static const struct frame *memory_receive(struct host *host, int64_t until, int64_t *offset, size_t *size) {
  struct pair *p = host->pair;
  struct channel *c = channel_of(host);
  *offset = 0;
  if (until) wait_until(host, until);
  uint64_t driven = atomic_load_explicit(&c->driven, memory_order_acquire);
  if (until && p->heard && driven == memory_of(host)->driven_seen) return NULL;
  memory_of(host)->driven_seen = driven;
  uint64_t fence = atomic_load(&c->fence);
  const struct slot *s = slot_of(c, exchange_take(&c->word, ANY_EPOCH));
  /* The fence may be this host's own already: then the frame is the last one of the leader before. */
  if (s->size < sizeof s->frame || s->size > p->frame_room || s->frame.side == p->side) return NULL;
  if ((fence & 1) != p->side && s->frame.epoch != fence >> 1) return NULL;
  if ((fence & 1) == p->side && s->frame.epoch + 1 != fence >> 1) return NULL;
  if (!p->heard && !recent(host, 1 - p->side)) return NULL; /* left by one that is long gone */
  *size = (size_t)s->size;
  return &s->frame;
}

static bool memory_claim(struct host *host) {
  struct channel *c = channel_of(host);
  uint64_t fence = atomic_load(&c->fence), epoch = fence >> 1, shown = atomic_load(&host->image->epoch);
  epoch = (epoch > shown ? epoch : shown) + 1;
  if (epoch > MAX_EPOCH || !atomic_compare_exchange_strong(&c->fence, &fence, epoch << 1 | host->pair->side)) return false;
  exchange_raise(&c->word, (uint32_t)epoch);
  host->epoch = (uint32_t)epoch;
  return true;
}

static bool memory_leads(struct host *host) {
  return atomic_load_explicit(&channel_of(host)->fence, memory_order_acquire) == ((uint64_t)host->epoch << 1 | host->pair->side);
}

static struct frame *memory_room(struct host *host) {
  struct channel *c = channel_of(host);
  return &slot_of(c, exchange_back(&c->word, host->pair->side))->frame;
}

static bool memory_send(struct host *host, const struct frame *frame, size_t size) {
  struct channel *c = channel_of(host);
  (void)frame;
  slot_of(c, exchange_back(&c->word, host->pair->side))->size = size;
  return exchange_publish(&c->word, host->pair->side, host->epoch) == 0;
}

static void memory_driven(struct host *host, uint64_t sequence) {
  atomic_store_explicit(&channel_of(host)->driven, sequence, memory_order_release);
}

static bool memory_follower_ready(struct host *host) {
  uint32_t other = 1 - host->pair->side;
  return atomic_load_explicit(&channel_of(host)->member[other].ready, memory_order_relaxed) && recent(host, other);
}

static void memory_alive(struct host *host) {
  struct member *self = &channel_of(host)->member[host->pair->side];
  atomic_store_explicit(&self->seen_ns, image_now(), memory_order_relaxed);
  atomic_store_explicit(&self->ready, host->duty == FOLLOWING && host->pair->ready, memory_order_relaxed);
}

static void memory_gave_up(struct host *host, bool handed_over) { (void)host, (void)handed_over; }

static void memory_go_alone(struct host *host) { (void)host; }

static void memory_identified(struct host *host) {
  struct member *self = &channel_of(host)->member[host->pair->side];
  self->identity = host->pair->identity;
  memcpy(self->program, host->pair->program, sizeof self->program);
}

static void memory_leave(struct host *host) {
  struct member *self = &channel_of(host)->member[host->pair->side];
  atomic_store(&self->ready, 0);
  atomic_store(&self->seen_ns, 0);
}

const struct link memory_link = {
    .open = memory_open,
    .may_begin = memory_may_begin,
    .receive = memory_receive,
    .claim = memory_claim,
    .leads = memory_leads,
    .may_drive = memory_leads,
    .room = memory_room,
    .send = memory_send,
    .driven = memory_driven,
    .follower_ready = memory_follower_ready,
    .alive = memory_alive,
    .gave_up = memory_gave_up,
    .go_alone = memory_go_alone,
    .identified = memory_identified,
    .leave = memory_leave,
};
