/* Every message on Trireme's wire, in one table. Bounds stand beside names; docs/WIRE.md is made
 * from here. Ids of runs and sweeps are ULIDs; times are nanoseconds since 1970 (UTC); steps count
 * from 0; a "key" is a metric's name. */
#include "wire/message.h"

#define TEXT(n, req, len, d)                                                                       \
    { .name = n, .type = FIELD_STRING, .flags = req, .max = len, .doc = d }
#define ULID(n, req, d)                                                                            \
    { .name = n, .type = FIELD_ULID, .flags = req, .doc = d }
#define PREFIX(n, req, d)                                                                          \
    { .name = n, .type = FIELD_PREFIX, .flags = req, .doc = d }
#define INT(n, req, lo, hi, d)                                                                     \
    { .name = n, .type = FIELD_INT, .flags = req, .min = lo, .max = hi, .doc = d }
#define REAL(n, req, d)                                                                            \
    { .name = n, .type = FIELD_REAL, .flags = req, .doc = d }
#define BOOL(n, req, d)                                                                            \
    { .name = n, .type = FIELD_BOOL, .flags = req, .doc = d }
#define DIGEST(n, req, d)                                                                          \
    { .name = n, .type = FIELD_DIGEST, .flags = req, .doc = d }
#define ENUM(n, req, c, d)                                                                         \
    { .name = n, .type = FIELD_ENUM, .flags = req, .choices = c, .doc = d }
#define FREE_MAP(n, req, d)                                                                        \
    { .name = n, .type = FIELD_MAP, .flags = req, .max = 4096, .doc = d }
#define MAP(n, req, f, d)                                                                          \
    { .name = n, .type = FIELD_MAP, .flags = req, .max = 4096, .fields = f, .doc = d }
#define LIST(n, req, m, f, d)                                                                      \
    { .name = n, .type = FIELD_LIST, .flags = req, .max = m, .fields = f, .doc = d }

#define TIME_MAX     9.2e18
#define COUNT_MAX    9007199254740992.0 /* 2^53: exact in any language's JSON */
#define RUN_STATES   "queued|running|completed|stopped|failed|cancelled|preempted"
#define SWEEP_STATES "active|paused|completed|failed|cancelled"

static const struct field none[] = {FIELD_END};

/* ---- tracker: who are you ---- */
static const struct field hello_reply[] = {TEXT("server", REQUIRED, 64, "\"trireme-tracker\""),
                                           TEXT("version", REQUIRED, 64, "of the program"),
                                           INT("format", REQUIRED, 1, 1e6, "of the store on disk"),
                                           TEXT("feed", 0, 1024, "endpoint of the live feed (PUB)"),
                                           FIELD_END};
static const struct field stats_reply[] = {
    INT("points", REQUIRED, 0, COUNT_MAX, "metric points written since start"),
    INT("commits", REQUIRED, 0, COUNT_MAX, "group commits since start"),
    INT("requests", REQUIRED, 0, COUNT_MAX, "requests since start"),
    INT("runs", REQUIRED, 0, COUNT_MAX, "runs in the store"),
    INT("meta_bytes", REQUIRED, 0, COUNT_MAX, "bytes in use of the meta environment"),
    INT("blob_bytes", REQUIRED, 0, COUNT_MAX, "bytes in use of the blob environment"),
    FIELD_END};

/* ---- experiments ---- */
static const struct field experiment_create[] = {
    TEXT("name", REQUIRED, 200, "unique; creating it again is no error"), FIELD_END};
static const struct field experiment_reply[] = {
    TEXT("experiment", REQUIRED, 200, "its name"),
    INT("created_ns", REQUIRED, 0, TIME_MAX, "when it was first created"), FIELD_END};
static const struct field experiment_list_reply[] = {
    LIST("experiments", REQUIRED, 1e6, NULL, "[{experiment, created_ns, runs}]"), FIELD_END};

/* ---- runs ---- */
static const struct field run_create[] = {
    ULID("run", REQUIRED, "made by the caller; creating it again with the same fields is no error"),
    TEXT("experiment", REQUIRED, 200, "created when missing"),
    ULID("sweep", 0, "the sweep it belongs to"),
    INT("trial", 0, 1, 1e9, "number of the trial within the sweep, from 1"),
    INT("attempt", 0, 1, 1e6, "attempt at that trial, from 1"),
    TEXT("name", 0, 200, "for people"),
    ENUM("state", 0, RUN_STATES, "default: running"),
    FREE_MAP("params", 0, "name → value; immutable once set"),
    FREE_MAP("tags", 0, "name → string"),
    FREE_MAP("config", 0, "the resolved trial configuration"),
    FIELD_END};
