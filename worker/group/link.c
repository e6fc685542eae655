/* Rank 0's sessions: what the coordinator says, what we say, and the waiting. */
#include "worker/group/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/path.h"
#include "core/version.h"
#include "wire/artifact.h"

#define ARENA_MAX      ((size_t)64 << 20)
#define REST_MS        50
#define CLOSE_MS       2000
#define HELLO_EVERY_NS NS_PER_S       /* while one is refused */
#define LOST_TERM_NS   (5 * NS_PER_S) /* after SIGTERM: how long to wait for a silent tracker */

static int64_t now_ns(void) {
    return clock_mono_ns(&clock_system);
}

/* ---- what the coordinator says ---- */

static bool same_lease(const struct link *l, const struct value *lease) {
    return l->lease != NULL && lease != NULL &&
           value_get_int(l->lease, "epoch", -1) == value_get_int(lease, "epoch", -2) &&
           strcmp(value_get_string(l->lease, "run", ""), value_get_string(lease, "run", "?")) == 0;
}

static void take_assignment(struct link *l, const struct value *notice) {
    const struct value *lease = value_get(notice, "lease");
    if (l->lease != NULL) {
        if (!same_lease(l, lease)) /* a mistake on the other side; our beats will tell it */
            log_line(LOG_WARN, "assign", "run=%s refused=busy", value_get_string(lease, "run", ""));
        return;
    }
    l->config = value_copy(&l->arena, value_get(notice, "config"));
    l->resume = value_copy(&l->arena, value_get(notice, "resume"));
    l->until = value_get_real(notice, "until", 0);
    l->dropped = l->cancel = l->failed = false;
    l->reason[0] = '\0';
    l->step = 0;
    l->units = l->samples_per_s = 0;
    l->lease = value_copy(&l->arena, lease);
}

static void take_cancel(struct link *l, const struct value *notice) {
    if (!same_lease(l, value_get(notice, "lease")) || l->cancel)
        return;
    l->cancel = true;
    (void)snprintf(l->cancel_state, sizeof l->cancel_state, "%s",
                   value_get_string(notice, "state", "cancelled"));
    (void)snprintf(l->reason, sizeof l->reason, "%.500s", value_get_string(notice, "reason", ""));
}

static void on_notice(void *arg, const struct message_type *type, const struct value *notice) {
    struct link *l = arg;
    l->heard_ns = now_ns();
    if (strcmp(type->op, "trial.assign") == 0)
        take_assignment(l, notice);
    else if (strcmp(type->op, "trial.cancel") == 0)
        take_cancel(l, notice);
    else if (strcmp(type->op, "group.exit") == 0)
        l->leave = true;
}

static void drop(struct link *l, const struct err *err) {
    if (l->lease == NULL || l->dropped)
        return;
    l->dropped = true;
    log_line(LOG_WARN, "dropped", "run=%s text=\"%s\"", value_get_string(l->lease, "run", ""),
             err != NULL ? err->text : "the lease is not kept");
}

void link_fail(struct link *l, const char *what, const struct err *why) {
    if (l->lease == NULL || l->dropped)
        return;
    log_line(LOG_ERROR, "not_stored", "run=%s what=\"%s\" code=%s text=\"%s\"",
             value_get_string(l->lease, "run", ""), what, status_name(why->status), why->text);
    if (l->failed)
        return;
    l->failed = true;
    l->failure = *why;
    (void)err_wrap(&l->failure, why->status, "the run's %s could not be stored", what);
}

/* What a request to the tracker stores, in words; NULL where another one says whether it is stored:
 * an artifact's beginning and its chunks may be refused because the tracker has the bytes already,
 * its commit may not. */
static const char *stored_by(const struct value *request) {
    const char *op = value_get_string(request, "op", "");
    if (strcmp(op, "run.log") == 0)
        return "metrics";
    if (strcmp(op, "artifact.commit") == 0)
        return value_get_string(request, "path", "artifact");
    if (strcmp(op, "run.update") == 0)
        return value_get(request, "manifest") != NULL  ? "manifest"
               : value_get(request, "summary") != NULL ? "summary"
                                                       : "record";
    return NULL;
}

/* The tracker has the last word on what is stored. */
static void on_tracker_answer(void *arg, const struct value *request, enum status st,
                              const struct value *reply, const struct err *err) {
    struct link *l = arg;
    const char *run = value_get_string(request, "run", NULL), *what = stored_by(request);
    (void)reply;
    if (st == STATUS_OK)
        return;
    if (what != NULL && run != NULL && l->lease != NULL &&
        strcmp(run, value_get_string(l->lease, "run", "")) == 0)
        link_fail(l, what, err);
    else
        log_err(LOG_WARN, "refused", err);
}

