/* ZeroMQ sockets (the only file that includes zmq.h is net.c) and one loop with timers.
 *
 * A message is a header (frame 1, JSON, at most NET_HEADER_MAX bytes) and up to NET_FRAMES_MAX
 * further frames of raw bytes. Every socket is bounded: ZMQ_MAXMSGSIZE, high-water marks, LINGER;
 * every send is non-blocking and a full queue is an answer (FULL), not a silence. ROUTER_MANDATORY
 * is set: a send to a peer that is gone is NOT_FOUND.
 *
 * ipc:// endpoints lie in a directory of mode 0700. tcp:// endpoints need CURVE keys: a bind or a
 * connect without them is refused with DENIED and the words how to make them (`trireme keygen`).
 *
 * Threading: a net_socket and a loop belong to one thread; the context may be shared. */
#ifndef WIRE_NET_H
#define WIRE_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/clock.h"
#include "core/status.h"

#define NET_HEADER_MAX   ((size_t)4 << 20)
#define NET_FRAME_MAX    ((size_t)16 << 20)
#define NET_FRAMES_MAX   16
#define NET_QUEUE_MAX    4096 /* messages per peer and direction */
#define NET_IDENTITY_MAX 16

struct net;        /* a ZeroMQ context */
struct net_socket; /* one socket */

/* A DEALER reconnects by itself, and what was on its way is lost without a word: the next message
 * may then arrive where the one before it did not. DEALER_ONCE stays with its first connection;
 * when that ends, sends answer FULL, and its owner opens another (wire/session.c keeps order so).
 */
enum net_kind { NET_ROUTER, NET_DEALER, NET_DEALER_ONCE, NET_PUB, NET_SUB };

/* CURVE keys, Z85 (40 characters). A server gives its own pair and the directory of the public keys
 * it lets in (one file a key: "<40 characters> <role> <name>"); a client gives its own pair and the
 * server's public key. NULL fields: none. */
struct net_keys {
    const char *public_key, *secret_key;
    const char *server_key;  /* client only */
    const char *allowed_dir; /* server only; the ZAP handler reads it */
};

/* A pair as `trireme keygen` writes it: NAME.secret holds both keys, one a line. */
#define NET_KEY_TEXT 40 /* Z85 of 32 bytes */
struct net_pair {
    char public_key[NET_KEY_TEXT + 1], secret_key[NET_KEY_TEXT + 1];
};

/* DENIED when others may read the file, INVALID when it holds anything else. */
enum status net_pair_load(const char *file, struct net_pair *out, struct err *err) MUST_USE;

enum status net_new(struct net **out, struct err *err) MUST_USE;
void net_destroy(struct net **net); /* after every socket */

enum status net_bind(struct net *net, enum net_kind kind, const char *endpoint,
                     const struct net_keys *keys, struct net_socket **out,
                     struct err *err) MUST_USE; /* BUSY when a live process has it */
enum status net_connect(struct net *net, enum net_kind kind, const char *endpoint,
                        const struct net_keys *keys, struct net_socket **out,
                        struct err *err) MUST_USE;
/* Comes to an end in the background: an endpoint is surely free once net_destroy has returned. */
void net_close(struct net_socket **socket);

/* Where the socket is bound or connected; after a bind to "tcp://127.0.0.1:*" with the real port.
 */
#define NET_ENDPOINT_MAX 256
enum status net_endpoint(struct net_socket *s, char out[NET_ENDPOINT_MAX],
                         struct err *err) MUST_USE;

/* SUB only: a prefix of topics. */
enum status net_subscribe(struct net_socket *s, const char *prefix, struct err *err) MUST_USE;

/* The peer on a ROUTER; empty (len 0) on every other kind. On PUB and SUB the first frame is the
 * topic and stands in `topic`. */
struct net_peer {
    uint8_t id[NET_IDENTITY_MAX];
    size_t len;
    bool delimiter; /* a REQ socket: wants an empty frame in front of its answers */
};

/* What a peer may do. On ipc:// everybody who reaches the socket is its owner: ADMIN. On tcp:// the
 * role stands beside the peer's key in the server's allowed_dir. */
enum net_role { NET_VIEWER, NET_SUBMITTER, NET_ADMIN };

struct net_frame {
    const void *data;
    size_t len;
};

/* A received message: owns its frames until net_message_release. */
struct net_message {
    struct net_peer peer;
    enum net_role role;                      /* of the sender, on a ROUTER */
    struct net_frame header;                 /* SUB: the frame behind the topic */
    struct net_frame topic;                  /* SUB only */
    struct net_frame frames[NET_FRAMES_MAX]; /* behind the header */
    size_t frame_count;
    void *parts; /* private */
};

/* Sends without blocking. FULL: the queue is full, nothing was sent. NOT_FOUND: the peer is gone.
 * DENIED: the server has refused our key; this socket is dead, a new one may try again. Bytes are
 * copied. `topic` is for PUB, NULL otherwise. */
enum status net_send(struct net_socket *s, const struct net_peer *peer, const char *topic,
                     const void *header, size_t header_len, const struct net_frame *frames,
                     size_t frame_count, struct err *err) MUST_USE;

/* Receives without blocking. *got false: nothing there. A message over the bounds is dropped and
 * answered INVALID once, with the peer filled in so that a server can say so. DENIED, once: the
 * server has refused our key. */
enum status net_receive(struct net_socket *s, struct net_message *out, bool *got,
                        struct err *err) MUST_USE;
void net_message_release(struct net_message *message);

/* Waits until the socket is readable, at most timeout_ms (-1: for ever). */
enum status net_wait(struct net_socket *s, int timeout_ms, bool *readable,
                     struct err *err) MUST_USE;

/* A new CURVE pair, Z85. */
enum status net_keygen(char public_key[41], char secret_key[41], struct err *err) MUST_USE;

/* ---- the loop: sockets, file descriptors, signals and timers in one thread ---- */

struct loop;
typedef void loop_fn(void *arg);

enum status loop_new(const struct clock *clock, struct loop **out, struct err *err) MUST_USE;
void loop_destroy(struct loop **loop);
enum status loop_add_socket(struct loop *l, struct net_socket *s, loop_fn *fn, void *arg,
                            struct err *err) MUST_USE;
enum status loop_add_fd(struct loop *l, int fd, loop_fn *fn, void *arg, struct err *err) MUST_USE;
void loop_remove_socket(struct loop *l, struct net_socket *s);
void loop_remove_fd(struct loop *l, int fd);

/* Calls fn every period_ms (first after one period). */
enum status loop_add_timer(struct loop *l, int64_t period_ms, loop_fn *fn, void *arg,
                           struct err *err) MUST_USE;

/* Blocks the signal and calls fn from the loop when it arrives (signalfd). */
enum status loop_add_signal(struct loop *l, int signo, loop_fn *fn, void *arg,
                            struct err *err) MUST_USE;

/* Runs until loop_stop. */
enum status loop_run(struct loop *l, struct err *err) MUST_USE;
void loop_stop(struct loop *l);

#endif
