/* hammer FILE write|read SETS: one side of a triple buffer, without a pause. The reader fails on a torn set. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image.h"

#define WIDTH 400

int main(int count, char **arguments) {
  if (count != 4) return 2;
  uint32_t counts[2] = {WIDTH, 0};
  int fd = open(arguments[1], O_RDWR | O_CREAT, 0600);
  struct image *image = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (ftruncate(fd, 1 << 20) != 0 || image == MAP_FAILED) return 2;
  if (memcmp(image->magic, IMAGE_MAGIC, 8) != 0) image_format(image, 1 << 20, 1, counts);
  uint64_t sets = strtoull(arguments[3], NULL, 10), seen = 0, last = 0, changes = 0;
  if (arguments[2][0] == 'w') {
    for (uint64_t n = 1;; n++) {
      struct record *back = image_back(image, 0, 0);
      for (int i = 0; i < WIDTH; i++) back[i].value = n;
      if (image_publish(image, 0, 0) == 0) seen++;
    }
  }
  while (changes < sets) {
    const struct record *front = image_take(image, 0, 0);
    uint64_t first = ((volatile const struct record *)front)[0].value;
    for (int i = WIDTH - 1; i > 0; i--) {
      if (((volatile const struct record *)front)[i].value != first) {
        printf("torn\n");
        return 1;
      }
    }
    changes += first != last;
    last = first;
  }
  printf("whole\n");
  return 0;
}
