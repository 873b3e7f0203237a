/* The plan and the shared library: read, checked, refused with what and where. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scan.h"

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#elif defined(__arm__)
#define MACHINE EM_ARM
#elif defined(__riscv)
#define MACHINE EM_RISCV
#else
#error "the scan host is not made for this machine"
#endif

static bool load_plan(struct program *program, const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  struct stat info;
  if (fd < 0 || fstat(fd, &info) != 0) {
    say("%s: cannot read the plan: %s", path, strerror(errno));
    return false;
  }
  void *memory = MAP_FAILED;
  if ((size_t)info.st_size >= sizeof(struct plan))
    memory = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  close(fd);
  const struct plan *plan = memory;
  if (memory == MAP_FAILED || memcmp(plan->magic, PLAN_MAGIC, 8) != 0 || plan->size != (uint64_t)info.st_size) {
    say("%s: this is no plan of this version; start with: python -m vplc.scan run", path);
    return false;
  }
  program->plan = plan;
  return true;
}

/* A private copy, so that a new build may overwrite the file under a running host. */
static int copy_of(const char *path) {
  char buffer[65536];
  int from = open(path, O_RDONLY | O_CLOEXEC), to = memfd_create("vplc-program", MFD_CLOEXEC);
  ssize_t got = from < 0 || to < 0 ? -1 : 1;
  while (got > 0 && (got = read(from, buffer, sizeof buffer)) > 0)
    if (write(to, buffer, (size_t)got) != got) got = -1;
  if (got < 0) say("%s: cannot read the library: %s", path, strerror(errno));
  if (from >= 0) close(from);
  if (got < 0 && to >= 0) close(to);
  return got < 0 ? -1 : to;
}

/* dlopen says "wrong ELF class" or less: this says which machine the library is for. */
static bool right_machine(int fd, const char *path) {
  Elf64_Ehdr head; /* e_machine lies at the same place in 32-bit files */
  if (pread(fd, &head, sizeof head, 0) < 20 || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0) {
    say("%s: this is no shared library", path);
    return false;
  }
  if (head.e_machine == MACHINE) return true;
  say("%s: the library is for ELF machine %d, this host runs on %d; build it with the right --target", path,
      head.e_machine, MACHINE);
  return false;
}

static bool load_library(struct program *program) {
  const struct plan *plan = program->plan;
  const char *path = at(plan, plan->library_at);
  char copy[32];
  int fd = copy_of(path);
  if (fd < 0 || !right_machine(fd, path)) return false;
  snprintf(copy, sizeof copy, "/proc/self/fd/%d", fd);
  void *library = dlopen(copy, RTLD_NOW | RTLD_LOCAL); /* fd stays open: dlopen knows libraries by name */
  if (!library) {
    say("%s: cannot load the library: %s", path, dlerror());
    return false;
  }
  const char *abi = dlsym(library, "vplc_abi");
  const char *wanted = at(plan, plan->abi_at);
  if (!abi || strcmp(abi, wanted) != 0) {
    say("%s: library and layout do not belong together\n  library: %s\n  layout:  %s\nbuild both again with: vplc build",
        path, abi ? abi : "(not sealed)", wanted);
    return false;
  }
  *(void **)&program->init = dlsym(library, "vplc_init");
  const struct plan_program *programs = at(plan, plan->programs_at);
  program->run = calloc(plan->programs + 1, sizeof *program->run);
  program->state = aligned_alloc(64, ((size_t)plan->state_size + 63) & ~(size_t)63);
  bool ok = program->init && program->run && program->state;
  for (uint32_t i = 0; ok && i < plan->programs; i++) {
    *(void **)&program->run[i] = dlsym(library, at(plan, programs[i].run_at));
    if (!program->run[i]) say("%s: has no %s", path, (const char *)at(plan, programs[i].run_at));
    ok = program->run[i] != NULL;
  }
  return ok;
}

/* Initial values, then the restored ones. */
static bool start_program(struct program *program) {
  const struct plan *plan = program->plan;
  if (program->init(program->state) != 0) {
    int32_t site;
    memcpy(&site, program->state + plan->fault_site, sizeof site);
    const struct plan_site *sites = at(plan, plan->sites_at);
    if (site > 0 && (uint32_t)site < plan->sites)
      say("the program faults while it is initialised: %s, line %u: %s", (const char *)at(plan, sites[site].pou_at),
          sites[site].line, (const char *)at(plan, sites[site].text_at));
    else
      say("the program faults while it is initialised");
    return false;
  }
  patch_state(program->state, at(plan, plan->patches_at), plan->patches, (const uint8_t *)plan);
  return true;
}

bool load_program(struct program *program, const char *plan_path) {
  if (!load_plan(program, plan_path) || !load_library(program) || !start_program(program)) return false;
  const struct plan_run *runs = at(program->plan, program->plan->runs_at);
  for (uint32_t i = 0; i < program->plan->runs; i++) program->snapshot_size += runs[i].size;
  program->snapshot = malloc(program->snapshot_size + 1);
  return program->snapshot != NULL;
}

/* A file of the run folder, mapped for sharing; size 0: as large as it is. A fresh one replaces what is there in one step, so that readers of
 * the old file keep a whole one. */
void *map_file(const char *folder, const char *name, size_t size, bool fresh) {
  char path[4096], temporary[4104];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  snprintf(temporary, sizeof temporary, "%s.new", path);
  const char *opened = fresh ? temporary : path;
  if (fresh) unlink(temporary);
  int fd = open(opened, O_RDWR | O_CLOEXEC | (fresh ? O_CREAT | O_EXCL : 0), 0660);
  if (fd < 0) {
    if (fresh) say("%s: cannot create: %s", opened, strerror(errno));
    return NULL;
  }
  struct stat info;
  void *memory = NULL;
  /* Allocated, not only made long: on a full tmpfs a page would be missing in the middle of a scan. */
  int error = fresh ? posix_fallocate(fd, 0, (off_t)size) : fstat(fd, &info);
  if (!fresh && !error && !size) size = (size_t)info.st_size;
  if (error || (!fresh && (size_t)info.st_size != size) || !size) {
    if (fresh) {
      say("%s: cannot make it %zu bytes long: %s; give the run folder more memory", opened, size, strerror(error));
      unlink(temporary);
    }
  } else {
    memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (memory == MAP_FAILED || (fresh && rename(temporary, path) != 0)) {
      say("%s: cannot map: %s", path, strerror(errno));
      memory = NULL;
    }
  }
  close(fd);
  return memory;
}
