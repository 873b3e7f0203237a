/* The scan thread. Nothing here waits, allocates or writes to a file.
 *
 * One thread runs all tasks, because they share one state: the most urgent task that is due goes first, and a task
 * that has begun runs to its end. A task can therefore start late by at most one scan of another task.
 *
 * A program that exceeds its watchdog, or makes the processor complain, is left by a jump out of the signal handler.
 * Compiled programs hold no locks and own no memory, so nothing is left behind but their own half-made scan, and
 * their outputs are safe from then on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "standby.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define WATCHDOG_SIGNAL SIGRTMIN
#define STACK_TO_TOUCH (128 * 1024)

static sigjmp_buf escape;
static volatile sig_atomic_t in_program;
static const int complaints[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};

static void leave_program(int number) {
  if (in_program) {
    in_program = 0;
    siglongjmp(escape, number);
  }
  if (number != WATCHDOG_SIGNAL) { /* our own mistake: die with the usual core */
    signal(number, SIG_DFL);
    raise(number);
  }
}

static void wake_up(int number) { (void)number; }

static void catch_signals(void) {
  static uint8_t stack[64 * 1024]; /* a program that ran off its stack needs another one */
  stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&alternate, NULL);
  struct sigaction action = {.sa_handler = leave_program, .sa_flags = SA_ONSTACK | SA_NODEFER};
  sigset_t set;
  sigemptyset(&set);
  for (size_t i = 0; i < sizeof complaints / sizeof *complaints; i++) {
    sigaction(complaints[i], &action, NULL);
    sigaddset(&set, complaints[i]);
  }
  sigaction(WATCHDOG_SIGNAL, &action, NULL);
  sigaddset(&set, WATCHDOG_SIGNAL);
  struct sigaction wake = {.sa_handler = wake_up};
  sigaction(WAKE_SIGNAL, &wake, NULL);
  sigaddset(&set, WAKE_SIGNAL);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void __attribute__((noinline)) touch_stack(void) {
  volatile uint8_t room[STACK_TO_TOUCH];
  for (size_t i = 0; i < sizeof room; i += 4096) room[i] = 0;
}

/* Everything that makes a scan punctual. Each is tried; a refusal is an alarm. SCHED_FIFO comes last. */
static void become_punctual(struct host *host) {
  const struct plan *plan = host->program.plan;
  struct status *status = host->status;
  status->core = -1;
  if (plan->core >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)plan->core, &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof set, &set) == 0)
      status->core = plan->core;
    else
      raise_alarm(host, EINVAL, "not pinned: core %d is not among the cores this process may use", plan->core);
  }
  if (prctl(PR_SET_TIMERSLACK, 1) != 0) raise_alarm(host, errno, "timer slack stays as it is: %s", strerror(errno));
  touch_stack();
  struct sched_param param = {.sched_priority = plan->priority};
  int error = plan->priority > 0 ? pthread_setschedparam(pthread_self(), SCHED_FIFO, &param) : 0;
  status->priority = error ? 0 : plan->priority;
  if (error)
    raise_alarm(host, error, "SCHED_FIFO %d refused (%s): scans will be late under load; grant CAP_SYS_NICE and, on "
                "kernels with RT_GROUP_SCHED, a real-time share", plan->priority, strerror(error));
}

int64_t wait_until(struct host *host, int64_t when_ns) {
  struct timespec t = {.tv_sec = (time_t)(when_ns / 1000000000), .tv_nsec = (long)(when_ns % 1000000000)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR && !atomic_load(&host->stop)) {
  }
  return image_now();
}

/* ---- statistics: this thread is the only writer, so a plain add is enough ---- */

