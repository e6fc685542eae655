/* ZeroMQ sockets. net.c is the only file that includes zmq.h.
 *
 *     ┌ header: JSON, ≤ NET_HEADER_MAX bytes ┬ frame, ≤ NET_FRAME_MAX bytes ┬ … ≤ NET_FRAMES_MAX
 *
 * Every socket is bounded: ZMQ_MAXMSGSIZE, high-water marks, LINGER. Every send is non-blocking,
 * and a full queue is an answer (FULL), not a silence. ROUTER_MANDATORY is set: a send to a peer
 * that is gone is NOT_FOUND.
 *
 * ipc:// endpoints are in a directory of mode 0700. tcp:// endpoints need CURVE keys: a bind or a
 * connect without them is DENIED, and the message says how to make a pair (`trireme keygen`).
 *
 * Threading: a net_socket belongs to one thread; the context may be shared. */
#ifndef WIRE_NET_H
#define WIRE_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#define NET_HEADER_MAX   ((size_t)4 << 20)
#define NET_FRAME_MAX    ((size_t)16 << 20)
#define NET_FRAMES_MAX   16
#define NET_QUEUE_MAX    4096 /* messages per peer and direction */
#define NET_IDENTITY_MAX 16

struct net;        /* a ZeroMQ context */
struct net_socket; /* one socket */

/* A DEALER reconnects by itself, and what was on its way is lost silently: the next message may
 * then arrive although the one before it did not. DEALER_ONCE stays with its first connection; when
 * that ends, sends answer FULL and its owner opens another (so wire/session.c
 * keeps order). */
enum net_kind { NET_ROUTER, NET_DEALER, NET_DEALER_ONCE, NET_PUB, NET_SUB };

/* CURVE keys, Z85 (40 characters). A server gives its own pair and the directory of the public keys
 * it lets in (one file per key: "<40 characters> <role> <name>"); a client gives its own pair and
 * the server's public key. NULL fields: none. */
struct net_keys {
    const char *public_key, *secret_key;
    const char *server_key;  /* client only */
    const char *allowed_dir; /* server only; the ZAP handler reads it */
};

/* A pair as `trireme keygen` writes it: NAME.secret holds both keys, one per line. */
#define NET_KEY_TEXT 40 /* Z85 of 32 bytes */
struct net_pair {
    char public_key[NET_KEY_TEXT + 1], secret_key[NET_KEY_TEXT + 1];
};

/* DENIED when others may read the file, INVALID when it holds anything else. */
enum status net_pair_load(const char *file, struct net_pair *out, struct err *err) MUST_USE;

enum status net_new(struct net **out, struct err *err) MUST_USE;
void net_destroy(struct net **net); /* after every socket */

/* Where a socket is bound or connected, and with which keys (NULL: none; tcp:// needs them). */
struct net_place {
    const char *endpoint;
    const struct net_keys *keys;
};

/* BUSY when a running process has the endpoint. */
enum status net_bind(struct net *net, enum net_kind kind, struct net_place place,
                     struct net_socket **out, struct err *err) MUST_USE;
enum status net_connect(struct net *net, enum net_kind kind, struct net_place place,
                        struct net_socket **out, struct err *err) MUST_USE;
/* Finishes in the background: an endpoint is certain to be free only after net_destroy. */
void net_close(struct net_socket **socket);

/* Where the socket is bound or connected; with the real port after a bind to tcp://127.0.0.1:*. */
#define NET_ENDPOINT_MAX 256
enum status net_endpoint(struct net_socket *s, char out[NET_ENDPOINT_MAX],
                         struct err *err) MUST_USE;

/* SUB only: a prefix of topics. */
enum status net_subscribe(struct net_socket *s, const char *prefix, struct err *err) MUST_USE;

/* The peer on a ROUTER; empty (len 0) on every other kind. */
struct net_peer {
    uint8_t id[NET_IDENTITY_MAX];
    size_t len;
    bool delimiter; /* a REQ socket: wants an empty frame in front of its answers */
};

/* Who a peer is. A role is a set of rights and no step of a ladder: each row of the message tables
 * says which roles may send it (message_allows). On ipc:// everybody who reaches the socket is its
 * owner: ADMIN. On tcp:// the role is in the file of the peer's key in the server's allowed_dir. */
enum net_role { NET_VIEWER, NET_SUBMITTER, NET_WORKER, NET_COORDINATOR, NET_ADMIN };
#define NET_ROLES      5
#define NET_ROLE_NAMES "viewer|submitter|worker|coordinator|admin"

const char *net_role_name(enum net_role role);

/* False where `word`, of `len` bytes, is not the name of a role. */
bool net_role_find(const char *word, size_t len, enum net_role *out);

struct net_frame {
    const void *data;
    size_t len;
};

/* A view of frames that somebody else owns. */
struct net_frames {
    const struct net_frame *items;
    size_t count;
};
#define NET_NO_FRAMES ((struct net_frames){.items = NULL})

/* A key that may not come in any more, or not with that role, and how many of its connections were
 * ended for it. `name` is what its file called it. */
#define NET_KEY_NAME_MAX 64
struct net_revoked {
    char key[NET_KEY_TEXT + 1], name[NET_KEY_NAME_MAX];
    enum net_role role; /* that it had */
    unsigned connections;
};

/* The next of them; false: none. They are kept until they are taken. */
bool net_take_revoked(struct net *net, struct net_revoked *out);

/* A received message: owns its frames until net_message_release. */
struct net_message {
    struct net_peer peer;
    enum net_role role;                      /* of the sender, on a ROUTER */
    struct net_frame header;                 /* SUB: the frame after the topic */
    struct net_frame topic;                  /* SUB only */
    struct net_frame frames[NET_FRAMES_MAX]; /* after the header */
    size_t frame_count;
    void *parts; /* private */
};

/* A message to send. Its bytes are copied. */
struct net_outgoing {
    const struct net_peer *peer; /* ROUTER only: to whom */
    const char *topic;           /* PUB only */
    struct net_frame header;
    struct net_frames frames;
};

/* Sends without blocking. FULL: the queue is full, nothing was sent. NOT_FOUND: the peer is gone.
 * DENIED: the server has refused our key; this socket is dead, a new one may try again. */
enum status net_send(struct net_socket *s, const struct net_outgoing *m, struct err *err) MUST_USE;

/* Receives without blocking. *got false: nothing there. A message over the bounds is dropped and
 * reported INVALID once, with the peer filled in so that a server can say so. DENIED, once: the
 * server has refused our key. */
enum status net_receive(struct net_socket *s, struct net_message *out, bool *got,
                        struct err *err) MUST_USE;
void net_message_release(struct net_message *message);

/* Waits until the socket is readable, at most timeout_ms (-1: forever). */
enum status net_wait(struct net_socket *s, int timeout_ms, bool *readable,
                     struct err *err) MUST_USE;

/* A new CURVE pair, Z85. */
enum status net_keygen(char public_key[NET_KEY_TEXT + 1], char secret_key[NET_KEY_TEXT + 1],
                       struct err *err) MUST_USE;

#endif
