/* Memory that the ranks of one node share: a file in /dev/shm whose pages are all taken before one is
 * used. A container's /dev/shm is often small (64 MB), and a page that is not there when it is first
 * written ends the process with SIGBUS; here it is an answer (FULL) instead.
 *
 *     rank 0   segment_create ─▶ its path ─▶ all: segment_open, segment_take (each its own part) ─▶ agree
 *              ─▶ all: segment_map ─▶ agree ─▶ rank 0: segment_unlink; the memory lives until it is unmapped
 *
 * Whoever takes a part's pages has them near its core. Not collective; no MPI. */
#ifndef WORKER_WORLD_SEGMENT_H
#define WORKER_WORLD_SEGMENT_H

#include <stddef.h>

#include "core/status.h"

#define SEGMENT_PATH_MAX 256

struct segment {
    int fd; /* −1: none */
    size_t bytes;
    void *base; /* NULL: not mapped */
    char path[SEGMENT_PATH_MAX];
};

/* Where such files go: Open MPI's directory for them, if the launcher named one, else /dev/shm. */
const char *segment_directory(void);

enum status segment_create(struct segment *s, size_t bytes, struct err *err) MUST_USE;
enum status segment_open(struct segment *s, const char *path, size_t bytes,
                         struct err *err) MUST_USE;
enum status segment_take(struct segment *s, size_t at, size_t len, struct err *err) MUST_USE;
enum status segment_map(struct segment *s, struct err *err) MUST_USE;
void segment_unlink(struct segment *s);
void segment_release(struct segment *s); /* idempotent */

#endif
