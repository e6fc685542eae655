/* What the tracker answers. A new op: its rows here, its row in tracker/ops/ops.h. */
#include "wire/message_private.h"

/* ---- who are you ---- */
static const struct field hello_reply[] = {
    F_STRING("server", REQUIRED, 0, 64, "\"trireme-tracker\""),
    F_STRING("version", REQUIRED, 0, 64, "of the program"),
    F_INT("format", REQUIRED, 1, 1e6, "of the store on disk"),
    F_STRING("feed", 0, 0, 1024, "endpoint of the live feed (PUB)"),
    F_ENUM("role", 0, NET_ROLE_NAMES, "of the key that asks; over ipc: admin"),
    FIELD_END};
static const struct field stats_reply[] = {
    F_INT("points", REQUIRED, 0, COUNT_MAX, "metric points written since start"),
    F_INT("commits", REQUIRED, 0, COUNT_MAX, "transactions committed since start"),
    F_INT("requests", REQUIRED, 0, COUNT_MAX, "requests since start"),
    F_INT("runs", REQUIRED, 0, COUNT_MAX, "runs in the store"),
    F_INT("meta_bytes", REQUIRED, 0, COUNT_MAX, "bytes in use of the meta environment"),
    F_INT("blob_bytes", REQUIRED, 0, COUNT_MAX, "bytes in use of the blob environment"),
    FIELD_END};

/* ---- experiments ---- */
static const struct field experiment_create[] = {
    F_STRING("name", REQUIRED, 0, 200, "unique; creating it again is not an error"), FIELD_END};
static const struct field experiment_reply[] = {
    F_STRING("experiment", REQUIRED, 0, 200, "its name"),
    F_INT("created_ns", REQUIRED, 0, TIME_MAX, "when it was first created"), FIELD_END};
static const struct field experiment_list_reply[] = {
    F_LIST("experiments", REQUIRED, 0, 1e6, NULL, "[{experiment, created_ns, runs}]"), FIELD_END};

/* ---- runs ---- */
static const struct field run_create[] = {
    F_ULID("run", REQUIRED,
           "made by the caller; creating it again with the same fields is not an error"),
    F_STRING("experiment", REQUIRED, 0, 200, "created if missing"),
    F_ULID("sweep", 0, "the sweep it belongs to"),
    F_INT("trial", 0, 1, 1e9, "number of the trial within the sweep, from 1"),
    F_INT("attempt", 0, 1, 1e6, "attempt at that trial, from 1"),
    F_STRING("name", 0, 0, 200, "for people"),
    F_ENUM("state", 0, RUN_STATES, "default: running"),
    F_MAP("params", 0, 0, 4096, "name → value; immutable once set"),
    F_MAP("tags", 0, 0, 4096, "name → string"),
    F_MAP("config", 0, 0, 4096, "the resolved trial configuration"),
    FIELD_END};
static const struct field run_update[] = {
    F_ULID("run", REQUIRED, "the run"),
    F_ENUM("state", 0, RUN_STATES,
           "a final state never changes again (conflict), except that of a lost run"),
    F_STRING("reason", 0, 0, 2000, "why it ended"),
    F_BOOL("lost", 0,
           "with a final state: nobody heard how it ended, and the coordinator may correct it"),
    F_MAP("params", 0, 0, 4096, "more parameters; a changed value is a conflict"),
    F_MAP("tags", 0, 0, 4096, "set or replaced; null removes"),
    F_MAP("manifest", 0, 0, 4096, "merged into the run's manifest, key by key"),
    F_MAP("summary", 0, 0, 4096, "final metrics and digests, merged"),
    FIELD_END};
static const struct field run_seal[] = {
    F_ULID("run", REQUIRED, "a run that has ended; one that is sealed already stays as it is"),
    F_STRING("actor", REQUIRED, 0, 200, "who does it"), F_STRING("comment", 0, 0, 2000, "why"),
    F_ENUM("state", 0, RUN_ENDS, "ends a run that is still queued or running (else a conflict)"),
    FIELD_END};
