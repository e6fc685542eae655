/* The loop, on net_poll.
 *
 * A callback may add and remove whatever it likes: a removed source is only marked, and its slot is
 * reused at the top of the next round, so that nothing moves during a round.
 *
 * Signals stay blocked when the loop is destroyed: a second Ctrl-C must not cut an orderly end
 * short. Processes that are started meanwhile inherit the mask; process_start resets it. */
#include "wire/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "wire/net_private.h"

#define TIMERS_MAX  32
#define SIGNALS_MAX 16
#define PERIOD_MAX  (INT64_C(1000) * 86400 * 366) /* ms */
#define WAIT_MAX_MS 60000

struct source {
    struct net_socket *socket; /* NULL: a descriptor */
    int fd;
    loop_fn *fn; /* NULL: removed */
    void *arg;
};

struct timer {
    int64_t period_ns;
    int64_t due_ns; /* on the clock's monotonic scale */
    loop_fn *fn;
    void *arg;
};

struct signal_row {
    int signo;
    loop_fn *fn;
    void *arg;
};

struct loop {
    struct clock clock;
    struct source sources[NET_POLL_MAX];
    size_t source_count;
    struct timer timers[TIMERS_MAX];
    size_t timer_count;
    struct signal_row signals[SIGNALS_MAX];
    size_t signal_count;
    sigset_t signal_set;
    int signal_fd; /* -1: no signal was added */
    bool stop;
};

