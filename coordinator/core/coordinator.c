#include "coordinator/core/coordinator.h"

#include <stdlib.h>
#include <string.h>

#include "coordinator/core/posts.h"
#include "coordinator/state/state.h"

/* How far back posts may have been lost with a crash: those of the last batch of events. */
#define REPOST_EVENTS 20000

/* ---- helpers of all files ---- */

enum status out_push(struct outbox *out, enum outgoing_kind kind, const char *to, int64_t sequence,
                     struct value *message, struct err *err) {
    char *copy = arena_strdup(out->arena, to);
    if (message == NULL || message->broken || copy == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory while a message was written");
    if (out->count == out->cap) {
        size_t cap = out->cap == 0 ? 32 : out->cap * 2;
        struct outgoing *bigger = arena_array(out->arena, cap, sizeof *bigger);
        if (bigger == NULL)
            return err_set(err, STATUS_NOMEM, "out of memory while a message was written");
        if (out->count > 0)
            memcpy(bigger, out->items, out->count * sizeof *bigger);
        out->items = bigger;
        out->cap = cap;
    }
    out->items[out->count++] =
        (struct outgoing){.kind = kind, .to = copy, .sequence = sequence, .message = message};
    return STATUS_OK;
}

enum status set_text(char **slot, const char *text, struct err *err) {
    char *copy = text != NULL ? strdup(text) : NULL;
    if (text != NULL && copy == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory in the coordinator's state");
    free(*slot);
    *slot = copy;
    return STATUS_OK;
}

const char *trial_state_name(enum trial_state s) {
    static const char *const names[] = {
        [TRIAL_QUEUED] = "queued",       [TRIAL_ASSIGNED] = "assigned", [TRIAL_RUNNING] = "running",
        [TRIAL_COMPLETED] = "completed", [TRIAL_STOPPED] = "stopped",   [TRIAL_FAILED] = "failed",
        [TRIAL_CANCELLED] = "cancelled",
    };
    return names[s];
}

const char *sweep_state_name(enum sweep_state_kind s) {
    static const char *const names[] = {
        [SWEEP_ACTIVE] = "active", [SWEEP_PAUSED] = "paused",       [SWEEP_COMPLETED] = "completed",
        [SWEEP_FAILED] = "failed", [SWEEP_CANCELLED] = "cancelled",
    };
    return names[s];
}

struct sweep_state *find_sweep(const struct coordinator *c, const char *id) {
    for (size_t i = 0; i < c->sweep_count; i++)
        if (strcmp(c->sweeps[i]->id, id) == 0)
            return c->sweeps[i];
    return NULL;
}

struct trial *find_trial(const struct sweep_state *s, int64_t number) {
    return number >= 1 && number <= s->created ? s->trials[number - 1] : NULL;
}

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
        sweep_state_destroy((*c)->sweeps[i]);
    for (size_t i = 0; i < (*c)->group_count; i++)
        free((*c)->groups[i]);
    free((*c)->sweeps);
    free((*c)->groups);
    free(*c);
    *c = NULL;
}

/* ---- input ---- */

static enum status handle_status(struct coordinator *c, const struct value *r, struct outbox *out,
                                 struct value **reply, struct err *err) {
    const char *id = value_get_string(r, "sweep", "");
    const struct sweep_state *s = find_sweep(c, id);
    if (s == NULL)
        return err_set(err, STATUS_NOT_FOUND, "no sweep %s is known here", id);
    *reply = value_map(out->arena);
    value_set(out->arena, *reply, "sweep", sweep_status(out->arena, c, s));
    return STATUS_OK;
}

enum status coordinator_handle(struct coordinator *c, const struct value *r, struct moment now,
                               struct outbox *out, struct value **reply, struct err *err) {
    const char *op = value_get_string(r, "op", "");
    struct group *g = find_group(c, value_get_string(r, "group", ""));
    if (g != NULL)
        g->beat_ns = now.mono_ns; /* whatever it says, it is there */
    if (strcmp(op, "group.beat") == 0)
        return handle_beat(c, r, now, out, err);
    if (strcmp(op, "trial.report") == 0)
        return handle_report(c, r, now, out, reply, err);
    if (strcmp(op, "trial.done") == 0)
        return handle_done(c, r, now, out, err);
    if (strcmp(op, "trial.started") == 0)
        return handle_started(c, r, now, out, err);
    if (strcmp(op, "group.hello") == 0)
        return handle_hello(c, r, now, out, reply, err);
    if (strcmp(op, "group.bye") == 0)
        return handle_bye(c, r, now, out, err);
    if (strcmp(op, "sweep.submit") == 0)
        return handle_submit(c, r, now, out, err);
    if (strcmp(op, "sweep.cancel") == 0)
        return handle_cancel(c, r, now, out, err);
    if (strcmp(op, "sweep.resume") == 0)
        return handle_resume(c, r, now, out, err);
    if (strcmp(op, "sweep.status") == 0)
        return handle_status(c, r, out, reply, err);
    if (strcmp(op, "coordinator.status") == 0) {
        *reply = coordinator_status(out->arena, c, now);
        return STATUS_OK;
    }
    return err_set(err, STATUS_INVALID, "%s is not for the coordinator", op);
}

enum status coordinator_step(struct coordinator *c, struct moment now, struct outbox *out,
                             struct err *err) {
    enum status st = STATUS_OK;
    TRY(expire_leases(c, now, out, err));
    TRY(assign_trials(c, now, out, err));
    TRY(dismiss_groups(c, now, out, err));
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

enum status coordinator_shutdown(struct coordinator *c, const char *reason, struct moment now,
                                 struct outbox *out, struct err *err) {
    (void)now, (void)reason;
    enum status st = STATUS_OK;
    c->stopping = true;
    for (const struct trial *t = c->leased; t != NULL; t = t->next)
        TRY(send_cancel(t, t->cancel ? "cancelled" : "preempted", out, err));
out:
    return st;
}

enum status coordinator_interrupt(struct coordinator *c, const char *reason, struct moment now,
                                  struct outbox *out, struct err *err) {
    enum status st = STATUS_OK;
    c->stopping = true;
    while (c->leased != NULL)
        TRY(end_lease(c, c->leased, c->leased->cancel ? "cancelled" : "preempted", NULL, reason,
                      now, out, err));
    for (size_t i = 0; i < c->sweep_count; i++) {
        struct sweep_state *s = c->sweeps[i];
        if (s->state != SWEEP_ACTIVE)
            continue;
        struct value *e = event_new(out->arena, "sweep.paused");
        value_set_string(out->arena, e, "reason", reason);
        TRY(event_emit(c, s->id, e, now, out, err));
    }
    for (size_t i = 0; i < c->group_count; i++) {
        struct value *m = message_request(out->arena, "group.exit", NULL);
        value_set_string(out->arena, m, "reason", reason);
        c->groups[i]->state = GROUP_LEAVING;
        TRY(out_push(out, OUT_NOTICE, c->groups[i]->id, 0, m, err));
    }
out:
    return st;
}

/* ---- recovery ---- */

enum status coordinator_restore(struct coordinator *c, const char *sweep, int64_t sequence,
                                const struct value *event, struct err *err) {
    const struct sweep_state *s = find_sweep(c, sweep);
    int64_t expected = s != NULL ? s->sequence + 1 : 1;
    if (sequence != expected)
        return err_set(err, STATUS_CORRUPT, "sweep %s: event %lld where %lld should be", sweep,
                       (long long)sequence, (long long)expected);
    return event_apply(c, sweep, event, err);
}

enum status coordinator_restored(struct coordinator *c, const char *sweep, struct moment now,
                                 struct outbox *out, struct err *err) {
    enum status st = STATUS_OK;
    const struct sweep_state *s = find_sweep(c, sweep);
    if (s == NULL)
        return err_set(err, STATUS_NOT_FOUND, "sweep %s has no events", sweep);
    for (int64_t n = 1; n <= s->created; n++) {
        struct trial *t = find_trial(s, n);
        if (trial_leased(t))
            t->deadline_ns = now.mono_ns + c->options.lease_ms * NS_PER_MS;
        if (trial_leased(t) || t->ended_sequence > s->sequence - REPOST_EVENTS)
            TRY(post_run_again(t, out, err));
    }
    TRY(post_sweep_state(s, out, err));
out:
    return st;
}

void coordinator_forget(struct coordinator *c, const char *sweep) {
    struct sweep_state *s = find_sweep(c, sweep);
    if (s == NULL)
        return;
    for (size_t i = 0; i < c->group_count; i++)
        if (c->groups[i]->trial != NULL && c->groups[i]->trial->sweep == s)
            group_freed(c->groups[i], (struct moment){0});
    struct trial **slot = &c->leased;
    while (*slot != NULL) {
        struct trial *t = *slot;
        if (t->sweep != s) {
            slot = &t->next;
            continue;
        }
        *slot = t->next;
        if (t->next != NULL)
            t->next->before = t->before;
        c->leased_count--;
    }
    size_t at = 0;
    while (c->sweeps[at] != s)
        at++;
    c->sweep_count--;
    memmove(&c->sweeps[at], &c->sweeps[at + 1],
            (c->sweep_count - at) * sizeof(struct sweep_state *));
    sweep_state_destroy(s);
}

/* ---- output ---- */

bool coordinator_knows(const struct coordinator *c, const char *sweep) {
    return find_sweep(c, sweep) != NULL;
}

size_t coordinator_leases(const struct coordinator *c) {
    return c->leased_count;
}

size_t coordinator_groups(const struct coordinator *c) {
    return c->group_count;
}

bool coordinator_has_group(const struct coordinator *c, const char *group) {
    return find_group(c, group) != NULL;
}

const char *coordinator_launched(const struct coordinator *c, const char *token) {
    for (size_t i = 0; i < c->group_count; i++)
        if (strcmp(c->groups[i]->launch, token) == 0)
            return c->groups[i]->id;
    return NULL;
}
