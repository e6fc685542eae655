/* Follows a sweep until it ends: progress on standard error, the ranking at the end. Shared by run,
 * submit --wait and resume. */
#ifndef CLIENT_CLI_FOLLOW_H
#define CLIENT_CLI_FOLLOW_H

#include "client/cli/cli.h"

/* Catches INT, TERM and HUP, so that following ends tidily; a second signal ends at once. */
void follow_catch_signals(void);

/* Whether one of them came. */
bool follow_interrupted(void);

/* What the command line asks of a coordinator that it may have to start. */
struct follow_wishes {
    const char *launch; /* NULL: as it is */
    int64_t max_slots;  /* 0: as it is */
};

/* Where the coordinator runs already, for somebody else: says whose slots are used. CONFLICT: it was
 * started with other settings than are asked for here. */
enum status follow_use_others(struct cli *cli, struct follow_wishes wishes, bool quiet,
                              struct err *err) MUST_USE;

/* Follows the sweep to its end, prints the ranking (or, with `json`, the object that `run --json`
 * promises) and sets the exit code. Then waits until no other sweep needs the coordinator that we
 * started. CANCELLED, with how to go on: a signal came, or the sweep was paused. Where the coordinator is
 * not ours, the sweep goes on without us. */
struct follow_options {
    bool json, quiet; /* quiet: no progress */
};
enum status follow_to_end(struct cli *cli, const char *sweep, struct follow_options options,
                          struct err *err) MUST_USE;

/* Puts all trials of the sweep, asked for page by page, in the place of those that `status` (the "sweep"
 * map of sweep.status) has. They live in `a`. */
enum status follow_read_trials(struct cli *cli, struct arena *a, const char *sweep,
                               struct value *status, struct err *err) MUST_USE;

#endif