/* A beat, a report or the end of a trial was refused. */
static void refused(struct link *l, const struct value *request, enum status st,
                    const struct err *err) {
    const struct value *lease = value_get(request, "lease");
    if (st == STATUS_NOT_FOUND)
        l->said_hello = false;
    else if (st == STATUS_CONFLICT && (lease == NULL || same_lease(l, lease)))
        drop(l, err);
}

static void on_answer(void *arg, const struct value *request, enum status st,
                      const struct value *reply, const struct err *err) {
    struct link *l = arg;
    const char *op = value_get_string(request, "op", "");
    l->heard_ns = now_ns();
    if (strcmp(op, "group.beat") == 0)
        l->beat_out = false;
    if (strcmp(op, "group.hello") == 0) {
        l->hello_out = false;
        l->said_hello = st == STATUS_OK;
        if (st == STATUS_OK && !value_get_bool(reply, "keep", true) &&
            same_lease(l, value_get(request, "lease")))
            drop(l, NULL);
        return;
    }
    if (st != STATUS_OK) {
        refused(l, request, st, err);
        return;
    }
    if (strcmp(op, "trial.report") != 0 || !same_lease(l, value_get(request, "lease")))
        return;
    bool stop = strcmp(value_get_string(reply, "verdict", "continue"), "stop") == 0;
    if (value_get_bool(request, "boundary", false)) {
        l->verdict_here = true;
        l->verdict_stop = stop;
        l->verdict_until = value_get_real(reply, "until", 0);
    } else if (stop && !l->cancel) {
        l->cancel = true;
        (void)snprintf(l->cancel_state, sizeof l->cancel_state, "stopped");
    }
    if (stop)
        (void)snprintf(l->reason, sizeof l->reason, "%.500s",
                       value_get_string(reply, "reason", ""));
}

/* ---- what we say ---- */

static struct value *hello(const struct link *l, struct arena *a) {
    struct value *r = message_request(a, "group.hello", NULL);
    char host[256] = "";
    (void)gethostname(host, sizeof host - 1);
    const char *ends = getenv("SLURM_JOB_END_TIME");
    value_set_string(a, r, "group", l->group);
    value_set_int(a, r, "ranks", l->options.ranks);
    value_set_string(a, r, "host", host);
    value_set_int(a, r, "pid", getpid());
    value_set_string(a, r, "device", l->options.device);
    value_set_string(a, r, "build", trireme_build_id);
    value_set_string(a, r, "launch", getenv("TRIREME_LAUNCH"));
    if (ends != NULL && strtoll(ends, NULL, 10) > 0)
        value_set_int(a, r, "ends_ns", (int64_t)strtoll(ends, NULL, 10) * NS_PER_S);
    if (l->lease != NULL && !l->dropped)
        value_set(a, r, "lease", value_copy(a, l->lease));
    return r;
}

static struct value *about_trial(const struct link *l, struct arena *a, const char *op) {
    struct value *r = message_request(a, op, NULL);
    value_set_string(a, r, "group", l->group);
    if (l->lease != NULL)
        value_set(a, r, "lease", value_copy(a, l->lease));
    return r;
}

static bool post(struct link *l, const struct value *request) {
    struct err err;
    if (session_post(l->coordinator, request, NET_NO_FRAMES, &err) == STATUS_OK)
        return true;
    log_err(LOG_WARN, "post", &err);
    return false;
}

static void beat(struct link *l) {
    struct arena a;
    int64_t now = now_ns();
    if (l->beat_out || now < l->next_beat_ns)
        return;
    l->next_beat_ns = now + l->beat_ms * NS_PER_MS;
    arena_init(&a, ARENA_MAX);
    bool trial = l->lease != NULL && !l->dropped;
    struct value *r =
        trial ? about_trial(l, &a, "group.beat") : message_request(&a, "group.beat", NULL);
    value_set_string(&a, r, "group", l->group);
    if (trial) {
        value_set_int(&a, r, "step", l->step);
        value_set_real(&a, r, "units", l->units);
        value_set_real(&a, r, "samples_per_s", l->samples_per_s);
    }
    l->beat_out = post(l, r);
    arena_release(&a);
}

/* After a reconnect the coordinator knows us no more, or by another address. */
static void say_hello_again(struct link *l) {
    struct arena a;
    uint64_t generation = session_generation(l->coordinator);
    if (generation != l->generation)
        l->said_hello = false;
    l->generation = generation;
    if (l->said_hello || l->hello_out || now_ns() - l->hello_ns < HELLO_EVERY_NS)
        return;
    l->hello_ns = now_ns();
    arena_init(&a, ARENA_MAX);
    l->hello_out = post(l, hello(l, &a));
    arena_release(&a);
}

