/* A run's record, by id or prefix. */
#include "client/cli/runs.h"

enum status runs_get(struct cli *cli, const char *prefix, struct value **out, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct value *reply = NULL, *request = message_request(a, "run.get", NULL);
    char run[27];
    TRY(cli_resolve(cli, "run", prefix, run, err));
    value_set_string(a, request, "run", run);
    TRY(cli_ask(cli, request, &reply, err));
    *out = value_get(reply, "run");
out:
    return st;
}
