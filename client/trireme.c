/* libtrireme: runs, parameters, metrics and artifacts of any program, on a session that never waits. */
#include "client/trireme.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/path.h"
#include "core/ulid.h"
#include "wire/artifact.h"
#include "wire/metrics.h"

#define SPOOLS_MAX      64
#define NAME_BYTES_MAX  200 /* as in the message table */
#define ARENA_BYTES_MAX ((size_t)1 << 20)

static_assert((int)TRIREME_INTERNAL == (int)STATUS_INTERNAL, "the public statuses are ours");
static_assert((int)TRIREME_TOO_LARGE == (int)STATUS_TOO_LARGE, "the public statuses are ours");
static_assert((int)TRIREME_INTERNAL + 1 == (int)STATUS_COUNT, "the public statuses are ours");
static_assert(TRIREME_ID_SIZE == ULID_TEXT && TRIREME_ERROR_SIZE == ERR_TEXT_MAX, "sizes");

/* A run that had points. */
struct open_run {
    struct open_run *next;
    char id[ULID_TEXT];
    struct metrics *metrics;
};

struct trireme {
    struct net *net;
    struct session *session;
    struct open_run *runs;
    struct arena arena; /* of one request */
    struct err err;     /* of the last failure */
    struct err refusal; /* the first since the last flush; OK: none */
};

static enum trireme_status answer(enum status st) {
    return (enum trireme_status)st;
}

const char *trireme_error(const trireme *t) {
    return t->err.text;
}

static void on_answer(void *arg, const struct value *request, enum status st,
                      const struct value *reply, const struct err *err) {
    struct trireme *t = arg;
    (void)reply;
    if (st == STATUS_OK || t->refusal.status != STATUS_OK)
        return;
    t->refusal = *err;
    (void)err_wrap(&t->refusal, st, "%s", value_get_string(request, "op", "request"));
}

/* ---- open and close ---- */

static enum status choose_home(const struct trireme_options *o, char home[PATH_TEXT_MAX],
                               struct err *err) {
    if (o->home == NULL)
        return path_home(home, err);
    enum status st = path_join(home, o->home, "", err);
    for (size_t n = strlen(home); st == STATUS_OK && n > 1 && home[n - 1] == '/'; n--)
        home[n - 1] = '\0';
    return st;
}

/* Takes the first spool that no other process has, and so also what a dead one left behind. */
static enum status open_session(struct trireme *t, const char *home, const char *endpoint,
                                const struct net_keys *keys, struct err *err) {
    char dir[PATH_TEXT_MAX], spool[PATH_TEXT_MAX], name[32];
    enum status st = STATUS_OK;
    struct session_options o = {.endpoint = endpoint,
                                .keys = keys,
                                .spool = spool,
                                .clock = &clock_system,
                                .on_answer = on_answer,
                                .arg = t};
    TRY(path_join(dir, home, "spool", err));
    TRY(path_mkdirs(dir, 0700, err));
    for (int i = 0; i < SPOOLS_MAX; i++) {
        (void)snprintf(name, sizeof name, "client-%d.spool", i);
        TRY(path_join(spool, dir, name, err));
        st = session_open(t->net, &o, &t->session, err);
        if (st != STATUS_BUSY)
            goto out;
    }
    o.spool = NULL; /* the queue in memory will have to do */
    st = session_open(t->net, &o, &t->session, err);
out:
    return st;
}

static enum status open_all(struct trireme *t, const struct trireme_options *o, struct err *err) {
    char home[PATH_TEXT_MAX], endpoint[PATH_TEXT_MAX];
    struct net_keys keys = {
        .public_key = o->public_key, .secret_key = o->secret_key, .server_key = o->server_key};
    enum status st = STATUS_OK;
    TRY(choose_home(o, home, err));
    if (o->endpoint == NULL)
        TRY(path_endpoint(home, "tracker", endpoint, err));
    TRY(net_new(&t->net, err));
    TRY(open_session(t, home, o->endpoint != NULL ? o->endpoint : endpoint,
                     o->server_key != NULL ? &keys : NULL, err));
out:
    return st;
}

static void release(struct trireme *t) {
    for (struct open_run *next; t->runs != NULL; t->runs = next) {
        next = t->runs->next;
        metrics_destroy(&t->runs->metrics);
        free(t->runs);
    }
    net_destroy(&t->net);
    arena_release(&t->arena);
    free(t);
}

