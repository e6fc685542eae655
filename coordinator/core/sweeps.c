/* What people ask of a sweep: submit, cancel, resume. */
#include <stdio.h>
#include <string.h>

#include "coordinator/state/state.h"

#define SCRATCH_MAX ((size_t)64 << 20)

/* ---- submit ---- */

static enum status check_submission(const struct coordinator *c, const struct value *config,
                                    struct err *err) {
    struct arena scratch;
    struct sweep *spec = NULL;
    arena_init(&scratch, SCRATCH_MAX);
    enum status st =
        sweep_parse(&scratch, config, (struct schema_source){.language = 1}, &spec, err);
    if (st == STATUS_OK && c->options.max_slots > 0 && spec->slots_per_trial > c->options.max_slots)
        st = err_set(err, STATUS_INVALID,
                     "resources.slots_per_trial is %lld, but this coordinator has %lld slots "
                     "(--max-slots)",
                     (long long)spec->slots_per_trial, (long long)c->options.max_slots);
    arena_release(&scratch);
    return st;
}

enum status handle_submit(struct coordinator *c, const struct value *r, struct moment now,
                          struct outbox *out, struct err *err) {
    struct arena *a = out->arena;
    const char *id = value_get_string(r, "sweep", "");
    const struct value *config = value_get(r, "config");
    const struct sweep_state *known = find_sweep(c, id);
    if (known != NULL)
        return value_equal(known->config, config)
                   ? STATUS_OK
                   : err_set(err, STATUS_EXISTS, "sweep %s exists with another configuration", id);
    if (c->stopping)
        return err_set(err, STATUS_UNAVAILABLE, "the coordinator is shutting down");
    enum status st = check_submission(c, config, err);
    if (st != STATUS_OK)
        return st;
    struct value *e = event_new(a, "sweep.submitted");
    value_set(a, e, "config", value_copy(a, config));
    value_set_string(a, e, "base", value_get_string(r, "base", "/"));
    return event_emit(c, id, e, now, out, err);
}

/* ---- cancel ---- */

static enum status not_known(const char *id, struct err *err) {
    return err_set(err, STATUS_NOT_FOUND, "no sweep %s is known here", id);
}

static enum status cancel_trial(struct coordinator *c, struct sweep_state *s, int64_t number,
                                const struct value *r, struct moment now, struct outbox *out,
                                struct err *err) {
    enum status st = STATUS_OK;
    struct trial *t = find_trial(s, number);
    if (t == NULL)
        return err_set(err, STATUS_NOT_FOUND, "sweep %s has no trial %lld yet; it has %lld", s->id,
                       (long long)number, (long long)s->created);
    if (t->state == TRIAL_CANCELLED || t->cancel)
        return STATUS_OK;
    if (trial_final(t))
        return err_set(err, STATUS_CONFLICT, "trial %lld is %s already", (long long)number,
                       trial_state_name(t->state));
    struct value *e = event_new(out->arena, "trial.cancelled");
    value_set_int(out->arena, e, "trial", number);
    value_set_string(out->arena, e, "reason", value_get_string(r, "reason", "cancelled"));
    TRY(event_emit(c, s->id, e, now, out, err));
    if (trial_leased(t)) {
        t->deadline_ns = now.mono_ns + COORDINATOR_CANCEL_MS * NS_PER_MS;
        TRY(send_cancel(t, "cancelled", out, err));
    }
out:
    return st;
}

