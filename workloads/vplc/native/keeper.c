/* Starts the processes of one virtual PLC side by side and starts each again when it ends: `vplc-keeper TABLE STATE`.
 *
 * The scan host is nobody's child but this program's, and this program reads no network, parses no message and
 * allocates nothing after its start: telemetry, drivers and servers can die as often as they like beside a scan that
 * goes on. TABLE (tab-separated: name, flags, command...) is written by `python -m workloads.vplc`, which then becomes
 * this program. STATE tells the telemetry what runs: name, pid (0: waiting), restarts, how it last ended, and since when.
 *
 * Capabilities that it was given (ambient: what SCHED_FIFO and mlockall need) go on to children flagged `realtime` only.
 * Children flagged `late` are stopped after the others: a driver must see the host end to make its outputs safe. When
 * one flagged `sole` ends, this program ends too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHILDREN 160 /* a host, drivers, servers, telemetry: the scan configuration takes 64 drivers */
#define WORDS 64
#define FIRST_PAUSE_MS 100
#define LONGEST_PAUSE_MS 5000
#define STEADY_MS 10000 /* after living that long the next end counts as the first */
#define LATE_MS 3000    /* how long the others may take before the late ones are stopped */
#define KILL_MS 8000    /* below the 10 s that engines wait before they kill */

struct child {
  char *name;
  char *words[WORDS];
  bool realtime, late, sole, told;
  pid_t pid;
  uint32_t restarts, failures;
  int64_t started_ms, due_ms;
  int end; /* wait status of the last life, -1: none */
};

static struct child children[CHILDREN];
static int count;
static const char *state_path;

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void say(const char *name, const char *what) { fprintf(stderr, "vplc-keeper: %s: %s\n", name, what); }

/* ---- the table ---- */

static bool read_table(const char *path) {
  static char text[1 << 20];
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (size < 0 || size == sizeof text - 1) {
    say(path, size < 0 ? strerror(errno) : "is too long");
    return false;
  }
  close(fd);
  char *lines = NULL;
  for (char *line = strtok_r(text, "\n", &lines); line; line = strtok_r(NULL, "\n", &lines)) {
    if (count == CHILDREN) {
      say(path, "names too many processes");
      return false;
    }
    struct child *c = &children[count];
    char *parts = NULL, *flags = NULL;
    c->name = strtok_r(line, "\t", &parts);
    flags = strtok_r(NULL, "\t", &parts);
    int words = 0;
    for (char *word; words < WORDS - 1 && (word = strtok_r(NULL, "\t", &parts));) c->words[words++] = word;
    if (!words) {
      say(path, "has a line without a command");
      return false;
    }
    c->realtime = strstr(flags, "realtime");
    c->late = strstr(flags, "late");
    c->sole = strstr(flags, "sole");
    c->end = -1;
    count++;
  }
  return count > 0;
}

static void write_state(void) {
  char fresh[4096], text[32768];
  size_t used = 0;
  for (int i = 0; i < count; i++) {
    struct child *c = &children[i];
    char how[32] = "-";
    if (c->end >= 0)
      snprintf(how, sizeof how, "%s %d", WIFSIGNALED(c->end) ? "signal" : "exit",
               WIFSIGNALED(c->end) ? WTERMSIG(c->end) : WEXITSTATUS(c->end));
    int n = snprintf(text + used, sizeof text - used, "%s\t%d\t%u\t%s\t%lld\n", c->name, (int)c->pid, c->restarts, how,
                     (long long)c->started_ms);
    if (n < 0 || (size_t)n >= sizeof text - used) break;
    used += (size_t)n;
  }
  snprintf(fresh, sizeof fresh, "%s.new", state_path);
  int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return; /* nobody's life depends on it */
  bool whole = write(fd, text, used) == (ssize_t)used;
  close(fd);
  if (whole) rename(fresh, state_path);
}

/* ---- lives ---- */

