/* Starts worker groups on this machine and notices at once when one ends.
 *
 *     demand ──▶ mpirun -n P trireme-worker …   (own process group, log/group-<n>.log)
 *                or a step of this Slurm allocation: srun -K1 -n P trireme-worker …
 *                   │ hello with the token         │ SIGCHLD
 *                   ▼                              ▼
 *                 is here                        gone: exit code and the last lines of its log
 *
 * On a machine with GPUs a group sees its own through CUDA_VISIBLE_DEVICES (placement.h); a group
 * for which no share is free waits for the next tick. Groups of an earlier coordinator are not counted:
 * the memory plans of new groups have to do with what those leave.
 *
 * After a death the next start of that size waits (0.2 s, doubling to 8 s); LAUNCHER_DEATHS_MAX
 * deaths in a row before a hello are reported as "cannot be started", once. Groups outlive a killed
 * coordinator: they say hello to the next one, which does not know them as its children.
 *
 * Threading: one thread; SIGCHLD must lead to launcher_reap (a signalfd in the loop). */
#ifndef COORDINATOR_SHELL_LAUNCHER_H
#define COORDINATOR_SHELL_LAUNCHER_H

#include "coordinator/decide/coordinator.h"
#include "coordinator/shell/placement.h"
#include "core/path.h"

#define LAUNCHER_GROUPS_MAX 1024
#define LAUNCHER_DEATHS_MAX 5
#define LAUNCHER_TOKEN_MAX  64
#define LAUNCHER_TAIL_MAX   1200 /* bytes of a log that go into a reason */

struct launcher;

enum launch_with { LAUNCH_MPIRUN, LAUNCH_SRUN };

struct launcher_options {
    enum launch_with with;
    const char *home;        /* log/ below it */
    const char *worker;      /* path of trireme-worker */
    const char *coordinator; /* endpoints that the groups are told */
    const char *tracker;
    const char *device;                /* what workers are told: auto, cpu, cuda */
    const struct placement *placement; /* NULL: no GPU; copied */
};

/* What became of groups: called from launcher_reap and launcher_tick. */
struct launcher_events {
    void (*lost)(void *arg, const char *token, const char *reason);
    void (*failed)(void *arg, int64_t ranks, const char *reason);
    void *arg;
};

enum status launcher_new(const struct launcher_options *options,
                         const struct launcher_events *events, struct launcher **out,
                         struct err *err) MUST_USE;
void launcher_destroy(struct launcher **l); /* after launcher_stop */

/* Starts what is wanted and neither here nor on its way. */
void launcher_tick(struct launcher *l, const struct demand *demand, size_t count, int64_t mono_ns);

/* A group said hello with this token. False: we started it and its mpirun has ended; its ranks live
 * for a moment longer and must get no trial. Strangers (an earlier coordinator's) are welcome. */
bool launcher_hello(struct launcher *l, const char *token);

/* Collects children that have ended. */
void launcher_reap(struct launcher *l, int64_t mono_ns);

size_t launcher_alive(const struct launcher *l);

/* TERM to all, up to grace_ms for them to end, then KILL. */
void launcher_stop(struct launcher *l, int grace_ms);

#endif
