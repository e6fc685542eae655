/* What net.c, which knows ZeroMQ, shares with loop.c, net_endpoint.c and net_keys.c, which do not.
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

/* Waits at most timeout_ms (-1: forever) until one is readable. A signal ends the wait early. */
enum status net_poll(struct net_poll_item *items, size_t count, int timeout_ms,
                     struct err *err) MUST_USE;

/* ---- endpoints ---- */

enum net_transport { TRANSPORT_IPC, TRANSPORT_TCP, TRANSPORT_INPROC };

/* INVALID for an endpoint of another kind, TOO_LARGE for one over NET_ENDPOINT_MAX. */
enum status net_endpoint_transport(const char *endpoint, enum net_transport *out,
                                   struct err *err) MUST_USE;

/* Checks that the socket's directory is ours alone (DENIED), and for a bind that nobody listens
 * there (BUSY) and that nothing but a socket would be replaced (EXISTS). */
enum status net_endpoint_check_ipc(const char *endpoint, bool bind, struct err *err) MUST_USE;

/* ---- public keys that may come in ---- */

/* DENIED when others may write to it. */
enum status net_keys_check_dir(const char *dir, struct err *err) MUST_USE;

/* The role of the peer with this public key ("viewer", …), NULL when it may not come in; `name` (may
 * be NULL) becomes what its file calls it. Thread-safe. */
const char *net_keys_role(const char *allowed_dir, const char *key, char name[NET_KEY_NAME_MAX]);

/* What libzmq hands on with each message of a connection, to say whose it is: "role key name". */
#define NET_USER_MAX (NET_KEY_TEXT + 32 + NET_KEY_NAME_MAX)

/* Changes when a file of the directory is added, removed or written. */
uint64_t net_keys_sum(const char *allowed_dir);

#endif
