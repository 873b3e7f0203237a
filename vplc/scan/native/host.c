/* Start, housekeeping, stop. `vplc-scan-host PLAN FOLDER`; exit code 0: stopped as asked, 1: refused to start. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "standby.h"

#define HOUSEKEEPING_MS 50
#define STACK_SIZE (512 * 1024) /* big locals of programs live in the state */
#define TMPFS 0x01021994

void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("vplc-scan: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
}

/* Called by both threads; formatting into the block neither waits nor allocates. When the list is full the newest
 * takes the last place. */
void raise_alarm(struct host *host, int error, const char *format, ...) {
  uint32_t slot = atomic_load(&host->status->alarms);
  while (slot < ALARMS && !atomic_compare_exchange_weak(&host->status->alarms, &slot, slot + 1)) {
  }
  if (slot >= ALARMS) slot = ALARMS - 1;
  struct alarm_entry *entry = &host->status->alarm[slot];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(entry->text, sizeof entry->text, format, arguments);
  va_end(arguments);
  entry->error = error;
}

static bool make_status(struct host *host) {
  const struct plan *plan = host->program.plan;
  const struct plan_task *tasks = at(plan, plan->tasks_at);
  size_t size = sizeof(struct status) + plan->tasks * sizeof(struct task_status);
  struct status *s = host->status = map_file(host->folder, "status", size, true);
  if (!s) return false;
  struct timespec wall;
  clock_gettime(CLOCK_REALTIME, &wall);
  s->size = (uint32_t)size;
  s->tasks = plan->tasks;
  atomic_store(&s->version, plan->version);
  s->pid = getpid();
  s->started_ns = image_now();
  s->started_unix_ns = (int64_t)wall.tv_sec * 1000000000 + wall.tv_nsec;
  for (uint32_t i = 0; i < plan->tasks; i++) {
    struct task_status *t = &s->task[i];
    snprintf(t->name, sizeof t->name, "%s", (const char *)at(plan, tasks[i].name_at));
    t->interval_ns = tasks[i].interval_ns;
    t->watchdog_ns = tasks[i].watchdog_ns;
    t->priority = tasks[i].priority;
    atomic_store(&t->state, TASK_RUN);
  }
  const uint32_t *alarms = at(plan, plan->alarms_at);
  for (uint32_t i = 0; i < plan->alarms; i++) raise_alarm(host, 0, "%s", (const char *)at(plan, alarms[i]));
  struct statfs info;
  if (statfs(host->folder, &info) == 0 && info.f_type != TMPFS)
    raise_alarm(host, 0, "%.80s is not on tmpfs: writing back pages can delay scans", host->folder);
  memcpy(s->magic, STATUS_MAGIC, 8);
  return true;
}

/* Drivers stay attached over a restart of the host when the image has the same shape. */
static bool make_image(struct host *host) {
  const struct plan *plan = host->program.plan;
  const char *channel = at(plan, plan->channel_at);
  const char *folder = *channel ? channel : host->folder;
  uint32_t *counts = calloc(plan->drivers * DIRECTIONS + 1, sizeof *counts);
  if (!counts) return false;
  for (uint32_t k = 0; k < DIRECTIONS; k++) {
    const struct plan_channel *c = at(plan, k ? plan->outputs_at : plan->inputs_at);
    for (uint32_t i = 0; i < (k ? plan->outputs : plan->inputs); i++) counts[c[i].driver * DIRECTIONS + k]++;
  }
  struct image probe = {0};
  size_t size = (size_t)image_format(&probe, 0, plan->drivers, counts);
  struct image *old = map_file(folder, "image", size, false);
  bool same = old && memcmp(old->magic, IMAGE_MAGIC, 8) == 0 && old->size == size && old->drivers == plan->drivers;
  for (uint32_t i = 0; same && i < plan->drivers * DIRECTIONS; i++)
    same = old->driver[i / DIRECTIONS].direction[i % DIRECTIONS].count == counts[i];
  if (same) {
    host->image = old;
  } else {
    if (old) munmap(old, size);
    host->image = map_file(folder, "image", size, true);
    if (host->image) image_format(host->image, size, plan->drivers, counts);
  }
  free(counts);
  if (!host->image) return false;
  if (!plan->paired) host->epoch = atomic_load(&host->image->epoch);
  atomic_store(&host->image->drive_until_ns, plan->paired && !*channel ? 0 : INT64_MAX);
  return true;
}

/* One host per run folder, for as long as the process lives. Started by Python it holds this lock already; the file
 * stays open because closing it would give the lock up. */
static bool take_folder(const char *folder, const char *what) {
  char path[4096];
  snprintf(path, sizeof path, "%s/lock", folder);
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0660);
  if (fd >= 0 && fcntl(fd, F_SETLK, &lock) == 0) return true;
  say("%s: %s", path, errno == EAGAIN || errno == EACCES ? what : strerror(errno));
  return false;
}