enum trireme_status trireme_open(const struct trireme_options *options, trireme **out,
                                 char why[TRIREME_ERROR_SIZE]) {
    struct trireme_options none = {0};
    struct err err = {.status = STATUS_OK};
    struct trireme *t = calloc(1, sizeof *t);
    enum status st;
    *out = NULL;
    if (t == NULL) {
        st = err_set(&err, STATUS_NOMEM, "out of memory for a handle");
    } else {
        arena_init(&t->arena, ARENA_BYTES_MAX);
        st = open_all(t, options != NULL ? options : &none, &err);
    }
    if (st == STATUS_OK)
        *out = t;
    else if (t != NULL)
        release(t);
    if (why != NULL)
        memcpy(why, err.text, sizeof err.text);
    return answer(st);
}

static enum status flush_points(struct trireme *t) {
    for (struct open_run *r = t->runs; r != NULL; r = r->next) {
        enum status st = metrics_flush(r->metrics, true, &t->err);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

enum trireme_status trireme_flush(trireme *t, int timeout_ms) {
    enum status st = flush_points(t);
    if (st == STATUS_OK)
        st = session_flush(t->session, timeout_ms, &t->err);
    if (st == STATUS_OK && t->refusal.status != STATUS_OK) {
        t->err = t->refusal;
        st = t->refusal.status;
        t->refusal = (struct err){.status = STATUS_OK};
    }
    return answer(st);
}

enum trireme_status trireme_close(trireme **t, int timeout_ms) {
    if (*t == NULL)
        return TRIREME_OK;
    enum status st = flush_points(*t);
    enum status closed = session_close(&(*t)->session, timeout_ms, NULL);
    if (st == STATUS_OK)
        st = (*t)->refusal.status != STATUS_OK ? (*t)->refusal.status : closed;
    release(*t);
    *t = NULL;
    return answer(st);
}

/* ---- recording ---- */

/* Sends and receives what there is, without waiting; points that are old enough go out. */
static enum status pump(struct trireme *t) {
    for (struct open_run *r = t->runs; r != NULL; r = r->next) {
        enum status st = metrics_flush(r->metrics, false, &t->err);
        if (st != STATUS_OK)
            return st;
    }
    return session_pump(t->session, &t->err);
}

static struct value *request(struct trireme *t, const char *op, const char *run) {
    arena_clear(&t->arena);
    struct value *r = message_request(&t->arena, op, NULL);
    value_set_string(&t->arena, r, "run", run);
    return r;
}

static enum status post(struct trireme *t, const struct value *r) {
    enum status st = session_post(t->session, r, NET_NO_FRAMES, &t->err);
    return st == STATUS_OK ? pump(t) : st;
}

/* Refused here and now, where the caller can see which call was wrong. */
static enum status check_given(struct trireme *t, const char *what, const void *p) {
    return p != NULL ? STATUS_OK : err_set(&t->err, STATUS_INVALID, "%s is NULL", what);
}

static enum status check_name(struct trireme *t, const char *what, const char *name) {
    enum status st = check_given(t, what, name);
    return st == STATUS_OK ? message_check_name(name, NAME_BYTES_MAX, what, &t->err) : st;
}

enum trireme_status trireme_run_create(trireme *t, const char *experiment, const char *name,
                                       char run[TRIREME_ID_SIZE]) {
    enum status st = check_name(t, "the name of an experiment", experiment);
    if (st == STATUS_OK && name != NULL)
        st = check_name(t, "the name of a run", name);
    if (st == STATUS_OK)
        st = ulid_new(run, &t->err);
    if (st != STATUS_OK)
        return answer(st);
    struct value *r = request(t, "run.create", run);
    value_set_string(&t->arena, r, "experiment", experiment);
    value_set_string(&t->arena, r, "name", name);
    return answer(post(t, r));
}

/* One run.update for one item: "params" or "tags". */
static enum status update(struct trireme *t, const char *run, const char *field, const char *name,
                          struct value *item) {
    bool tag = strcmp(field, "tags") == 0;
    enum status st = check_given(t, "the run's id", run);
    if (st == STATUS_OK)
        st = check_name(t, tag ? "the name of a tag" : "the name of a parameter", name);
    if (st != STATUS_OK)
        return st;
    if (item == NULL)
        return err_set(&t->err, STATUS_NOMEM, "out of memory for %s '%s'", field, name);
    struct value *r = message_request(&t->arena, "run.update", NULL), *map = value_map(&t->arena);
    value_set_string(&t->arena, r, "run", run);
    value_set(&t->arena, map, name, item);
    value_set(&t->arena, r, field, map);
    st = post(t, r);
    return st == STATUS_INVALID ? err_wrap(&t->err, st, "%s '%s'", tag ? "tag" : "parameter", name)
                                : st;
}

enum trireme_status trireme_param(trireme *t, const char *run, const char *name,
                                  const char *value) {
    enum status st = check_given(t, "the value of a parameter", value);
    arena_clear(&t->arena);
    return answer(st == STATUS_OK ? update(t, run, "params", name, value_string(&t->arena, value))
                                  : st);
}

enum trireme_status trireme_param_int(trireme *t, const char *run, const char *name,
                                      int64_t value) {
    arena_clear(&t->arena);
    return answer(update(t, run, "params", name, value_int(&t->arena, value)));
}

enum trireme_status trireme_param_real(trireme *t, const char *run, const char *name,
                                       double value) {
    arena_clear(&t->arena);
    return answer(update(t, run, "params", name, value_real(&t->arena, value)));
}

enum trireme_status trireme_tag(trireme *t, const char *run, const char *name, const char *value) {
    enum status st = check_given(t, "the value of a tag", value);
    arena_clear(&t->arena);
    return answer(st == STATUS_OK ? update(t, run, "tags", name, value_string(&t->arena, value))
                                  : st);
}

static enum status find_run(struct trireme *t, const char *run, struct open_run **out) {
    enum status st = check_given(t, "the run's id", run);
    if (st != STATUS_OK)
        return st;
    for (*out = t->runs; *out != NULL; *out = (*out)->next)
        if (strcmp((*out)->id, run) == 0)
            return STATUS_OK;
    if (!ulid_valid(run, strlen(run), true))
        return err_set(&t->err, STATUS_INVALID, "'%.40s' is not the id of a run", run);
    struct open_run *fresh = calloc(1, sizeof *fresh);
    if (fresh == NULL)
        return err_set(&t->err, STATUS_NOMEM, "out of memory for run %s", run);
    memcpy(fresh->id, run, ULID_TEXT);
    st = metrics_new(t->session, run, 0, &fresh->metrics, &t->err);
    if (st != STATUS_OK) {
        free(fresh);
        return st;
    }
    fresh->next = t->runs;
    t->runs = *out = fresh;
    return STATUS_OK;
}

enum trireme_status trireme_metric(trireme *t, const char *run, const char *name, int64_t step,
                                   double value) {
    struct open_run *r = NULL;
    enum status st = STATUS_OK;
    TRY(find_run(t, run, &r));
    TRY(check_given(t, "the name of a metric", name));
    TRY(metrics_add(r->metrics, name, step, value, &t->err));
    TRY(pump(t));
out:
    return answer(st);
}

enum trireme_status trireme_artifact(trireme *t, const char *run, const char *path,
                                     const void *bytes, size_t len) {
    enum status st = STATUS_OK;
    TRY(check_given(t, "the run's id", run));
    TRY(check_given(t, "the path of an artifact", path));
    TRY(check_given(t, "what an artifact holds", len > 0 ? bytes : path));
    TRY(artifact_post(t->session, &(struct artifact){.run = run, .path = path},
                      (struct net_frame){bytes, len}, NULL, &t->err));
    TRY(pump(t));
out:
    return answer(st);
}

enum trireme_status trireme_artifact_file(trireme *t, const char *run, const char *path,
                                          const char *file) {
    enum status st = STATUS_OK;
    TRY(check_given(t, "the run's id", run));
    TRY(check_given(t, "the path of an artifact", path));
    TRY(check_given(t, "an artifact's file", file));
    TRY(artifact_put_file(t->session, &(struct artifact){.run = run, .path = path}, file, NULL,
                          &t->err));
out:
    return answer(st);
}

/* The run's points go first; then it needs no columns any more. */
static enum status close_run(struct trireme *t, const char *run) {
    struct open_run **at = &t->runs, *r;
    while (*at != NULL && strcmp((*at)->id, run) != 0)
        at = &(*at)->next;
    if ((r = *at) == NULL)
        return STATUS_OK;
    enum status st = metrics_flush(r->metrics, true, &t->err);
    if (st != STATUS_OK)
        return st;
    *at = r->next;
    metrics_destroy(&r->metrics);
    free(r);
    return STATUS_OK;
}

enum trireme_status trireme_finish(trireme *t, const char *run, const char *state,
                                   const char *reason) {
    enum status st = STATUS_OK;
    TRY(check_given(t, "the run's id", run));
    TRY(check_given(t, "the state of a run's end", state));
    struct value *r = request(t, "run.update", run);
    value_set_string(&t->arena, r, "state", state);
    value_set_string(&t->arena, r, "reason", reason);
    TRY(message_check(&t->arena, message_find("run.update"), r, &t->err));
    TRY(close_run(t, run)); /* before its end: it takes no points any more */
    TRY(post(t, r));
out:
    return answer(st);
}
