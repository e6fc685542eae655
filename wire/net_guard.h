/* The connections that came in over tcp: how much of each waits unfinished, and whose key it used.
 *
 *     accepted ──▶ watched ──heard──▶ watched ──▶ closed by its peer, or by us
 *                     │ more than GUARD_BYTES_MAX came, and no whole message of it was taken
 *                     │ its key was taken out of the directory, or got another role
 *                     └──▶ ended: shutdown(2)
 *
 * libzmq keeps the parts of a message until the last one is there, and its bound (ZMQ_MAXMSGSIZE) is
 * one for each part: a peer that never sends the last part would fill the memory. So the bytes are
 * counted by the kernel (TCP_INFO), for each connection and for all.
 *
 * A key is known by the first message. When keys are taken back, connections whose key is not known
 * yet (subscribers of the feed never say anything) are ended too: whoever is still allowed comes
 * back by itself.
 *
 * Connections over ipc are not watched: whoever can open that socket owns the process.
 *
 * Threading: guard_heard and guard_take_revoked on any thread; the rest on the one thread that the guard belongs to. */
#ifndef WIRE_NET_GUARD_H
#define WIRE_NET_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/net.h"

#define GUARD_CONNECTIONS_MAX 1024
#define GUARD_BYTES_MAX       ((uint64_t)320 << 20) /* a whole message has at most 260 MiB */
#define GUARD_BYTES_ALL_MAX   ((uint64_t)512 << 20) /* of all connections of a guard together */
#define GUARD_TICK_MS         100
#define GUARD_KEYS_EVERY      4   /* ticks between two looks at the keys */
#define GUARD_REVOKED_MAX     256 /* keys taken back that nobody has asked for yet */

struct guard;

enum status guard_new(struct guard **out, struct err *err) MUST_USE;
void guard_destroy(struct guard **g);

/* A server's directory of allowed keys, by the number of its ZAP domain. */
void guard_add_keys(struct guard *g, size_t domain, const char *allowed_dir);

void guard_accepted(struct guard *g, size_t domain, int fd);
void guard_closed(struct guard *g, int fd);

/* A whole message of this connection was taken; `user` is "role key name". */
void guard_heard(struct guard *g, int fd, const char *user);

/* Once in GUARD_TICK_MS: ends what must not go on. */
void guard_tick(struct guard *g);

/* The next key whose connections were ended because it was taken back; false: none. Any thread. */
bool guard_take_revoked(struct guard *g, struct net_revoked *out);

#endif
