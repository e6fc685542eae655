/* What the shell says to the tracker: events first, and the way back after a crash. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/shell/shell_private.h"
#include "core/json.h"
#include "core/log.h"

#define APPEND_BYTES_MAX ((size_t)2 << 20) /* of events in one message */
#define APPEND_COUNT_MAX 1000
#define READ_LIMIT       500
#define CALL_MIN_MS      2000  /* each try is given twice the time of the one before… */
#define CALL_MAX_MS      16000 /* …and this is the last */
#define STALL_MS         500   /* a wait worth telling the core about */
#define STOP_WAIT_MS     2000  /* at a shutdown: the tracker may have ended before us */
#define PAGE_ARENA_MAX   ((size_t)256 << 20)

/* A refused event is the end: somebody else writes this log, or it is not what we think. */
void shell_on_tracker_answer(void *arg, const struct value *request, enum status st,
                             const struct value *reply, const struct err *err) {
    struct shell *s = arg;
    const char *op = value_get_string(request, "op", "");
    (void)reply;
    if (st == STATUS_OK)
        return;
    if (strcmp(op, "event.append") == 0 && s->fatal.status == STATUS_OK)
        (void)err_set(&s->fatal, st, "the tracker refused events of sweep %s: %s",
                      value_get_string(request, "sweep", "?"), err != NULL ? err->text : "");
    /* A state that is final already: said twice after a restart. */
    else
        log_line(st == STATUS_CONFLICT ? LOG_DEBUG : LOG_WARN, "refused", "op=%s text=\"%s\"", op,
                 err != NULL ? err->text : "");
}

/* ---- out ---- */

static bool interrupted(void) {
    sigset_t pending;
    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1 ||
            sigismember(&pending, SIGHUP) == 1);
}

static enum status wait_durable(struct shell *s, struct err *err) {
    int64_t start = clock_mono_ns(s->options.clock);
    bool said = false;
    for (;;) {
        enum status st = session_flush(s->tracker, 1000, err);
        if (s->fatal.status != STATUS_OK) {
            *err = s->fatal;
            return s->fatal.status;
        }
        int64_t waited_ms = (clock_mono_ns(s->options.clock) - start) / NS_PER_MS;
        if (st == STATUS_OK) {
            if (waited_ms > STALL_MS)
                coordinator_stalled(s->core, waited_ms);
            if (said)
                log_line(LOG_INFO, "tracker_back", "waited_ms=%lld", (long long)waited_ms);
            return st;
        }
        if (st != STATUS_TIMEOUT && st != STATUS_UNAVAILABLE)
            return st;
        bool told = interrupted();
        if (told || (s->stopping && waited_ms > STOP_WAIT_MS)) {
            s->stopping = s->stopping || told; /* the loop will not see that signal any more */
            return err_set(err, STATUS_UNAVAILABLE,
                           "ended while the tracker was away; the sweeps go on from their logs at "
                           "the next start");
        }
        if (!said)
            log_line(LOG_WARN, "tracker_away", "waited_ms=%lld", (long long)waited_ms);
        said = true;
    }
}

static enum status post_append(struct shell *s, const char *sweep, int64_t first,
                               struct value *events, struct err *err) {
    struct value *m = message_request(&s->tick, "event.append", NULL);
    value_set_string(&s->tick, m, "sweep", sweep);
    value_set_int(&s->tick, m, "first", first);
    value_set(&s->tick, m, "events", events);
    return session_post(s->tracker, m, NET_NO_FRAMES, err);
}

static enum status measure(const struct value *v, size_t *bytes, struct err *err) {
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    enum status st = json_dump(v, JSON_COMPACT, &text, err);
    *bytes = text.len;
    buf_release(&text);
    return st;
}

/* The events of one sweep, from item `at` on, in messages of bounded size. */
static enum status post_events(struct shell *s, const char *sweep, size_t at, struct err *err) {
    enum status st = STATUS_OK;
    struct value *list = value_list(&s->tick);
    size_t bytes = 0, size = 0;
    int64_t first = s->out.items[at].sequence;
    for (size_t i = at; i < s->out.count; i++) {
        const struct outgoing *o = &s->out.items[i];
        if (o->kind != OUT_EVENT || strcmp(o->to, sweep) != 0)
            continue;
        TRY(measure(o->message, &size, err));
        if (list != NULL && list->count > 0 &&
            (bytes + size > APPEND_BYTES_MAX || list->count == APPEND_COUNT_MAX)) {
            TRY(post_append(s, sweep, first, list, err));
            list = value_list(&s->tick);
            first = o->sequence;
            bytes = 0;
        }
        value_push(&s->tick, list, o->message);
        bytes += size;
    }
    TRY(post_append(s, sweep, first, list, err));
out:
    return st;
}

static enum status post_kind(struct shell *s, enum outgoing_kind kind, struct err *err) {
    enum status st = STATUS_OK;
    for (size_t i = 0; st == STATUS_OK && i < s->out.count; i++)
        if (s->out.items[i].kind == kind)
            st = session_post(s->tracker, s->out.items[i].message, NET_NO_FRAMES, err);
    return st;
}

static bool first_of_sweep(const struct outbox *out, size_t at) {
    for (size_t i = 0; i < at; i++)
        if (out->items[i].kind == OUT_EVENT && strcmp(out->items[i].to, out->items[at].to) == 0)
            return false;
    return true;
}

