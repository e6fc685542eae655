/* Which reads wait for which writes: one row for each peer that has requests under way.
 *
 *     peer A: write 1, write 2, read ──▶ the read is held until write 2 is done
 *     peer B: read                   ──▶ at once
 *
 * Threading: the network thread. */
#ifndef TRACKER_SERVER_PEERS_H
#define TRACKER_SERVER_PEERS_H

#include "tracker/server/job.h"

#define PEERS_BUCKETS 1024

struct peer_row;
struct peers {
    struct peer_row *buckets[PEERS_BUCKETS]; /* private */
};

/* A job came in. *now: it may go to the threads at once; false: it is kept until its peer's writes
 * are done. */
enum status peers_enter(struct peers *p, struct job *job, bool *now, struct err *err) MUST_USE;

/* A job is done; reads that waited for it are moved to `ready`. */
void peers_leave(struct peers *p, const struct job *job, struct job_queue *ready);

/* Destroys what is kept. */
void peers_release(struct peers *p);

#endif
