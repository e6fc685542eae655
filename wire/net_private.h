/* Between net.c, which knows ZeroMQ, and loop.c, net_endpoint.c and net_keys.c, which do not.
 * Nobody else includes this. */
#ifndef WIRE_NET_PRIVATE_H
#define WIRE_NET_PRIVATE_H

#include "wire/net.h"

/* What to wait for: a socket, or a file descriptor where `socket` is NULL. */
struct net_poll_item {
    struct net_socket *socket;
    int fd;
    bool readable; /* out; also on error and hang-up, so that the reader finds out */
};

#define NET_POLL_MAX 128

/* Waits at most timeout_ms (-1: for ever) until one is readable. A signal ends the wait early. */
enum status net_poll(struct net_poll_item *items, size_t count, int timeout_ms,
                     struct err *err) MUST_USE;

/* ---- endpoints ---- */

enum transport { TRANSPORT_IPC, TRANSPORT_TCP, TRANSPORT_INPROC };

/* INVALID for an endpoint of another kind, TOO_LARGE for one over NET_ENDPOINT_MAX. */
enum status endpoint_transport(const char *endpoint, enum transport *out, struct err *err) MUST_USE;

/* Whether the socket's directory is ours alone (DENIED), and for a bind whether nobody listens
 * there (BUSY) and nothing but a socket would be replaced (EXISTS). */
enum status endpoint_check_ipc(const char *endpoint, bool bind, struct err *err) MUST_USE;

/* ---- public keys that may come in ---- */

/* DENIED when others may write into it. */
enum status keys_check_dir(const char *dir, struct err *err) MUST_USE;

/* The role of the peer with this public key ("viewer", …), NULL when it may not come in.
 * Thread-safe. */
const char *keys_role(const char *allowed_dir, const char *key);

#endif