static const struct field run_update[] = {
    ULID("run", REQUIRED, "the run"),
    ENUM("state", 0, RUN_STATES, "a final state never changes again (conflict)"),
    TEXT("reason", 0, 2000, "why it ended"),
    FREE_MAP("params", 0, "more parameters; a changed value is a conflict"),
    FREE_MAP("tags", 0, "set or replaced; null removes"),
    FREE_MAP("manifest", 0, "merged into the run's manifest, key by key"),
    FREE_MAP("summary", 0, "final metrics and digests, merged"),
    FIELD_END};
static const struct field run_ref[] = {ULID("run", REQUIRED, "the run"), FIELD_END};
static const struct field run_get_reply[] = {
    FREE_MAP(
        "run", REQUIRED,
        "{run, experiment, sweep, trial, attempt, name, state, reason, created_ns, ended_ns, "
        "params, tags, config, manifest, summary, metrics: [{key, rank, count, last, last_step, "
        "min, max}], artifacts: [{path, size, digest}]}"),
    FIELD_END};
static const struct field run_list[] = {
    TEXT("experiment", 0, 200, "only of this experiment"),
    ULID("sweep", 0, "only of this sweep"),
    ENUM("state", 0, RUN_STATES, "only in this state"),
    INT("limit", 0, 1, 10000, "default 100"),
    ULID("after", 0, "continue behind this run, in the order of the listing"),
    BOOL("newest_first", 0, "default true"),
    FIELD_END};
static const struct field run_list_reply[] = {
    LIST("runs", REQUIRED, 10000, NULL,
         "as run.get, without config, manifest, metrics and artifacts"),
    BOOL("more", REQUIRED, "there are more behind the last"), FIELD_END};
static const struct field run_resolve[] = {
    PREFIX("prefix", REQUIRED, "of a run's or a sweep's id, either case"),
    ENUM("kind", 0, "run|sweep", "default run"), FIELD_END};
static const struct field run_resolve_reply[] = {ULID("resolved", REQUIRED, "the only one"),
                                                 FIELD_END};

/* ---- metrics ---- */
static const struct field series_item[] = {
    TEXT("key", REQUIRED, 200, "name of the metric"),
    INT("count", REQUIRED, 1, 65536, "points of this key in the columns"), FIELD_END};
static const struct field series_row[] = {
    {.name = "item", .type = FIELD_MAP, .max = 16, .fields = series_item}, FIELD_END};
static const struct field run_log[] = {
    ULID("run", REQUIRED, "the run"),
    INT("rank", 0, 0, 65535, "the writer's rank; part of the key; default 0"),
    LIST("series", REQUIRED, 1024, series_row, "consecutive stretches of the columns"), FIELD_END};
static const struct field run_log_reply[] = {
    INT("points", REQUIRED, 0, COUNT_MAX, "how many are on disk now"), FIELD_END};
static const struct field run_metrics[] = {
    ULID("run", REQUIRED, "the run"),
    TEXT("key", REQUIRED, 200, "name of the metric"),
    INT("rank", 0, 0, 65535, "default 0"),
    INT("points", 0, 1, 1e6,
        "at most so many, evenly thinned, keeping the first, the last and each "
        "bucket's minimum and maximum; default: all, up to 1,000,000"),
    INT("after_step", 0, -1, TIME_MAX, "only steps greater than this"),
    FIELD_END};
static const struct field run_metrics_reply[] = {
    INT("count", REQUIRED, 0, 1e6, "points in the columns"),
    INT("total", REQUIRED, 0, COUNT_MAX, "points in the series"),
    INT("sequence", REQUIRED, 0, COUNT_MAX, "of the run's feed topic at this snapshot"), FIELD_END};

