/* trireme resume: a sweep that stopped on its way goes on. */
#include <stdlib.h>
#include <string.h>

#include "client/cli/check.h"
#include "client/cli/commands.h"
#include "client/cli/follow.h"
#include "spec/space.h"

#define RUNS_MAX 10000 /* looked at; newest first */

struct resume_args {
    bool json, quiet, no_check;
    const char *launch;
    int64_t max_slots, slots_per_trial;
    struct cli_place place;
};

/* ---- the first trial that is not finished ---- */

static bool is_finished(const char *state) {
    return strcmp(state, "completed") == 0 || strcmp(state, "stopped") == 0;
}

/* What the runs of a sweep say about one of its trials. */
struct trial_seen {
    bool finished;
    const char *run; /* its newest run */
};

/* The first trial without a finished run. */
struct unfinished {
    int64_t number;  /* 0: all have one */
    const char *run; /* its newest run; NULL: it has none yet */
    const char *any; /* some run of the sweep; NULL: there is none yet */
};

static enum status find_unfinished(struct cli *cli, const char *sweep, int64_t planned,
                                   struct unfinished *out, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct value *reply = NULL, *request = message_request(a, "run.list", NULL);
    struct trial_seen *seen = arena_array(a, (size_t)planned + 1, sizeof *seen);
    if (seen == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for %lld trials", (long long)planned);
    memset(seen, 0, ((size_t)planned + 1) * sizeof *seen);
    value_set_string(a, request, "sweep", sweep);
    value_set_int(a, request, "limit", RUNS_MAX);
    TRY(cli_ask(cli, request, &reply, err));
    const struct value *runs = value_get(reply, "runs");
    for (size_t i = 0; runs != NULL && i < runs->count; i++) {
        const struct value *r = runs->items[i];
        int64_t trial = value_get_int(r, "trial", 0);
        if (trial < 1 || trial > planned)
            continue;
        struct trial_seen *s = &seen[trial];
        s->finished = s->finished || is_finished(value_get_string(r, "state", ""));
        s->run = s->run != NULL ? s->run : value_get_string(r, "run", NULL);
    }
    *out = (struct unfinished){.number = 0};
    const char *any = NULL;
    for (int64_t n = 1; n <= planned && any == NULL; n++)
        any = seen[n].run;
    for (int64_t n = 1; n <= planned && out->number == 0; n++)
        if (!seen[n].finished)
            *out = (struct unfinished){
                .number = n, .run = seen[n].run, .any = seen[n].run != NULL ? seen[n].run : any};
out:
    return st;
}

/* What the log's first event says: configuration, base directory, language. */
static enum status read_submission(struct cli *cli, const char *sweep, const struct value **out,
                                   struct err *err) {
    struct arena *a = &cli->arena;
    struct value *reply = NULL, *request = message_request(a, "event.read", NULL);
    value_set_string(a, request, "sweep", sweep);
    value_set_int(a, request, "limit", 1);
    enum status st = cli_ask(cli, request, &reply, err);
    const struct value *events = value_get(reply, "events");
    if (st == STATUS_OK && (events == NULL || events->count == 0))
        return err_set(err, STATUS_CONFLICT, "sweep %s has no events yet", sweep);
    if (st == STATUS_OK)
        *out = events->items[0];
    return st;
}

/* The configuration of a trial that never had a run. */
static enum status make_config(struct cli *cli, const char *sweep_id, int64_t number,
                               struct value **out, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    const struct value *submission = NULL;
    struct sweep *sweep = NULL;
    TRY(read_submission(cli, sweep_id, &submission, err));
    struct schema_source source = {.language = (int)value_get_int(submission, "language", 1)};
    TRY(sweep_parse(a, value_get(submission, "config"), source, &sweep, err));
    struct value *point = sweep_point(a, sweep, number);
    if (point == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for trial %lld", (long long)number);
    TRY(sweep_trial_config(a, sweep, point, sweep_trial_seed(sweep->experiment_seed, number),
                           value_get_string(submission, "base", "/"), out, err));
out:
    return st;
}

/* A trial that has had a run has its configuration stored with it. */
static enum status stored_run(struct cli *cli, const char *run, struct value **out,
                              struct err *err) {
    struct arena *a = &cli->arena;
    struct value *reply = NULL, *request = message_request(a, "run.get", NULL);
    value_set_string(a, request, "run", run);
    enum status st = cli_ask(cli, request, &reply, err);
    *out = value_get(reply, "run");
    return st;
}

/* Trials of one sweep are compared: all of them train on the same bytes, or the sweep does not go on.
 * `run` was trained before; where its data cannot be read here, nothing is said. */
static enum status same_data(struct cli *cli, const char *run, struct err *err) {
    struct value *then = NULL;
    struct err why;
    if (run == NULL || stored_run(cli, run, &then, &why) != STATUS_OK)
        return STATUS_OK;
    const struct value *was = value_at(then, "manifest.data.digest");
    struct check_trial again = {.config = value_get(then, "config"), .timeout_ms = CHECK_MS};
    if (was == NULL || again.config == NULL || check_plan(cli, &again, &why) != STATUS_OK)
        return STATUS_OK;
    const char *now = value_get_string(value_get(again.plan, "data"), "digest", "");
    if (was->kind != VALUE_STRING || strcmp(was->string, now) == 0)
        return STATUS_OK;
    return err_set(err, STATUS_CONFLICT,
                   "the data files have changed since run %s was trained (digest %.12s then, %.12s "
                   "now): put them back, or begin a new sweep",
                   run, was->string, now);
}

/* Refuses what would fail again. What the store does not tell stays unchecked: the log is the
 * coordinator's to judge. */
static enum status check_unfinished(struct cli *cli, const struct value *sweep,
                                    const struct resume_args *args, struct err *err) {
    const char *id = value_get_string(sweep, "sweep", "");
    const struct value *resources = value_at(sweep, "config.resources");
    struct unfinished next = {.number = 0};
    int64_t planned = value_get_int(value_get(sweep, "summary"), "planned", 0);
    struct value *config = NULL, *run = NULL;
    struct err why = {.status = STATUS_OK};
    enum status st = STATUS_OK;
    if (planned < 1 || planned > SWEEP_TRIALS_MAX)
        return STATUS_OK;
    TRY(find_unfinished(cli, id, planned, &next, err));
    if (next.number == 0)
        return STATUS_OK;
    st = next.run != NULL ? stored_run(cli, next.run, &run, &why)
                          : make_config(cli, id, next.number, &config, &why);
    config = next.run != NULL ? value_get(run, "config") : config;
    if (st != STATUS_OK || config == NULL) {
        (void)fprintf(stderr, "trireme: trial %lld was not checked: %s\n", (long long)next.number,
                      st != STATUS_OK ? why.text : "its configuration is not stored");
        return STATUS_OK;
    }
    struct check_trial trial = {.config = config,
                                .ranks = value_get_int(resources, "slots_per_trial", 1),
                                .slots_per_gpu = value_get_int(resources, "slots_per_gpu", 1)};
    st =
        check_before(cli, &trial, args->launch == NULL || strcmp(args->launch, "mpirun") == 0, err);
    if (st != STATUS_OK)
        st = err_wrap(err, st, "trial %lld of %s", (long long)next.number, id);
    else
        st = same_data(cli, next.any, err);
out:
    return st;
}

/* ---- resume ---- */

static enum status resume(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct resume_args args = {.launch = NULL};
    struct operands operands;
    struct value *request, *reply = NULL;
    char id[27];
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(cli_resolve(cli, "sweep", operands.items[0], id, err));
    request = message_request(a, "sweep.get", NULL);
    value_set_string(a, request, "sweep", id);
    TRY(cli_ask(cli, request, &reply, err));
    if (!args.no_check)
        TRY(check_unfinished(cli, value_get(reply, "sweep"), &args, err));
    const struct value *config = value_at(reply, "sweep.config");
    const struct value *resources = value_get(config, "resources");
    int64_t slots =
        value_get_int(resources, "max_slots", value_get_int(resources, "slots_per_trial", 1));
    follow_catch_signals();
    cli->launch = args.launch;
    cli->max_slots = args.max_slots > 0 ? args.max_slots : slots;
    if (cli->max_slots < args.slots_per_trial)
        cli->max_slots = args.slots_per_trial;
    cli->device = value_get_string(config, "device", "auto");
    cli->slots_per_gpu = value_get_int(resources, "slots_per_gpu", 1);
    TRY(cli_coordinator(cli, true, err));
    TRY(follow_use_others(cli, (struct follow_wishes){args.launch, args.max_slots}, args.quiet,
                          err));
    request = message_request(a, "sweep.resume", NULL);
    value_set_string(a, request, "sweep", id);
    if (args.slots_per_trial > 0)
        value_set_int(a, request, "slots_per_trial", args.slots_per_trial);
    TRY(cli_order(cli, request, NULL, err));
    struct follow_options follow = {.json = args.json, .quiet = args.quiet};
    TRY(follow_to_end(cli, id, follow, err));
out:
    return st;
}

static const struct option_row rows[] = {
    OPTION_ROW_INT(struct resume_args, slots_per_trial, "slots-per-trial", 0, "N", 1, 4096,
                   "train on N ranks a trial; the bits stay the same (default: as before)"),
    OPTION_ROW_CHOICE(struct resume_args, launch, "launch", 0, "mpirun|srun|none",
                      "how worker groups are started (default mpirun)"),
    OPTION_ROW_INT(struct resume_args, max_slots, "max-slots", 0, "N", 1, 4096,
                   "at most N slots (cores or GPUs) for all groups (default: as submitted)"),
    OPTION_ROW_FLAG(struct resume_args, no_check, "no-check", 0,
                    "resume without planning the next trial and reading its data"),
    OPTION_ROW_FLAG(struct resume_args, quiet, "quiet", 'q', "show no progress"),
    CLI_TRACKER_ROWS(struct resume_args, place),
    OPTION_ROW_FLAG(struct resume_args, json, "json", 'j',
                    "print one JSON object on standard output at the end"),
    OPTION_END};

const struct command command_resume = {
    .name = "resume",
    .help = {.usage = "trireme resume SWEEP [--slots-per-trial N] [options]",
             .summary = "continue a sweep that was interrupted, cancelled or failed",
             .details = "Trials go on from their checkpoints.\n"
                        "Exit codes: 0 every trial completed; 1 some trials failed; 4 no such "
                        "sweep, or a file is missing;\n"
                        "5 the sweep is complete; 11 interrupted, paused, cancelled or detached "
                        "(resumable); others as in\nREADME.md."},
    .options = rows,
    .kind = OPERANDS_SWEEP,
    .least = 1,
    .most = 1,
    .acts = true,
    .run = resume};