static void add(_Atomic uint64_t *counter, uint64_t n) {
  atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

static void record_time(_Atomic uint64_t *histogram, _Atomic uint64_t *highest, int64_t ns) {
  uint64_t v = ns > 0 ? (uint64_t)ns : 0;
  uint32_t bucket = (uint32_t)v;
  if (v >= 32) {
    uint32_t power = 63u - (uint32_t)__builtin_clzll(v);
    bucket = (power - 4) * 32 + ((uint32_t)(v >> (power - 5)) & 31);
  }
  add(&histogram[bucket < BUCKETS ? bucket : BUCKETS - 1], 1);
  if (v > atomic_load_explicit(highest, memory_order_relaxed))
    atomic_store_explicit(highest, v, memory_order_relaxed);
}

/* ---- the process image ---- */

static void put_value(uint8_t *to, const struct plan_channel *c, uint64_t value) {
  if (c->bit >= 0)
    *to = (uint8_t)((*to & ~(1u << c->bit)) | (value & 1) << c->bit);
  else
    memcpy(to, &value, c->size);
}

static uint64_t get_value(const uint8_t *from, const struct plan_channel *c) {
  uint64_t value = 0;
  if (c->bit >= 0) return *from >> c->bit & 1u;
  memcpy(&value, from, c->size);
  return value;
}

/* A stamp from the future (another clock, a jump) must not keep a value fresh for ever. */
static bool too_old(const struct plan_channel *c, const struct record *r, int64_t now) {
  int64_t age = now - r->stamp_ns;
  return age < -1000000000 || (c->max_age_ns && age > 0 && (uint64_t)age > c->max_age_ns);
}

static void copy_in(struct host *host, int64_t now) {
  const struct plan *plan = host->program.plan;
  const struct plan_channel *c = at(plan, plan->inputs_at);
  const struct record *records = NULL;
  uint32_t driver = UINT32_MAX;
  for (const struct plan_channel *end = c + plan->inputs; c < end; c++) {
    if (c->driver != driver) records = image_take_in(host->image, driver = c->driver, host->epoch);
    const struct record *r = &records[c->index];
    uint32_t quality = r->quality > BAD ? BAD : r->quality;
    if (quality != NEVER && too_old(c, r, now)) quality = STALE;
    if (quality == GOOD || quality == UNCERTAIN)
      put_value(host->program.state + c->offset, c, r->value);
    else if (c->policy != HOLD)
      put_value(host->program.state + c->offset, c, c->policy == ZERO ? 0 : c->substitute);
    if (c->quality_at >= 0) host->program.state[c->quality_at] = (uint8_t)quality;
    _Atomic uint32_t *effective = (_Atomic uint32_t *)((char *)host->image + host->image->driver[driver].effective);
    atomic_store_explicit(&effective[c->index], quality, memory_order_relaxed);
  }
}

/* False: another host leads; nothing of this scan got through after it did. */
static bool copy_out(struct host *host, int64_t now) {
  const struct plan *plan = host->program.plan;
  const struct plan_channel *c = at(plan, plan->outputs_at), *end = c + plan->outputs;
  while (c < end) {
    uint32_t driver = c->driver;
    struct record *records = image_back_of(host->image, driver, host->side);
    for (; c < end && c->driver == driver; c++) {
      bool safe = c->tasks & host->faulted;
      records[c->index] = (struct record){.value = safe ? c->substitute : get_value(host->program.state + c->offset, c),
                                          .stamp_ns = now,
                                          .quality = safe ? SAFE : GOOD,
                                          .epoch = host->epoch};
    }
    int result = image_publish_of(host->image, driver, host->side, host->epoch);
    if (result == FENCED) return false;
    if (result != 0) add(&host->status->unpublished, 1);
  }
  return true;
}

/* The state first: whoever goes on from it never falls behind what the plant has seen. */
static void give_out(struct host *host, int64_t now) {
  if (!host->pair) {
    copy_out(host, now);
    return;
  }
  pair_send(host, 0);
  if (!host->pair->link->may_drive(host)) {
    add(&host->status->pair.suspended, 1);
    return;
  }
  if (copy_out(host, now))
    pair_driven(host);
  else
    pair_fenced(host, "the other host took over during a scan");
}

/* ---- running ---- */

static void copy_text(char *to, size_t size, const char *from) { snprintf(to, size, "%s", from); }

static void fault(struct host *host, uint32_t number, uint32_t kind, int signal_number, uint32_t program) {
  const struct plan *plan = host->program.plan;
  const struct plan_task *t = (const struct plan_task *)at(plan, plan->tasks_at) + number;
  const struct plan_program *programs = at(plan, plan->programs_at);
  struct task_status *s = &host->status->task[number];
  struct fault_entry *f = &s->fault;
  f->at_ns = image_now();
  f->kind = kind;
  copy_text(f->program, sizeof f->program, at(plan, programs[program].name_at));
  if (kind == FAULT_PROGRAM) {
    int32_t site;
    memcpy(&site, host->program.state + plan->fault_site, sizeof site);
    memcpy(&f->a, host->program.state + plan->fault_a, 8);
    memcpy(&f->b, host->program.state + plan->fault_b, 8);
    const struct plan_site *sites = at(plan, plan->sites_at);
    if (site > 0 && (uint32_t)site < plan->sites) {
      f->site = (uint32_t)site;
      f->line = sites[site].line;
      copy_text(f->pou, sizeof f->pou, at(plan, sites[site].pou_at));
      copy_text(f->text, sizeof f->text, at(plan, sites[site].text_at));
    }
  } else if (kind == FAULT_WATCHDOG) {
    snprintf(f->text, sizeof f->text, "the scan took longer than its watchdog of %.3f ms", (double)t->watchdog_ns / 1e6);
  } else {
    snprintf(f->text, sizeof f->text, "the processor refused an instruction or address (signal %d)", signal_number);
  }
  host->faulted |= 1ull << number;
  atomic_store_explicit(&s->state, TASK_FAULT, memory_order_release);
}

/* ---- online change ---- */

static void show_faults(struct host *host) {
  for (uint32_t i = 0; i < host->program.plan->tasks; i++)
    atomic_store(&host->status->task[i].state, host->faulted >> i & 1 ? TASK_FAULT : TASK_RUN);
}

/* Between two scans: carries the values over and lets the new program go on. The one before keeps its state. */
static void change_program(struct host *host) {
  struct program *next = atomic_load_explicit(&host->next, memory_order_acquire);
  if (!next) return;
  int64_t begin = image_now();
  const struct plan_move *move = at(next->plan, next->plan->moves_at), *end = move + next->plan->moves;
  if (host->duty == FOLLOWING) move = end; /* its values will come from the leader */
  for (; move < end; move++) {
    const uint8_t *from = host->program.state + move->from;
    uint8_t *to = next->state + move->to;
    if (move->bits)
      *to = (uint8_t)((*to & ~(1u << (move->bits >> 4 & 7))) | (*from >> (move->bits & 7) & 1u) << (move->bits >> 4 & 7));
    else
      memcpy(to, from, move->size);
  }
  host->before = host->program;
  host->faulted_before = host->faulted;
  host->forces_before = host->forces;
  host->program = *next;
  host->forces = (struct forces){.count = next->plan->forces,
                                 .set = next->plan->force_set,
                                 .entry = at(next->plan, next->plan->forces_at),
                                 .data = (const uint8_t *)next->plan};
  show_forces(host);
  host->faulted = 0; /* the change may be what repairs them */
  show_faults(host);
  if (host->pair) pair_changed(host);
  struct status *s = host->status;
  atomic_store(&s->on_trial, host->duty == FOLLOWING ? 0 : next->plan->trial_scans);
  atomic_store(&s->version, next->plan->version);
  atomic_store(&s->swap_ns, (uint64_t)(image_now() - begin));
  atomic_store_explicit(&host->next, NULL, memory_order_release);
}

/* The program before goes on where it was left, in the very scan that faulted: the outputs do not notice. */
static void roll_back(struct host *host, uint32_t number) {
  const struct fault_entry *f = &host->status->task[number].fault;
  raise_alarm(host, 0, "version %u rolled back: %.40s, line %u: %.80s", host->program.plan->version,
              f->pou[0] ? f->pou : f->program, f->line, f->text);
  host->program = host->before;
  host->forces = host->forces_before;
  show_forces(host);
  if (host->pair) pair_changed(host);
  host->faulted = host->faulted_before;
  show_faults(host);
  atomic_store(&host->status->on_trial, 0);
  atomic_store(&host->status->version, host->program.plan->version);
  atomic_fetch_add(&host->status->rollbacks, 1);
}

static void arm(timer_t timer, uint64_t ns) {
  struct itimerspec t = {.it_value = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)}};
  timer_settime(timer, 0, &t, NULL);
}

