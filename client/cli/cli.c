/* What every subcommand begins with: home, options, calls to the daemons, JSON out. */
#include "client/cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/json.h"

enum status cli_open(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    arena_init(&cli->arena, CLI_ARENA_BYTES);
    bool plain = getenv("NO_COLOR") != NULL;
    cli->colour_out = !plain && isatty(STDOUT_FILENO) == 1;
    cli->colour_err = !plain && isatty(STDERR_FILENO) == 1;
    TRY(path_bindir(cli->bindir, err));
    TRY(path_home(cli->home, err));
    TRY(net_new(&cli->net, err));
out:
    return st;
}

enum status cli_parse(struct cli *cli, void *args, struct operands *operands, struct err *err) {
    const struct command *c = cli->command;
    enum status st = options_parse(c->options, cli->argc, cli->argv, args, operands, err);
    if (st != STATUS_OK)
        return st;
    if (operands->help) {
        options_help(stdout, &c->help, c->options);
        return STATUS_OK;
    }
    if (operands->count < c->least)
        return err_set(err, STATUS_INVALID, "%s needs another operand; usage: %s", c->name,
                       c->help.usage);
    if (operands->count > c->most)
        return err_set(err, STATUS_INVALID, "%s: unexpected operand '%.80s'; usage: %s", c->name,
                       operands->items[c->most], c->help.usage);
    return STATUS_OK;
}

enum status cli_override(struct cli *cli, struct option_list *sets, const char *device,
                         struct err *err) {
    if (device == NULL)
        return STATUS_OK;
    if (sets->count == OPTION_LIST_MAX)
        return err_set(err, STATUS_INVALID, "--set and --device: more than %d together",
                       OPTION_LIST_MAX);
    const char *set = arena_printf(&cli->arena, "device=%s", device);
    if (set == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory");
    sets->items[sets->count++] = set;
    return STATUS_OK;
}

/* A tracker that was just stopping when we connected is replaced while we wait. */
enum status cli_ask(struct cli *cli, struct value *request, struct value **reply, struct err *err) {
    enum { TRY_MS = 1000 };
    enum status st = STATUS_OK;
    struct session_reply answer = {.header = NULL};
    TRY(cli_tracker(cli, err));
    for (int waited = 0;; waited += TRY_MS) {
        st = session_call(cli->tracker, &cli->arena,
                          &(struct session_ask){.request = request, .timeout_ms = TRY_MS}, &answer,
                          err);
        if (st != STATUS_TIMEOUT || waited + TRY_MS >= CLI_TIMEOUT_MS)
            break;
        TRY(cli_supervise(cli, err));
    }
    if (st == STATUS_OK && reply != NULL)
        *reply = answer.header;
out:
    session_reply_release(&answer);
    return st;
}

enum status cli_resolve(struct cli *cli, const char *kind, const char *prefix, char out[27],
                        struct err *err) {
    enum status st = STATUS_OK;
    struct value *request = message_request(&cli->arena, "run.resolve", NULL), *reply = NULL;
    value_set_string(&cli->arena, request, "prefix", prefix);
    value_set_string(&cli->arena, request, "kind", kind);
    TRY(cli_ask(cli, request, &reply, err));
    const char *id = value_get_string(reply, "resolved", "");
    if (strlen(id) != 26)
        return err_set(err, STATUS_INTERNAL, "the tracker answered with an id of %zu characters",
                       strlen(id));
    memcpy(out, id, 27);
out:
    return st;
}

enum status cli_order(struct cli *cli, const struct value *request, struct value **reply,
                      struct err *err) {
    struct session_reply answer = {.header = NULL};
    struct session_ask ask = {.request = request, .timeout_ms = CLI_TIMEOUT_MS};
    enum status st = session_call(cli->coordinator, &cli->arena, &ask, &answer, err);
    if (st == STATUS_OK && reply != NULL)
        *reply = answer.header;
    session_reply_release(&answer);
    return st;
}

enum status cli_exec(struct cli *cli, const char *program, struct err *err) {
    char path[PATH_TEXT_MAX];
    enum status st = path_join(path, cli->bindir, program, err);
    if (st != STATUS_OK)
        return st;
    char **args = calloc((size_t)cli->argc + 1, sizeof *args);
    if (args == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory");
    memcpy(args, cli->argv, (size_t)cli->argc * sizeof *args);
    args[0] = path;
    (void)execv(path, args);
    free(args);
    return err_errno(err, errno, "execute %s; is it installed beside trireme?", path);
}

enum status cli_print_json(const struct value *v, struct err *err) {
    enum status st = STATUS_OK;
    struct buf text = BUF_INIT((size_t)256 << 20);
    TRY(json_dump(v, JSON_PRETTY, &text, err));
    if (fwrite(text.data, 1, text.len, stdout) != text.len || fflush(stdout) != 0)
        st = err_errno(err, errno, "write to standard output");
out:
    buf_release(&text);
    return st;
}