static const struct field run_ref[] = {F_ULID("run", REQUIRED, "the run"), FIELD_END};
static const struct field run_get_reply[] = {
    F_MAP("run", REQUIRED, 0, 4096,
          "{run, experiment, sweep, trial, attempt, name, state, reason, lost, "
          "created_ns, ended_ns, sealed: {time_ns, actor, comment} or null, params, tags, config, "
          "manifest, summary, metrics: [{key, rank, count, last, last_step, "
          "min, max}], artifacts: [{path, size, digest, meta}], artifacts_total}; where not all "
          "artifacts "
          "have room, those in folders are left out: artifact.list has all"),
    FIELD_END};
static const struct field run_list[] = {
    F_STRING("experiment", 0, 0, 200, "only of this experiment"),
    F_ULID("sweep", 0, "only of this sweep"),
    F_ENUM("state", 0, RUN_STATES, "only in this state"),
    F_INT("limit", 0, 1, 10000, "default 100"),
    F_ULID("after", 0, "continue after this run, in the order of the listing"),
    F_BOOL("newest_first", 0, "default true"),
    FIELD_END};
static const struct field run_list_reply[] = {
    F_LIST("runs", REQUIRED, 0, 10000, NULL,
           "as run.get, without config, manifest, metrics and artifacts"),
    F_BOOL("more", REQUIRED, "there are more after the last"), FIELD_END};
static const struct field run_resolve[] = {
    F_PREFIX("prefix", REQUIRED, "of a run's or a sweep's id, either case"),
    F_ENUM("kind", 0, "run|sweep", "default run"), FIELD_END};
static const struct field run_resolve_reply[] = {
    F_ULID("resolved", REQUIRED, "the only id that begins with it"), FIELD_END};

/* ---- metrics ---- */
static const struct field run_log[] = {
    F_ULID("run", REQUIRED, "the run"),
    F_INT("rank", 0, 0, 65535, "the writer's rank; part of the key; default 0"),
    F_LIST("series", REQUIRED, 0, 1024, message_series, "consecutive stretches of the columns"),
    FIELD_END};
static const struct field run_log_reply[] = {
    F_INT("points", REQUIRED, 0, COUNT_MAX, "how many are now on disk"), FIELD_END};
static const struct field run_metrics[] = {
    F_ULID("run", REQUIRED, "the run"),
    F_STRING("key", REQUIRED, 0, 200, "name of the metric"),
    F_INT("rank", 0, 0, 65535, "default 0"),
    F_INT("points", 0, 1, 1e6,
          "at most this many, evenly thinned, keeping the first, the last and each "
          "bucket's minimum and maximum; default: all, up to 1,000,000"),
    F_INT("after_step", 0, -1, TIME_MAX, "only steps greater than this"),
    FIELD_END};
static const struct field run_metrics_reply[] = {
    F_INT("count", REQUIRED, 0, 1e6, "points in the columns"),
    F_INT("total", REQUIRED, 0, COUNT_MAX, "points in the series"),
    F_INT("sequence", REQUIRED, 0, COUNT_MAX, "of the run's feed topic at this snapshot"),
    FIELD_END};

/* ---- artifacts ---- */
static const struct field artifact_begin[] = {
    F_ULID("run", REQUIRED, "the run"),
    F_STRING("path", REQUIRED, 0, 480, "relative, '/' between parts, no '..'"),
    F_INT("size", REQUIRED, 0, 1e13, "bytes"),
    F_DIGEST("digest", REQUIRED, "SHA-256 of all bytes"),
    F_MAP("meta", 0, 0, 4096, "stored beside it"),
    FIELD_END};
static const struct field artifact_begin_reply[] = {
    F_BOOL("complete", REQUIRED, "the bytes are already there: nothing to send"),
    F_INT("offset", REQUIRED, 0, 1e13, "where to continue; 0 at first"),
    F_INT("chunk", REQUIRED, 1, 16777216, "bytes per chunk; only the last may be shorter"),
    F_INT("credit", REQUIRED, 1, 1024, "chunks that may be on their way unanswered"), FIELD_END};
static const struct field artifact_chunk[] = {
    F_DIGEST("digest", REQUIRED, "of the whole artifact"),
    F_INT("offset", REQUIRED, 0, 1e13, "a multiple of the chunk size"), FIELD_END};
static const struct field artifact_chunk_reply[] = {
    F_INT("offset", REQUIRED, 0, 1e13, "the next byte expected"), FIELD_END};
