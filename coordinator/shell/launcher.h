/* Starts worker groups on this machine, notices at once when one ends, and ends those that hang.
 *
 *     demand ──▶ keeper ──▶ mpirun -n P trireme-worker …   (log/group-<n>.log)
 *                │ or a step of this Slurm allocation: srun -K1 -n P trireme-worker …
 *                │          │ hello with the token         │ SIGCHLD
 *                │          ▼                              ▼
 *                │        is here                        gone: exit code and the last lines of its log
 *                └ keeper.h: no rank outlives its group, no group its coordinators
 *
 * With less than DISK_LEAST_BYTES free under the home nothing is started: it waits, and says so. A group that
 * died for want of room does not count below.
 *
 * On a machine with GPUs a group sees its own through CUDA_VISIBLE_DEVICES (placement.h); a group
 * for which no share is free waits for the next tick.
 *
 *     silent before its hello for LAUNCHER_HELLO_SAY_MS ─▶ said, with its log
 *                                 LAUNCHER_HELLO_MAX_MS ─▶ ended: it hangs
 *     no longer known to the core for LAUNCHER_LOST_MS  ─▶ ended: it was lost, or does not find its end
 *     adopted, and no hello for         LAUNCHER_ADOPT_MS ─▶ the same
 *
 * After a death the next start of that size waits (0.2 s, doubling to 8 s); LAUNCHER_DEATHS_MAX
 * deaths in a row before a hello (one that hangs counts twice) are reported as "cannot be started",
 * once. Groups outlive a killed coordinator for a few seconds: the next one adopts their keepers,
 * which it finds in HOME/run. What is adopted is ended and noticed like a child, but not counted
 * against the GPUs: the memory plans of new groups have to do with what it leaves.
 *
 * Threading: one thread; SIGCHLD must lead to launcher_reap (a signalfd in the loop), and so must a
 * timer, for the adopted. */
#ifndef COORDINATOR_SHELL_LAUNCHER_H
#define COORDINATOR_SHELL_LAUNCHER_H

#include "coordinator/decide/coordinator.h"
#include "coordinator/shell/placement.h"
#include "core/path.h"

#define LAUNCHER_GROUPS_MAX 1024
#define LAUNCHER_DEATHS_MAX 5
#define LAUNCHER_TOKEN_MAX  64
#define LAUNCHER_TAIL_MAX   1200 /* bytes of a log that go into a reason */

#define LAUNCHER_HELLO_SAY_MS 20000
#define LAUNCHER_HELLO_MAX_MS 90000
#define LAUNCHER_LOST_MS      8000
#define LAUNCHER_ADOPT_MS     15000

struct launcher;

enum launch_with { LAUNCH_MPIRUN, LAUNCH_SRUN };

struct launcher_options {
    enum launch_with with;
    const char *home;        /* log/ below it */
    const char *keeper;      /* path of the program that is executed as KEEPER_NAME */
    const char *worker;      /* path of trireme-worker */
    const char *coordinator; /* endpoints that the groups are told */
    const char *tracker;
    const char *keys, *tracker_key;    /* of groups, for a tcp tracker; NULL: none */
    const char *device;                /* what workers are told: auto, cpu, cuda */
    const struct placement *placement; /* NULL: no GPU; copied */
};

/* What became of groups: called from launcher_reap, launcher_tick and launcher_watch. */
struct launcher_events {
    void (*lost)(void *arg, const char *token, const char *reason);
    void (*failed)(void *arg, int64_t ranks, enum status why, const char *reason);
    bool (*known)(void *arg, const char *token); /* whether the core has a group with it */
    void *arg;
};

enum status launcher_new(const struct launcher_options *options,
                         const struct launcher_events *events, struct launcher **out,
                         struct err *err) MUST_USE;
void launcher_destroy(struct launcher **l); /* after launcher_stop */

/* Finds the groups of an earlier coordinator that still run, and cleans up after those that do not. */
void launcher_adopt(struct launcher *l, int64_t mono_ns);

/* Starts what is wanted and neither here nor on its way. */
void launcher_tick(struct launcher *l, const struct demand *demand, size_t count, int64_t mono_ns);

/* Ends those that hang or were lost. */
void launcher_watch(struct launcher *l, int64_t mono_ns);

/* A group said hello with this token. False: we started it and its mpirun has ended; its ranks live
 * for a moment longer and must get no trial. Strangers (an earlier coordinator's) are welcome. */
bool launcher_hello(struct launcher *l, const char *token);

/* Collects those that have ended. */
void launcher_reap(struct launcher *l, int64_t mono_ns);

size_t launcher_alive(const struct launcher *l);

/* TERM to all keepers, up to grace_ms for them to end, then KILL. */
void launcher_stop(struct launcher *l, int grace_ms);

#endif
