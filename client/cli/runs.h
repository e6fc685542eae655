/* A run's record, by id or prefix. */
#ifndef CLIENT_CLI_RUNS_H
#define CLIENT_CLI_RUNS_H

#include "client/cli/cli.h"

/* What run.get answers about the run with this unique prefix. */
enum status runs_get(struct cli *cli, const char *prefix, struct value **out,
                     struct err *err) MUST_USE;

#endif