static const struct field artifact_commit[] = {
    F_ULID("run", REQUIRED, "the run"),
    F_STRING("path", REQUIRED, 0, 480, "replaces what was there"),
    F_DIGEST("digest", REQUIRED, "checked against the bytes received"), FIELD_END};
static const struct field artifact_list[] = {
    F_ULID("run", REQUIRED, "the run"),
    F_STRING("after", 0, 0, 480, "only paths after this one, in the order of their bytes"),
    F_INT("limit", 0, 1, 10000, "default 1000; fewer where they do not fit into one reply"),
    FIELD_END};
static const struct field artifact_list_reply[] = {
    F_LIST("artifacts", REQUIRED, 0, 10000, NULL, "[{path, size, digest, meta}], by path"),
    F_BOOL("more", REQUIRED, "there are more after the last"), FIELD_END};
static const struct field artifact_get[] = {
    F_ULID("run", 0, "with path; or digest alone"),  F_STRING("path", 0, 0, 480, "of the artifact"),
    F_DIGEST("digest", 0, "of the artifact"),        F_INT("offset", 0, 0, 1e13, "default 0"),
    F_INT("length", 0, 1, 8388608, "default 4 MiB"), FIELD_END};
static const struct field artifact_get_reply[] = {
    F_INT("size", REQUIRED, 0, 1e13, "of the whole artifact"),
    F_DIGEST("digest", REQUIRED, "of the whole artifact"),
    F_INT("offset", REQUIRED, 0, 1e13, "of the first byte in the frame"), FIELD_END};
static const struct field artifact_ref[] = {F_ULID("run", REQUIRED, "the run"),
                                            F_STRING("path", REQUIRED, 0, 480, "of the artifact"),
                                            FIELD_END};

/* ---- sweeps and their events ---- */
static const struct field sweep_create[] = {
    F_ULID("sweep", REQUIRED, "made by the caller"),
    F_STRING("name", REQUIRED, 0, 200, "also the experiment's name"),
    F_MAP("config", REQUIRED, 0, 4096, "the sweep file as it was read, with --set applied"),
    FIELD_END};
static const struct field sweep_update[] = {
    F_ULID("sweep", REQUIRED, "the sweep"),
    F_ENUM("state", 0, SWEEP_STATES, "completed may become active again by resume"),
    F_STRING("reason", 0, 0, 2000, "why"), F_MAP("summary", 0, 0, 4096, "merged"), FIELD_END};
static const struct field sweep_get_reply[] = {
    F_MAP("sweep", REQUIRED, 0, 4096,
          "{sweep, name, state, reason, created_ns, ended_ns, config, summary, events}"),
    FIELD_END};
static const struct field sweep_list[] = {F_ENUM("state", 0, SWEEP_STATES, "only in this state"),
                                          F_INT("limit", 0, 1, 10000, "default 100, newest first"),
                                          FIELD_END};
static const struct field sweep_list_reply[] = {
    F_LIST("sweeps", REQUIRED, 0, 10000, NULL, "as sweep.get, without config"), FIELD_END};
static const struct field event_append[] = {
    F_ULID("sweep", REQUIRED, "the sweep"),
    F_INT("first", REQUIRED, 1, COUNT_MAX,
          "sequence number of the first; must follow the last stored"),
    F_LIST("events", REQUIRED, 0, 10000, NULL, "maps; opaque to the tracker"), FIELD_END};
static const struct field event_append_reply[] = {
    F_INT("last", REQUIRED, 0, COUNT_MAX, "sequence number of the last stored"), FIELD_END};
static const struct field event_read[] = {
    F_ULID("sweep", REQUIRED, "the sweep"),
    F_INT("after", 0, 0, COUNT_MAX, "only later ones; default 0"),
    F_INT("limit", 0, 1, 10000, "default 1000"), FIELD_END};
static const struct field event_read_reply[] = {
    F_LIST("events", REQUIRED, 0, 10000, NULL, "in order"),
    F_INT("first", REQUIRED, 0, COUNT_MAX, "sequence number of the first in the list; 0: none"),
    F_INT("last", REQUIRED, 0, COUNT_MAX, "sequence number of the last stored"), FIELD_END};

