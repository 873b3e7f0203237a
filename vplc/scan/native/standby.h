/* Two hosts that stand by for each other: one leads and drives, the other follows and takes over.
 *
 * standby.c   who leads, what is streamed, when to take over
 * memory.c    the link between two hosts on one machine: shared memory, an atomic fence
 * network.c   the link between two machines: UDP, leases, a witness
 */
#ifndef VPLC_STANDBY_H
#define VPLC_STANDBY_H

#include "scan.h"

#define FRAME_HANDOVER 1u /* the leader has stopped: lead from the next scan on */
#define PROGRAM_TEXT 48

/* One scan's state, streamed before its outputs. Entries and data of forces follow, then the state of the program. */
struct frame {
  uint64_t identity; /* of program and shape: only the same one can go on from here */
  uint64_t sequence;
  char program[PROGRAM_TEXT];
  uint32_t epoch, side, flags, tasks;
  uint32_t force_count, force_used, force_set, state_size;
  uint64_t faulted;
  int64_t scan_time_ns, time_base_ns, start_ns, sent_ns; /* the last two: CLOCK_MONOTONIC of the sender */
  uint64_t leased_to; /* the life of the follower whose silence ends the leader's lease; two machines only */
  int64_t next_ns[MAX_TASKS];
};

struct pair;

struct link {
  bool (*open)(struct host *host);
  /* At start: whether this host may lead at once. */
  bool (*may_begin)(struct host *host);
  /* The newest frame, at the latest at `until`; NULL: none came. `offset` turns the sender's clock into this one's. */
  const struct frame *(*receive)(struct host *host, int64_t until, int64_t *offset, size_t *size);
  /* Tries to become the leader; true: `host->epoch` is the new one and nobody else drives any more. */
  bool (*claim)(struct host *host);
  /* Whether this host still leads; asked at each wake-up. */
  bool (*leads)(struct host *host);
  /* Whether outputs may be given to the drivers right now. */
  bool (*may_drive)(struct host *host);
  struct frame *(*room)(struct host *host); /* where the next frame is made, `pair->frame_room` bytes */
  bool (*send)(struct host *host, const struct frame *frame, size_t size);
  void (*driven)(struct host *host, uint64_t sequence); /* the outputs of this frame are out */
  bool (*follower_ready)(struct host *host);
  void (*alive)(struct host *host); /* once per period, leading or not */
  void (*gave_up)(struct host *host, bool handed_over); /* this host has just stopped leading */
  void (*go_alone)(struct host *host); /* an operator knows that the other host does not run */
  void (*identified)(struct host *host); /* the program is another one now */
  void (*leave)(struct host *host);
};

struct pair {
  const struct link *link;
  uint32_t side; /* 0 or 1 */
  uint32_t missed_scans;
  bool prefers; /* leads when both just started */
  int64_t interval, lease, grace;
  uint64_t identity, sequence, life, leased_to;
  char program[PROGRAM_TEXT];
  size_t frame_room;
  int64_t expected; /* when the next frame should be on its way; this machine's clock */
  int64_t heard;    /* when the last frame came, 0: never */
  int64_t since;    /* following since */
  uint32_t misses, excused;
  bool ready, leased;
  void *detail; /* the link's own */
};

extern const struct link memory_link, network_link;

bool pair_open(struct host *host);
void pair_begin(struct host *host);  /* first thing on the scan thread */
void pair_follow(struct host *host); /* one turn as follower */
bool pair_leads(struct host *host);  /* false: this host follows from now on */
void pair_send(struct host *host, uint32_t flags);
void pair_driven(struct host *host);
void pair_fenced(struct host *host, const char *why);
bool pair_hand_over(struct host *host); /* false: nobody is ready to lead */
bool pair_has_room(struct host *host, const struct plan *plan); /* to stream the state of this program */
void pair_changed(struct host *host); /* another program runs now */
void pair_close(struct host *host);

#endif
