/* A sweep's trials and the plan of one of them, asked of short-lived siblings. */
#include "client/cli/check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/cli/text.h"
#include "core/json.h"
#include "core/launch.h"
#include "core/places.h"
#include "core/schema.h"
#include "core/utf8.h"
#include "spec/space.h"

#define ANY_GPU_GIB  (1 << 20) /* a GPU on which everything fits */
#define OPTIONS_MAX  4
#define KEY_TEXT_MAX 128

/* ---- the sweep file ---- */

/* The directory that a sweep file's relative paths start from: its own. */
static void find_base(const char *file, char out[PATH_TEXT_MAX]) {
    char *real = realpath(file, NULL);
    (void)snprintf(out, PATH_TEXT_MAX, "%s", real != NULL ? real : ".");
    free(real);
    char *slash = strrchr(out, '/');
    if (slash != NULL)
        slash[slash == out] = '\0'; /* "/sweep.yaml" lies in "/" */
}

/* A sweep is stored with its base, as JSON. */
static enum status check_base(const char *base, struct err *err) {
    size_t len = strlen(base), i = 0, n = 1;
    for (; i < len && n > 0; i += n)
        n = utf8_length(base + i, len - i);
    return n > 0 ? STATUS_OK
                 : err_set(
                       err, STATUS_INVALID,
                       "its folder's name is not UTF-8 (byte 0x%02x after '%.*s'), and a sweep is "
                       "stored with it; rename the folder, or put the file into another one",
                       (unsigned char)base[i], (int)i, base);
}

/* The file is refused: by itself, or since one of the values that the command line put into it. */
static enum status blame(struct cli *cli, const char *path, const struct option_list *sets,
                         enum status st, struct err *err) {
    struct sweep *ignored = NULL;
    if (strncmp(err->text, "--set ", strlen("--set ")) ==
        0) /* what cannot be put in names itself */
        return st;
    for (size_t n = 0; n < sets->count; n++) {
        struct err why;
        if (sweep_load(&cli->arena, path, sets->items, n, &ignored, &why) != STATUS_OK)
            return n == 0 ? st : err_wrap(err, st, "--set %.100s", sets->items[n - 1]);
    }
    return sets->count == 0 ? st : err_wrap(err, st, "--set %.100s", sets->items[sets->count - 1]);
}

enum status check_load(struct cli *cli, const char *path, const struct option_list *sets,
                       struct check_file *out, struct err *err) {
    out->path = path;
    find_base(path, out->base);
    enum status st = sweep_load(&cli->arena, path, sets->items, sets->count, &out->sweep, err);
    if (st != STATUS_OK)
        return blame(cli, path, sets, st, err);
    st = check_base(out->base, err);
    return st == STATUS_OK ? st : err_wrap(err, st, "%s", path);
}

/* ---- siblings ---- */

/* What a sibling is asked: "program option FILE options…", with `input` as the JSON in FILE. */
struct question {
    const char *program, *option;
    const struct value *input;
    const char *options[OPTIONS_MAX]; /* NULL: none */
    int timeout_ms;
};

static enum status ask(struct cli *cli, const struct question *q, struct launch_answer *answer,
                       struct err *err) {
    enum status st = STATUS_OK;
    char path[PATH_TEXT_MAX], file[32];
    const char *argv[3 + OPTIONS_MAX + 1] = {path, q->option, file};
    int fd = -1;
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    TRY(path_join(path, cli->bindir, q->program, err));
    TRY(json_dump(q->input, JSON_COMPACT, &text, err));
    fd = memfd_create("trireme-check", 0); /* the sibling inherits it; nothing is left behind */
    if (fd < 0 || write(fd, text.data, text.len) != (ssize_t)text.len) {
        st = err_errno(err, errno, "write a question to %s", q->program);
        goto out;
    }
    (void)snprintf(file, sizeof file, "/proc/self/fd/%d", fd);
    for (size_t i = 0, n = 3; i < OPTIONS_MAX; i++)
        if (q->options[i] != NULL)
            argv[n++] = q->options[i];
    TRY(launch_ask(argv, q->timeout_ms, &cli->arena, answer, err));
out:
    if (fd >= 0)
        (void)close(fd);
    buf_release(&text);
    return st;
}

