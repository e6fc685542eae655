/* How much room there is: on the disk of a home, in /dev/shm. */
#ifndef CORE_DISK_H
#define CORE_DISK_H

#include <stdbool.h>
#include <stdint.h>

/* The least with which a worker group is started: Open MPI lays out most of it in its session folder. */
#define DISK_LEAST_BYTES ((uint64_t)8 << 20)
/* With less than this, even small commits of a store fail. */
#define DISK_NONE_BYTES ((uint64_t)1 << 20)

#define DISK_TEXT_MAX 5000

/* What may still be written below `path`; UINT64_MAX where nobody can tell. */
uint64_t disk_room(const char *path);

/* "no space left on PATH (64 KiB free)" */
void disk_text(const char *path, uint64_t room, char out[DISK_TEXT_MAX]);

#endif
