/* What every subcommand begins with: home, options, calls to the daemons, JSON out. */
#include "client/cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/text.h"
#include "core/json.h"
#include "core/process.h"

#define SIBLING_STOP_MS 2000
#define PASS_ON_MS      20

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

/* ---- the command's line ---- */

/* Its value in the parsed struct; NULL: the table has no such row, or it was not given. */
static const char *string_option(const struct option_row *rows, const void *args,
                                 const char *name) {
    for (; rows->name != NULL; rows++)
        if (rows->type == OPTION_STRING && strcmp(rows->name, name) == 0)
            return *(const char *const *)(const void *)((const char *)args + rows->offset);
    return NULL;
}

static bool flag_option(const struct option_row *rows, const void *args, const char *name) {
    for (; rows->name != NULL; rows++)
        if (rows->type == OPTION_FLAG && strcmp(rows->name, name) == 0)
            return *(const bool *)(const void *)((const char *)args + rows->offset);
    return false;
}

static enum status take_place(struct cli *cli, const void *args, struct err *err) {
    const struct option_row *rows = cli->command->options;
    struct cli_place p = {.tracker = string_option(rows, args, "tracker"),
                          .keys = string_option(rows, args, "keys"),
                          .tracker_key = string_option(rows, args, "tracker-key")};
    cli->place = p;
    if (p.keys == NULL && p.tracker_key == NULL)
        return STATUS_OK;
    if (p.tracker == NULL || strncmp(p.tracker, "tcp://", 6) != 0)
        return err_set(err, STATUS_INVALID,
                       "--%s is for a tracker over tcp: give --tracker tcp://…",
                       p.keys != NULL ? "keys" : "tracker-key");
    if (p.keys == NULL || p.tracker_key == NULL)
        return err_set(err, STATUS_INVALID,
                       "%s needs both --keys and --tracker-key; --%s is missing", p.tracker,
                       p.keys == NULL ? "keys" : "tracker-key");
    if (strlen(p.tracker_key) != NET_KEY_TEXT)
        return err_set(
            err, STATUS_INVALID,
            "--tracker-key must be a key of %d characters, as `trireme keygen` prints it",
            NET_KEY_TEXT);
    enum status st = net_pair_load(p.keys, &cli->pair, err);
    cli->keys = (struct net_keys){.public_key = cli->pair.public_key,
                                  .secret_key = cli->pair.secret_key,
                                  .server_key = p.tracker_key};
    return st;
}

enum status cli_tracker_args(struct cli *cli, const char **argv, size_t *count, struct err *err) {
    const struct cli_place *p = &cli->place;
    const char *endpoint = p->tracker;
    char text[PATH_TEXT_MAX];
    enum status st = STATUS_OK;
    *count = 0;
    if (endpoint == NULL) {
        TRY(path_endpoint(cli->home, "tracker", text, err));
        endpoint = arena_strdup(&cli->arena, text);
    }
    argv[(*count)++] = "--tracker";
    argv[(*count)++] = endpoint;
    if (p->keys != NULL) {
        argv[(*count)++] = "--keys";
        argv[(*count)++] = p->keys;
        argv[(*count)++] = "--tracker-key";
        argv[(*count)++] = p->tracker_key;
    }
out:
    return st;
}

/* Before its table is known to hold: a line that cannot be parsed is refused as JSON, too. */
static bool asks_for_json(const struct cli *cli) {
    for (int i = 1; i < cli->argc && strcmp(cli->argv[i], "--") != 0; i++)
        if (strcmp(cli->argv[i], "--json") == 0 || strcmp(cli->argv[i], "-j") == 0)
            return true;
    return false;
}

