/* trireme artifacts, artifact: what files a run has, and one of them, whole. */
#include <string.h>
#include <sys/stat.h>

#include "client/cli/commands.h"
#include "client/cli/runs.h"
#include "client/cli/text.h"
#include "wire/artifact.h"

/* ---- the list ---- */

struct list_args {
    struct cli_place place;
    bool json;
};

/* [{path, size, digest}] of what run.get says. */
static struct value *describe(struct arena *a, const struct value *files) {
    struct value *list = value_list(a);
    for (size_t i = 0; files != NULL && i < files->count; i++) {
        const struct value *f = files->items[i];
        struct value *m = value_map(a);
        value_set_string(a, m, "path", value_get_string(f, "path", ""));
        value_set_int(a, m, "size", value_get_int(f, "size", 0));
        value_set_string(a, m, "digest", value_get_string(f, "digest", ""));
        value_push(a, list, m);
    }
    return list;
}

static enum status artifacts(struct cli *cli, struct err *err) {
    static const char *const titles[] = {"artifact", "size", "sha256"};
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct list_args args = {.json = false};
    struct operands operands;
    struct value *run = NULL;
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(runs_get(cli, operands.items[0], &run, err));
    const struct value *files = value_get(run, "artifacts");
    if (args.json) {
        TRY(cli_print_json(describe(a, files), err));
        goto out;
    }
    struct table *t = table_new(a, titles, 3);
    for (size_t i = 0; files != NULL && i < files->count; i++) {
        const struct value *f = files->items[i];
        table_row(t, (const char *[]){value_get_string(f, "path", ""),
                                      text_bytes(a, value_get_int(f, "size", 0)),
                                      value_get_string(f, "digest", "")});
    }
    table_print(t, stdout, cli->colour_out);
out:
    return st;
}

static const struct option_row list_rows[] = {
    CLI_TRACKER_ROWS(struct list_args, place),
    OPTION_ROW_FLAG(struct list_args, json, "json", 'j', "print [{path, size, digest}]"),
    OPTION_END};

const struct command command_artifacts = {
    .name = "artifacts",
    .help = {.usage = "trireme artifacts RUN [--json]",
             .summary = "list a run's files: weights, checkpoints, traces, your own"},
    .options = list_rows,
    .kind = OPERANDS_RUN,
    .least = 1,
    .most = 1,
    .run = artifacts};

/* ---- one of them ---- */

#define FETCH_BYTES_MAX ((size_t)64 << 30)

struct fetch_args {
    struct cli_place place;
    const char *output;
};

/* Before anything is fetched. */
static enum status check_output(const char *output, struct err *err) {
    struct stat about;
    if (output == NULL)
        return err_set(err, STATUS_INVALID,
                       "-o is missing: name the file to write, or - for standard output");
    if (stat(output, &about) == 0 && S_ISDIR(about.st_mode))
        return err_set(err, STATUS_INVALID, "'%.200s' is a directory; -o takes a file's name",
                       output);
    return STATUS_OK;
}

static enum status write_out(const char *output, const struct buf *bytes, struct err *err) {
    if (strcmp(output, "-") != 0)
        return path_write(output, bytes->data, bytes->len, 0644, err);
    (void)fwrite(bytes->data, 1, bytes->len, stdout); /* main.c asks whether it arrived */
    return STATUS_OK;
}

/* Which of the run's files; NOT_FOUND says how to see them. */
static enum status find_file(const struct value *run, const char *path, struct err *err) {
    const struct value *files = value_get(run, "artifacts");
    const char *id = value_get_string(run, "run", "");
    for (size_t i = 0; files != NULL && i < files->count; i++)
        if (strcmp(value_get_string(files->items[i], "path", ""), path) == 0)
            return STATUS_OK;
    return err_set(err, STATUS_NOT_FOUND,
                   "run %s has no artifact '%.200s'; `trireme artifacts %s` lists them", id, path,
                   id);
}

static enum status artifact(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct fetch_args args = {.output = NULL};
    struct operands operands;
    struct value *run = NULL;
    struct buf bytes = BUF_INIT(FETCH_BYTES_MAX);
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(check_output(args.output, err));
    TRY(runs_get(cli, operands.items[0], &run, err));
    TRY(find_file(run, operands.items[1], err));
    struct artifact what = {.run = value_get_string(run, "run", ""), .path = operands.items[1]};
    TRY(artifact_get(cli->tracker, &what, &bytes, NULL, err));
    TRY(write_out(args.output, &bytes, err));
out:
    buf_release(&bytes);
    return st;
}

static const struct option_row fetch_rows[] = {
    OPTION_ROW_STRING(struct fetch_args, output, "output", 'o', "FILE",
                      "where it goes; - is standard output (no default)"),
    CLI_TRACKER_ROWS(struct fetch_args, place), OPTION_END};

const struct command command_artifact = {
    .name = "artifact",
    .help = {.usage = "trireme artifact RUN PATH -o FILE",
             .summary = "fetch one of a run's files",
             .details = "The file appears whole, with its digest verified, or not at all."},
    .options = fetch_rows,
    .kind = OPERANDS_RUN_THEN_PATH,
    .least = 2,
    .most = 2,
    .run = artifact};
