/* Which reads wait for which writes: one row for each peer that has requests under way.
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

/* A job came in. *now: it may go to the engine at once; false: it is kept until its peer's writes
 * are done. */
enum status peers_enter(struct peers *p, struct job *job, bool *now, struct err *err) MUST_USE;

/* A job is done; reads that waited for it are moved to `ready`. */
void peers_leave(struct peers *p, const struct job *job, struct job_queue *ready);

/* Destroys what is kept. */
void peers_release(struct peers *p);

#endif
