/* A session: one client's connection to one server (tracker or coordinator).
 *
 * There are two ways to ask. session_call waits for the answer. session_post never blocks and never
 * loses a request: it waits in a bounded queue in memory, spills to a local spool file when the
 * queue is full or the server stays away, and is sent again after a reconnect until it is answered.
 * Requests that write carry (client, seq), so that a resend is answered, not applied twice. Order
 * is kept: posts are applied in the order in which they were posted, and before any later call.
 *
 *     post ──▶ queue (≤ QUEUE_BYTES_MAX) ──▶ in flight ──▶ answered
 *                └──▶ spool file ──▶┘            └── no answer in RESEND_MS ──▶ again, new socket
 *
 * Threading: a session belongs to one thread, which must call session_pump now and then (every
 * step). session_close gives what is unanswered one last chance of `timeout_ms`; what is left stays
 * in the spool, if one was named, and the next session with the same spool sends it first. */
#ifndef WIRE_SESSION_H
#define WIRE_SESSION_H

#include <stdint.h>

#include "core/clock.h"
#include "wire/message.h"
#include "wire/net.h"

#define SESSION_QUEUE_BYTES_MAX ((size_t)64 << 20)
#define SESSION_SPOOL_BYTES_MAX ((uint64_t)4 << 30)
#define SESSION_IN_FLIGHT_MAX   64
#define SESSION_RESEND_MS       2000

struct session;

typedef void session_notice_fn(void *arg, const struct message_type *type,
                               const struct value *notice);
/* A posted request was answered: st is OK, or the server's refusal with its message in err. */
typedef void session_answer_fn(void *arg, const struct value *request, enum status st,
                               const struct value *reply, const struct err *err);

struct session_options {
    const char *endpoint;
    const struct net_keys *keys; /* NULL for ipc */
    const char *spool;           /* file; NULL: no spool (posts beyond the queue give FULL) */
    const struct clock *clock;
    session_notice_fn *on_notice; /* may be NULL; called from session_pump and session_call */
    session_answer_fn *on_answer; /* may be NULL; likewise */
    void *arg;
};

enum status session_open(struct net *net, const struct session_options *options,
                         struct session **out, struct err *err) MUST_USE;
enum status session_close(struct session **s, int timeout_ms, struct err *err);

/* A reply: the header in the caller's arena, the frames owned until session_reply_release. */
struct session_reply {
    struct value *header;
    struct net_message message;
};
void session_reply_release(struct session_reply *reply);

/* A question. */
struct session_ask {
    const struct value *request; /* message_request(a, op, NULL) plus fields; id, client and seq are
                                    added to a copy */
    struct net_frames frames;
    int timeout_ms; /* -1: wait forever, sending again after each reconnect */
};

/* Sends and waits. The server's refusal comes back as its status and message; TIMEOUT when no
 * answer came in time. `reply` may be NULL; its header is built in `a`. */
enum status session_call(struct session *s, struct arena *a, const struct session_ask *ask,
                         struct session_reply *reply, struct err *err) MUST_USE;

/* Copies and queues. FULL only when queue and spool are full. */
enum status session_post(struct session *s, const struct value *request, struct net_frames frames,
                         struct err *err) MUST_USE;

/* Sends, receives and resends what it can without waiting. */
enum status session_pump(struct session *s, struct err *err) MUST_USE;

/* Waits up to timeout_ms for traffic, then pumps (an idle group sleeps here). */
enum status session_wait(struct session *s, int timeout_ms, struct err *err) MUST_USE;

/* Pumps until every post is answered. */
enum status session_flush(struct session *s, int timeout_ms, struct err *err) MUST_USE;

/* True while the server has not answered anything for longer than SESSION_RESEND_MS. */
bool session_lost(const struct session *s);
size_t session_pending(const struct session *s); /* posts not yet answered */
/* Each reconnect makes a new socket; this counts them. */
uint64_t session_generation(const struct session *s);
const struct clock *session_clock(const struct session *s);

#endif