enum status check_trials(struct cli *cli, const struct check_file *file, int64_t count,
                         struct value **out, struct err *err) {
    struct arena *a = &cli->arena;
    struct value *input = value_map(a);
    struct launch_answer answer;
    value_set(a, input, "config", value_copy(a, file->sweep->root));
    value_set_string(a, input, "base", file->base);
    struct question q = {.program = "trireme-coordinator",
                         .option = "--preview",
                         .input = input,
                         .options = {arena_printf(a, "--trials=%lld", (long long)count)}};
    enum status st = ask(cli, &q, &answer, err);
    if (st == STATUS_OK && (answer.exit_code != 0 || answer.value == NULL))
        st = err_set(err, STATUS_INTERNAL, "trireme-coordinator --preview ended with exit code %d",
                     answer.exit_code);
    *out = answer.value;
    return st;
}

enum status check_first(struct cli *cli, const struct check_file *file, const struct value *listed,
                        struct check_trial *out, struct err *err) {
    const struct value *trials = value_get(listed, "trials");
    const struct sweep *sweep = file->sweep;
    struct value *config = NULL;
    if (trials == NULL || trials->kind != VALUE_LIST || trials->count == 0)
        return err_set(err, STATUS_NOT_FOUND, "%s: the searcher lists no trial", file->path);
    /* Made again from the file: what came back as JSON has lost its places. */
    const struct value *first = trials->items[0];
    int64_t seed = value_get_int(value_get(first, "config"), "seed", 0);
    enum status st = sweep_trial_config(&cli->arena, sweep, value_get(first, "hyperparameters"),
                                        (uint64_t)seed, file->base, &config, err);
    *out = (struct check_trial){.config = config,
                                .file = file->path,
                                .ranks = sweep->slots_per_trial,
                                .slots_per_gpu = sweep->slots_per_gpu};
    return st;
}

/* ---- where a refusal belongs ---- */

/* The key whose value is a path that a message mentions. */
struct named_file {
    const struct value *at; /* NULL: none */
    char key[KEY_TEXT_MAX];
};

/* Looks below `v`, whose key is `key`. The longest path counts: "/d/a.gz" is not "/d/a". */
static void find_file(const struct value *v, const char *key, int depth, const char *message,
                      struct named_file *out) {
    if (v->kind == VALUE_STRING && v->string[0] == '/' && strstr(message, v->string) != NULL &&
        (out->at == NULL || v->count > out->at->count)) {
        out->at = v;
        (void)snprintf(out->key, sizeof out->key, "%s", key);
    }
    for (size_t i = 0; v->kind == VALUE_MAP && depth < VALUE_DEPTH_MAX && i < v->count; i++) {
        char inner[KEY_TEXT_MAX];
        (void)snprintf(inner, sizeof inner, "%s%s%s", key, key[0] != '\0' ? "." : "",
                       v->members[i].key);
        find_file(v->members[i].value, inner, depth + 1, message, out);
    }
}

/* The worker's message names the place itself, or a file that a key names, or neither. */
static enum status refuse(const struct check_trial *t, const struct value *error, struct err *err) {
    enum status code = status_from_name(value_get_string(error, "code", ""));
    const char *message = value_get_string(error, "message", "no reason was given");
    struct named_file named = {.at = NULL};
    char place[SCHEMA_PLACE_MAX];
    if (t->file != NULL && strncmp(message, t->file, strlen(t->file)) == 0)
        return err_set(err, code, "%s", message);
    find_file(t->config, "", 0, message, &named);
    if (named.at != NULL)
        return err_set(err, code, "%s%s: %s", schema_place(t->file, named.at, place), named.key,
                       message);
    return err_set(err, code, "%s%s%s", t->file != NULL ? t->file : "", t->file != NULL ? ": " : "",
                   message);
}

/* ---- the plan ---- */

enum status check_plan(struct cli *cli, struct check_trial *t, struct err *err) {
    struct arena *a = &cli->arena;
    struct value *input = value_map(a);
    struct launch_answer answer;
    value_set(a, input, "config", value_copy(a, t->config));
    value_set_string(a, input, "file", t->file);
    value_set(a, input, "places", places_collect(a, t->config));
    struct question q = {.program = "trireme-worker",
                         .option = "--plan",
                         .input = input,
                         .options = {"--json"},
                         .timeout_ms = t->timeout_ms};
    if (t->assume_gpu > 0) {
        q.options[1] = arena_printf(a, "--assume-gpu=%lld", (long long)t->assume_gpu);
        q.options[2] = arena_printf(a, "--assume-ranks=%lld", (long long)t->ranks);
    }
    if (t->slots_per_gpu > 1)
        q.options[3] = arena_printf(a, "--gpu-share=%lld", (long long)t->slots_per_gpu);
    enum status st = ask(cli, &q, &answer, err);
    if (st != STATUS_OK)
        return st;
    const struct value *error = value_get(answer.value, "error");
    t->device = value_get_string(error, "device", NULL);
    if (error != NULL)
        return refuse(t, error, err);
    if (answer.exit_code != 0 || answer.value == NULL)
        return err_set(err, STATUS_INTERNAL, "trireme-worker --plan ended with exit code %d",
                       answer.exit_code);
    t->plan = answer.value;
    return STATUS_OK;
}

