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
#include "core/ulid.h"

#define SIBLING_STOP_MS 5000 /* more than a keeper gives its ranks */
#define LEAVING_MS      200  /* between two questions to a server that leaves */
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

enum status cli_set_place(struct cli *cli, struct cli_place p, struct err *err) {
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

bool cli_asks_for_json(const struct cli *cli) {
    for (int i = 1; i < cli->argc && strcmp(cli->argv[i], "--") != 0; i++)
        if (strcmp(cli->argv[i], "--json") == 0 || strcmp(cli->argv[i], "-j") == 0)
            return true;
    return false;
}

enum status cli_parse(struct cli *cli, void *args, struct operands *operands, struct err *err) {
    const struct command *c = cli->command;
    cli->json = cli_asks_for_json(cli);
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
    struct cli_place place = {.tracker = string_option(c->options, args, "tracker"),
                              .keys = string_option(c->options, args, "keys"),
                              .tracker_key = string_option(c->options, args, "tracker-key")};
    return cli_set_place(cli, place, err);
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

/* ---- requests ---- */

/* A server that was just stopping when we connected, or is stopping now, is replaced, where we may, while we
 * wait: what is asked of one may be asked twice. */
static enum status ask_patiently(struct cli *cli, struct session *to, struct arena *a,
                                 const struct value *request, struct session_reply *answer,
                                 struct err *err) {
    enum { TRY_MS = 1000, TRY_MAX_MS = 8000 };
    enum status st = STATUS_OK;
    int64_t end = clock_mono_ns(&clock_system) + CLI_TIMEOUT_MS * NS_PER_MS;
    for (int ms = TRY_MS;;
         ms = ms < TRY_MAX_MS ? 2 * ms : ms) { /* a busy server is not asked in vain */
        struct session_ask ask = {.request = request, .timeout_ms = ms};
        st = session_call(to, a, &ask, answer, err);
        bool leaves = st == STATUS_UNAVAILABLE && to == cli->coordinator && cli->may_start;
        bool again = st == STATUS_TIMEOUT || leaves;
        if (!again || clock_mono_ns(&clock_system) >= end)
            break;
        TRY(cli_supervise(cli, err));
        if (leaves)
            (void)poll(NULL, 0, LEAVING_MS);
    }
out:
    return st;
}

enum status cli_ask_frames(struct cli *cli, struct arena *a, const struct value *request,
                           struct session_reply *answer, struct err *err) {
    enum status st = cli_tracker(cli, err);
    return st == STATUS_OK ? ask_patiently(cli, cli->tracker, a, request, answer, err) : st;
}

enum status cli_ask(struct cli *cli, struct value *request, struct value **reply, struct err *err) {
    struct session_reply answer = {.header = NULL};
    enum status st = cli_ask_frames(cli, &cli->arena, request, &answer, err);
    if (st == STATUS_OK && reply != NULL)
        *reply = answer.header;
    session_reply_release(&answer);
    return st;
}

enum status cli_order(struct cli *cli, const struct value *request, struct value **reply,
                      struct err *err) {
    struct session_reply answer = {.header = NULL};
    enum status st = ask_patiently(cli, cli->coordinator, &cli->arena, request, &answer, err);
    if (st == STATUS_OK && reply != NULL)
        *reply = answer.header;
    session_reply_release(&answer);
    return st;
}

/* ---- ids and names ---- */

static enum status id_of_reply(const struct value *reply, const char *key, char out[27],
                               struct err *err) {
    const char *id = value_get_string(reply, key, "");
    if (strlen(id) != 26)
        return err_set(err, STATUS_INTERNAL, "the tracker answered with an id of %zu characters",
                       strlen(id));
    memcpy(out, id, 27);
    return STATUS_OK;
}

/* The sweep with this name, the only one of the newest SWEEPS_MAX. */
static enum status resolve_name(struct cli *cli, const char *name, char out[27], struct err *err) {
    enum { SWEEPS_MAX = 4000, NAMED_MAX = 5 };
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct value *reply = NULL, *request = message_request(a, "sweep.list", NULL);
    struct buf ids = BUF_INIT(4096);
    const struct value *found = NULL;
    size_t count = 0;
    value_set_int(a, request, "limit", SWEEPS_MAX);
    TRY(cli_ask(cli, request, &reply, err));
    const struct value *sweeps = value_get(reply, "sweeps");
    for (size_t i = 0; sweeps != NULL && i < sweeps->count; i++) {
        if (strcmp(value_get_string(sweeps->items[i], "name", ""), name) != 0)
            continue;
        found = sweeps->items[i];
        if (count++ < NAMED_MAX)
            buf_addf(&ids, "%s%s", count > 1 ? ", " : "", value_get_string(found, "sweep", ""));
    }
    if (count == 0)
        st = err_set(err, STATUS_NOT_FOUND,
                     "no sweep has an id that begins with '%.100s', or that name", name);
    else if (count > 1)
        st = err_set(err, STATUS_AMBIGUOUS, "%zu sweeps have the name '%.100s': %s%s", count, name,
                     buf_text(&ids), count > NAMED_MAX ? ", …" : "");
    else
        st = id_of_reply(found, "sweep", out, err);
out:
    buf_release(&ids);
    return st;
}

enum status cli_resolve(struct cli *cli, const char *kind, const char *prefix, char out[27],
                        struct err *err) {
    struct value *request = message_request(&cli->arena, "run.resolve", NULL), *reply = NULL;
    bool sweep = strcmp(kind, "sweep") == 0;
    enum status st = STATUS_NOT_FOUND;
    if (ulid_valid(prefix, strlen(prefix), false)) {
        value_set_string(&cli->arena, request, "prefix", prefix);
        value_set_string(&cli->arena, request, "kind", kind);
        st = cli_ask(cli, request, &reply, err);
    } else {
        st = err_set(err, STATUS_NOT_FOUND, "no %s has an id that begins with '%.100s'", kind,
                     prefix);
    }
    if (st == STATUS_OK)
        return id_of_reply(reply, "resolved", out, err);
    return st == STATUS_NOT_FOUND && sweep ? resolve_name(cli, prefix, out, err) : st;
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
static bool pass_on(struct cli *cli, int fd) {
    char part[4096];
    ssize_t n;
    while ((n = read(fd, part, sizeof part)) > 0) {
        size_t used = strlen(cli->passed);
        (void)snprintf(cli->passed + used, sizeof cli->passed - used, "%.*s", (int)n, part);
        (void)fwrite(part, 1, (size_t)n, stdout);
    }
    (void)fflush(stdout);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return n < 0 && poll(&p, 1, PASS_ON_MS) >= 0;
}

static bool is_interrupted(const struct cli *cli) {
    return cli->interrupted != NULL && cli->interrupted();
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
        if (!ended && is_interrupted(cli)) {
            st = err_set(err, STATUS_CANCELLED, "%s was interrupted", cli->command->name);
            goto out;
        }
        if (!pass_on(cli, fds[0]) && !ended)
            (void)poll(NULL, 0, 5);
    }
    cli->exit_code = code;
    cli->answered = true;
    pid = 0;
    if (is_interrupted(cli) && cli->passed[0] == '\0') { /* the terminal told both of us */
        cli->exit_code = -1;
        cli->answered = false;
        st = err_set(err, STATUS_CANCELLED, "%s was interrupted", cli->command->name);
    }
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