static bool prepare(struct host *host, const char *plan_path) {
  if (!load_program(&host->program, plan_path) || !make_status(host)) return false;
  const char *retained = at(host->program.plan, host->program.plan->retain_folder_at);
  if (*retained && !take_folder(retained, "another scan host saves its values here; give each its own folder")) return false;
  if (host->program.plan->paired && !pair_open(host)) return false;
  if (!make_image(host)) return false;
  host->status->restored = host->program.plan->patches;
  host->time_base_ns = host->program.plan->time_base_ns;
  host->watch = map_file(host->folder, "watch", sizeof(struct watch), true);
  host->access = map_file(host->folder, "access", sizeof(struct access), true);
  return host->watch && host->access;
}

/* Tasks and channels live in blocks that others have mapped: they stay as they are while the host runs. */
static bool same_shape(const struct plan *a, const struct plan *b) {
  const struct plan_task *s = at(a, a->tasks_at), *t = at(b, b->tasks_at);
  const struct plan_channel *c[2][2] = {{at(a, a->inputs_at), at(b, b->inputs_at)},
                                        {at(a, a->outputs_at), at(b, b->outputs_at)}};
  bool same = a->tasks == b->tasks && a->drivers == b->drivers && a->inputs == b->inputs && a->outputs == b->outputs;
  for (uint32_t i = 0; same && i < a->tasks; i++) same = s[i].interval_ns == t[i].interval_ns;
  for (uint32_t k = 0; k < DIRECTIONS; k++)
    for (uint32_t i = 0; same && i < (k ? a->outputs : a->inputs); i++)
      same = c[k][0][i].driver == c[k][1][i].driver && c[k][0][i].index == c[k][1][i].index;
  return same;
}

/* Offers the program of the file plan.next to the scan thread. A refused one changes nothing. An old program stays
 * loaded: unloading would save some hundred kB per change, and a mistake there would stop the plant. */
static void offer_change(struct host *host, const struct plan *shape) {
  char path[4096];
  snprintf(path, sizeof path, "%s/plan.next", host->folder);
  struct program *next = calloc(1, sizeof *next);
  bool ok = next && !atomic_load(&host->next) && load_program(next, path);
  if (ok && !same_shape(shape, next->plan)) {
    say("%s: other tasks or channels need a restart", path);
    ok = false;
  }
  if (ok && host->pair && !pair_has_room(host, next->plan)) {
    say("%s: the program is too large for the channel to the standby; restart both hosts", path);
    ok = false;
  }
  if (ok)
    atomic_store_explicit(&host->next, next, memory_order_release);
  else
    atomic_fetch_add(&host->status->refusals, 1);
}

/* Until a stop is asked for: every interval a snapshot is wanted, and saved when the scan thread has made it. */
static void keep_house(struct host *host, const struct plan *first, const sigset_t *asked, pthread_t thread) {
  struct timespec pause = {.tv_nsec = HOUSEKEEPING_MS * 1000000};
  int64_t interval = (int64_t)first->retain_interval_ms * 1000000, next = image_now() + interval;
  bool retaining = *(const char *)at(first, first->retain_folder_at);
  for (;;) {
    int number = sigtimedwait(asked, NULL, &pause);
    if (number == SIGTERM || number == SIGINT) break;
    if (number == SIGUSR1) offer_change(host, first);
    if (number == SIGUSR2) atomic_store(host->status->pair.duty == LEADING ? &host->hand_over_wanted : &host->lead_wanted, true);
    if (!retaining) continue;
    if (atomic_load_explicit(&host->snapshot_made, memory_order_acquire)) {
      atomic_store(&host->snapshot_made, false);
      retain_save(host);
    } else if (image_now() >= next && !atomic_load(&host->snapshot_wanted)) {
      next = image_now() + interval;
      atomic_store_explicit(&host->snapshot_wanted, true, memory_order_release);
    }
  }
  atomic_store(&host->stop, true);
  pthread_kill(thread, WAKE_SIGNAL);
  pthread_join(thread, NULL);
  if (!retaining) return;
  take_snapshot(host);
  retain_save(host);
}

int main(int count, char **arguments) {
  static struct host host;
  if (count != 3) {
    fputs("usage: vplc-scan-host PLAN FOLDER (made by: python -m vplc.scan run)\n", stderr);
    return 2;
  }
  sigset_t all, asked;
  sigfillset(&all);
  sigemptyset(&asked);
  sigaddset(&asked, SIGTERM);
  sigaddset(&asked, SIGINT);
  sigaddset(&asked, SIGUSR1);
  sigaddset(&asked, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &all, NULL); /* the scan thread opens what it needs */
  host.folder = arguments[2];
  if (!take_folder(host.folder, "another scan host runs here; it goes on")) return 1;
  if (!prepare(&host, arguments[1])) return 1;
  if (mlockall(MCL_CURRENT | MCL_FUTURE) == 0)
    host.status->locked = 1;
  else /* never MCL_FUTURE alone: a later mapping would fail instead */
    raise_alarm(&host, errno, "memory is not locked (%s): page faults can delay scans; grant CAP_IPC_LOCK",
                strerror(errno));
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK_SIZE);
  const struct plan *first = host.program.plan; /* the scan thread owns host.program from here on */
  pthread_t thread;
  int error = pthread_create(&thread, &attributes, scan_thread, &host);
  if (error) {
    say("cannot start the scan thread: %s", strerror(error));
    return 1;
  }
  keep_house(&host, first, &asked, thread);
  if (host.pair) pair_close(&host);
  atomic_store(&host.status->phase, STOPPED);
  return 0;
}
