/* The MPI world: one worker group. The only file that includes mpi.h is world.c.
 *
 * Every call is collective unless it says otherwise. A lost rank ends the world: mpirun or srun sees
 * to it. Idle ranks sleep in world_wait_word instead of spinning inside MPI. */
#ifndef WORKER_WORLD_H
#define WORKER_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

struct world;

/* Without mpirun: a world of one. UNAVAILABLE when MPI cannot be started, with what to do. */
enum status world_open(struct world **out, struct err *err) MUST_USE;
void world_close(struct world **w);
void world_abort(struct world *w, int exit_code) __attribute__((noreturn));

int world_rank(const struct world *w);
int world_size(const struct world *w);
const char *world_library(const struct world *w); /* "Open MPI 4.1.4" */

/* Rank 0's bytes on every rank; `len` is rank 0's and is set elsewhere; *bytes is allocated with
 * malloc on the other ranks (free it) and left alone on rank 0. Idle ranks sleep up to 1 ms at a time. */
enum status world_share(struct world *w, void **bytes, size_t *len, struct err *err) MUST_USE;

/* out[rank · len …] on every rank. */
enum status world_gather(struct world *w, const void *mine, size_t len, void *out,
                         struct err *err) MUST_USE;
enum status world_barrier(struct world *w, struct err *err) MUST_USE;

/* Point to point, non-blocking: for the exchange. Not collective. */
struct world_request {
    void *opaque[2];
    bool active;
};
enum status world_send(struct world *w, int to, int tag, const void *bytes, size_t len,
                       struct world_request *r, struct err *err) MUST_USE;
enum status world_receive(struct world *w, int from, int tag, void *bytes, size_t len,
                          struct world_request *r, struct err *err) MUST_USE;
enum status world_test(struct world *w, struct world_request *r, bool *done, struct err *err) MUST_USE;
enum status world_wait(struct world *w, struct world_request *r, struct err *err) MUST_USE;

/* Memory that the ranks of this node share, `bytes` for each rank (for the exchange within a node):
 * bases[rank] is where that rank's part begins. NULL bases: not all ranks are on one node. */
enum status world_shared_memory(struct world *w, size_t bytes, void ***bases, struct err *err) MUST_USE;

#endif
