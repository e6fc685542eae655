/* The tracker's network thread: receives and checks requests, hands them to the threads, sends
 * the answers, publishes the feed.
 *
 *     ROUTER sockets ──▶ parse, check, role ──▶ (held) ──▶ threads ──▶ answer, feed
 *           ▲                    └── refusal, hello: at once ──▶ answer
 *           └── not read while REQUESTS_MAX or REQUEST_BYTES_MAX are under way: the clients' queues
 *               fill, and the clients wait; nothing is dropped
 *
 * A read sees the writes that its peer sent before it: it is held until they are done. An answer
 * that cannot be sent (peer gone, peer that does not read) is dropped; its client asks again.
 *
 * Ends on SIGTERM or SIGINT, after every write that was received is stored and answered; reads that
 * wait are refused, for their clients may be gone. SIGHUP says
 * that whoever started it has gone: first the home's coordinator ends, which has states to store. */
#ifndef TRACKER_SERVER_SERVER_H
#define TRACKER_SERVER_SERVER_H

#include "tracker/ops/store.h"
#include "wire/net.h"

#define SERVER_ENDPOINTS_MAX     16
#define SERVER_REQUESTS_MAX      4096
#define SERVER_REQUEST_BYTES_MAX ((size_t)256 << 20)

struct server;

struct server_options {
    const struct clock *clock;
    const char *endpoints[SERVER_ENDPOINTS_MAX];
    size_t endpoint_count;
    const char *feed;            /* endpoint of the live feed */
    const struct net_keys *keys; /* for tcp://; NULL: none */
    const char *coordinator;     /* the lock of the home's coordinator; NULL: none to wait for */
};

/* Binds everything: BUSY where an endpoint is taken. The store stays the caller's. */
enum status server_new(struct net *net, struct store *store, const struct server_options *options,
                       struct server **out, struct err *err) MUST_USE;
void server_destroy(struct server **s);

/* Until a signal asks for the end, or the store is lost (IO). */
enum status server_run(struct server *s, struct err *err) MUST_USE;

#endif
