/* NCCL: moves bytes between the GPUs of a group, on the device's exchange queue. nccl.c is the only
 * file that includes its header; the library itself is loaded at run time (libnccl.so.2, or what
 * $TRIREME_NCCL names) and never linked.
 *
 * One communicator for a group, made once and kept. Its calls do not block: whatever waits here
 * does so for a bounded time. What NCCL adds up by itself (nccl_reduce) has no fixed order; all
 * else are bytes.
 *
 *     nccl_group_start; nccl_send, nccl_receive, nccl_reduce …; nccl_group_end
 *
 * queues one operation. Errors inside stick; group_end returns the first.
 *
 * Threading: the rank's only thread. Lifetime: closed before its device and its world, and after
 * the recorded steps that its work is part of: NCCL waits for those to be gone. */
#ifndef WORKER_WORLD_NCCL_H
#define WORKER_WORLD_NCCL_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

struct device;
struct nccl;
struct world;

/* Collective; the same answer on every rank. Sends a word from everyone to everyone and looks at
 * what came, so that all connections are made before a step is recorded. UNAVAILABLE, with what was
 * looked for and what to do: the build has no NCCL, the library is missing, lacks a function or is
 * older than 2.18, the device is not a GPU, two ranks share one, or NCCL fails. */
enum status nccl_open(struct world *w, struct device *d, struct nccl **out,
                      struct err *err) MUST_USE;
void nccl_close(struct nccl **n); /* collective where the group is whole */

/* Collective; the same answer on every rank. Before nccl_reduce is part of a recorded step: adds
 * something once, because NCCL makes the connections of sums when it first needs them, and that
 * cannot be recorded. Does nothing the second time. */
enum status nccl_open_sums(struct nccl *n, struct err *err) MUST_USE;

const char *nccl_version(const struct nccl *n); /* "2.28.9" */

/* Bytes are the device's memory. Both sides of a pair call in the same order. */
void nccl_group_start(struct nccl *n);
void nccl_send(struct nccl *n, const void *bytes, size_t len, int to);
void nccl_receive(struct nccl *n, void *bytes, size_t len, int from);
void nccl_reduce(struct nccl *n, float *at, int64_t count, int root); /* in place at the root */
enum status nccl_group_end(struct nccl *n, struct err *err) MUST_USE;

/* Not collective; does not wait. UNAVAILABLE after a peer was lost: the communicator is aborted,
 * and what was queued on it ends. */
enum status nccl_check(struct nccl *n, struct err *err) MUST_USE;
void nccl_abort(struct nccl *n); /* not collective, does not wait; idempotent */

#endif
