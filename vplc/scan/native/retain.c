/* Retained values on disk: two files, written in turn, each with its own checksum and the names of its values.
 *
 * A power cut hits the file being written; the other one still holds the set before. Runs on the housekeeping thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "scan.h"

struct head {
  char magic[8];
  uint64_t sequence;
  int64_t scan_time_ns;
  uint32_t directory_size, values_size, crc, spare;
};

/* CRC-32 as in zlib and Ethernet. */
static uint32_t crc32_of(uint32_t crc, const void *data, size_t size) {
  const uint8_t *byte = data;
  crc = ~crc;
  for (size_t i = 0; i < size; i++) {
    crc ^= byte[i];
    for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1)));
  }
  return ~crc;
}

static bool write_file(const char *path, const struct iovec *parts, int count, size_t total) {
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0660);
  if (fd < 0) return false;
  bool ok = pwritev(fd, parts, count, 0) == (ssize_t)total && ftruncate(fd, (off_t)total) == 0 && fdatasync(fd) == 0;
  int error = errno;
  close(fd);
  errno = error;
  return ok;
}

bool retain_save(struct host *host) {
  static uint8_t *last; /* what the newer file holds, and of which program */
  static const struct plan *last_plan;
  static uint64_t first, saved;
  const struct plan *plan = host->taken.plan;
  const char *folder = at(plan, plan->retain_folder_at);
  uint32_t size = host->taken.snapshot_size;
  if (!size) return true;
  if (saved && plan == last_plan && memcmp(last, host->taken.snapshot, size) == 0) return true; /* spare the flash */
  if (!first) first = plan->retain_sequence;
  uint64_t sequence = first + saved;
  struct head head = {.sequence = sequence,
                      .scan_time_ns = atomic_load(&host->scan_time_ns),
                      .directory_size = plan->directory_size,
                      .values_size = size};
  memcpy(head.magic, RETAIN_MAGIC, 8);
  void *directory = (void *)(uintptr_t)at(plan, plan->directory_at);
  head.crc = crc32_of(crc32_of(crc32_of(0, &head, sizeof head), directory, plan->directory_size), host->taken.snapshot, size);
  struct iovec parts[] = {{&head, sizeof head}, {directory, plan->directory_size}, {host->taken.snapshot, size}};
  char path[4096];
  snprintf(path, sizeof path, "%s/retain.%c", folder, sequence & 1 ? 'b' : 'a');
  if (!write_file(path, parts, 3, sizeof head + plan->directory_size + size)) {
    if (atomic_fetch_add(&host->status->retain_failures, 1) == 0)
      raise_alarm(host, errno, "retained values cannot be saved to %.60s: %s", path, strerror(errno));
    return false; /* the next try goes to the same file: the other one is still whole */
  }
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* the name of a new file must survive too */
  if (fd >= 0) {
    fsync(fd);
    close(fd);
  }
  uint8_t *room = realloc(last, size);
  if (!room) return false;
  last = memcpy(room, host->taken.snapshot, size);
  last_plan = plan;
  saved++;
  atomic_fetch_add(&host->status->retain_saves, 1);
  atomic_store(&host->status->retain_saved_ns, image_now());
  return true;
}
