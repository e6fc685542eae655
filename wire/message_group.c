/* Notices from the coordinator to a worker group: unasked, without an answer. */
#include "wire/message_private.h"

static const struct field trial_assign[] = {
    F_TABLE("lease", REQUIRED, message_lease, "to be named in everything about this trial"),
    F_MAP("config", REQUIRED, 0, 4096, "the trial configuration: ${…} filled in, paths absolute"),
    F_REAL("until", REQUIRED, 0, 0, "units of the first boundary"),
    F_LIST("resume", 0, 0, 64, NULL,
           "earlier runs of this trial, newest first: look for a checkpoint"),
    FIELD_END};
static const struct field trial_cancel[] = {
    F_TABLE("lease", REQUIRED, message_lease, "of the trial to leave"),
    F_ENUM("state", REQUIRED, "cancelled|preempted|stopped", "how to end it"),
    F_STRING("reason", 0, 0, 2000, "why"), FIELD_END};
static const struct field group_exit[] = {F_STRING("reason", 0, 0, 2000, "why"), FIELD_END};

const struct message_type message_group[] = {
    M_READS("trial.assign", SERVER_GROUP, .request = trial_assign, .doc = "train this trial"),
    M_READS("trial.cancel", SERVER_GROUP, .request = trial_cancel, .doc = "leave this trial"),
    M_READS("group.exit", SERVER_GROUP, .request = group_exit, .doc = "leave and end"),
    {.op = NULL},
};
