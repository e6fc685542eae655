/* How the coordinator stops:
 *
 *     groups leave their trials ─▶ the rest is interrupted ─▶ groups end ─▶ the loop ends */
#include "coordinator/shell/shell_private.h"
#include "core/log.h"

#define LEAVE_MS 5000 /* for groups to leave their trials */
#define EXIT_MS  3000 /* for groups to end by themselves */

void shell_begin_stop(struct shell *s, const char *reason) {
    struct err err;
    struct turn turn = shell_turn(s);
    if (s->stopping)
        return;
    log_line(LOG_INFO, "stopping", "running=%zu reason=\"%s\"", coordinator_leases(s->core),
             reason);
    s->stopping = true;
    s->stop_at_ns = turn.now.mono_ns + LEAVE_MS * NS_PER_MS;
    if (coordinator_shutdown(&turn, &err) != STATUS_OK)
        shell_give_up(s, &err);
}

/* When all have left, or the time is over: the rest is interrupted, sweeps pause, groups go. */
static void interrupt(struct shell *s) {
    struct err err;
    struct turn turn = shell_turn(s);
    enum status st =
        coordinator_interrupt(&turn, "the coordinator was shut down; resume goes on", &err);
    if (st == STATUS_OK)
        st = shell_flush(s, &err);
    if (st != STATUS_OK) {
        shell_give_up(s, &err);
        return;
    }
    s->dismissed = true;
    s->stop_at_ns = clock_mono_ns(s->options.clock) + EXIT_MS * NS_PER_MS;
}

static bool all_gone(const struct shell *s) {
    return s->dismissed && coordinator_groups(s->core) == 0 &&
           (s->launcher == NULL || launcher_alive(s->launcher) == 0);
}

void shell_go_on_stopping(struct shell *s) {
    /* Without a tracker nobody can leave a trial in order. */
    bool late = clock_mono_ns(s->options.clock) >= s->stop_at_ns || session_lost(s->tracker);
    if (!s->dismissed && (late || coordinator_leases(s->core) == 0))
        interrupt(s);
    else if (s->dismissed && (late || all_gone(s)))
        loop_stop(s->loop);
}