enum status handle_cancel(struct coordinator *c, const struct value *r, struct moment now,
                          struct outbox *out, struct err *err) {
    enum status st = STATUS_OK;
    struct sweep_state *s = find_sweep(c, value_get_string(r, "sweep", ""));
    if (s == NULL)
        return not_known(value_get_string(r, "sweep", ""), err);
    if (value_get(r, "trial") != NULL)
        return cancel_trial(c, s, value_get_int(r, "trial", 0), r, now, out, err);
    if (s->cancel || s->state == SWEEP_CANCELLED)
        return STATUS_OK;
    if (s->state != SWEEP_ACTIVE && s->state != SWEEP_PAUSED)
        return err_set(err, STATUS_CONFLICT, "sweep %s is %s already", s->id,
                       sweep_state_name(s->state));
    struct value *e = event_new(out->arena, "sweep.cancelled");
    value_set_string(out->arena, e, "reason", value_get_string(r, "reason", "cancelled"));
    TRY(event_emit(c, s->id, e, now, out, err));
    for (struct trial *t = c->leased; t != NULL; t = t->next) {
        if (t->sweep != s)
            continue;
        t->deadline_ns = now.mono_ns + COORDINATOR_CANCEL_MS * NS_PER_MS;
        TRY(send_cancel(t, "cancelled", out, err));
    }
out:
    return st;
}

/* ---- resume ---- */

static int64_t count_unsuccessful(const struct sweep_state *s) {
    int64_t n = 0;
    for (int64_t i = 1; i <= s->created; i++) {
        enum trial_state state = find_trial(s, i)->state;
        n += state == TRIAL_FAILED || state == TRIAL_CANCELLED;
    }
    return n;
}

enum status handle_resume(struct coordinator *c, const struct value *r, struct moment now,
                          struct outbox *out, struct err *err) {
    struct sweep_state *s = find_sweep(c, value_get_string(r, "sweep", ""));
    if (s == NULL)
        return not_known(value_get_string(r, "sweep", ""), err);
    if (c->stopping)
        return err_set(err, STATUS_UNAVAILABLE, "the coordinator is shutting down");
    if (s->cancel)
        return err_set(err, STATUS_CONFLICT, "sweep %s is just being cancelled; try again", s->id);
    int64_t slots = value_get_int(r, "slots_per_trial", s->slots_per_trial);
    if (s->spec->virtual_shards % slots != 0)
        return err_set(err, STATUS_INVALID,
                       "slots_per_trial %lld does not divide virtual_shards (%lld)",
                       (long long)slots, (long long)s->spec->virtual_shards);
    if (c->options.max_slots > 0 && slots > c->options.max_slots)
        return err_set(err, STATUS_INVALID, "slots_per_trial %lld: this coordinator has %lld slots",
                       (long long)slots, (long long)c->options.max_slots);
    int64_t trial = 0, again = count_unsuccessful(s);
    bool left = again > 0 || s->leased > 0 || next_trial(s, &trial);
    if (!left)
        return err_set(err, STATUS_CONFLICT, "sweep %s is %s and has nothing left to run", s->id,
                       sweep_state_name(s->state));
    if (s->state == SWEEP_ACTIVE && again == 0 && slots == s->slots_per_trial)
        return STATUS_OK;
    struct value *e = event_new(out->arena, "sweep.resumed");
    value_set_int(out->arena, e, "slots_per_trial", slots);
    return event_emit(c, s->id, e, now, out, err);
}

/* ---- the launcher gave up ---- */

static bool has_group(const struct coordinator *c, int64_t ranks) {
    for (size_t i = 0; i < c->group_count; i++)
        if (c->groups[i]->ranks == ranks && c->groups[i]->state != GROUP_LEAVING)
            return true;
    return false;
}

enum status coordinator_launch_failed(struct coordinator *c, int64_t ranks, const char *reason,
                                      struct moment now, struct outbox *out, struct err *err) {
    enum status st = STATUS_OK;
    if (has_group(c, ranks))
        return STATUS_OK;
    for (size_t i = 0; i < c->sweep_count; i++) {
        struct sweep_state *s = c->sweeps[i];
        char text[TRIAL_REASON_MAX];
        if (s->state != SWEEP_ACTIVE || s->slots_per_trial != ranks)
            continue;
        (void)snprintf(text, sizeof text,
                       "no worker group of %lld rank(s) could be started: %.1800s",
                       (long long)ranks, reason);
        struct value *e = event_new(out->arena, "sweep.failed");
        value_set_string(out->arena, e, "reason", text);
        TRY(event_emit(c, s->id, e, now, out, err));
    }
out:
    return st;
}
