/* How the coordinator stops:
 *
 *     groups leave their trials ─▶ the rest is interrupted ─▶ groups end ─▶ the loop ends */
#include "coordinator/shell/shell_private.h"
#include "core/log.h"
#include "core/process.h"

#define LEAVE_MS 4000 /* for groups to leave their trials */
#define REASON   "the coordinator was shut down; resume goes on"
#define EXIT_MS  1500 /* for groups to end by themselves */

void shell_begin_stop(struct shell *s, const char *reason) {
    struct err err;
    struct turn turn = shell_turn(s);
    if (s->stopping)
        return;
    log_line(LOG_INFO, "stopping", "running=%zu reason=\"%s\"", coordinator_leases(s->core),
             reason);
    s->stopping = true;
    process_lock_leaving(s->options.lock);
    s->stop_at_ns = turn.now.mono_ns + LEAVE_MS * NS_PER_MS;
    if (coordinator_shutdown(&turn, &err) != STATUS_OK)
        shell_give_up(s, &err);
}

/* When all have left, or the time is over: the rest is interrupted, sweeps pause, groups go. */
static void interrupt(struct shell *s) {
    struct err err;
    struct turn turn = shell_turn(s);
    enum status st = coordinator_interrupt(&turn, REASON, &err);
    if (st == STATUS_OK)
        st = shell_flush(s, &err);
    if (st != STATUS_OK) {
        shell_give_up(s, &err);
        return;
    }
    s->dismissed = true;
    s->stop_at_ns = clock_mono_ns(s->options.clock) + EXIT_MS * NS_PER_MS;
}

/* That a group is to end need not be stored first: its trial is queued again by whoever restores. */
void shell_say_goodbye(struct shell *s) {
    struct err err;
    shell_begin_tick(s);
    struct turn turn = shell_turn(s);
    if (coordinator_interrupt(&turn, REASON, &err) == STATUS_OK)
        shell_send_exits(s);
    shell_begin_tick(s);
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
