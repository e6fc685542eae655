/* trireme-export: what `trireme export` and `trireme promote` execute. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/options.h"
#include "core/output.h"
#include "core/path.h"
#include "core/process.h"
#include "core/user.h"
#include "core/utf8.h"
#include "serving/export/export.h"
#include "wire/export_options.h"

#define ARENA_BYTES_MAX ((size_t)256 << 20)
#define CLOSE_MS        2000
#define REACH_MS        5000

static const struct command_help export_help = {
    .usage = "trireme export RUN|SWEEP/TRIAL[:best|:last|:STEP]|NAME[@alias] [--format "
             "onnx|safetensors|triton] -o DIR",
    .summary = "write a run's or a registered model's files",
    .details =
        "RUN alone follows the trial's metric_of (its best weights, or its last) and says which "
        "were\n"
        "taken. SWEEP/TRIAL is the trial's newest attempt. NAME is the newest version of a "
        "registered model, NAME@3 its version 3. onnx and\n"
        "safetensors write DIR/MODEL.onnx or DIR/MODEL.safetensors, the model's papers,\n"
        "DIR/MODEL.json, and a row with the model's answer, DIR/MODEL.example.json. triton "
        "publishes\n"
        "a version in the model repository DIR such that no reader sees half of it; a registered\n"
        "version keeps its number.\n"
        "Exit codes: 0 done, 2 wrong input, 4 not found, 5 conflict, 8 no tracker."};

static const struct command_help promote_help = {
    .usage = "trireme promote RUN|SWEEP/TRIAL[:best|:last|:STEP] NAME[@alias] [--comment TEXT]",
    .summary = "make a run's model a version of a registered model",
    .details =
        "Stores model.onnx beside the run's weights and adds a version with its papers: digests,\n"
        "signature, transforms, metrics, data digest, replay verdict. The alias moves and the "
        "audit\n"
        "record is written in the same transaction.\n"
        "Exit codes: 0 done, 2 wrong input, 4 not found, 5 the run is not finished, 8 no tracker,\n"
        "9 denied."};

/* A tcp tracker needs both; one without the other, or without tcp, is a mistake. */
static enum status load_keys(const struct export_options *args, struct net_pair *pair,
                             struct net_keys *keys, struct err *err) {
    bool tcp = args->tracker != NULL && strncmp(args->tracker, "tcp://", 6) == 0;
    if (!tcp && (args->keys != NULL || args->tracker_key != NULL))
        return err_set(err, STATUS_INVALID,
                       "--%s is for a tracker over tcp: give --tracker tcp://…",
                       args->keys != NULL ? "keys" : "tracker-key");
    if (!tcp)
        return STATUS_OK;
    if (args->keys == NULL || args->tracker_key == NULL)
        return err_set(err, STATUS_INVALID,
                       "%s needs both --keys and --tracker-key; --%s is missing", args->tracker,
                       args->keys == NULL ? "keys" : "tracker-key");
    if (strlen(args->tracker_key) != NET_KEY_TEXT)
        return err_set(
            err, STATUS_INVALID,
            "--tracker-key must be a key of %d characters, as `trireme keygen` prints it",
            NET_KEY_TEXT);
    enum status st = net_pair_load(args->keys, pair, err);
    *keys = (struct net_keys){.public_key = pair->public_key,
                              .secret_key = pair->secret_key,
                              .server_key = args->tracker_key};
    return st;
}

/* The way to the tracker. The session holds on to the keys. */
struct line {
    struct net *net;
    struct session *tracker;
    struct net_pair pair;
    struct net_keys keys;
};

/* What we came for may not be for our key: said before anything is stored. Trackers of before do not tell
 * its role. */
static enum status check_role(const struct value *hello, const char *op, struct err *err) {
    const char *name = value_get_string(hello, "role", "");
    enum net_role role;
    return net_role_find(name, strlen(name), &role) ? message_allows(message_find(op), role, err)
                                                    : STATUS_OK;
}

static enum status connect_tracker(struct line *line, const struct export_options *args,
                                   const char *op, struct err *err) {
    char home[PATH_TEXT_MAX], endpoint[PATH_TEXT_MAX];
    struct session_options options = {.endpoint = args->tracker, .clock = &clock_system};
    struct session_reply hello = {.header = NULL};
    enum status st;
    TRY(net_new(&line->net, err));
    if (options.endpoint == NULL) {
        TRY(path_home(home, err));
        TRY(path_endpoint(home, "tracker", endpoint, err));
        options.endpoint = endpoint;
    }
    TRY(load_keys(args, &line->pair, &line->keys, err));
    if (line->keys.public_key != NULL)
        options.keys = &line->keys;
    TRY(session_open(line->net, &options, &line->tracker, err));
    struct arena a;
    arena_init(&a, ARENA_BYTES_MAX);
    st = session_call(line->tracker, &a,
                      &(struct session_ask){.request = message_request(&a, "hello", NULL),
                                            .timeout_ms = REACH_MS},
                      &hello, err);
    if (st == STATUS_TIMEOUT)
        st = err_set(err, STATUS_UNAVAILABLE,
                     "no tracker answers at %.200s; start one with `trireme tracker`",
                     options.endpoint);
    if (st == STATUS_OK)
        st = check_role(hello.header, op, err);
    session_reply_release(&hello);
    arena_release(&a);
out:
    return st;
}

