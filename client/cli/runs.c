/* A run's record, by RUN or SWEEP/TRIAL. */
#include "client/cli/runs.h"

#include <stdlib.h>
#include <string.h>

#include "client/cli/text.h"
#include "core/ulid.h"
#include "wire/artifact.h"

#define PAGE_RUNS    1000
#define TRIAL_DIGITS 9
#define ATTEMPTS_MAX 4096

static enum status record_of(struct cli *cli, const char *id, struct value **out, struct err *err) {
    struct value *reply = NULL, *request = message_request(&cli->arena, "run.get", NULL);
    value_set_string(&cli->arena, request, "run", id);
    enum status st = cli_ask(cli, request, &reply, err);
    if (st != STATUS_OK)
        return st;
    *out = value_get(reply, "run");
    return artifact_list_all(cli->tracker, &cli->arena, *out, err);
}

/* ---- SWEEP/TRIAL ---- */

struct search {
    char sweep[27];
    int64_t trial;
    const char *after;   /* NULL: no more pages */
    struct value *found; /* run.list's rows */
};

static int by_attempt(const void *a, const void *b) {
    const struct value *x = *(struct value *const *)a, *y = *(struct value *const *)b;
    int64_t p = value_get_int(x, "attempt", 0), q = value_get_int(y, "attempt", 0);
    return (p > q) - (p < q);
}

static enum status search_page(struct cli *cli, struct search *s, struct err *err) {
    enum status st = STATUS_OK;
    struct arena page;
    struct session_reply reply = {.header = NULL};
    arena_init(&page, CLI_ARENA_BYTES);
    struct value *request = message_request(&page, "run.list", NULL);
    value_set_string(&page, request, "sweep", s->sweep);
    value_set_string(&page, request, "after", s->after);
    value_set_int(&page, request, "limit", PAGE_RUNS);
    TRY(cli_ask_frames(cli, &page, request, &reply, err));
    const struct value *runs = value_get(reply.header, "runs");
    size_t count = runs != NULL ? runs->count : 0;
    for (size_t i = 0; i < count; i++)
        if (value_get_int(runs->items[i], "trial", 0) == s->trial)
            value_push(&cli->arena, s->found, value_copy(&cli->arena, runs->items[i]));
    s->after = NULL;
    if (count > 0 && value_get_bool(reply.header, "more", false))
        s->after = arena_strdup(&cli->arena, value_get_string(runs->items[count - 1], "run", ""));
out:
    session_reply_release(&reply);
    arena_release(&page);
    return st;
}

static enum status search_trial(struct cli *cli, const char *text, struct search *s,
                                struct err *err) {
    enum status st = STATUS_OK;
    const char *slash = strrchr(text, '/'), *number = slash + 1;
    size_t digits = strlen(number);
    if (slash == text || digits == 0 || digits > TRIAL_DIGITS ||
        strspn(number, "0123456789") != digits)
        return err_set(err, STATUS_INVALID, "'%.100s' must be SWEEP/TRIAL, such as digits/3", text);
    s->trial = strtoll(number, NULL, 10);
    s->found = value_list(&cli->arena);
    TRY(cli_resolve(cli, "sweep", arena_copy(&cli->arena, text, (size_t)(slash - text)), s->sweep,
                    err));
    do
        TRY(search_page(cli, s, err));
    while (s->after != NULL);
    if (s->found->count == 0)
        return err_set(err, STATUS_NOT_FOUND,
                       "sweep %s has no trial %lld; `trireme show %s` lists them", s->sweep,
                       (long long)s->trial, s->sweep);
    qsort(s->found->items, s->found->count, sizeof *s->found->items, by_attempt);
out:
    return st;
}

/* ---- both ---- */

enum status runs_get(struct cli *cli, const char *text, struct value **out, struct err *err) {
    enum status st = STATUS_OK;
    char run[27];
    if (strchr(text, '/') != NULL) {
        struct search s = {.after = NULL};
        TRY(search_trial(cli, text, &s, err));
        TRY(record_of(cli, value_get_string(s.found->items[s.found->count - 1], "run", ""), out,
                      err));
        goto out;
    }
    const char *colon = strchr(text, ':');
    if (colon != NULL && ulid_valid(text, (size_t)(colon - text), false))
        return err_set(err, STATUS_INVALID,
                       "'%.100s' names weights of a run; `trireme %s` is about the whole run: %.*s",
                       text, cli->command->name, (int)(colon - text), text);
    if (!ulid_valid(text, strlen(text), false))
        return err_set(err, STATUS_NOT_FOUND, "there is no run '%.100s'", text);
    TRY(cli_resolve(cli, "run", text, run, err));
    TRY(record_of(cli, run, out, err));
out:
    return st;
}

enum status runs_get_attempts(struct cli *cli, const char *text, struct runs_attempts *out,
                              struct err *err) {
    enum status st = STATUS_OK;
    struct search s = {.after = NULL};
    *out = (struct runs_attempts){.whole = strchr(text, '/') != NULL, .count = 1};
    if (out->whole) {
        TRY(search_trial(cli, text, &s, err));
        out->count = s.found->count < ATTEMPTS_MAX ? s.found->count : ATTEMPTS_MAX;
    }
    out->runs = arena_array(&cli->arena, out->count, sizeof *out->runs);
    if (out->runs == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory");
    if (!out->whole) {
        st = runs_get(cli, text, &out->runs[0], err);
        goto out;
    }
    for (size_t i = 0; i < out->count; i++) { /* the newest, where there are too many */
        const struct value *row = s.found->items[s.found->count - out->count + i];
        TRY(record_of(cli, value_get_string(row, "run", ""), &out->runs[i], err));
    }
out:
    return st;
}

static enum status get_record(void *arg, const char *id, const struct value **out,
                              struct err *err) {
    struct value *run = NULL;
    enum status st = record_of(arg, id, &run, err);
    *out = run;
    return st;
}

enum status runs_find_weights(struct cli *cli, const struct weights_ref *ref, struct value **run,
                              struct weights *out, struct err *err) {
    struct weights_among among = {.record = *run, .get = get_record, .arg = cli};
    enum status st = weights_find(&cli->arena, ref, &among, out, err);
    if (st == STATUS_OK && among.record != *run) {
        (void)fprintf(stderr, "%s\n", text_safe(&cli->arena, out->note));
        *run = value_copy(&cli->arena, among.record);
    }
    return st;
}

int64_t runs_first_step(const struct value *run) {
    const struct value *step = value_at(run, "manifest.resumed_from.step");
    return step != NULL && step->kind == VALUE_INT ? step->integer : 0;
}

void runs_say_resumed(const struct value *run, const char *command) {
    const char *sweep = value_get_string(run, "sweep", NULL);
    if (runs_first_step(run) <= 0 || sweep == NULL)
        return;
    (void)fprintf(stderr,
                  "run %s is attempt %lld and begins at step %lld, where it was resumed; the whole "
                  "trial: trireme %s %s/%lld\n",
                  value_get_string(run, "run", ""), (long long)value_get_int(run, "attempt", 0),
                  (long long)runs_first_step(run), command, sweep,
                  (long long)value_get_int(run, "trial", 0));
}
