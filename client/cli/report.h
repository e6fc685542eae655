/* What is said of a sweep that has ended, from its last sweep.status. */
#ifndef CLIENT_CLI_REPORT_H
#define CLIENT_CLI_REPORT_H

#include "client/cli/cli.h"

/* The object that `run --json` promises: {sweep, state, trials: [...], best}. */
struct value *report_result(struct arena *a, const struct value *status);

/* The ranking, best first, at most `rows`. */
void report_leaderboard(struct cli *cli, const struct value *status, size_t rows, FILE *to);

/* On standard error: why the sweep and its trials failed. */
void report_failures(struct arena *a, const struct value *status);

/* What a command that followed the sweep ends with: 0, 1 (some trials failed) or 11 (cancelled). */
int report_exit_code(const struct value *status);

#endif