/* ---- artifacts ---- */
static const struct field artifact_begin[] = {
    ULID("run", REQUIRED, "the run"),
    TEXT("path", REQUIRED, 480, "relative, '/' between parts, no '..'"),
    INT("size", REQUIRED, 0, 1e13, "bytes"),
    DIGEST("digest", REQUIRED, "SHA-256 of all bytes"),
    FREE_MAP("meta", 0, "stored beside it"),
    FIELD_END};
static const struct field artifact_begin_reply[] = {
    BOOL("complete", REQUIRED, "the bytes were there already: nothing to send"),
    INT("offset", REQUIRED, 0, 1e13, "where to go on; 0 at first"),
    INT("chunk", REQUIRED, 1, 16777216, "bytes a chunk; every one but the last is whole"),
    INT("credit", REQUIRED, 1, 1024, "chunks that may be on their way unanswered"), FIELD_END};
static const struct field artifact_chunk[] = {
    DIGEST("digest", REQUIRED, "of the whole artifact"),
    INT("offset", REQUIRED, 0, 1e13, "a multiple of the chunk size"), FIELD_END};
static const struct field artifact_chunk_reply[] = {
    INT("offset", REQUIRED, 0, 1e13, "the next byte expected"), FIELD_END};
static const struct field artifact_commit[] = {
    ULID("run", REQUIRED, "the run"), TEXT("path", REQUIRED, 480, "replaces what stood there"),
    DIGEST("digest", REQUIRED, "checked against the bytes received"), FIELD_END};
static const struct field artifact_get[] = {
    ULID("run", 0, "with path; or digest alone"),  TEXT("path", 0, 480, "of the artifact"),
    DIGEST("digest", 0, "of the artifact"),        INT("offset", 0, 0, 1e13, "default 0"),
    INT("length", 0, 1, 8388608, "default 4 MiB"), FIELD_END};
static const struct field artifact_get_reply[] = {
    INT("size", REQUIRED, 0, 1e13, "of the whole artifact"),
    DIGEST("digest", REQUIRED, "of the whole artifact"),
    INT("offset", REQUIRED, 0, 1e13, "of the first byte in the frame"), FIELD_END};
static const struct field artifact_ref[] = {
    ULID("run", REQUIRED, "the run"), TEXT("path", REQUIRED, 480, "of the artifact"), FIELD_END};

/* ---- sweeps and their events ---- */
static const struct field sweep_create[] = {
    ULID("sweep", REQUIRED, "made by the caller"),
    TEXT("name", REQUIRED, 200, "also the experiment's name"),
    FREE_MAP("config", REQUIRED, "the sweep file as it was read, with --set applied"), FIELD_END};
static const struct field sweep_ref[] = {ULID("sweep", REQUIRED, "the sweep"), FIELD_END};
static const struct field sweep_update[] = {
    ULID("sweep", REQUIRED, "the sweep"),
    ENUM("state", 0, SWEEP_STATES, "completed may become active again by resume"),
    TEXT("reason", 0, 2000, "why"), FREE_MAP("summary", 0, "merged"), FIELD_END};
static const struct field sweep_get_reply[] = {
    FREE_MAP("sweep", REQUIRED,
             "{sweep, name, state, reason, created_ns, ended_ns, config, summary, events}"),
    FIELD_END};
static const struct field sweep_list[] = {ENUM("state", 0, SWEEP_STATES, "only in this state"),
                                          INT("limit", 0, 1, 10000, "default 100, newest first"),
                                          FIELD_END};
static const struct field sweep_list_reply[] = {
    LIST("sweeps", REQUIRED, 10000, NULL, "as sweep.get, without config"), FIELD_END};
static const struct field event_append[] = {
    ULID("sweep", REQUIRED, "the sweep"),
    INT("first", REQUIRED, 1, COUNT_MAX,
        "sequence number of the first; must follow the last stored"),
    LIST("events", REQUIRED, 10000, NULL, "maps; opaque to the tracker"), FIELD_END};
static const struct field event_append_reply[] = {
    INT("last", REQUIRED, 0, COUNT_MAX, "sequence number of the last stored"), FIELD_END};
static const struct field event_read[] = {
    ULID("sweep", REQUIRED, "the sweep"),
    INT("after", 0, 0, COUNT_MAX, "only later ones; default 0"),
    INT("limit", 0, 1, 10000, "default 1000"), FIELD_END};
