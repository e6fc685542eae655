/* A tick: what came in is decided, stored, and then answered. */
#include "coordinator/shell/shell_private.h"

void shell_give_up(struct shell *s, const struct err *err) {
    if (s->fatal.status == STATUS_OK)
        s->fatal = *err;
    loop_stop(s->loop);
}

void shell_begin_tick(struct shell *s) {
    arena_clear(&s->tick);
    s->out = (struct outbox){.arena = &s->tick};
    s->answer_count = 0;
}

void shell_add_answer(struct shell *s, struct net_socket *socket, const struct net_peer *to,
                      struct value *message) {
    s->answers[s->answer_count++] =
        (struct answer){.socket = socket, .to = *to, .message = message};
}

enum status shell_flush(struct shell *s, struct err *err) {
    enum status st = shell_store_outbox(s, err);
    if (st != STATUS_OK)
        return st;
    shell_send_answers(s); /* a hello's answer before its first trial */
    shell_send_notices(s);
    shell_begin_tick(s);
    return STATUS_OK;
}

static void launch(struct shell *s) {
    struct demand demand[COORDINATOR_DEMAND_MAX];
    int64_t now = clock_mono_ns(s->options.clock);
    if (s->launcher == NULL || s->stopping || now < s->launch_after_ns)
        return;
    launcher_tick(s->launcher, demand, coordinator_demand(s->core, demand), now);
}

void shell_end_tick(struct shell *s) {
    struct err err;
    struct turn turn = shell_turn(s);
    enum status st = coordinator_step(&turn, &err);
    if (st == STATUS_OK)
        st = shell_flush(s, &err);
    if (st == STATUS_OK)
        launch(s);
    else
        shell_give_up(s, &err);
}