/* ---- models, aliases, audit ---- */
static const struct field model_promote[] = {
    F_STRING("name", REQUIRED, 0, 200, "of the registered model; created when missing"),
    F_ULID("run", REQUIRED, "a completed or stopped run"),
    F_STRING("alias", 0, 0, 100, "moved to the new version in the same transaction"),
    F_STRING("actor", REQUIRED, 0, 200, "who does it"),
    F_STRING("comment", 0, 0, 2000, "why"),
    F_MAP("card", REQUIRED, 0, 4096,
          "weights and onnx digests, signature, transforms, metrics, data digest, replay verdict"),
    FIELD_END};
static const struct field model_promote_reply[] = {
    F_STRING("name", REQUIRED, 0, 200, "of the model"),
    F_INT("version", REQUIRED, 1, 1e9, "new, never used before"),
    F_DIGEST("audit", REQUIRED, "head of the audit chain with this record"), FIELD_END};
static const struct field alias_set[] = {F_STRING("name", REQUIRED, 0, 200, "of the model"),
                                         F_STRING("alias", REQUIRED, 0, 100, "live, candidate, …"),
                                         F_INT("version", REQUIRED, 1, 1e9, "of the model"),
                                         F_STRING("actor", REQUIRED, 0, 200, "who does it"),
                                         F_STRING("comment", 0, 0, 2000, "why"),
                                         FIELD_END};
static const struct field model_get[] = {
    F_STRING("name", REQUIRED, 0, 200, "of the model"),
    F_INT("version", 0, 1, 1e9, "default: the newest, or the alias's"),
    F_STRING("alias", 0, 0, 100, "instead of a version"), FIELD_END};
static const struct field model_get_reply[] = {
    F_MAP("model", REQUIRED, 0, 4096,
          "{name, version, run, created_ns, actor, comment, card, aliases}"),
    FIELD_END};
static const struct field model_list_reply[] = {
    F_LIST("models", REQUIRED, 0, 1e6, NULL,
           "[{name, versions, newest, aliases: {alias: version}}]"),
    FIELD_END};
static const struct field audit_revoked[] = {
    F_STRING("actor", REQUIRED, 0, 200, "the server whose connections they were"),
    F_STRING("key", REQUIRED, 40, 40, "the public key, Z85"),
    F_STRING("name", 0, 0, 200, "what its file called it"),
    F_ENUM("role", REQUIRED, NET_ROLE_NAMES, "that it had"),
    F_INT("connections", REQUIRED, 1, 1e6, "that were open, and were ended"),
    FIELD_END};
static const struct field audit_list[] = {F_INT("after", 0, 0, COUNT_MAX, "only later records"),
                                          F_INT("limit", 0, 1, 10000, "default 100"), FIELD_END};
static const struct field audit_list_reply[] = {
    F_LIST(
        "records", REQUIRED, 0, 10000, NULL,
        "[{sequence, time_ns, actor, action, subject, details, previous, digest}]; digest is the "
        "SHA-256 of the record's canonical JSON without its digest"),
    F_DIGEST("head", REQUIRED, "digest of the last record; zeros when there is none"), FIELD_END};

