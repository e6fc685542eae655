/* A run's record, by what a user names it with.
 *
 *     RUN          a unique prefix of its id
 *     SWEEP/TRIAL  the trial's newest attempt, and those before it: an attempt that was resumed begins at its
 *                  checkpoint, so a trial's whole curve is in several runs
 */
#ifndef CLIENT_CLI_RUNS_H
#define CLIENT_CLI_RUNS_H

#include "client/cli/cli.h"
#include "wire/weights.h"

/* What run.get answers. */
enum status runs_get(struct cli *cli, const char *text, struct value **out,
                     struct err *err) MUST_USE;

/* The same, oldest attempt first; one record for a RUN. `whole`: the text was SWEEP/TRIAL. */
struct runs_attempts {
    struct value **runs;
    size_t count;
    bool whole;
};
enum status runs_get_attempts(struct cli *cli, const char *text, struct runs_attempts *out,
                              struct err *err) MUST_USE;

/* Which weights of a run, RUN:STEP also among those of the attempts that it goes on from: *run is then that
 * attempt's record, and standard error says so. */
enum status runs_find_weights(struct cli *cli, const struct weights_ref *ref, struct value **run,
                              struct weights *out, struct err *err) MUST_USE;

/* The step at which the run began: 0, or that of the checkpoint that it went on from. */
int64_t runs_first_step(const struct value *run);

/* On standard error, for a RUN that was resumed: where it begins, and what joins the attempts.
 * `command` is what to type: "metrics". */
void runs_say_resumed(const struct value *run, const char *command);

#endif
