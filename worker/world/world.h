/* The MPI world: one worker group. The only file that includes mpi.h is world.c.
 *
 * Every call is collective unless it says otherwise. A lost rank ends the world: mpirun or srun
 * sees to it. Whoever waits spins for some microseconds, then gives up the core, then sleeps: an
 * idle rank costs nothing (MPI's own blocking calls would spin).
 *
 * Threading: one thread. */
#ifndef WORKER_WORLD_WORLD_H
#define WORKER_WORLD_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#define WORLD_RANKS_MAX 4096

struct world;

/* Whether this process is a rank that mpirun or srun started. */
bool world_is_launched(void);

/* Without mpirun or srun: a world of one, and MPI is not started at all. UNAVAILABLE when MPI
 * cannot be started, with what to do. */
enum status world_open(struct world **out, struct err *err) MUST_USE;
void world_close(struct world **w);
void world_abort(struct world *w, int exit_code) __attribute__((noreturn)); /* not collective */

int world_rank(const struct world *w);
int world_size(const struct world *w);
int world_local_rank(const struct world *w); /* among the ranks of this node; alone: 0 of 1 */
int world_local_size(const struct world *w);
const char *world_library(const struct world *w); /* "Open MPI 4.1.4"; "none" in a world of one */

/* Rank 0's bytes on every rank; `len` is rank 0's and is set elsewhere; *bytes is allocated with
 * malloc on the other ranks (free it) and left alone on rank 0. */
enum status world_share(struct world *w, void **bytes, size_t *len, struct err *err) MUST_USE;

/* out[rank · len …] on every rank. */
enum status world_gather(struct world *w, const void *mine, size_t len, void *out,
                         struct err *err) MUST_USE;
enum status world_barrier(struct world *w, struct err *err) MUST_USE;

/* Every rank brings what its own part of some work came to (`mine`, and *err where it failed) and
 * leaves with the same answer: OK, or the failure of the lowest rank that failed. */
enum status world_agree(struct world *w, enum status mine, struct err *err) MUST_USE;

/* Before leaving: whether every rank came here within the time. False: somebody is elsewhere, and
 * closing the world would wait for ever (world_abort ends it). */
bool world_meet(struct world *w, int timeout_ms);

/* One round of waiting for something that another rank does; *rounds starts at 0. Not collective.
 */
void world_relax(const struct world *w, unsigned *rounds);

/* Point to point, non-blocking: for the exchange. Not collective. Messages between two ranks with
 * the same tag arrive in the order in which they were sent. The bytes stay where they are until the
 * request is done. */
#define WORLD_TAG_MAX 0x0fffffff
struct world_message {
    int peer, tag;
    void *bytes; /* what is sent is only read */
    size_t len;
};
struct world_request {
    void *opaque[2];
    bool active;
};
enum status world_send(struct world *w, const struct world_message *m, struct world_request *r,
                       struct err *err) MUST_USE;
enum status world_receive(struct world *w, const struct world_message *m, struct world_request *r,
                          struct err *err) MUST_USE;
enum status world_test(struct world *w, struct world_request *r, bool *done,
                       struct err *err) MUST_USE;
enum status world_wait(struct world *w, struct world_request *r, struct err *err) MUST_USE;

/* Memory that the ranks of this node share, `bytes` for each rank: (*bases)[rank] is where that
 * rank's part begins, page-aligned. *bases is NULL where there is no such memory: one rank, several
 * nodes, not enough of it, or it is lent already. The world keeps it and lends the same again after
 * world_return_memory (not collective). The contents are whatever was there. */
enum status world_shared_memory(struct world *w, size_t bytes, void ***bases,
                                struct err *err) MUST_USE;
void world_return_memory(struct world *w);

/* Why ranks of one node share no memory, though they might: "take 96000000 bytes of shared memory in
 * /dev/shm/…: No space left on device"; "" where they do, or never could. */
const char *world_no_memory(const struct world *w);

#endif
