/* Decisions become events. */
#include "coordinator/decide/event.h"

#include <stdio.h>

#include "coordinator/decide/posts.h"
#include "coordinator/state/apply.h"

struct value *event_new(struct arena *a, const char *name) {
    struct value *e = value_map(a);
    value_set_string(a, e, "event", name);
    return e;
}

struct value *event_of_trial(struct arena *a, const char *name, const struct trial *t) {
    struct value *e = event_new(a, name);
    value_set_int(a, e, "trial", t->number);
    value_set_string(a, e, "run", t->run);
    value_set_int(a, e, "epoch", t->epoch);
    return e;
}

enum status event_emit(const struct turn *turn, const char *sweep, struct value *event,
                       struct err *err) {
    enum status st = STATUS_OK;
    char id[ULID_TEXT];
    (void)snprintf(id, sizeof id, "%s", sweep); /* may point into what apply changes */
    value_set_int(turn->out->arena, event, "wall_ns", turn->now.wall_ns);
    if (event == NULL || event->broken)
        return state_no_memory(err);
    const struct sweep_state *before = state_find_sweep(turn->c, id);
    enum sweep_state_kind was = before != NULL ? before->state : SWEEP_ACTIVE;
    TRY(apply_event(turn->c, id, event, err));
    const struct sweep_state *s = state_find_sweep(turn->c, id);
    if (before == NULL)
        TRY(posts_sweep_create(turn, s, err));
    struct outgoing item = {
        .kind = OUT_EVENT, .to = s->id, .sequence = s->sequence, .message = event};
    TRY(turn_push(turn, item, err));
    TRY(posts_trial(turn, s, event, err));
    if (s->state != was)
        TRY(posts_sweep_state(turn, s, err));
out:
    return st;
}
