/* What people ask of a sweep: submit, cancel, resume, status. */
#include "coordinator/decide/sweeps.h"

#include <stdio.h>
#include <string.h>

#include "coordinator/decide/coordinator.h"
#include "coordinator/decide/event.h"
#include "coordinator/decide/notices.h"
#include "coordinator/decide/snapshot.h"

#define SCRATCH_MAX ((size_t)64 << 20)

/* The sweep that the request names; NOT_FOUND where it is unknown. */
static enum status named_sweep(const struct turn *turn, const struct value *r,
                               struct sweep_state **out, struct err *err) {
    const char *id = value_get_string(r, "sweep", "");
    *out = state_find_sweep(turn->c, id);
    return *out != NULL ? STATUS_OK
                        : err_set(err, STATUS_NOT_FOUND, "this coordinator knows no sweep %s", id);
}

static enum status not_while_stopping(const struct turn *turn, struct err *err) {
    return turn->c->stopping ? err_set(err, STATUS_UNAVAILABLE, "the coordinator is shutting down")
                             : STATUS_OK;
}

/* ---- submit ---- */

static enum status check_slots(const struct turn *turn, int64_t slots, struct err *err) {
    int64_t max = turn->c->options.max_slots;
    if (max == 0 || slots <= max)
        return STATUS_OK;
    return err_set(err, STATUS_INVALID,
                   "slots_per_trial is %lld, but this coordinator has %lld slots (--max-slots)",
                   (long long)slots, (long long)max);
}

static enum status check_submission(const struct turn *turn, const struct value *config,
                                    int64_t language, struct err *err) {
    enum status st = STATUS_OK;
    struct arena scratch;
    struct sweep *spec = NULL;
    arena_init(&scratch, SCRATCH_MAX);
    TRY(state_parse_config(&scratch, config, language, &spec, err));
    TRY(check_slots(turn, spec->slots_per_trial, err));
out:
    arena_release(&scratch);
    return st;
}

enum status sweeps_submit(const struct turn *turn, const struct value *r, struct value **reply,
                          struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = turn->out->arena;
    const char *id = value_get_string(r, "sweep", "");
    const struct value *config = value_get(r, "config");
    int64_t language = value_get_int(r, "language", 1);
    const struct sweep_state *known = state_find_sweep(turn->c, id);
    (void)reply;
    if (known != NULL)
        return value_equal(known->config, config) && known->language == language
                   ? STATUS_OK
                   : err_set(err, STATUS_EXISTS, "sweep %s exists with another configuration", id);
    TRY(not_while_stopping(turn, err));
    TRY(check_submission(turn, config, language, err));
    struct value *e = event_new(a, "sweep.submitted");
    value_set(a, e, "config", value_copy(a, config));
    value_set_string(a, e, "base", value_get_string(r, "base", "/"));
    if (value_get(r, "language") != NULL)
        value_set_int(a, e, "language", language);
    TRY(event_emit(turn, id, e, err));
out:
    return st;
}

/* ---- cancel ---- */

/* Its group is told to leave it, and has a while to do so. */
static enum status ask_to_leave(const struct turn *turn, struct trial *t, struct err *err) {
    t->deadline_ns = turn->now.mono_ns + COORDINATOR_CANCEL_MS * NS_PER_MS;
    return notices_cancel(turn, t, err);
}

static enum status cancel_trial(const struct turn *turn, struct sweep_state *s,
                                const struct value *r, struct err *err) {
    struct arena *a = turn->out->arena;
    int64_t number = value_get_int(r, "trial", 0);
    struct trial *t = state_find_trial(s, number);
    if (t == NULL)
        return err_set(err, STATUS_NOT_FOUND, "sweep %s has no trial %lld yet; it has %lld", s->id,
                       (long long)number, (long long)s->created);
    if (t->state == TRIAL_CANCELLED || t->cancel)
        return STATUS_OK;
    if (trial_final(t))
        return err_set(err, STATUS_CONFLICT, "trial %lld is %s already", (long long)number,
                       state_trial_name(t->state));
    struct value *e = event_new(a, "trial.cancelled");
    value_set_int(a, e, "trial", number);
    value_set_string(a, e, "reason", value_get_string(r, "reason", "cancelled"));
    enum status st = event_emit(turn, s->id, e, err);
    return st == STATUS_OK && trial_leased(t) ? ask_to_leave(turn, t, err) : st;
}