static const struct field event_read_reply[] = {
    LIST("events", REQUIRED, 10000, NULL, "in order"),
    INT("first", REQUIRED, 0, COUNT_MAX, "sequence number of the first in the list; 0: none"),
    INT("last", REQUIRED, 0, COUNT_MAX, "sequence number of the last stored"), FIELD_END};

/* ---- models, aliases, audit ---- */
static const struct field model_promote[] = {
    TEXT("name", REQUIRED, 200, "of the registered model; created when missing"),
    ULID("run", REQUIRED, "a completed or stopped run"),
    TEXT("alias", 0, 100, "moved to the new version in the same transaction"),
    TEXT("actor", REQUIRED, 200, "who does it"),
    TEXT("comment", 0, 2000, "why"),
    FREE_MAP(
        "card", REQUIRED,
        "weights and onnx digests, signature, transforms, metrics, data digest, replay verdict"),
    FIELD_END};
static const struct field model_promote_reply[] = {
    TEXT("name", REQUIRED, 200, "of the model"),
    INT("version", REQUIRED, 1, 1e9, "new, never used before"),
    DIGEST("audit", REQUIRED, "head of the audit chain with this record"), FIELD_END};
static const struct field alias_set[] = {TEXT("name", REQUIRED, 200, "of the model"),
                                         TEXT("alias", REQUIRED, 100, "live, candidate, …"),
                                         INT("version", REQUIRED, 1, 1e9, "of the model"),
                                         TEXT("actor", REQUIRED, 200, "who does it"),
                                         TEXT("comment", 0, 2000, "why"),
                                         FIELD_END};
static const struct field model_get[] = {
    TEXT("name", REQUIRED, 200, "of the model"),
    INT("version", 0, 1, 1e9, "default: the newest, or the alias's"),
    TEXT("alias", 0, 100, "instead of a version"), FIELD_END};
static const struct field model_get_reply[] = {
    FREE_MAP("model", REQUIRED, "{name, version, run, created_ns, actor, comment, card, aliases}"),
    FIELD_END};
static const struct field model_list_reply[] = {
    LIST("models", REQUIRED, 1e6, NULL, "[{name, versions, newest, aliases: {alias: version}}]"),
    FIELD_END};
static const struct field audit_list[] = {INT("after", 0, 0, COUNT_MAX, "only later records"),
                                          INT("limit", 0, 1, 10000, "default 100"), FIELD_END};
static const struct field audit_list_reply[] = {
    LIST("records", REQUIRED, 10000, NULL,
         "[{sequence, time_ns, actor, action, subject, details, previous, digest}]; digest is the "
         "SHA-256 of the record's canonical JSON without its digest"),
    DIGEST("head", REQUIRED, "digest of the last record; zeros when there is none"), FIELD_END};

/* ---- coordinator: what people ask ---- */
static const struct field sweep_submit[] = {
    ULID("sweep", REQUIRED, "made by the caller; submitting it again is no error"),
    FREE_MAP("config", REQUIRED, "the sweep file as it was read, with --set applied"),
    TEXT("base", 0, 1000, "directory that relative data paths start from"), FIELD_END};
static const struct field sweep_status_reply[] = {
    FREE_MAP("sweep", REQUIRED,
             "{sweep, name, state, reason, trials: [{trial, run, state, attempt, restarts, reason, "
             "hyperparameters, units, step, metric, metrics, weights_digest}], best: {run, trial, "
             "metric}, "
             "groups, planned, finished}"),
    FIELD_END};
static const struct field sweep_cancel[] = {ULID("sweep", REQUIRED, "the sweep"),
                                            INT("trial", 0, 1, 1e9, "only this trial"),
                                            TEXT("reason", 0, 2000, "why"), FIELD_END};
static const struct field sweep_resume[] = {
    ULID("sweep", REQUIRED, "a sweep that has trials left; failed ones start again"),
    INT("slots_per_trial", 0, 1, 4096, "on other groups than before"), FIELD_END};
static const struct field coordinator_status_reply[] = {
    LIST("groups", REQUIRED, 100000, NULL,
         "[{group, host, ranks, device, state, sweep, trial, run, beat_age_ms}]"),
    LIST("sweeps", REQUIRED, 10000, NULL, "[{sweep, name, state, planned, finished, running}]"),
    FIELD_END};

