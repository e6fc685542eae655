/* The keeper of a worker group: a small process between the coordinator and mpirun (or srun), which
 * sees to it that no rank outlives the group, and no group its coordinators.
 *
 *     coordinator ──starts──▶ keeper ──starts──▶ mpirun ──▶ ranks
 *          │  holds WATCH       │  holds LOCK       └ SIGKILL when the keeper ends (PR_SET_PDEATHSIG),
 *          │                    │                     and so the ranks with mpirun
 *          └─ TERM ────────────▶│                     (and the coordinator kills what outlived that)
 *                               ├─ mpirun has ended: whatever it left behind is killed
 *                               ├─ TERM, INT, HUP: mpirun is told; KEEPER_GRACE_MS later all are killed
 *                               └─ nobody holds WATCH for KEEPER_ALONE_MS: the same
 *
 * A coordinator that is started again within KEEPER_ALONE_MS takes the group over: it finds LOCK in
 * HOME/run, and the keeper's pid in it. Two directories belong to the group, and go with it: one
 * beside LOCK for the launcher's session, one in /dev/shm for the segments that ranks share.
 *
 * `trireme replay` has a keeper, too: its token begins with LAUNCH_ALONE, it watches no coordinator, and HUP
 * tells it that the command has died. */
#ifndef COORDINATOR_SHELL_KEEPER_H
#define COORDINATOR_SHELL_KEEPER_H

#include <stdbool.h>

#include "core/launch.h"
#include "core/path.h"

#define KEEPER_NAME     LAUNCH_KEEPER /* argv[0] of a keeper */
#define KEEPER_ALONE_MS 4000
#define KEEPER_GRACE_MS 2000

/* Where things of a group are. */
struct keeper_places {
    char lock[PATH_TEXT_MAX], session[PATH_TEXT_MAX], shared[PATH_TEXT_MAX];
};

/* Of the group with this token; TOO_LARGE. */
enum status keeper_places(const char *home, const char *token, struct keeper_places *out,
                          struct err *err) MUST_USE;

/* Makes both directories. What cannot be made is "" afterwards: the launcher's own default serves. */
void keeper_prepare(struct keeper_places *p);

/* Whether it is of a world without a coordinator. */
bool keeper_alone(const char *token);

/* Removes what an ended group has left. */
void keeper_clean(const struct keeper_places *p);

/* From now on the orphans of our children are our children. */
void keeper_take_orphans(void);

/* Kills the children of this process, but for those that `spare` names (NULL: none), and collects
 * them; then those that come to it by that. For a subreaper. */
void keeper_kill_orphans(bool (*spare)(void *arg, pid_t pid), void *arg);

/* Whether this process was started as a keeper; then its main is
 * KEEPER_NAME HOME TOKEN PROGRAM [ARGUMENT]… and the exit code that of the program. */
bool keeper_is(int argc, char **argv);
int keeper_main(int argc, char **argv);

#endif