const struct message_type message_tracker[] = {
    M_READS("hello", SERVER_TRACKER, .reply = hello_reply, .doc = "who the server is"),
    M_READS("stats", SERVER_TRACKER, .reply = stats_reply, .doc = "counters of this process"),
    M_WRITES("experiment.create", SERVER_TRACKER, BY_SUBMITTER | BY_COORDINATOR,
             .request = experiment_create, .reply = experiment_reply,
             .doc = "create an experiment, or find it"),
    M_READS("experiment.list", SERVER_TRACKER, .reply = experiment_list_reply,
            .doc = "all experiments"),
    M_WRITES("run.create", SERVER_TRACKER, BY_SUBMITTER | BY_COORDINATOR, .request = run_create,
             .doc = "create a run"),
    M_WRITES("run.update", SERVER_TRACKER, BY_SUBMITTER | BY_WORKER | BY_COORDINATOR,
             .request = run_update, .doc = "change state, tags, manifest, summary; add parameters"),
    M_WRITES("run.seal", SERVER_TRACKER, BY_SUBMITTER, .request = run_seal,
             .doc = "close a run that no sweep closes; audit record in the same transaction"),
    M_READS("run.get", SERVER_TRACKER, .request = run_ref, .reply = run_get_reply,
            .doc = "all about one run"),
    M_READS("run.list", SERVER_TRACKER, .request = run_list, .reply = run_list_reply,
            .doc = "runs, page by page"),
    M_READS("run.resolve", SERVER_TRACKER, .request = run_resolve, .reply = run_resolve_reply,
            .doc = "the one id that begins with the prefix; otherwise not_found or ambiguous"),
    M_WRITES("run.log", SERVER_TRACKER, BY_SUBMITTER | BY_WORKER, .request = run_log,
             .reply = run_log_reply, .frames = MESSAGE_POINT_COLUMNS,
             .doc = "append metric points; answered when they are on disk"),
    M_READS("run.metrics", SERVER_TRACKER, .request = run_metrics, .reply = run_metrics_reply,
            .reply_frames = MESSAGE_POINT_COLUMNS, .doc = "read a metric"),
    M_WRITES(
        "artifact.begin", SERVER_TRACKER, BY_SUBMITTER | BY_WORKER, .request = artifact_begin,
        .reply = artifact_begin_reply,
        .doc =
            "announce an artifact; a later begin with the same digest continues where it stopped"),
    M_WRITES("artifact.chunk", SERVER_TRACKER, BY_SUBMITTER | BY_WORKER, .request = artifact_chunk,
             .reply = artifact_chunk_reply, .frames = "one frame: the chunk's bytes",
             .doc = "send one chunk"),
    M_WRITES("artifact.commit", SERVER_TRACKER, BY_SUBMITTER | BY_WORKER,
             .request = artifact_commit,
             .doc = "verify the digest and enter the artifact in the run's listing"),
    M_READS("artifact.list", SERVER_TRACKER, .request = artifact_list, .reply = artifact_list_reply,
            .doc = "a run's artifacts, page by page"),
    M_READS("artifact.get", SERVER_TRACKER, .request = artifact_get, .reply = artifact_get_reply,
            .reply_frames = "one frame: the bytes",
            .doc = "read part of an artifact; chunks are verified as they are read"),
    M_WRITES("artifact.delete", SERVER_TRACKER, BY_SUBMITTER | BY_WORKER, .request = artifact_ref,
             .doc = "remove an artifact; its bytes are removed when nothing refers to them"),
    M_WRITES("sweep.create", SERVER_TRACKER, BY_COORDINATOR, .request = sweep_create,
             .doc = "create a sweep"),
    M_WRITES("sweep.update", SERVER_TRACKER, BY_COORDINATOR, .request = sweep_update,
             .doc = "change a sweep"),
    M_READS("sweep.get", SERVER_TRACKER, .request = message_sweep, .reply = sweep_get_reply,
            .doc = "all about one sweep"),
    M_READS("sweep.list", SERVER_TRACKER, .request = sweep_list, .reply = sweep_list_reply,
            .doc = "sweeps"),
    M_WRITES("event.append", SERVER_TRACKER, BY_COORDINATOR, .request = event_append,
             .reply = event_append_reply,
             .doc = "append to a sweep's event log; events already stored under their number are "
                    "left alone"),
    M_READS("event.read", SERVER_TRACKER, .request = event_read, .reply = event_read_reply,
            .doc = "read a sweep's event log"),
    M_WRITES("model.promote", SERVER_TRACKER, BY_SUBMITTER, .request = model_promote,
             .reply = model_promote_reply,
             .doc = "make a model version; alias and audit record in the same transaction"),
    M_WRITES("model.alias", SERVER_TRACKER, BY_SUBMITTER, .request = alias_set,
             .reply = model_promote_reply,
             .doc = "move an alias; audit record in the same transaction"),
    M_READS("model.get", SERVER_TRACKER, .request = model_get, .reply = model_get_reply,
            .doc = "one version"),
    M_READS("model.list", SERVER_TRACKER, .reply = model_list_reply, .doc = "registered models"),
    M_WRITES("audit.revoked", SERVER_TRACKER, BY_COORDINATOR, .request = audit_revoked,
             .doc = "note in the audit log that a key was taken back and its connections ended"),
    M_READS("audit.list", SERVER_TRACKER, .request = audit_list, .reply = audit_list_reply,
            .doc = "the audit log, oldest first"),
    {.op = NULL},
};