/* ---- coordinator: what worker groups say ---- */
static const struct field lease_ref[] = {
    ULID("sweep", REQUIRED, "the sweep"), INT("trial", REQUIRED, 1, 1e9, "the trial"),
    ULID("run", REQUIRED, "the attempt"), INT("epoch", REQUIRED, 1, COUNT_MAX, "of the lease"),
    FIELD_END};
static const struct field group_hello[] = {
    ULID("group", REQUIRED, "one per MPI world, made by rank 0"),
    INT("ranks", REQUIRED, 1, 4096, "size of the world"),
    TEXT("host", REQUIRED, 256, "of rank 0"),
    INT("pid", REQUIRED, 1, 4194304, "of rank 0"),
    TEXT("device", REQUIRED, 200, "cpu, or the GPU's name"),
    TEXT("build", REQUIRED, 64, "build id"),
    TEXT("launch", 0, 64, "token that the launcher passed in TRIREME_LAUNCH"),
    INT("ends_ns", 0, 0, TIME_MAX, "when its wall time ends; 0: never"),
    MAP("lease", 0, lease_ref, "what it is working on, after a reconnect"),
    FIELD_END};
static const struct field group_hello_reply[] = {
    INT("beat_ms", REQUIRED, 10, 60000, "how often to say group.beat"),
    INT("lease_ms", REQUIRED, 100, 3600000, "without a beat for so long the lease is lost"),
    BOOL("keep", REQUIRED, "the lease that was named still stands; false: drop that trial"),
    FIELD_END};
static const struct field group_beat[] = {ULID("group", REQUIRED, "the group"),
                                          MAP("lease", 0, lease_ref, "what it is working on"),
                                          INT("step", 0, 0, TIME_MAX, "steps done"),
                                          REAL("units", 0, "done, in the sweep's time_metric"),
                                          REAL("samples_per_s", 0, "over the last seconds"),
                                          FIELD_END};
static const struct field group_bye[] = {ULID("group", REQUIRED, "the group"),
                                         TEXT("reason", 0, 2000, "why it leaves"), FIELD_END};
static const struct field trial_started[] = {
    ULID("group", REQUIRED, "the group"), MAP("lease", REQUIRED, lease_ref, "as assigned"),
    INT("step", REQUIRED, 0, TIME_MAX, "where it starts; > 0 after a resume"), FIELD_END};
static const struct field trial_report[] = {
    ULID("group", REQUIRED, "the group"),
    MAP("lease", REQUIRED, lease_ref, "as assigned"),
    REAL("units", REQUIRED, "done, in the sweep's time_metric"),
    INT("step", REQUIRED, 0, TIME_MAX, "steps done"),
    BOOL("boundary", 0, "the group waits for the verdict"),
    FREE_MAP("metrics", REQUIRED, "name → finite number"),
    FIELD_END};
static const struct field trial_report_reply[] = {
    ENUM("verdict", REQUIRED, "continue|stop", "stop: finish with state stopped"),
    REAL("until", 0, "units of the next boundary"),
    TEXT("reason", 0, 2000, "the rule that decided"), FIELD_END};
static const struct field trial_done[] = {
    ULID("group", REQUIRED, "the group"),
    MAP("lease", REQUIRED, lease_ref, "as assigned"),
    ENUM("state", REQUIRED, "completed|stopped|failed|cancelled|preempted", "how it ended"),
    TEXT("code", 0, 32, "a status name when it failed: invalid and nonfinite are not tried again"),
    TEXT("reason", 0, 2000, "why"),
    REAL("units", REQUIRED, "done"),
    INT("step", REQUIRED, 0, TIME_MAX, "steps done"),
    FREE_MAP("metrics", REQUIRED, "the last of each"),
    DIGEST("weights_digest", 0, "SHA-256 of the final weights"),
    FIELD_END};

/* ---- notices to a group ---- */
static const struct field trial_assign[] = {
    MAP("lease", REQUIRED, lease_ref, "to be named in everything about this trial"),
    FREE_MAP("config", REQUIRED, "the trial configuration: ${…} filled in, paths absolute"),
    REAL("until", REQUIRED, "units of the first boundary"),
    LIST("resume", 0, 64, NULL, "earlier runs of this trial, newest first: look for a checkpoint"),
    FIELD_END};