void check_warn(struct cli *cli, const struct check_trial *trial) {
    const struct value *warnings = value_get(trial->plan, "warnings");
    for (size_t i = 0; warnings != NULL && i < warnings->count; i++)
        if (warnings->items[i]->kind == VALUE_STRING)
            (void)fprintf(stderr, "trireme: warning: %s\n",
                          text_safe(&cli->arena, warnings->items[i]->string));
}

/* ---- before a sweep ---- */

static void say_unchecked(const char *what, const char *why) {
    (void)fprintf(stderr, "trireme: %s: %s\n", what, why);
}

static int limit_ms(void) {
    const char *text = getenv("TRIREME_CHECK_MS");
    long ms = text != NULL ? strtol(text, NULL, 10) : CHECK_MS;
    return ms > 0 && ms < 3600000 ? (int)ms : CHECK_MS;
}

static bool worker_is_here(const struct cli *cli) {
    char path[PATH_TEXT_MAX];
    return path_join(path, cli->bindir, "trireme-worker", NULL) == STATUS_OK &&
           access(path, X_OK) == 0;
}

/* That one rank, alone, does not fit on a GPU that others use does not prove that a group would not. */
static bool is_about_memory(enum status st, const struct check_trial *t) {
    return t->device != NULL && strcmp(t->device, "cuda") == 0 &&
           (st == STATUS_TOO_LARGE || st == STATUS_NOMEM || st == STATUS_FULL);
}

/* True where this machine's lack of a GPU may be the reason: no GPU answers, or the CPU that `auto`
 * chose cannot do what a GPU can. */
static bool is_about_device(enum status st, const struct check_trial *t) {
    if (st == STATUS_UNAVAILABLE)
        return true;
    bool cpu = t->device != NULL && strcmp(t->device, "cpu") == 0;
    return st == STATUS_INVALID && cpu &&
           strcmp(value_get_string(t->config, "device", "auto"), "cpu") != 0;
}

/* The groups' machines may have a GPU where this one has none: then all but the GPU is checked. */
static enum status plan_for_elsewhere(struct cli *cli, struct check_trial *t, struct err *err) {
    struct err other;
    enum status st = check_plan(cli, t, err);
    if (st == STATUS_OK || !is_about_device(st, t))
        return st;
    struct check_trial gpu = *t;
    gpu.assume_gpu = ANY_GPU_GIB;
    gpu.ranks = t->ranks > 0 ? t->ranks : 1;
    enum status on_gpu = check_plan(cli, &gpu, &other);
    if (on_gpu != STATUS_OK) {
        *err = st == STATUS_UNAVAILABLE ? other : *err;
        return st == STATUS_UNAVAILABLE ? on_gpu : st;
    }
    say_unchecked("the first trial was checked without a GPU", err->text);
    return STATUS_OK;
}

enum status check_before(struct cli *cli, const struct check_trial *trial, bool here,
                         struct err *err) {
    static const char unchecked[] = "the first trial was not checked";
    struct check_trial t = *trial;
    t.timeout_ms = limit_ms();
    if (!worker_is_here(cli)) {
        if (here)
            return err_set(err, STATUS_UNAVAILABLE, "there is no trireme-worker in %s",
                           cli->bindir);
        say_unchecked(unchecked, "trireme-worker is not installed on this machine");
        return STATUS_OK;
    }
    enum status st = here ? check_plan(cli, &t, err) : plan_for_elsewhere(cli, &t, err);
    if (st == STATUS_OK)
        check_warn(cli, &t);
    /* Groups that run already may have taken the GPU: the sweep waits for them. */
    bool taken = here && st == STATUS_UNAVAILABLE && cli_runs(cli, "coordinator");
    if (st == STATUS_TIMEOUT || st == STATUS_INTERNAL || taken || is_about_memory(st, &t)) {
        say_unchecked(unchecked, err->text);
        return STATUS_OK;
    }
    if (st == STATUS_NOT_FOUND && !here) {
        size_t len = strlen(err->text);
        (void)snprintf(err->text + len, sizeof err->text - len,
                       " (if only the groups' machines have it: --no-check)");
    }
    return st;
}
