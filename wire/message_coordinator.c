/* What the coordinator answers, asked by people and by worker groups. */
#include "wire/message_private.h"

/* ---- what people ask ---- */
static const struct field sweep_submit[] = {
    F_ULID("sweep", REQUIRED, "made by the caller; submitting it again is not an error"),
    F_MAP("config", REQUIRED, 0, 4096, "the sweep file as it was read, with --set applied"),
    F_STRING("base", 0, 0, 1000, "directory that relative data paths start from"),
    F_INT("language", 0, 1, 1000,
          "version of the sweep language that config is written in; absent: 1"),
    FIELD_END};
static const struct field sweep_status[] = {
    F_ULID("sweep", REQUIRED, "the sweep"),
    F_INT("after", 0, 0, 1e9,
          "only trials with a greater number, from the least on; absent: the newest"),
    F_INT("limit", 0, 1, 4000, "trials in the answer; absent: 4000"), FIELD_END};
static const struct field sweep_status_reply[] = {
    F_MAP("sweep", REQUIRED, 0, 4096,
          "{sweep, name, state, reason, code, trials: [{trial, run, state, attempt, restarts, "
          "reason, "
          "hyperparameters, units, step, metric, metrics, best: {step, metric}, "
          "weights_digest}], best: {run, trial, metric, step}, "
          "groups, planned, created, finished, failed, running, units, more}; created, failed, "
          "running "
          "and units are of all trials; more: there are trials after the last one here; best: of a "
          "sweep that has not come to its end, of what was evaluated so far; code: the status for "
          "which it failed, where that is known"),
    FIELD_END};
static const struct field sweep_cancel[] = {F_ULID("sweep", REQUIRED, "the sweep"),
                                            F_INT("trial", 0, 1, 1e9, "only this trial"),
                                            F_STRING("reason", 0, 0, 2000, "why"), FIELD_END};
static const struct field sweep_resume[] = {
    F_ULID("sweep", REQUIRED, "a sweep that has trials left; failed ones start again"),
    F_INT("slots_per_trial", 0, 1, 4096, "on other groups than before"), FIELD_END};
static const struct field coordinator_status_reply[] = {
    F_LIST("groups", REQUIRED, 0, 100000, NULL,
           "[{group, host, ranks, device, state, sweep, trial, run, beat_age_ms}]"),
    F_LIST("sweeps", REQUIRED, 0, 10000, NULL,
           "[{sweep, name, state, planned, finished, running}]"),
    FIELD_END};

/* ---- what worker groups say ---- */
static const struct field group_hello[] = {
    F_ULID("group", REQUIRED, "one per MPI world, made by rank 0"),
    F_INT("ranks", REQUIRED, 1, 4096, "size of the world"),
    F_STRING("host", REQUIRED, 0, 256, "of rank 0"),
    F_INT("pid", REQUIRED, 1, 4194304, "of rank 0"),
    F_STRING("device", REQUIRED, 0, 200, "cpu, or the GPU's name"),
    F_STRING("build", REQUIRED, 0, 64, "build id"),
    F_STRING("launch", 0, 0, 64, "token that the launcher passed in TRIREME_LAUNCH"),
    F_INT("ends_ns", 0, 0, TIME_MAX, "when its wall time ends; 0: never"),
    F_TABLE("lease", 0, message_lease, "what it is working on, after a reconnect"),
    FIELD_END};
static const struct field group_hello_reply[] = {
    F_INT("beat_ms", REQUIRED, 10, 60000, "how often to send group.beat"),
    F_INT("lease_ms", REQUIRED, 100, 3600000, "after this long without a beat the lease is lost"),
    F_BOOL("keep", REQUIRED, "the named lease is still valid; false: drop that trial"), FIELD_END};
static const struct field group_beat[] = {
    F_ULID("group", REQUIRED, "the group"),
    F_TABLE("lease", 0, message_lease, "what it is working on"),
    F_INT("step", 0, 0, TIME_MAX, "steps done"),
    F_REAL("units", 0, 0, 0, "done, in the sweep's time_metric"),
    F_REAL("samples_per_s", 0, 0, 0, "over the last seconds"),
    FIELD_END};