/* Nobody will ever hear of what it trains. */
static void check_silence(struct link *l) {
    if (l->leave || l->lease == NULL || now_ns() - l->heard_ns < LINK_BUSY_SILENCE_MS * NS_PER_MS)
        return;
    log_line(LOG_WARN, "silence", "coordinator=%s seconds=%d", l->options.coordinator,
             LINK_BUSY_SILENCE_MS / 1000);
    l->leave = true;
}

static void listen(struct link *l) {
    struct err err;
    if (session_pump(l->coordinator, &err) != STATUS_OK ||
        session_pump(l->tracker, &err) != STATUS_OK)
        log_err(LOG_WARN, "pump", &err);
    check_silence(l);
    say_hello_again(l);
    beat(l);
    l->tended_ns = now_ns();
}

void link_tend(struct link *l) {
    if (now_ns() - l->tended_ns >= LINK_TEND_NS)
        listen(l);
}

void link_rest(struct link *l, int ms) {
    struct err err;
    int64_t due = (l->next_beat_ns - now_ns()) / NS_PER_MS + 1;
    if (due < ms)
        ms = due > 1 ? (int)due : 1;
    if (session_wait(l->coordinator, ms, &err) != STATUS_OK)
        log_err(LOG_WARN, "wait", &err);
    listen(l);
}

bool link_stop(const struct link *l) {
    return l->dropped || l->failed || l->cancel || l->leave || *l->options.terminate != 0;
}

bool link_idle(struct link *l) {
    while (l->lease == NULL) {
        if (l->leave || *l->options.terminate != 0)
            return false;
        if (now_ns() - l->heard_ns > LINK_SILENCE_MS * NS_PER_MS) {
            log_line(LOG_WARN, "silence", "coordinator=%s seconds=%d", l->options.coordinator,
                     LINK_SILENCE_MS / 1000);
            return false;
        }
        link_rest(l, REST_MS);
    }
    return true;
}

/* ---- the tracker ---- */

static void rest_for_tracker(struct link *l, int ms) {
    struct err err;
    if (session_wait(l->tracker, ms, &err) != STATUS_OK)
        log_err(LOG_WARN, "wait", &err);
    listen(l);
}

void link_settle(struct link *l) {
    int64_t begin = now_ns();
    while (!l->dropped && session_pending(l->tracker) > 0) {
        if ((*l->options.terminate != 0 || l->leave) && session_lost(l->tracker) &&
            now_ns() - begin > LOST_TERM_NS)
            return;
        rest_for_tracker(l, REST_MS);
    }
}

/* After a post that found no room: whether it may be tried again, with the queue empty. What did not
 * fit into an empty one never will. */
static bool made_room(struct link *l, bool was_empty) {
    if (was_empty)
        return false;
    link_settle(l);
    return !l->dropped && session_pending(l->tracker) == 0;
}

void link_post_tracker(struct link *l, const struct value *request) {
    struct err err;
    enum status st;
    const char *what = stored_by(request);
    bool empty;
    if (l->dropped)
        return;
    do {
        empty = session_pending(l->tracker) == 0;
        st = session_post(l->tracker, request, NET_NO_FRAMES, &err);
    } while (st == STATUS_FULL && made_room(l, empty));
    if (st != STATUS_OK)
        link_fail(l, what != NULL ? what : "record", &err);
}

void link_post_artifact(struct link *l, const char *run, const char *path, const void *bytes,
                        size_t len) {
    struct err err;
    struct digest digest;
    enum status st;
    bool empty;
    if (l->dropped)
        return;
    do {
        empty = session_pending(l->tracker) == 0;
        st = artifact_post(l->tracker, &(struct artifact){.run = run, .path = path},
                           (struct net_frame){bytes, len}, &digest, &err);
    } while (st == STATUS_FULL && made_room(l, empty));
    if (st != STATUS_OK)
        link_fail(l, path, &err);
}

/* ---- the trial ---- */

void link_started(struct link *l, int64_t step) {
    struct arena a;
    arena_init(&a, ARENA_MAX);
    struct value *r = about_trial(l, &a, "trial.started");
    value_set_int(&a, r, "step", step);
    l->step = step;
    (void)post(l, r);
    arena_release(&a);
    listen(l);
}

