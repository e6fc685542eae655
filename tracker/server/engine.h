/* The threads that work for the network thread: one writer, a few readers.
 *
 *     engine_submit ──▶ writes ──▶ writer: begin, apply × n, commit (fsync) ──┐
 *                  └──▶ reads  ──▶ reader, reader: a snapshot each ───────────┴▶ done ──▶
 * engine_take (eventfd)
 *
 * The writer takes all that is queued, up to GROUP_MAX requests or GROUP_BYTES_MAX, and stores it
 * as one group: it never waits for more to come, and while it waits for the disk, more comes. Where
 * a group does not fit (disk or map full), its requests are tried one by one, so that only those
 * fail that have no room.
 *
 * Threading: new, submit, take and destroy on the network thread. */
#ifndef TRACKER_SERVER_ENGINE_H
#define TRACKER_SERVER_ENGINE_H

#include "tracker/server/job.h"

#define ENGINE_READERS         2
#define ENGINE_GROUP_MAX       256
#define ENGINE_GROUP_BYTES_MAX ((size_t)8 << 20)
#define ENGINE_MAINTAIN_S      60

struct engine;

enum status engine_new(struct store *store, struct engine **out, struct err *err) MUST_USE;

/* Finishes what was submitted and ends the threads. What nobody took is destroyed. */
void engine_destroy(struct engine **engine);

/* The engine owns the job until engine_take gives it back. Jobs that write are done in this order.
 */
void engine_submit(struct engine *e, struct job *job);

/* Readable while done jobs wait. */
int engine_fd(const struct engine *e);

/* Moves every done job to the end of `out`. */
void engine_take(struct engine *e, struct job_queue *out);

#endif