static void start(struct child *c, const sigset_t *usual) {
  c->started_ms = now_ms();
  pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, (unsigned long)SIGTERM);
    sigprocmask(SIG_SETMASK, usual, NULL);
    if (!c->realtime) {
      /* When memory runs out the kernel shall take anybody before the host. */
      int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
      if (fd >= 0 && write(fd, "500", 3) != 3) say(c->name, "stays as dear as the host when memory runs out");
      if (fd >= 0) close(fd);
    }
    if (!c->realtime) prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0L, 0L, 0L); /* without these exec keeps none */
    execvp(c->words[0], c->words);
    say(c->name, strerror(errno));
    _exit(127);
  }
  c->pid = pid > 0 ? pid : 0;
  if (pid < 0) c->due_ms = c->started_ms + LONGEST_PAUSE_MS;
}

/* Whether this program has to end as well. */
static bool ended(pid_t pid, int how, bool stopping) {
  for (int i = 0; i < count; i++) {
    struct child *c = &children[i];
    if (c->pid != pid) continue;
    int64_t now = now_ms();
    if (now - c->started_ms >= STEADY_MS) c->failures = 0;
    int64_t pause = FIRST_PAUSE_MS << (c->failures < 6 ? c->failures : 6);
    c->due_ms = now + (pause < LONGEST_PAUSE_MS ? pause : LONGEST_PAUSE_MS);
    c->failures++;
    c->end = how;
    c->pid = 0;
    if (stopping || c->sole) return c->sole;
    c->restarts++;
    fprintf(stderr, "vplc-keeper: %s ended (%s %d), starts again in %lld ms\n", c->name,
            WIFSIGNALED(how) ? "signal" : "exit", WIFSIGNALED(how) ? WTERMSIG(how) : WEXITSTATUS(how),
            (long long)(c->due_ms - now));
    return false;
  }
  return false;
}

static bool any(bool late) {
  for (int i = 0; i < count; i++)
    if (children[i].pid && children[i].late == late) return true;
  return false;
}

static void tell(bool late) {
  for (int i = 0; i < count; i++) {
    struct child *c = &children[i];
    if (c->pid && c->late == late && !c->told) {
      c->told = true;
      kill(c->pid, SIGTERM);
    }
  }
}

/* Ends when a signal asks for it and all children have ended. */
static void keep(const sigset_t *awaited, const sigset_t *usual) {
  int64_t stop_ms = 0;
  bool changed = true;
  while (!stop_ms || any(false) || any(true)) {
    int64_t now = now_ms(), next = now + 1000;
    for (int i = 0; i < count && !stop_ms; i++) {
      if (!children[i].pid && children[i].due_ms <= now) {
        start(&children[i], usual);
        changed = true;
      }
      if (!children[i].pid && children[i].due_ms < next) next = children[i].due_ms;
    }
    if (stop_ms) {
      tell(false);
      if (!any(false) || now - stop_ms >= LATE_MS) tell(true);
      for (int i = 0; i < count && now - stop_ms >= KILL_MS; i++)
        if (children[i].pid) kill(children[i].pid, SIGKILL);
      next = now + 50;
    }
    if (changed) write_state();
    changed = false;
    int64_t wait = next > now ? next - now : 1;
    struct timespec pause = {.tv_sec = (time_t)(wait / 1000), .tv_nsec = (long)(wait % 1000) * 1000000};
    int number = sigtimedwait(awaited, NULL, &pause);
    if ((number == SIGTERM || number == SIGINT) && !stop_ms) stop_ms = now_ms();
    int how;
    for (pid_t pid; (pid = waitpid(-1, &how, WNOHANG)) > 0;) {
      if (ended(pid, how, stop_ms != 0) && !stop_ms) stop_ms = now_ms();
      changed = true;
    }
  }
}

int main(int words, char **arguments) {
  if (words != 3) {
    fputs("usage: vplc-keeper TABLE STATE (made by: python -m workloads.vplc)\n", stderr);
    return 2;
  }
  state_path = arguments[2];
  if (!read_table(arguments[1])) return 1;
  sigset_t awaited, usual;
  sigemptyset(&awaited);
  sigaddset(&awaited, SIGTERM);
  sigaddset(&awaited, SIGINT);
  sigaddset(&awaited, SIGCHLD);
  sigprocmask(SIG_BLOCK, &awaited, &usual);
  sigemptyset(&usual); /* whoever started us may have blocked what children rely on */
  keep(&awaited, &usual);
  return 0;
}