static void run_programs(struct host *host, uint32_t number, const struct plan_task *t, timer_t timer, int64_t time) {
  static bool armed;
  volatile uint32_t program = t->first_program;
  int number_of_signal = sigsetjmp(escape, 0);
  if (number_of_signal == 0) {
    int32_t bad = 0;
    if (t->watchdog_ns || armed) arm(timer, t->watchdog_ns);
    armed = t->watchdog_ns;
    in_program = 1;
    for (uint32_t i = 0; i < t->programs && !bad; i++) {
      program = t->first_program + i;
      bad = host->program.run[program](host->program.state, time);
    }
    in_program = 0;
    if (bad) fault(host, number, FAULT_PROGRAM, 0, program);
  } else {
    fault(host, number, number_of_signal == WATCHDOG_SIGNAL ? FAULT_WATCHDOG : FAULT_SIGNAL, number_of_signal, program);
  }
  /* The next scan sets it anew before it could end, and outside programs it does nothing: one system call saved. */
  if (armed && t->watchdog_ns < t->interval_ns) {
    arm(timer, 0);
    armed = false;
  }
}

static const struct plan_task *task_of(struct host *host, uint32_t number) {
  return (const struct plan_task *)at(host->program.plan, host->program.plan->tasks_at) + number;
}

/* `begin` is the time right after waking up: what comes then belongs to the scan. */
static void run_task(struct host *host, uint32_t number, int64_t begin, int64_t due, int64_t release, timer_t timer) {
  const struct plan_task *t = task_of(host, number);
  struct task_status *s = &host->status->task[number];
  int64_t time = release - host->start_ns + (int64_t)host->time_base_ns;
  record_time(s->latency, &s->latency_max_ns, begin - due);
  if (!(host->faulted >> number & 1)) {
    copy_in(host, begin);
    if (host->forces.count) hold_forces(host);
    run_programs(host, number, t, timer, time);
    uint32_t trial = atomic_load_explicit(&host->status->on_trial, memory_order_relaxed);
    if (trial && host->faulted >> number & 1) {
      roll_back(host, number);
      copy_in(host, begin);
      if (host->forces.count) hold_forces(host);
      if (!(host->faulted >> number & 1)) run_programs(host, number, task_of(host, number), timer, time);
    } else if (trial) {
      atomic_store_explicit(&host->status->on_trial, trial - 1, memory_order_relaxed);
    }
    atomic_store_explicit(&host->scan_time_ns, time, memory_order_relaxed);
    add(&s->scans, 1);
  }
  if (host->forces.count) hold_forces(host);
  give_out(host, begin);
  int64_t took = image_now() - begin;
  record_time(s->execution, &s->execution_max_ns, took);
  atomic_store_explicit(&s->execution_last_ns, (uint64_t)took, memory_order_relaxed);
  if (took > (int64_t)t->interval_ns) add(&s->overruns, 1);
}