enum status loop_new(const struct clock *clock, struct loop **out, struct err *err) {
    struct loop *l = calloc(1, sizeof *l);
    if (l == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for a loop");
    l->clock = *clock;
    l->signal_fd = -1;
    (void)sigemptyset(&l->signal_set);
    *out = l;
    return STATUS_OK;
}

void loop_destroy(struct loop **loop) {
    if (*loop == NULL)
        return;
    if ((*loop)->signal_fd >= 0)
        (void)close((*loop)->signal_fd);
    free(*loop);
    *loop = NULL;
}

/* ---- sources ---- */

static enum status add_source(struct loop *l, struct source source, struct err *err) {
    if (l->source_count == NET_POLL_MAX)
        return err_set(err, STATUS_FULL, "the loop already watches %d sockets and descriptors",
                       NET_POLL_MAX);
    l->sources[l->source_count++] = source;
    return STATUS_OK;
}

enum status loop_add_socket(struct loop *l, struct net_socket *s, loop_fn *fn, void *arg,
                            struct err *err) {
    return add_source(l, (struct source){.socket = s, .fd = -1, .fn = fn, .arg = arg}, err);
}

enum status loop_add_fd(struct loop *l, int fd, loop_fn *fn, void *arg, struct err *err) {
    if (fd < 0)
        return err_set(err, STATUS_INVALID, "the loop cannot watch descriptor %d", fd);
    return add_source(l, (struct source){.fd = fd, .fn = fn, .arg = arg}, err);
}

static void remove_source(struct loop *l, const struct net_socket *s, int fd) {
    for (size_t i = 0; i < l->source_count; i++)
        if (l->sources[i].socket == s && l->sources[i].fd == fd)
            l->sources[i].fn = NULL;
}

void loop_remove_socket(struct loop *l, struct net_socket *s) {
    if (s != NULL)
        remove_source(l, s, -1);
}

void loop_remove_fd(struct loop *l, int fd) {
    if (fd >= 0)
        remove_source(l, NULL, fd);
}

static void drop_removed(struct loop *l) {
    size_t kept = 0;
    for (size_t i = 0; i < l->source_count; i++)
        if (l->sources[i].fn != NULL)
            l->sources[kept++] = l->sources[i];
    l->source_count = kept;
}

/* ---- timers ---- */

enum status loop_add_timer(struct loop *l, int64_t period_ms, loop_fn *fn, void *arg,
                           struct err *err) {
    if (period_ms < 1 || period_ms > PERIOD_MAX)
        return err_set(err, STATUS_INVALID, "a timer's period must be 1 ms to a year, not %lld ms",
                       (long long)period_ms);
    if (l->timer_count == TIMERS_MAX)
        return err_set(err, STATUS_FULL, "the loop already runs %d timers", TIMERS_MAX);
    int64_t period_ns = period_ms * NS_PER_MS;
    l->timers[l->timer_count++] = (struct timer){.period_ns = period_ns,
                                                 .due_ns = clock_mono_ns(&l->clock) + period_ns,
                                                 .fn = fn,
                                                 .arg = arg};
    return STATUS_OK;
}

/* Milliseconds until the next timer, rounded up so that it is due on waking; -1 without timers. */
static int wait_ms(const struct loop *l) {
    if (l->timer_count == 0)
        return -1;
    int64_t next = l->timers[0].due_ns;
    for (size_t i = 1; i < l->timer_count; i++)
        if (l->timers[i].due_ns < next)
            next = l->timers[i].due_ns;
    int64_t left = next - clock_mono_ns(&l->clock);
    if (left <= 0)
        return 0;
    int64_t ms = (left + NS_PER_MS - 1) / NS_PER_MS;
    return ms < WAIT_MAX_MS ? (int)ms : WAIT_MAX_MS;
}

/* A timer that has missed periods fires once and goes on from now: no burst after a suspension. */
static void run_timers(struct loop *l) {
    int64_t now = clock_mono_ns(&l->clock);
    size_t count = l->timer_count;
    for (size_t i = 0; i < count && !l->stop; i++) {
        struct timer *t = &l->timers[i];
        if (t->due_ns > now)
            continue;
        t->due_ns += t->period_ns;
        if (t->due_ns <= now)
            t->due_ns = now + t->period_ns;
        t->fn(t->arg);
    }
}

/* ---- signals ---- */

static void on_signal(void *arg) {
    struct loop *l = arg;
    struct signalfd_siginfo info;
    while (read(l->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        for (size_t i = 0; i < l->signal_count; i++)
            if ((uint32_t)l->signals[i].signo == info.ssi_signo)
                l->signals[i].fn(l->signals[i].arg);
}

enum status loop_add_signal(struct loop *l, int signo, loop_fn *fn, void *arg, struct err *err) {
    if (l->signal_count == SIGNALS_MAX)
        return err_set(err, STATUS_FULL, "the loop already watches %d signals", SIGNALS_MAX);
    if (sigaddset(&l->signal_set, signo) != 0)
        return err_set(err, STATUS_INVALID, "%d is not the number of a signal", signo);
    int rc = pthread_sigmask(SIG_BLOCK, &l->signal_set, NULL);
    if (rc != 0)
        return err_errno(err, rc, "block signal %d", signo);
    int fd = signalfd(l->signal_fd, &l->signal_set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "watch signal %d", signo);
    if (l->signal_fd < 0) {
        enum status st = add_source(l, (struct source){.fd = fd, .fn = on_signal, .arg = l}, err);
        if (st != STATUS_OK) {
            (void)close(fd);
            return st;
        }
        l->signal_fd = fd;
    }
    l->signals[l->signal_count++] = (struct signal_row){.signo = signo, .fn = fn, .arg = arg};
    return STATUS_OK;
}

/* ---- running ---- */

static enum status run_round(struct loop *l, struct err *err) {
    struct net_poll_item items[NET_POLL_MAX];
    drop_removed(l);
    size_t count = l->source_count;
    for (size_t i = 0; i < count; i++)
        items[i] = (struct net_poll_item){.socket = l->sources[i].socket, .fd = l->sources[i].fd};
    enum status st = net_poll(items, count, wait_ms(l), err);
    if (st != STATUS_OK)
        return st;
    for (size_t i = 0; i < count && !l->stop; i++)
        if (items[i].readable && l->sources[i].fn != NULL)
            l->sources[i].fn(l->sources[i].arg);
    run_timers(l);
    return STATUS_OK;
}

enum status loop_run(struct loop *l, struct err *err) {
    enum status st = STATUS_OK;
    while (!l->stop && st == STATUS_OK)
        st = run_round(l, err);
    l->stop = false;
    return st;
}

void loop_stop(struct loop *l) {
    l->stop = true;
}
