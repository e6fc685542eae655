/* Follows a sweep until it ends: progress on standard error, the ranking at the end. Shared by run,
 * submit --wait and resume. */
#ifndef CLIENT_CLI_FOLLOW_H
#define CLIENT_CLI_FOLLOW_H

#include "client/cli/cli.h"

/* Polls the coordinator until the sweep is final. Ctrl-C (or TERM) leaves it resumable and returns
 * CANCELLED. *status is the last sweep.status "sweep" map (in cli->arena). */
enum status follow_sweep(struct cli *cli, const char *sweep, bool quiet, struct value **status,
                         struct err *err) MUST_USE;

/* Waits until no other sweep needs the coordinator that we started (a second `trireme run` on the
 * same home uses it). Ctrl-C ends the wait. */
enum status follow_others(struct cli *cli, bool quiet, struct err *err) MUST_USE;

/* The object that `run --json` promises: {sweep, state, trials: [...], best}. */
struct value *follow_result(struct arena *a, const struct value *status);

/* The ranking, best first. */
void follow_leaderboard(struct cli *cli, const struct value *status, size_t rows, FILE *to);

/* Installs handlers for INT and TERM that end follow_sweep tidily; a second one ends at once. */
void follow_catch_signals(void);

#endif
