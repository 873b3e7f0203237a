/* Says what a container of class control can really do, as root and as the user it drops to. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *who, const char *what, int failed) {
    printf("%s %s: %s\n", who, what, failed ? strerror(errno) : "yes");
    fflush(stdout);
}

static int writes(const char *path) {
    int file = open(path, O_CREAT | O_WRONLY, 0600);
    return file < 0 || write(file, "x", 1) != 1;
}

static void probe(const char *who) {
    struct sched_param priority = {.sched_priority = 50};
    char path[64];
    say(who, "fifo", sched_setscheduler(0, SCHED_FIFO, &priority));
    say(who, "lock", mlockall(MCL_CURRENT | MCL_FUTURE));
    snprintf(path, sizeof path, "/run/shared/%s", who);
    say(who, "shared", writes(path));
    snprintf(path, sizeof path, "/run/kept/%s", who);
    say(who, "kept", writes(path));
    snprintf(path, sizeof path, "/run/sluice/%s", who);
    say(who, "context", writes(path));
    say(who, "chown", chown("/run/kept", 1, 1));
}

static int drop(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    unsigned wanted = 1u << CAP_SYS_NICE | 1u << CAP_IPC_LOCK;
    struct __user_cap_data_struct data[2] = {{.effective = wanted, .permitted = wanted, .inheritable = wanted}};
    return prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setgroups(0, NULL) || setresgid(10001, 10001, 10001) ||
           setresuid(10001, 10001, 10001) || syscall(SYS_capset, &header, data) ||
           prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_NICE, 0, 0) ||
           prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_IPC_LOCK, 0, 0);
}

int main(void) {
    if (fork() == 0) {
        int failed = drop();
        say("user", "dropped", failed);
        probe("user");
        return 0;
    }
    wait(NULL);
    probe("root");
    cpu_set_t cores;
    sched_getaffinity(0, sizeof cores, &cores);
    printf("cores: %d\n", CPU_COUNT(&cores));
    printf("done\n");
    fflush(stdout);
    for (;;) pause();
}
