/* Follows a sweep until it ends: progress on standard error, the ranking at the end. Shared by run,
 * submit --wait and resume. */
#ifndef CLIENT_CLI_FOLLOW_H
#define CLIENT_CLI_FOLLOW_H

#include "client/cli/cli.h"

/* Catches INT and TERM, so that following ends tidily; a second signal ends at once. */
void follow_catch_signals(void);

/* Follows the sweep to its end, prints the ranking (or, with `json`, the object that `run --json`
 * promises) and sets the exit code. Then waits until no other sweep needs the coordinator that we
 * started. Ctrl-C (or TERM) leaves the sweep resumable and returns CANCELLED. */
struct follow_options {
    bool json, quiet; /* quiet: no progress */
};
enum status follow_to_end(struct cli *cli, const char *sweep, struct follow_options options,
                          struct err *err) MUST_USE;

#endif
