/* One request on its way through the tracker: received by the network thread, handed to the writer
 * or to a reader, handed back with its answer.
 *
 *     network thread ──job──▶ writer or reader ──job──▶ network thread ──▶ job_destroy
 *
 * Exactly one thread has it at any time, so that nothing in it is locked; what it holds lives until
 * job_destroy. */
#ifndef TRACKER_SERVER_JOB_H
#define TRACKER_SERVER_JOB_H

#include "core/buf.h"
#include "tracker/ops/store.h"
#include "wire/message.h"
#include "wire/net.h"

/* A header of NET_HEADER_MAX, taken apart, and its reply. */
#define JOB_ARENA_MAX  ((size_t)256 << 20)
#define JOB_OUTPUT_MAX ((size_t)32 << 20) /* frames of a reply: 1,000,000 points and more */

struct job {
    struct job *next;
    struct arena arena;

    bool own;        /* the tracker's own: nobody waits for an answer */
    size_t listener; /* which of the server's sockets it came from */
    struct net_message message;
    struct message request;
    size_t bytes;     /* memory it is charged for while it waits */
    uint64_t barrier; /* a read waits until this many writes of its peer are done */

    enum status status; /* the answer: OK and reply, or err */
    struct err err;
    struct store_answer answer; /* in the arena and in `output` */
    struct buf output;
};

struct job *job_new(void); /* NULL when memory is exhausted */
void job_destroy(struct job **job);

/* Back to "not answered yet", for another attempt. */
void job_reset(struct job *job);

/* First in, first out. Not locked. */
struct job_queue {
    struct job *head, **tail;
    size_t count;
};
void job_queue_init(struct job_queue *q);
void job_push(struct job_queue *q, struct job *job);
struct job *job_pop(struct job_queue *q); /* NULL when empty */

#endif