void link_report(struct link *l, const struct value *metrics, int64_t step, double units,
                 bool boundary) {
    struct arena a;
    if (l->dropped)
        return;
    arena_init(&a, ARENA_MAX);
    struct value *r = about_trial(l, &a, "trial.report");
    value_set_real(&a, r, "units", units);
    value_set_int(&a, r, "step", step);
    if (boundary)
        value_set_bool(&a, r, "boundary", true);
    value_set(&a, r, "metrics", value_copy(&a, metrics));
    l->verdict_here = false;
    (void)post(l, r);
    arena_release(&a);
    listen(l);
}

bool link_verdict(struct link *l) {
    while (!l->verdict_here && !link_stop(l))
        link_rest(l, REST_MS);
    return l->verdict_here;
}

void link_done(struct link *l, const struct link_end *end) {
    struct arena a;
    if (l->dropped)
        return;
    arena_init(&a, ARENA_MAX);
    struct value *r = about_trial(l, &a, "trial.done");
    value_set_string(&a, r, "state", end->state);
    value_set_string(&a, r, "code", end->code);
    value_set_string(&a, r, "reason", end->reason);
    value_set_real(&a, r, "units", end->units);
    value_set_int(&a, r, "step", end->step);
    value_set(&a, r, "metrics", value_copy(&a, end->metrics));
    value_set_string(&a, r, "weights_digest", end->weights_digest);
    (void)post(l, r);
    arena_release(&a);
}

void link_free_trial(struct link *l) {
    arena_clear(&l->arena);
    l->lease = l->config = NULL;
    l->resume = NULL;
    l->dropped = l->cancel = l->failed = false;
    listen(l);
}

/* ---- opening and closing ---- */

/* Where posts spill to when the tracker stays away; without one the queue in memory must do. */
static const char *spool_path(struct link *l) {
    char home[PATH_TEXT_MAX], dir[PATH_TEXT_MAX];
    if (path_home(home, NULL) != STATUS_OK || path_join(dir, home, "cache", NULL) != STATUS_OK ||
        path_mkdirs(dir, 0700, NULL) != STATUS_OK)
        return NULL;
    int n = snprintf(l->spool, sizeof l->spool, "%s/worker-%s.spool", dir, l->group);
    return n > 0 && (size_t)n < sizeof l->spool ? l->spool : NULL;
}

static enum status first_hello(struct link *l, struct err *err) {
    struct arena a;
    struct session_reply reply;
    arena_init(&a, ARENA_MAX);
    enum status st = session_call(
        l->coordinator, &a,
        &(struct session_ask){.request = hello(l, &a), .timeout_ms = LINK_HELLO_MS}, &reply, err);
    if (st == STATUS_OK) {
        l->beat_ms = value_get_int(reply.header, "beat_ms", 1000);
        session_reply_release(&reply);
    }
    arena_release(&a);
    l->said_hello = st == STATUS_OK;
    l->heard_ns = now_ns();
    l->generation = session_generation(l->coordinator);
    return st;
}

enum status link_open(const struct link_options *options, struct link *l, struct err *err) {
    enum status st = STATUS_OK;
    *l = (struct link){.options = *options};
    arena_init(&l->arena, ARENA_MAX);
    TRY(ulid_new(l->group, err));
    TRY(net_new(&l->net, err));
    struct session_options tracker = {.endpoint = options->tracker,
                                      .keys = options->tracker_keys,
                                      .spool = spool_path(l),
                                      .clock = &clock_system,
                                      .on_answer = on_tracker_answer,
                                      .arg = l};
    struct session_options coordinator = {.endpoint = options->coordinator,
                                          .keys = options->coordinator_keys,
                                          .clock = &clock_system,
                                          .on_notice = on_notice,
                                          .on_answer = on_answer,
                                          .arg = l};
    TRY(session_open(l->net, &tracker, &l->tracker, err));
    TRY(session_open(l->net, &coordinator, &l->coordinator, err));
    TRY(first_hello(l, err));
out:
    if (st != STATUS_OK)
        link_close(l, NULL);
    return st;
}

void link_close(struct link *l, const char *reason) {
    struct err err;
    struct arena a;
    arena_init(&a, ARENA_MAX);
    if (l->coordinator != NULL && reason != NULL) {
        struct value *bye = message_request(&a, "group.bye", NULL);
        value_set_string(&a, bye, "group", l->group);
        value_set_string(&a, bye, "reason", reason);
        (void)post(l, bye);
    }
    if (session_close(&l->tracker, CLOSE_MS, &err) != STATUS_OK)
        log_err(LOG_WARN, "tracker", &err);
    if (session_close(&l->coordinator, reason != NULL ? CLOSE_MS : 0, &err) != STATUS_OK &&
        reason != NULL)
        log_err(LOG_WARN, "coordinator", &err);
    net_destroy(&l->net);
    arena_release(&a);
    arena_release(&l->arena);
}