/* On standard error, without what a terminal would obey. */
static void say(const char *text) {
    (void)fputs("trireme-export: ", stderr);
    for (size_t left = strlen(text), n; left > 0; text += n, left -= n) {
        n = utf8_length(text, left);
        if (n > 0 && !utf8_is_control(utf8_code(text, n)))
            (void)fwrite(text, 1, n, stderr);
        else if (n > 1)
            (void)fprintf(stderr, "\\u%04x", (unsigned)utf8_code(text, n));
        else
            (void)fprintf(stderr, "\\x%02x", (unsigned char)text[0]);
        n = n > 0 ? n : 1;
    }
    (void)fputs("\n", stderr);
}

/* As every command answers with --json: {error: {code, message}}. */
static void print_refusal(enum status st, const struct err *why) {
    struct arena a;
    arena_init(&a, ARENA_BYTES_MAX);
    struct buf text = BUF_INIT((size_t)1 << 20);
    struct value *out = value_map(&a), *error = value_map(&a);
    value_set_string(&a, error, "code", status_name(st));
    value_set_string(&a, error, "message", why->text);
    value_set(&a, out, "error", error);
    if (json_dump(out, JSON_COMPACT, &text, NULL) == STATUS_OK)
        (void)printf("%s\n", buf_text(&text));
    buf_release(&text);
    arena_release(&a);
}

static enum status print_result(const struct value *result, bool json, struct err *err) {
    struct buf text = BUF_INIT((size_t)1 << 20);
    enum status st = STATUS_OK;
    const char *note = value_get_string(result, "note", NULL);
    if (note != NULL)
        say(note);
    if (json) {
        st = json_dump(result, JSON_COMPACT, &text, err);
        if (st == STATUS_OK)
            (void)printf("%s\n", buf_text(&text));
    } else if (value_get(result, "path") != NULL) {
        (void)printf("%s\n", value_get_string(result, "path", ""));
    } else {
        const char *alias = value_get_string(result, "alias", NULL);
        (void)printf("%s version %lld%s%s from run %s\n", value_get_string(result, "name", ""),
                     (long long)value_get_int(result, "version", 0),
                     alias != NULL ? " is now @" : "", alias != NULL ? alias : "",
                     value_get_string(result, "run", ""));
    }
    buf_release(&text);
    return st;
}

static enum status act(bool promote, const struct export_options *args,
                       const struct operands *operands, struct err *err) {
    struct line line = {.net = NULL};
    struct value *result = NULL;
    struct arena a;
    arena_init(&a, ARENA_BYTES_MAX);
    enum status st;
    TRY(connect_tracker(&line, args, promote ? "model.promote" : "artifact.get", err));
    TRY(output_ready(err));
    if (promote) {
        struct promote_request r = {.run = operands->items[0],
                                    .name = operands->items[1],
                                    .actor = args->actor != NULL ? args->actor : user_name(),
                                    .comment = args->comment};
        TRY(promote_run(line.tracker, &r, &a, &result, err));
    } else {
        struct export_request r = {.what = operands->items[0],
                                   .format = args->format,
                                   .directory = args->output,
                                   .name = args->name};
        TRY(export_files(line.tracker, &r, &a, &result, err));
    }
    TRY(print_result(result, args->json, err));
out:
    if (line.tracker != NULL && session_close(&line.tracker, CLOSE_MS, NULL) != STATUS_OK &&
        st == STATUS_OK)
        st = err_set(err, STATUS_TIMEOUT, "the tracker did not answer in time");
    net_destroy(&line.net);
    arena_release(&a);
    return st;
}

static bool asks_for_json(int argc, char **argv) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--json") == 0 || strcmp(argv[i], "-j") == 0)
            return true;
    return false;
}

static enum status run(int argc, char **argv, struct err *err) {
    bool promote = argc > 1 && strcmp(argv[1], "promote") == 0;
    struct export_options args = {.format = "onnx"};
    struct operands operands = {0};
    size_t wanted = promote ? 2 : 1;
    enum status st;
    TRY(options_parse(export_options_rows(promote), argc - promote, argv + promote, &args,
                      &operands, err));
    if (operands.help) {
        options_help(stdout, promote ? &promote_help : &export_help, export_options_rows(promote));
        goto out;
    }
    if (operands.count != wanted) {
        st = err_set(err, STATUS_INVALID, "usage: %s",
                     promote ? promote_help.usage : export_help.usage);
        goto out;
    }
    if (!promote && args.output == NULL) {
        st = err_set(err, STATUS_INVALID, "-o DIR is missing: say where the files go");
        goto out;
    }
    TRY(act(promote, &args, &operands, err));
out:
    return st;
}

int main(int argc, char **argv) {
    process_guard_stdio();
    struct err err = {.status = STATUS_OK};
    enum status st = run(argc, argv, &err);
    if (st != STATUS_OK && asks_for_json(argc, argv))
        print_refusal(st, &err);
    struct err unwritten = {.status = STATUS_OK};
    enum status written = output_finish(&unwritten);
    if (st != STATUS_OK || written != STATUS_OK)
        say(st != STATUS_OK ? err.text : unwritten.text);
    return status_exit_code(st != STATUS_OK ? st : written);
}
