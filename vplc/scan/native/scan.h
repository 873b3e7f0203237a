/* The scan host: loads one compiled program and scans it, nothing else.
 *
 * host.c     start, stop and housekeeping on an ordinary thread
 * load.c     the plan (made and checked by `python -m vplc.scan`) and the shared library
 * cycle.c    the scan thread: wake up, copy in, run, copy out, count
 * access.c   what others ask between two scans: look at, write and force variables
 * standby.c  two hosts that stand by for each other (memory.c, network.c: how they hear of each other)
 * retain.c   retained values to disk, off the scan thread
 * image.c    the process image in shared memory, also a library for the drivers
 *
 * Structs that others read are mirrored in plan.py and status.py; a test compares their sizes.
 */
#ifndef VPLC_SCAN_H
#define VPLC_SCAN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image.h"

#define PLAN_MAGIC "VPLCPLN1"
#define STATUS_MAGIC "VPLCSTA1"
#define RETAIN_MAGIC "VPLCRET1"

/* ---- the plan: one read-only file; every "_at" is a byte offset into it, every text ends with a zero ---- */

struct plan {
  char magic[8];
  uint64_t time_base_ns;    /* scan time of the first scan: a warm start goes on where the last run ended */
  uint64_t retain_sequence; /* of the first set to be saved; its lowest bit chooses the file */
  uint32_t version;         /* counts the programs of this run folder; readers find the variables by it */
  uint32_t trial_scans;     /* a fault within these first scans brings the program before back */
  uint32_t size, state_size;
  uint32_t fault_site, fault_a, fault_b; /* offsets into the state */
  int32_t core;                          /* -1: none */
  int32_t priority;                      /* SCHED_FIFO; 0: ordinary scheduling wanted */
  uint32_t retain_interval_ms;
  uint32_t library_at, abi_at, retain_folder_at; /* texts; retain folder "" : nothing is retained */
  uint32_t directory_at, directory_size;         /* names and types of the retained values, opaque here */
  uint32_t drivers;
  uint32_t tasks_at, tasks, programs_at, programs, inputs_at, inputs, outputs_at, outputs;
  uint32_t runs_at, runs, patches_at, patches, sites_at, sites, alarms_at, alarms,
      moves_at, moves, forces_at, forces; /* forces: held from the first scan, entries as for patches */
  uint32_t force_set;                 /* names the forces for those that look */
  uint32_t paired, side, missed_scans; /* hot standby; side 0 prefers to lead */
  uint32_t channel_at, listen_at, peer_at, witness_at; /* texts: a shared folder, or addresses */
  uint32_t name_at, spare;                             /* the same on both machines */
  uint64_t lease_ns;
};

struct plan_task { /* by priority, the most urgent first */
  uint64_t interval_ns, watchdog_ns;
  uint32_t name_at, priority, first_program, programs;
};

struct plan_program {
  uint32_t name_at, run_at;
};

enum policy { HOLD = 0, ZERO = 1, SUBSTITUTE = 2 };

struct plan_channel {
  uint64_t substitute; /* an output's safe value */
  uint64_t max_age_ns; /* 0: a value never gets old */
  uint64_t tasks;      /* outputs: bit per task whose fault makes this channel safe */
  uint32_t driver, index, offset, size;
  int32_t bit;        /* -1: whole bytes */
  int32_t quality_at; /* offset of a byte of the state that gets the quality; -1: none */
  uint32_t policy, spare;
};

struct plan_run { /* retained bytes of the state */
  uint32_t offset, size;
};

struct plan_patch { /* a value for the state: restored before the first scan, written or forced later */
  uint32_t offset, size, data_at, mask; /* mask 0: whole bytes */
};

struct plan_move { /* a value carried from the program before; bits: 0, or 0x100 + from + 16 * to */
  uint32_t from, to, size, bits;
};

struct plan_site { /* what a fault number of the program means */
  uint32_t pou_at, text_at, line, spare;
};

/* ---- the status: shared memory, written by the host only ---- */

#define BUCKETS 960 /* 32 per power of two: a bucket is at most 3.2 % wide; the last one takes all above 17 s */
#define ALARMS 16

#define MAX_TASKS 64

enum duty { SINGLE = 0, LEADING = 1, FOLLOWING = 2 };
enum phase { STARTING = 0, RUNNING = 1, STOPPED = 2 };
enum task_state { TASK_RUN = 1, TASK_FAULT = 2 };
enum fault_kind { NO_FAULT = 0, FAULT_PROGRAM = 1, FAULT_WATCHDOG = 2, FAULT_SIGNAL = 3 };

struct alarm_entry {
  int32_t error; /* errno, 0 when there is none */
  char text[156];
};

struct fault_entry {
  int64_t at_ns; /* CLOCK_MONOTONIC */
  int64_t a, b;  /* values the program reported */
  uint32_t kind, site, line, spare;
  char program[64], pou[64], text[160];
};

struct task_status {
  char name[64];
  uint64_t interval_ns, watchdog_ns;
  uint32_t priority;
  _Atomic uint32_t state;
  _Atomic uint64_t scans, missed, overruns;
  _Atomic uint64_t latency_max_ns, execution_max_ns, execution_last_ns;
  struct fault_entry fault;
  _Atomic uint64_t latency[BUCKETS], execution[BUCKETS];
};

struct pair_status {
  _Atomic uint32_t duty, side, epoch;
  _Atomic uint32_t ready; /* leader: there is a follower that could take over; follower: it is this one */
  _Atomic uint64_t takeovers, fenced, suspended, frames, misses; /* suspended: scans whose outputs no lease allowed */
  _Atomic uint32_t misses_in_a_row;
  uint32_t spare;
  char reason[160];
};