void take_snapshot(struct host *host) {
  const struct plan_run *runs = at(host->program.plan, host->program.plan->runs_at);
  uint8_t *to = host->program.snapshot;
  for (uint32_t i = 0; i < host->program.plan->runs; i++) {
    memcpy(to, host->program.state + runs[i].offset, runs[i].size);
    to += runs[i].size;
  }
  host->taken = host->program;
}

/* Waits for the next release and runs the most urgent task that is due. */
static void scan_once(struct host *host, const struct plan_task *tasks, timer_t timer) {
  uint32_t count = host->program.plan->tasks;
  int64_t *next = host->next_ns, first = next[0];
  for (uint32_t i = 1; i < count; i++)
    if (next[i] < first) first = next[i];
  int64_t now = wait_until(host, first);
  atomic_store_explicit(&host->status->heartbeat_ns, now, memory_order_relaxed);
  if (host->pair && !pair_leads(host)) return;
  for (uint32_t i = 0; i < count; i++) {
    if (next[i] > now) continue;
    int64_t interval = (int64_t)tasks[i].interval_ns, lost = (now - next[i]) / interval;
    if (lost > 0) add(&host->status->task[i].missed, (uint64_t)lost); /* skipped for good, never made up for */
    int64_t due = next[i], release = due + lost * interval;
    next[i] = release + interval;
    run_task(host, i, now, due, release, timer);
    return; /* look at the clock again: a more urgent task may have become due */
  }
}

static void between_scans(struct host *host) {
  if (atomic_load_explicit(&host->snapshot_wanted, memory_order_acquire)) {
    take_snapshot(host);
    atomic_store_explicit(&host->snapshot_wanted, false, memory_order_relaxed);
    atomic_store_explicit(&host->snapshot_made, true, memory_order_release);
  }
  answer_requests(host);
  change_program(host);
  if (atomic_load_explicit(&host->hand_over_wanted, memory_order_relaxed)) {
    atomic_store(&host->hand_over_wanted, false);
    pair_hand_over(host);
  }
}

void *scan_thread(void *argument) {
  struct host *host = argument;
  const struct plan *plan = host->program.plan;
  const struct plan_task *tasks = at(plan, plan->tasks_at);
  catch_signals();
  timer_t timer;
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = WATCHDOG_SIGNAL};
  event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) {
    raise_alarm(host, errno, "there is no timer for the watchdog: %s", strerror(errno));
    return NULL;
  }
  become_punctual(host);
  host->start_ns = image_now() + 1000000; /* the first release, so that it is not late already */
  for (uint32_t i = 0; i < plan->tasks; i++) host->next_ns[i] = host->start_ns;
  if (host->pair) pair_begin(host);
  atomic_store(&host->status->phase, RUNNING);
  while (!atomic_load_explicit(&host->stop, memory_order_relaxed)) {
    if (host->duty == FOLLOWING)
      pair_follow(host);
    else
      scan_once(host, tasks, timer);
    between_scans(host);
  }
  if (host->pair && (host->duty == FOLLOWING || pair_hand_over(host))) return NULL;
  host->faulted = ~0ull; /* stopped is safe: the last thing the drivers get */
  if (!host->pair || host->pair->link->may_drive(host)) copy_out(host, image_now());
  return NULL;
}
