/* The threads that work for the network thread: one writer, a few readers.
 *
 *     threads_submit ─┬▶ writes ─▶ writer: begin, apply × n, commit ─┐
 *                     └▶ reads  ─▶ readers: a snapshot each ─────────┴▶ done ─▶ threads_take
 *                                                                     (threads_fd is readable)
 *
 * The writer takes all that is queued, up to REQUESTS_MAX requests or BYTES_MAX, and stores it in
 * one transaction: it never waits for more to come, and while it waits for the disk, more comes.
 * Where a transaction does not fit (disk or map full), its requests are tried one by one, so that
 * only those fail that have no room. At the end, reads are refused, and writes are not.
 *
 * Threading: new, submit, take and destroy on the network thread. */
#ifndef TRACKER_SERVER_THREADS_H
#define TRACKER_SERVER_THREADS_H

#include "tracker/server/job.h"

#define THREADS_READERS      2
#define THREADS_REQUESTS_MAX 256
#define THREADS_BYTES_MAX    ((size_t)8 << 20)
#define THREADS_MAINTAIN_S   60

struct threads;

enum status threads_new(struct store *store, struct threads **out, struct err *err) MUST_USE;

/* Finishes what was submitted and ends the threads. What nobody took is destroyed. */
void threads_destroy(struct threads **threads);

/* The job is the threads' until threads_take gives it back. Writes are done in this order. */
void threads_submit(struct threads *t, struct job *job);

/* From now on reads are not answered but refused (UNAVAILABLE), those that wait among them: the
 * tracker is ending, and only writes deserve the wait. */
void threads_refuse_reads(struct threads *t);

/* Readable while done jobs wait. */
int threads_fd(const struct threads *t);

/* Moves every done job to the end of `out`. */
void threads_take(struct threads *t, struct job_queue *out);

#endif
