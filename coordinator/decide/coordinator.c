/* The core's front: life, the table of requests, the step between batches, the way out. */
#include "coordinator/decide/coordinator.h"

#include <stdlib.h>
#include <string.h>

#include "coordinator/decide/assign.h"
#include "coordinator/decide/event.h"
#include "coordinator/decide/groups.h"
#include "coordinator/decide/lease.h"
#include "coordinator/decide/notices.h"
#include "coordinator/decide/snapshot.h"
#include "coordinator/decide/sweeps.h"
#include "coordinator/decide/trials.h"

/* ---- life ---- */

enum status coordinator_new(const struct coordinator_options *options, struct coordinator **out,
                            struct err *err) {
    struct coordinator *c = calloc(1, sizeof *c);
    if (c == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for the coordinator");
    c->options = *options;
    *out = c;
    return STATUS_OK;
}

void coordinator_destroy(struct coordinator **c) {
    if (*c == NULL)
        return;
    for (size_t i = 0; i < (*c)->sweep_count; i++)
        state_destroy_sweep((*c)->sweeps[i]);
    for (size_t i = 0; i < (*c)->group_count; i++)
        free((*c)->groups[i]);
    free((*c)->sweeps);
    free((*c)->groups);
    free(*c);
    *c = NULL;
}

/* ---- requests ---- */

static enum status answer_status(const struct turn *turn, const struct value *r,
                                 struct value **reply, struct err *err) {
    (void)r, (void)err;
    *reply = snapshot_coordinator(turn->out->arena, turn->c, turn->now);
    return STATUS_OK;
}

static const struct coordinator_op ops[] = {
    {.name = "group.beat", .handle = groups_beat},
    {.name = "trial.report", .handle = trials_report},
    {.name = "trial.started", .handle = trials_started},
    {.name = "trial.done", .handle = trials_done},
    {.name = "group.hello", .handle = groups_hello},
    {.name = "group.bye", .handle = groups_bye},
    {.name = "sweep.submit", .handle = sweeps_submit},
    {.name = "sweep.cancel", .fetch = true, .handle = sweeps_cancel},
    {.name = "sweep.resume", .fetch = true, .handle = sweeps_resume},
    {.name = "sweep.status", .fetch = true, .handle = sweeps_status},
    {.name = "coordinator.status", .handle = answer_status},
};

const struct coordinator_op *coordinator_find_op(const char *name) {
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (strcmp(ops[i].name, name) == 0)
            return &ops[i];
    return NULL;
}

enum status coordinator_handle(const struct turn *turn, const struct value *r, struct value **reply,
                               struct err *err) {
    const char *name = value_get_string(r, "op", "");
    const struct coordinator_op *op = coordinator_find_op(name);
    struct group *g = group_find(turn->c, value_get_string(r, "group", ""));
    if (g != NULL)
        g->beat_ns = turn->now.mono_ns; /* whatever it says, it is there */
    if (op == NULL)
        return err_set(err, STATUS_INVALID, "%s is not for the coordinator", name);
    return op->handle(turn, r, reply, err);
}

/* ---- time ---- */

enum status coordinator_step(const struct turn *turn, struct err *err) {
    enum status st = STATUS_OK;
    TRY(groups_expire(turn, err));
    TRY(assign_trials(turn, err));
    TRY(assign_dismiss(turn, err));
out:
    return st;
}

void coordinator_stalled(struct coordinator *c, int64_t ms) {
    for (size_t i = 0; i < c->group_count; i++)
        c->groups[i]->beat_ns += ms * NS_PER_MS;
    for (struct trial *t = c->leased; t != NULL; t = t->next)
        if (t->deadline_ns > 0)
            t->deadline_ns += ms * NS_PER_MS;
}

/* ---- shutdown ---- */

enum status coordinator_shutdown(const struct turn *turn, struct err *err) {
    enum status st = STATUS_OK;
    turn->c->stopping = true;
    for (const struct trial *t = turn->c->leased; t != NULL; t = t->next)
        TRY(notices_cancel(turn, t, err));
out:
    return st;
}

static enum status pause_sweeps(const struct turn *turn, const char *reason, struct err *err) {
    for (size_t i = 0; i < turn->c->sweep_count; i++) {
        const struct sweep_state *s = turn->c->sweeps[i];
        if (s->state != SWEEP_ACTIVE)
            continue;
        struct value *e = event_new(turn->out->arena, "sweep.paused");
        value_set_string(turn->out->arena, e, "reason", reason);
        enum status st = event_emit(turn, s->id, e, err);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

enum status coordinator_interrupt(const struct turn *turn, const char *reason, struct err *err) {
    enum status st = STATUS_OK;
    struct coordinator *c = turn->c;
    c->stopping = true;
    while (c->leased != NULL) {
        struct lease_end end = {.state = lease_end_state(c->leased, "preempted"), .reason = reason};
        TRY(lease_end(turn, c->leased, end, err));
    }
    TRY(pause_sweeps(turn, reason, err));
    for (size_t i = 0; i < c->group_count; i++)
        TRY(notices_exit(turn, c->groups[i], reason, err));
out:
    return st;
}

/* ---- output ---- */

bool coordinator_knows(const struct coordinator *c, const char *sweep) {
    return state_find_sweep(c, sweep) != NULL;
}

size_t coordinator_leases(const struct coordinator *c) {
    return c->leased_count;
}

size_t coordinator_groups(const struct coordinator *c) {
    return c->group_count;
}

bool coordinator_has_group(const struct coordinator *c, const char *group) {
    return group_find(c, group) != NULL;
}

const char *coordinator_launched(const struct coordinator *c, const char *token) {
    for (size_t i = 0; i < c->group_count; i++)
        if (strcmp(c->groups[i]->launch, token) == 0)
            return c->groups[i]->id;
    return NULL;
}