enum status cli_parse(struct cli *cli, void *args, struct operands *operands, struct err *err) {
    const struct command *c = cli->command;
    cli->json = asks_for_json(cli);
    enum status st = options_parse(c->options, cli->argc, cli->argv, args, operands, err);
    if (st != STATUS_OK)
        return st;
    cli->json = flag_option(c->options, args, "json");
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
    return take_place(cli, args, err);
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

/* A coordinator that was just stopping when we connected is replaced, where we may, while we wait: what
 * is ordered of one may be said twice. */
enum status cli_order(struct cli *cli, const struct value *request, struct value **reply,
                      struct err *err) {
    enum { TRY_MS = 1000 };
    enum status st = STATUS_OK;
    struct session_reply answer = {.header = NULL};
    struct session_ask ask = {.request = request, .timeout_ms = TRY_MS};
    for (int waited = 0;; waited += TRY_MS) {
        st = session_call(cli->coordinator, &cli->arena, &ask, &answer, err);
        bool stopping = st == STATUS_UNAVAILABLE && cli->may_start;
        if ((st != STATUS_TIMEOUT && !stopping) || waited + TRY_MS >= CLI_TIMEOUT_MS)
            break;
        if (stopping)
            (void)poll(NULL, 0, TRY_MS / 2);
        TRY(cli_supervise(cli, err));
    }
    if (st == STATUS_OK && reply != NULL)
        *reply = answer.header;
out:
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

/* What has arrived, to standard output; false: the other end is closed. */
static bool pass_on(int fd) {
    char part[4096];
    ssize_t n;
    while ((n = read(fd, part, sizeof part)) > 0)
        (void)fwrite(part, 1, (size_t)n, stdout);
    (void)fflush(stdout);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return n < 0 && poll(&p, 1, PASS_ON_MS) >= 0;
}

enum status cli_run_sibling(struct cli *cli, const struct process_spec *spec, struct err *err) {
    enum status st = STATUS_OK;
    struct process_spec piped = *spec;
    int fds[2] = {-1, -1}, code = 0;
    bool ended = false;
    pid_t pid = 0;
    if (pipe2(fds, O_CLOEXEC) != 0)
        return err_errno(err, errno, "open a pipe to %s", spec->argv[0]);
    (void)fcntl(fds[0], F_SETFL, O_NONBLOCK);
    piped.stdout_fd = fds[1];
    piped.die_with_parent = true;
    TRY(process_start(&piped, &pid, err));
    (void)close(fds[1]);
    fds[1] = -1;
    while (!ended) {
        TRY(cli_supervise(cli, err));
        TRY(process_poll(pid, &ended, &code,
                         err)); /* before the last look: nothing comes after it */
        if (!pass_on(fds[0]) && !ended)
            (void)poll(NULL, 0, 5);
    }
    cli->exit_code = code;
    cli->answered = true;
    pid = 0;
out:
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
    if (pid > 0)
        process_stop(pid, false, SIBLING_STOP_MS);
    return st;
}

/* ---- output ---- */

enum status cli_print_json(const struct value *v, struct err *err) {
    enum status st = STATUS_OK;
    struct buf text = BUF_INIT((size_t)256 << 20);
    TRY(json_dump(v, JSON_PRETTY, &text, err));
    text_print_json(buf_text(&text), text.len, stdout);
out:
    buf_release(&text);
    return st;
}

/* "FILE:LINE:COLUMN: message", as the readers of sweep files write it. */
static void add_place(struct arena *a, struct value *error, const char *message) {
    for (const char *at = strchr(message, ':'); at != NULL; at = strchr(at + 1, ':')) {
        int line = 0, column = 0, end = 0;
        if (sscanf(at, ":%9d:%9d: %n", &line, &column, &end) != 2 || end == 0)
            continue;
        value_set_string(a, error, "file", arena_copy(a, message, (size_t)(at - message)));
        value_set_int(a, error, "line", line);
        value_set_int(a, error, "column", column);
        return;
    }
}

void cli_print_refusal(struct cli *cli, enum status st, const struct err *err) {
    struct arena *a = &cli->arena;
    if (!cli->json || cli->answered)
        return;
    struct value *out = value_map(a), *error = value_map(a);
    value_set_string(a, error, "code", status_name(st));
    value_set_string(a, error, "message", err->text);
    add_place(a, error, err->text);
    value_set(a, out, "error", error);
    (void)!cli_print_json(out, NULL);
}