enum status shell_store_outbox(struct shell *s, struct err *err) {
    enum status st = STATUS_OK;
    bool events = false;
    TRY(post_kind(s, OUT_CREATE, err));
    for (size_t i = 0; i < s->out.count; i++) {
        if (s->out.items[i].kind != OUT_EVENT)
            continue;
        events = true;
        if (first_of_sweep(&s->out, i))
            TRY(post_events(s, s->out.items[i].to, i, err));
    }
    TRY(post_kind(s, OUT_POST, err));
    if (events)
        TRY(wait_durable(s, err));
out:
    return st;
}

enum status shell_post_revoked(struct shell *s, struct err *err) {
    enum status st = STATUS_OK;
    struct net_revoked r;
    while (st == STATUS_OK && net_take_revoked(s->net, &r))
        st = session_post(s->tracker, message_revoked(&s->tick, "trireme-coordinator", &r),
                          NET_NO_FRAMES, err);
    return st;
}

/* ---- in ---- */

/* A question. Whoever is told to end while the tracker does not answer ends. */
static enum status ask(struct shell *s, struct arena *a, const struct value *request,
                       struct session_reply *reply, struct err *err) {
    enum status st = STATUS_TIMEOUT;
    for (int ms = CALL_MIN_MS; st == STATUS_TIMEOUT && ms <= CALL_MAX_MS; ms *= 2) {
        st = session_call(s->tracker, a,
                          &(struct session_ask){.request = request, .timeout_ms = ms}, reply, err);
        if (st == STATUS_TIMEOUT && interrupted())
            return err_set(err, STATUS_UNAVAILABLE,
                           "ended while the tracker did not answer; the sweeps go on from their "
                           "logs at the next start");
    }
    return st;
}

/* Where the reading of a log is. */
struct reading {
    const char *sweep;
    int64_t after, last; /* events read, events that there are */
};

static enum status read_page(struct shell *s, struct arena *a, struct reading *at,
                             struct err *err) {
    enum status st = STATUS_OK;
    struct session_reply reply = {0};
    struct value *m = message_request(a, "event.read", NULL);
    value_set_string(a, m, "sweep", at->sweep);
    value_set_int(a, m, "after", at->after);
    value_set_int(a, m, "limit", READ_LIMIT);
    TRY(ask(s, a, m, &reply, err));
    const struct value *events = value_get(reply.header, "events");
    int64_t first = value_get_int(reply.header, "first", 0);
    size_t count = events != NULL ? events->count : 0;
    at->last = count > 0 ? value_get_int(reply.header, "last", 0) : at->after;
    for (size_t i = 0; i < count; i++)
        TRY(coordinator_restore(s->core, at->sweep, first + (int64_t)i, events->items[i], err));
    at->after += (int64_t)count;
out:
    session_reply_release(&reply);
    return st;
}

static enum status read_log(struct shell *s, const char *sweep, struct err *err) {
    enum status st = STATUS_OK;
    struct arena page;
    struct reading at = {.sweep = sweep};
    arena_init(&page, PAGE_ARENA_MAX);
    do {
        arena_clear(&page);
        TRY(read_page(s, &page, &at, err));
    } while (at.after < at.last);
    if (at.after == 0)
        st = err_set(err, STATUS_NOT_FOUND, "sweep %s has no events: it never began", sweep);
out:
    arena_release(&page);
    if (st != STATUS_OK)
        coordinator_forget(s->core, sweep);
    return st;
}

enum status shell_restore_one(struct shell *s, const char *sweep, struct err *err) {
    struct turn turn = shell_turn(s);
    enum status st = read_log(s, sweep, err);
    if (st == STATUS_OK)
        st = coordinator_restored(&turn, sweep, err);
    return st == STATUS_OK ? st : err_wrap(err, st, "sweep %s", sweep);
}

enum status shell_restore_all(struct shell *s, struct err *err) {
    enum status st = STATUS_OK;
    struct arena a;
    struct session_reply reply = {0};
    arena_init(&a, PAGE_ARENA_MAX);
    struct value *m = message_request(&a, "sweep.list", NULL);
    value_set_string(&a, m, "state", "active");
    value_set_int(&a, m, "limit", COORDINATOR_SWEEPS_MAX);
    TRY(ask(s, &a, m, &reply, err));
    const struct value *sweeps = value_get(reply.header, "sweeps");
    /* Newest first in the listing: the other way round is the order of submission. */
    for (size_t i = sweeps != NULL ? sweeps->count : 0; i-- > 0;) {
        const char *id = value_get_string(sweeps->items[i], "sweep", "");
        struct err why;
        st = shell_restore_one(s, id, &why);
        if (st == STATUS_NOMEM || st == STATUS_TIMEOUT || st == STATUS_UNAVAILABLE) {
            *err = why;
            goto out;
        }
        if (st == STATUS_OK)
            log_line(LOG_INFO, "restored", "sweep=%s", id);
        else /* one damaged log must not keep the others from going on */
            log_err(LOG_ERROR, "not_restored", &why);
        st = STATUS_OK;
    }
    TRY(shell_store_outbox(s, err));
out:
    session_reply_release(&reply);
    arena_release(&a);
    return st;
}
