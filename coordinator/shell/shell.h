/* The shell around the pure core: sockets, the session to the tracker, children, time.
 *
 *     socket ─▶ batch of requests ─▶ core ─▶ outbox
 *                                             1 sweep.create, event.append, run.create, … posted
 *                                             2 wait until the tracker has all of it on disk
 *                                             3 notices to groups, replies
 *
 * While the tracker is away step 2 waits, for as long as it takes: nobody is told what would not
 * survive. A signal ends the waiting; what was not stored was not promised.
 *
 * Threading: one thread. */
#ifndef COORDINATOR_SHELL_SHELL_H
#define COORDINATOR_SHELL_SHELL_H

#include "coordinator/decide/coordinator.h"
#include "coordinator/shell/placement.h"
#include "wire/net.h"

#define SHELL_BATCH_MAX     256 /* requests between two waits for the tracker */
#define SHELL_ENDPOINTS_MAX 8

struct shell;

struct shell_options {
    const struct clock *clock;
    const char *endpoints[SHELL_ENDPOINTS_MAX]; /* launched groups are told an ipc one */
    size_t endpoint_count;
    const struct net_keys *keys;         /* for tcp; NULL otherwise */
    const char *tracker;                 /* endpoint */
    const struct net_keys *tracker_keys; /* for a tcp tracker */
    const struct net_keys
        *spool_keys; /* the groups', for the same; what they left behind is theirs */
    const char *home;
    int lock;                              /* the home's; it is marked when we are on our way out */
    const char *worker;                    /* path; NULL: launch nothing */
    const char *worker_keys, *tracker_key; /* what launched groups are given for a tcp tracker */
    bool srun;                             /* by srun instead of mpirun */
    const char *device;                    /* what workers are told: auto, cpu, cuda */
    struct placement placement;
    struct coordinator_options core;
};

/* Binds, connects, and restores the active sweeps; waits for the tracker up to 30 s. */
enum status shell_new(struct net *net, const struct shell_options *options, struct shell **out,
                      struct err *err) MUST_USE;

/* Until coordinator.shutdown, SIGTERM, SIGINT or SIGHUP: what runs is interrupted and can be resumed. */
enum status shell_run(struct shell *s, struct err *err) MUST_USE;
void shell_destroy(struct shell **s);

#endif