static const struct field group_bye[] = {F_ULID("group", REQUIRED, "the group"),
                                         F_STRING("reason", 0, 0, 2000, "why it leaves"),
                                         FIELD_END};
static const struct field trial_started[] = {
    F_ULID("group", REQUIRED, "the group"),
    F_TABLE("lease", REQUIRED, message_lease, "as assigned"),
    F_INT("step", REQUIRED, 0, TIME_MAX, "where it starts; > 0 after a resume"), FIELD_END};
static const struct field trial_report[] = {
    F_ULID("group", REQUIRED, "the group"),
    F_TABLE("lease", REQUIRED, message_lease, "as assigned"),
    F_REAL("units", REQUIRED, 0, 0, "done, in the sweep's time_metric"),
    F_INT("step", REQUIRED, 0, TIME_MAX, "steps done"),
    F_BOOL("boundary", 0, "the group waits for the verdict"),
    F_MAP("metrics", REQUIRED, 0, 4096, "name → finite number"),
    FIELD_END};
static const struct field trial_report_reply[] = {
    F_ENUM("verdict", REQUIRED, "continue|stop", "stop: finish with state stopped"),
    F_REAL("until", 0, 0, 0, "units of the next boundary"),
    F_STRING("reason", 0, 0, 2000, "the rule that decided"), FIELD_END};
static const struct field trial_done[] = {
    F_ULID("group", REQUIRED, "the group"),
    F_TABLE("lease", REQUIRED, message_lease, "as assigned"),
    F_ENUM("state", REQUIRED, "completed|stopped|failed|cancelled|preempted", "how it ended"),
    F_STRING("code", 0, 0, 32,
             "a status name when it failed: invalid and nonfinite are not tried again"),
    F_STRING("reason", 0, 0, 2000, "why"),
    F_REAL("units", REQUIRED, 0, 0, "done"),
    F_INT("step", REQUIRED, 0, TIME_MAX, "steps done"),
    F_MAP("metrics", REQUIRED, 0, 4096, "the last of each"),
    F_DIGEST("weights_digest", 0, "SHA-256 of the final weights"),
    FIELD_END};

const struct message_type message_coordinator[] = {
    M_WRITES("sweep.submit", SERVER_COORDINATOR, BY_SUBMITTER, .request = sweep_submit,
             .doc = "start a sweep"),
    M_READS("sweep.status", SERVER_COORDINATOR, .request = sweep_status,
            .reply = sweep_status_reply, .doc = "the current state of a sweep"),
    M_WRITES("sweep.cancel", SERVER_COORDINATOR, BY_SUBMITTER, .request = sweep_cancel,
             .doc = "cancel a sweep or one of its trials"),
    M_WRITES("sweep.resume", SERVER_COORDINATOR, BY_SUBMITTER, .request = sweep_resume,
             .doc = "continue a sweep that was cancelled, failed or interrupted"),
    M_READS("coordinator.status", SERVER_COORDINATOR, .reply = coordinator_status_reply,
            .doc = "groups and sweeps"),
    M_ASKS("coordinator.shutdown", SERVER_COORDINATOR, BY_ADMIN,
           .doc = "interrupt what runs (it can be resumed), dismiss the groups it launched, end"),
    M_ASKS("group.hello", SERVER_COORDINATOR, BY_WORKER, .request = group_hello,
           .reply = group_hello_reply, .doc = "a worker group joins, or comes back"),
    M_ASKS("group.beat", SERVER_COORDINATOR, BY_WORKER, .request = group_beat,
           .doc = "still here; conflict: the lease is lost; not_found: send group.hello again"),
    M_ASKS("group.bye", SERVER_COORDINATOR, BY_WORKER, .request = group_bye,
           .doc = "a group leaves"),
    M_WRITES("trial.started", SERVER_COORDINATOR, BY_WORKER, .request = trial_started,
             .doc = "the first step is about to be taken"),
    M_WRITES("trial.report", SERVER_COORDINATOR, BY_WORKER, .request = trial_report,
             .reply = trial_report_reply,
             .doc = "validation metrics; at a boundary the group waits for the verdict"),
    M_WRITES("trial.done", SERVER_COORDINATOR, BY_WORKER, .request = trial_done,
             .doc = "the attempt has ended"),
    {.op = NULL},
};