static const struct field trial_cancel[] = {
    MAP("lease", REQUIRED, lease_ref, "of the trial to leave"),
    ENUM("state", REQUIRED, "cancelled|preempted|stopped", "how to end it"),
    TEXT("reason", 0, 2000, "why"), FIELD_END};
static const struct field group_exit[] = {TEXT("reason", 0, 2000, "why"), FIELD_END};

/* ---- the live feed (PUB): behind v, topic, sequence and op ---- */
static const struct field feed_points[] = {
    ULID("run", REQUIRED, "the run"), INT("rank", REQUIRED, 0, 65535, "the writer's rank"),
    LIST("series", REQUIRED, 1024, series_row,
         "[{key, count}]: consecutive stretches of the columns"),
    FIELD_END};
static const struct field feed_run_state[] = {
    ULID("run", REQUIRED, "the run"), ENUM("state", REQUIRED, RUN_STATES, "the state it is in now"),
    TEXT("reason", NULLABLE, 2000, "why, where there is a reason"), FIELD_END};
static const struct field feed_events[] = {
    ULID("sweep", REQUIRED, "the sweep"),
    INT("first", REQUIRED, 1, COUNT_MAX, "sequence number of the first event in the log"),
    LIST("events", REQUIRED, 10000, NULL, "as event.append took them"), FIELD_END};
static const struct field feed_sweep_state[] = {
    ULID("sweep", REQUIRED, "the sweep"),
    ENUM("state", REQUIRED, SWEEP_STATES, "the state it is in now"),
    TEXT("reason", NULLABLE, 2000, "why, where there is a reason"), FIELD_END};

#define POINT_COLUMNS                                                                              \
    "three, one column each, of all points, series after series: steps (int64), times in ns "      \
    "(int64), values (float64), little-endian"