enum status sweeps_cancel(const struct turn *turn, const struct value *r, struct value **reply,
                          struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = turn->out->arena;
    struct sweep_state *s = NULL;
    (void)reply;
    TRY(named_sweep(turn, r, &s, err));
    if (value_get(r, "trial") != NULL)
        return cancel_trial(turn, s, r, err);
    if (s->cancel || s->state == SWEEP_CANCELLED)
        return STATUS_OK;
    if (s->state != SWEEP_ACTIVE && s->state != SWEEP_PAUSED)
        return err_set(err, STATUS_CONFLICT, "sweep %s is %s already", s->id,
                       state_sweep_name(s->state));
    struct value *e = event_new(a, "sweep.cancelled");
    value_set_string(a, e, "reason", value_get_string(r, "reason", "cancelled"));
    TRY(event_emit(turn, s->id, e, err));
    for (struct trial *t = turn->c->leased; t != NULL; t = t->next)
        if (t->sweep == s)
            TRY(ask_to_leave(turn, t, err));
out:
    return st;
}

/* ---- resume ---- */

static int64_t count_unsuccessful(const struct sweep_state *s) {
    int64_t n = 0;
    for (int64_t i = 1; i <= s->created; i++) {
        enum trial_state state = state_find_trial(s, i)->state;
        n += state == TRIAL_FAILED || state == TRIAL_CANCELLED;
    }
    return n;
}

enum status sweeps_resume(const struct turn *turn, const struct value *r, struct value **reply,
                          struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = turn->out->arena;
    struct sweep_state *s = NULL;
    (void)reply;
    TRY(named_sweep(turn, r, &s, err));
    TRY(not_while_stopping(turn, err));
    if (s->cancel)
        return err_set(err, STATUS_CONFLICT,
                       "sweep %s is still being cancelled; try again in a moment", s->id);
    int64_t slots = value_get_int(r, "slots_per_trial", s->slots_per_trial);
    if (s->spec->virtual_shards % slots != 0)
        return err_set(err, STATUS_INVALID,
                       "slots_per_trial %lld does not divide virtual_shards (%lld)",
                       (long long)slots, (long long)s->spec->virtual_shards);
    TRY(check_slots(turn, slots, err));
    int64_t trial = 0, again = count_unsuccessful(s);
    bool left = again > 0 || s->leased > 0 || state_next_trial(s, &trial);
    if (!left)
        return err_set(err, STATUS_CONFLICT, "sweep %s is %s and has nothing left to run", s->id,
                       state_sweep_name(s->state));
    if (s->state == SWEEP_ACTIVE && again == 0 && slots == s->slots_per_trial)
        return STATUS_OK;
    struct value *e = event_new(a, "sweep.resumed");
    value_set_int(a, e, "slots_per_trial", slots);
    TRY(event_emit(turn, s->id, e, err));
out:
    return st;
}

/* ---- status ---- */

enum status sweeps_status(const struct turn *turn, const struct value *r, struct value **reply,
                          struct err *err) {
    struct arena *a = turn->out->arena;
    struct sweep_state *s = NULL;
    enum status st = named_sweep(turn, r, &s, err);
    if (st != STATUS_OK)
        return st;
    struct snapshot_page page = {.after = value_get_int(r, "after", -1),
                                 .limit = value_get_int(r, "limit", COORDINATOR_STATUS_MAX)};
    *reply = value_map(a);
    value_set(a, *reply, "sweep", snapshot_sweep(a, turn->c, s, page));
    return STATUS_OK;
}

/* ---- the launcher gave up ---- */

static bool has_group(const struct coordinator *c, int64_t ranks) {
    for (size_t i = 0; i < c->group_count; i++)
        if (c->groups[i]->ranks == ranks && c->groups[i]->state != GROUP_LEAVING)
            return true;
    return false;
}

enum status coordinator_launch_failed(const struct turn *turn, int64_t ranks, enum status why,
                                      const char *reason, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = turn->out->arena;
    if (has_group(turn->c, ranks))
        return STATUS_OK;
    for (size_t i = 0; i < turn->c->sweep_count; i++) {
        const struct sweep_state *s = turn->c->sweeps[i];
        char text[STATE_REASON_MAX];
        if (s->state != SWEEP_ACTIVE || s->slots_per_trial != ranks)
            continue;
        (void)snprintf(text, sizeof text,
                       "no worker group of %lld rank(s) could be started: %.1800s",
                       (long long)ranks, reason);
        struct value *e = event_new(a, "sweep.failed");
        value_set_string(a, e, "code", status_name(why));
        value_set_string(a, e, "reason", text);
        TRY(event_emit(turn, s->id, e, err));
    }
out:
    return st;
}
