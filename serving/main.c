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
#include "serving/export/export.h"

#define ARENA_BYTES_MAX ((size_t)256 << 20)
#define CLOSE_MS        2000
#define REACH_MS        5000

struct args {
    const char *format, *output, *name, *tracker, *actor, *comment;
    bool json;
};

#define TRACKER_ROW                                                                                \
    OPTION_ROW_STRING(struct args, tracker, "tracker", 0, "ENDPOINT",                              \
                      "the tracker (default: the one of this TRIREME_HOME)")
#define JSON_ROW OPTION_ROW_FLAG(struct args, json, "json", 'j', "print one JSON object")

static const struct option_row export_rows[] = {
    OPTION_ROW_CHOICE(struct args, format, "format", 'f', "onnx|safetensors|triton",
                      "what to write (default onnx)"),
    OPTION_ROW_STRING(struct args, output, "output", 'o', "DIR",
                      "the directory to write into; for triton, the model repository (no default)"),
    OPTION_ROW_STRING(struct args, name, "name", 0, "MODEL",
                      "name of the files (default: the registered model's name, or model)"),
    TRACKER_ROW,
    JSON_ROW,
    OPTION_END};

static const struct option_row promote_rows[] = {
    OPTION_ROW_STRING(struct args, actor, "actor", 0, "WHO",
                      "for the audit log (default: your user name)"),
    OPTION_ROW_STRING(struct args, comment, "comment", 'm', "TEXT",
                      "why, for the audit log (default: none)"),
    TRACKER_ROW, JSON_ROW, OPTION_END};

static const struct command_help export_help = {
    .usage = "trireme export RUN|NAME[@alias] [--format onnx|safetensors|triton] -o DIR",
    .summary = "write a run's or a registered model's files",
    .details =
        "NAME is the newest version of a registered model, NAME@3 its version 3. onnx and "
        "safetensors\n"
        "write DIR/MODEL.onnx or DIR/MODEL.safetensors and the model's papers, DIR/MODEL.json. "
        "triton\n"
        "publishes a version in the model repository DIR such that no reader sees half of it; a\n"
        "registered version keeps its number.\n"
        "Exit codes: 0 done, 2 wrong input, 4 not found, 5 conflict, 8 no tracker."};

static const struct command_help promote_help = {
    .usage = "trireme promote RUN NAME[@alias] [--comment TEXT]",
    .summary = "make a run's model a version of a registered model",
    .details =
        "Stores model.onnx beside the run's weights and adds a version with its papers: digests,\n"
        "signature, transforms, metrics, data digest, replay verdict. The alias moves and the "
        "audit\n"
        "record is written in the same transaction.\n"
        "Exit codes: 0 done, 2 wrong input, 4 not found, 5 the run is not finished, 8 no tracker."};

static enum status connect_tracker(struct net *net, const struct args *args,
                                   struct session **tracker, struct err *err) {
    char home[PATH_TEXT_MAX], endpoint[PATH_TEXT_MAX];
    struct session_options options = {.endpoint = args->tracker, .clock = &clock_system};
    enum status st;
    if (options.endpoint == NULL) {
        TRY(path_home(home, err));
        TRY(path_endpoint(home, "tracker", endpoint, err));
        options.endpoint = endpoint;
    }
    TRY(session_open(net, &options, tracker, err));
    struct arena a;
    arena_init(&a, ARENA_BYTES_MAX);
    st = session_call(*tracker, &a,
                      &(struct session_ask){.request = message_request(&a, "hello", NULL),
                                            .timeout_ms = REACH_MS},
                      NULL, err);
    if (st == STATUS_TIMEOUT)
        st = err_set(err, STATUS_UNAVAILABLE,
                     "no tracker answers at %.200s; start one with `trireme tracker`",
                     options.endpoint);
    arena_release(&a);
out:
    return st;
}

static enum status print_result(const struct value *result, bool json, struct err *err) {
    struct buf text = BUF_INIT((size_t)1 << 20);
    enum status st = STATUS_OK;
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

static enum status act(bool promote, const struct args *args, const struct operands *operands,
                       struct err *err) {
    struct net *net = NULL;
    struct session *tracker = NULL;
    struct value *result = NULL;
    struct arena a;
    arena_init(&a, ARENA_BYTES_MAX);
    enum status st;
    TRY(net_new(&net, err));
    TRY(connect_tracker(net, args, &tracker, err));
    if (promote) {
        struct promote_request r = {.run = operands->items[0],
                                    .name = operands->items[1],
                                    .actor = args->actor != NULL ? args->actor : user_name(),
                                    .comment = args->comment};
        TRY(promote_run(tracker, &r, &a, &result, err));
    } else {
        struct export_request r = {.what = operands->items[0],
                                   .format = args->format,
                                   .directory = args->output,
                                   .name = args->name};
        TRY(export_files(tracker, &r, &a, &result, err));
    }
    TRY(print_result(result, args->json, err));
out:
    if (tracker != NULL && session_close(&tracker, CLOSE_MS, NULL) != STATUS_OK && st == STATUS_OK)
        st = err_set(err, STATUS_TIMEOUT, "the tracker did not answer in time");
    net_destroy(&net);
    arena_release(&a);
    return st;
}

static enum status run(int argc, char **argv, struct err *err) {
    bool promote = argc > 1 && strcmp(argv[1], "promote") == 0;
    struct args args = {.format = "onnx"};
    struct operands operands = {0};
    size_t wanted = promote ? 2 : 1;
    enum status st;
    TRY(options_parse(promote ? promote_rows : export_rows, argc - promote, argv + promote, &args,
                      &operands, err));
    if (operands.help) {
        options_help(stdout, promote ? &promote_help : &export_help,
                     promote ? promote_rows : export_rows);
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
    if (st == STATUS_OK)
        st = output_finish(&err);
    if (st != STATUS_OK)
        (void)fprintf(stderr, "trireme-export: %s\n", err.text);
    return status_exit_code(st);
}