const struct message_type message_table[] = {
    {"hello", SERVER_TRACKER, false, none, hello_reply, NULL, NULL, "who the server is"},
    {"stats", SERVER_TRACKER, false, none, stats_reply, NULL, NULL, "counters of this process"},
    {"experiment.create", SERVER_TRACKER, true, experiment_create, experiment_reply, NULL, NULL,
     "create an experiment, or find it"},
    {"experiment.list", SERVER_TRACKER, false, none, experiment_list_reply, NULL, NULL,
     "all experiments"},
    {"run.create", SERVER_TRACKER, true, run_create, none, NULL, NULL, "create a run"},
    {"run.update", SERVER_TRACKER, true, run_update, none, NULL, NULL,
     "change state, tags, manifest, summary; add parameters"},
    {"run.get", SERVER_TRACKER, false, run_ref, run_get_reply, NULL, NULL, "all about one run"},
    {"run.list", SERVER_TRACKER, false, run_list, run_list_reply, NULL, NULL, "runs, page by page"},
    {"run.resolve", SERVER_TRACKER, false, run_resolve, run_resolve_reply, NULL, NULL,
     "the one id that begins so; not_found or ambiguous otherwise"},
    {"run.log", SERVER_TRACKER, true, run_log, run_log_reply, POINT_COLUMNS, NULL,
     "append metric points; answered when they are on disk"},
    {"run.metrics", SERVER_TRACKER, false, run_metrics, run_metrics_reply, NULL, POINT_COLUMNS,
     "read a metric"},
    {"artifact.begin", SERVER_TRACKER, true, artifact_begin, artifact_begin_reply, NULL, NULL,
     "announce an artifact; a later begin with the same digest goes on where it stopped"},
    {"artifact.chunk", SERVER_TRACKER, true, artifact_chunk, artifact_chunk_reply,
     "one frame: the chunk's bytes", NULL, "send one chunk"},
    {"artifact.commit", SERVER_TRACKER, true, artifact_commit, none, NULL, NULL,
     "verify the digest and enter the artifact in the run's listing"},
    {"artifact.get", SERVER_TRACKER, false, artifact_get, artifact_get_reply, NULL,
     "one frame: the bytes", "read part of an artifact; chunks are verified as they are read"},
    {"artifact.delete", SERVER_TRACKER, true, artifact_ref, none, NULL, NULL,
     "remove an artifact; its bytes go when nothing refers to them"},
    {"sweep.create", SERVER_TRACKER, true, sweep_create, none, NULL, NULL, "create a sweep"},
    {"sweep.update", SERVER_TRACKER, true, sweep_update, none, NULL, NULL, "change a sweep"},
    {"sweep.get", SERVER_TRACKER, false, sweep_ref, sweep_get_reply, NULL, NULL,
     "all about one sweep"},
    {"sweep.list", SERVER_TRACKER, false, sweep_list, sweep_list_reply, NULL, NULL, "sweeps"},
    {"event.append", SERVER_TRACKER, true, event_append, event_append_reply, NULL, NULL,
     "append to a sweep's event log; events already stored under their number are left alone"},
    {"event.read", SERVER_TRACKER, false, event_read, event_read_reply, NULL, NULL,
     "read a sweep's event log"},
    {"model.promote", SERVER_TRACKER, true, model_promote, model_promote_reply, NULL, NULL,
     "make a model version; alias and audit record in the same transaction"},
    {"model.alias", SERVER_TRACKER, true, alias_set, model_promote_reply, NULL, NULL,
     "move an alias; audit record in the same transaction"},
    {"model.get", SERVER_TRACKER, false, model_get, model_get_reply, NULL, NULL, "one version"},
    {"model.list", SERVER_TRACKER, false, none, model_list_reply, NULL, NULL, "registered models"},
    {"audit.list", SERVER_TRACKER, false, audit_list, audit_list_reply, NULL, NULL,
     "the audit log, oldest first"},

    {"sweep.submit", SERVER_COORDINATOR, true, sweep_submit, none, NULL, NULL, "start a sweep"},
    {"sweep.status", SERVER_COORDINATOR, false, sweep_ref, sweep_status_reply, NULL, NULL,
     "a sweep as it stands"},
    {"sweep.cancel", SERVER_COORDINATOR, true, sweep_cancel, none, NULL, NULL,
     "cancel a sweep or one of its trials"},
    {"sweep.resume", SERVER_COORDINATOR, true, sweep_resume, none, NULL, NULL,
     "take up a sweep that was cancelled, failed or interrupted"},
    {"coordinator.status", SERVER_COORDINATOR, false, none, coordinator_status_reply, NULL, NULL,
     "groups and sweeps"},
    {"coordinator.shutdown", SERVER_COORDINATOR, false, none, none, NULL, NULL,
     "interrupt what runs (it can be resumed), dismiss the groups it launched, end"},
    {"group.hello", SERVER_COORDINATOR, false, group_hello, group_hello_reply, NULL, NULL,
     "a worker group joins, or comes back"},
    {"group.beat", SERVER_COORDINATOR, false, group_beat, none, NULL, NULL,
     "still here; conflict: the lease is lost; not_found: say hello again"},
    {"group.bye", SERVER_COORDINATOR, false, group_bye, none, NULL, NULL, "a group leaves"},
    {"trial.started", SERVER_COORDINATOR, true, trial_started, none, NULL, NULL,
     "the first step is about to be taken"},
    {"trial.report", SERVER_COORDINATOR, true, trial_report, trial_report_reply, NULL, NULL,
     "validation metrics; at a boundary the group waits for the verdict"},
    {"trial.done", SERVER_COORDINATOR, true, trial_done, none, NULL, NULL, "the attempt has ended"},

    {"trial.assign", SERVER_GROUP, false, trial_assign, none, NULL, NULL, "train this trial"},
    {"trial.cancel", SERVER_GROUP, false, trial_cancel, none, NULL, NULL, "leave this trial"},
    {"group.exit", SERVER_GROUP, false, group_exit, none, NULL, NULL, "leave and end"},
    {.op = NULL},
};

const struct message_type feed_table[] = {
    {"run.points", SERVER_FEED, false, feed_points, NULL, POINT_COLUMNS, NULL,
     "topic `run.<id>`: metric points that are on disk now"},
    {"run.state", SERVER_FEED, false, feed_run_state, NULL, NULL, NULL,
     "topic `run.<id>`: the run was created or changed its state"},
    {"sweep.events", SERVER_FEED, false, feed_events, NULL, NULL, NULL,
     "topic `sweep.<id>`: events were appended to the sweep's log"},
    {"sweep.state", SERVER_FEED, false, feed_sweep_state, NULL, NULL, NULL,
     "topic `sweep.<id>`: the sweep was created or changed its state"},
    {.op = NULL},
};