struct status {
  char magic[8];
  uint32_t size, tasks;
  int32_t pid, core; /* core -1: not pinned */
  int32_t priority;  /* 0: no SCHED_FIFO */
  uint32_t locked;   /* 1: mlockall holds */
  int64_t started_ns, started_unix_ns;
  _Atomic uint32_t phase, alarms;
  _Atomic int64_t heartbeat_ns;   /* CLOCK_MONOTONIC of the last wake-up */
  _Atomic uint64_t unpublished;   /* output sets a driver's contention kept back */
  _Atomic uint64_t retain_saves, retain_failures;
  _Atomic int64_t retain_saved_ns;
  uint64_t restored;
  _Atomic uint32_t version;              /* the program that runs now */
  _Atomic uint32_t on_trial;             /* scans until the program before is given up */
  _Atomic uint32_t rollbacks, refusals;  /* changes taken back, and not even begun */
  _Atomic uint64_t swap_ns;              /* what the last change took from a scan */
  _Atomic uint32_t forces;               /* values held now */
  uint32_t spare;
  struct pair_status pair;
  struct alarm_entry alarm[ALARMS];
  struct task_status task[];
};

/* ---- a reader's request for variables, answered at the end of a scan ---- */

#define WATCH_RANGES 64
#define WATCH_BYTES 4096

struct watch {
  _Atomic uint32_t request, done; /* equal: answered */
  uint32_t count, version;        /* the version whose variables these are */
  int64_t time_ns; /* scan time of the answer */
  struct plan_run range[WATCH_RANGES];
  uint8_t data[WATCH_BYTES];
};

/* ---- a request to write or force variables, carried out whole between two scans ---- */

#define ACCESS_ENTRIES 1024
#define ACCESS_BYTES 32768

enum access_kind { ACCESS_WRITE = 1, ACCESS_FORCE = 2 }; /* force: replaces all that was forced before */
enum access_verdict { ACCESS_DONE = 0, ACCESS_OTHER_VERSION = 1, ACCESS_INVALID = 2, ACCESS_ON_TRIAL = 3, ACCESS_FOLLOWING = 4 };

struct access {
  _Atomic uint32_t request, done; /* equal: answered */
  uint32_t kind, version;         /* the version whose variables these are */
  uint32_t count, used;           /* entries, and bytes of data */
  uint32_t set;                   /* names the forces of this request for those that look */
  uint32_t verdict;
  _Atomic uint32_t active_set;    /* the forces that are held; 0: none yet */
  uint32_t held_count;
  struct plan_patch entry[ACCESS_ENTRIES];
  uint8_t data[ACCESS_BYTES];
  struct plan_patch held[ACCESS_ENTRIES]; /* what is held, for those that do not know the names of the set */
  uint8_t held_data[ACCESS_BYTES];
};

/* ---- inside the host ---- */

typedef int32_t run_function(void *state, int64_t now_ns);

struct program {
  const struct plan *plan;
  uint8_t *state;
  int32_t (*init)(void *state);
  run_function **run;   /* per program of the plan */
  uint8_t *snapshot;    /* room for the retained values */
  uint32_t snapshot_size;
};

struct forces {
  uint32_t count, set;
  const struct plan_patch *entry;
  const uint8_t *data;
};

struct host {
  struct program program; /* the scan thread's once it runs */
  const char *folder;
  struct image *image;
  struct status *status;
  struct watch *watch;
  struct access *access;
  struct forces forces;
  uint64_t time_base_ns;
  int64_t start_ns; /* CLOCK_MONOTONIC of the first release */
  int64_t next_ns[MAX_TASKS]; /* of the next release of each task */
  struct pair *pair;          /* NULL: no standby */
  enum duty duty;
  uint32_t epoch, side;
  _Atomic bool lead_wanted, hand_over_wanted;
  _Atomic int64_t scan_time_ns;
  uint64_t faulted; /* bit per task */
  _Atomic bool stop;
  /* the snapshot: wanted by housekeeping, made by the scan thread, with the program it is from */
  _Atomic bool snapshot_wanted, snapshot_made;
  struct program taken;
  /* online change: `next` is offered by housekeeping; `before` comes back when a scan on trial faults */
  struct program *_Atomic next;
  struct program before;
  struct forces forces_before;
  uint64_t faulted_before;
};

static inline const void *at(const struct plan *plan, uint32_t offset) { return (const char *)plan + offset; }

void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void raise_alarm(struct host *host, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Plan, library and initial values; false after having said what is wrong. */
bool load_program(struct program *program, const char *plan_path);
void *map_file(const char *folder, const char *name, size_t size, bool fresh);

#define WAKE_SIGNAL (SIGRTMIN + 1) /* makes a sleeping scan thread look at `stop` */
void *scan_thread(void *host);
void take_snapshot(struct host *host);

void patch_state(uint8_t *state, const struct plan_patch *patch, uint32_t count, const uint8_t *data);
void answer_requests(struct host *host);
void hold_forces(struct host *host); /* writes the forced values over what the drivers or the program wrote */
void show_forces(struct host *host);
bool adopt_forces(struct host *host, const struct plan_patch *entry, uint32_t count, const uint8_t *data, uint32_t used,
                  uint32_t set);
int64_t wait_until(struct host *host, int64_t when_ns); /* returns the time; earlier when a stop is asked for */

bool retain_save(struct host *host); /* the snapshot to the older of the two files */

#endif
