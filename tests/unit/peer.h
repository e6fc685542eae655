/* A server for tests, in a thread: the tracker and the coordinator of a group, as far as a test lays down what they say.
 *
 *     session ──▶ socket ──▶ checked by the tables of wire/ ──▶ written down ──▶ the test's answer, or ours
 *
 * It keeps artifacts (those of `files`) and answers run.get from `runs`, run.metrics from `series`, everything else with
 * ok. The test looks and changes between peer_lock and peer_unlock alone. */
#ifndef TESTS_UNIT_PEER_H
#define TESTS_UNIT_PEER_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/hash.h"
#include "core/json.h"
#include "wire/message.h"
#include "wire/session.h"

#define PEER_FILES  24
#define PEER_POINTS 64
#define PEER_ARENA  ((size_t)64 << 20)

struct peer_file {
    char run[32], path[64], digest[DIGEST_HEX];
    struct buf bytes;
    bool committed;
};

/* Of rank 0, steps ascending. */
struct peer_series {
    const char *run, *key;
    int64_t steps[PEER_POINTS];
    double values[PEER_POINTS];
    int count;
};

/* What a test says to a request: fields into `reply`, or a refusal. */
typedef enum status peer_answer_fn(void *arg, const char *op, const struct value *request,
                                   struct arena *a, struct value *reply, struct err *why);

struct peer {
    char dir[40], endpoint[64];
    struct net *net;
    struct net_socket *socket;
    pthread_t thread;
    pthread_mutex_t lock;
    bool stop;
    struct arena arena;    /* of `seen` and what a test keeps here */
    struct value *seen;    /* list: every request, in order */
    struct value *runs;    /* map: record by run */
    struct value *notices; /* list: to be sent to the group that said hello */
    size_t noticed;        /* of them, sent */
    struct net_peer group; /* who said hello last */
    struct err bad;        /* the first request that the tables refuse */
    struct peer_series series[3];
    struct peer_file files[PEER_FILES];
    int file_count;
    peer_answer_fn *answer; /* may be NULL */
    void *arg;
};

static inline void peer_lock(struct peer *p) {
    (void)pthread_mutex_lock(&p->lock);
}

static inline void peer_unlock(struct peer *p) {
    (void)pthread_mutex_unlock(&p->lock);
}

/* ---- artifacts ---- */

/* By digest while it comes, by run and path when it is there. */
static inline struct peer_file *peer_find(struct peer *p, const char *run, const char *path,
                                          const char *digest) {
    for (int i = p->file_count - 1; i >= 0; i--) {
        struct peer_file *f = &p->files[i];
        if (digest != NULL ? !f->committed && strcmp(f->digest, digest) == 0
                           : f->committed && strcmp(f->run, run) == 0 && strcmp(f->path, path) == 0)
            return f;
    }
    return NULL;
}

static inline void peer_put(struct peer *p, const char *run, const char *path, const void *bytes,
                            size_t len) {
    struct peer_file *f = peer_find(p, run, path, NULL);
    struct digest d;
    if (f == NULL && p->file_count < PEER_FILES) {
        f = &p->files[p->file_count++];
        buf_init(&f->bytes, PEER_ARENA);
    }
    if (f == NULL)
        abort();
    buf_clear(&f->bytes);
    buf_add(&f->bytes, bytes, len);
    hash_bytes(len > 0 ? bytes : "", len, &d);
    hash_hex(&d, f->digest);
    (void)snprintf(f->run, sizeof f->run, "%s", run);
    (void)snprintf(f->path, sizeof f->path, "%s", path);
    f->committed = true;
}

static inline void peer_forget(struct peer *p) {
    for (int i = 0; i < p->file_count; i++)
        buf_release(&p->files[i].bytes);
    p->file_count = 0;
}

static inline enum status peer_artifact(struct peer *p, const char *op, const struct value *request,
                                        const struct net_message *m, struct value *reply,
                                        struct net_frame *out, struct err *why) {
    const char *digest = value_get_string(request, "digest", "");
    const char *run = value_get_string(request, "run", "");
    const char *path = value_get_string(request, "path", "");
    struct peer_file *f = peer_find(p, run, path, strcmp(op, "artifact.get") != 0 ? digest : NULL);
    if (strcmp(op, "artifact.begin") == 0) {
        if (f == NULL && p->file_count < PEER_FILES) {
            f = &p->files[p->file_count++];
            *f = (struct peer_file){.committed = false};
            buf_init(&f->bytes, PEER_ARENA);
            (void)snprintf(f->digest, sizeof f->digest, "%s", digest);
        }
        value_set_bool(&p->arena, reply, "complete", false);
        value_set_int(&p->arena, reply, "offset", 0);
        value_set_int(&p->arena, reply, "chunk", (1 << 20) - 16);
        value_set_int(&p->arena, reply, "credit", 8);
        return STATUS_OK;
    }
    if (f == NULL)
        return err_set(why, STATUS_NOT_FOUND, "no such artifact");
    if (strcmp(op, "artifact.chunk") == 0) {
        if (m->frame_count == 1)
            buf_add(&f->bytes, m->frames[0].data, m->frames[0].len);
        value_set_int(&p->arena, reply, "offset", (int64_t)f->bytes.len);
    } else if (strcmp(op, "artifact.commit") == 0) {
        struct peer_file *old = peer_find(p, run, path, NULL);
        if (old != NULL)
            old->path[0] = '\0';
        f->committed = true;
        (void)snprintf(f->run, sizeof f->run, "%s", run);
        (void)snprintf(f->path, sizeof f->path, "%s", path);
    } else {
        size_t offset = (size_t)value_get_int(request, "offset", 0);
        *out = (struct net_frame){f->bytes.data + offset, f->bytes.len - offset};
        value_set_int(&p->arena, reply, "size", (int64_t)f->bytes.len);
        value_set_string(&p->arena, reply, "digest", f->digest);
        value_set_int(&p->arena, reply, "offset", (int64_t)offset);
    }
    return STATUS_OK;
}

/* ---- records ---- */

/* Columns of little-endian words: steps, times, values. */
static inline size_t peer_metrics(struct peer *p, const struct value *request, struct value *reply,
                                  struct net_frame out[3]) {
    static uint64_t columns[3][PEER_POINTS];
    int64_t after = value_get_int(request, "after_step", -1), n = 0;
    for (size_t k = 0; k < sizeof p->series / sizeof p->series[0]; k++) {
        const struct peer_series *s = &p->series[k];
        if (s->run == NULL || strcmp(s->run, value_get_string(request, "run", "")) != 0 ||
            strcmp(s->key, value_get_string(request, "key", "")) != 0)
            continue;
        for (int i = 0; i < s->count; i++)
            if (s->steps[i] > after) {
                columns[0][n] = (uint64_t)s->steps[i];
                columns[1][n] = 0;
                memcpy(&columns[2][n++], &s->values[i], sizeof s->values[i]);
            }
    }
    value_set_int(&p->arena, reply, "count", n);
    value_set_int(&p->arena, reply, "total", n);
    value_set_int(&p->arena, reply, "sequence", 0);
    for (int i = 0; i < 3; i++)
        out[i] = (struct net_frame){columns[i], (size_t)n * 8};
    return 3;
}

static inline enum status peer_handle(struct peer *p, const char *op, const struct value *request,
                                      const struct net_message *m, struct value *reply,
                                      struct net_frame out[3], size_t *count, struct err *why) {
    const char *run = value_get_string(request, "run", "");
    enum status st =
        p->answer != NULL ? p->answer(p->arg, op, request, &p->arena, reply, why) : STATUS_OK;
    if (st != STATUS_OK)
        return st;
    if (strcmp(op, "group.hello") == 0) {
        p->group = m->peer;
        if (value_get(reply, "keep") == NULL)
            value_set_bool(&p->arena, reply, "keep", true);
        value_set_int(&p->arena, reply, "beat_ms", 10);
        value_set_int(&p->arena, reply, "lease_ms", 60000);
    } else if (strncmp(op, "artifact.", 9) == 0) {
        st = peer_artifact(p, op, request, m, reply, &out[0], why);
        *count = st == STATUS_OK && strcmp(op, "artifact.get") == 0;
    } else if (strcmp(op, "run.metrics") == 0) {
        *count = peer_metrics(p, request, reply, out);
    } else if (strcmp(op, "run.get") == 0) {
        const struct value *record = value_get(p->runs, run);
        if (record == NULL)
            return err_set(why, STATUS_NOT_FOUND, "no run %s", run);
        value_set(&p->arena, reply, "run", value_copy(&p->arena, record));
    }
    return st;
}

/* ---- the thread ---- */

static inline void peer_send(struct peer *p, const struct net_peer *to, const struct value *header,
                             const struct net_frame *frames, size_t count) {
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    if (json_dump(header, JSON_COMPACT, &text, NULL) == STATUS_OK)
        (void)!net_send(p->socket,
                        &(struct net_outgoing){
                            .peer = to, .header = {text.data, text.len}, .frames = {frames, count}},
                        NULL);
    buf_release(&text);
}

static inline void peer_serve_one(struct peer *p, const struct net_message *m) {
    struct message in;
    struct err why = {0};
    struct net_frame out[3] = {{NULL, 0}};
    size_t count = 0;
    enum status st = message_parse(&p->arena, m->header.data, m->header.len, &in, &why);
    if (st != STATUS_OK && p->bad.status == STATUS_OK)
        p->bad = why;
    struct value *reply = message_reply(&p->arena, in.id);
    if (st == STATUS_OK) {
        value_push(&p->arena, p->seen, value_copy(&p->arena, in.header));
        st = peer_handle(p, in.type->op, in.header, m, reply, out, &count, &why);
    }
    if (st != STATUS_OK)
        reply = message_failure(&p->arena, in.id, &why);
    peer_send(p, &m->peer, reply, out, count);
}

static inline void *peer_serve(void *arg) {
    struct peer *p = arg;
    for (bool stop = false; !stop;) {
        struct net_message m = {0};
        bool readable = false, got = false;
        (void)!net_wait(p->socket, 2, &readable, NULL);
        if (readable && net_receive(p->socket, &m, &got, NULL) != STATUS_OK)
            got = false;
        peer_lock(p);
        if (got)
            peer_serve_one(p, &m);
        while (p->noticed < p->notices->count && p->group.len > 0)
            peer_send(p, &p->group, p->notices->items[p->noticed++], NULL, 0);
        stop = p->stop;
        peer_unlock(p);
        net_message_release(&m);
    }
    return NULL;
}

/* ---- for tests ---- */

static inline int peer_open(struct peer *p) {
    struct err err = {0};
    *p = (struct peer){.stop = false};
    pthread_mutexattr_t kind;
    (void)pthread_mutexattr_init(&kind);
    (void)pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
    (void)pthread_mutex_init(&p->lock, &kind);
    (void)pthread_mutexattr_destroy(&kind);
    arena_init(&p->arena, PEER_ARENA);
    p->seen = value_list(&p->arena);
    p->runs = value_map(&p->arena);
    p->notices = value_list(&p->arena);
    (void)snprintf(p->dir, sizeof p->dir, "/tmp/trireme-peer-XXXXXX");
    if (mkdtemp(p->dir) == NULL)
        return -1;
    (void)snprintf(p->endpoint, sizeof p->endpoint, "ipc://%s/s", p->dir);
    if (net_new(&p->net, &err) != STATUS_OK ||
        net_bind(p->net, NET_ROUTER, (struct net_place){p->endpoint, NULL}, &p->socket, &err) !=
            STATUS_OK)
        return -1;
    return pthread_create(&p->thread, NULL, peer_serve, p);
}

static inline void peer_close(struct peer *p) {
    peer_lock(p);
    p->stop = true;
    while (pthread_mutex_unlock(&p->lock) == 0) /* a test that failed may hold it still */
        continue;
    (void)pthread_join(p->thread, NULL);
    net_close(&p->socket);
    net_destroy(&p->net);
    peer_forget(p);
    arena_release(&p->arena);
    (void)pthread_mutex_destroy(&p->lock);
    (void)unlink(p->endpoint + 6);
    (void)rmdir(p->dir);
}

/* The request of this op behind number `*from`; moves on. NULL: it has not come. Locked. */
static inline const struct value *peer_next(struct peer *p, const char *op, size_t *from) {
    while (*from < p->seen->count) {
        const struct value *v = p->seen->items[(*from)++];
        if (strcmp(value_get_string(v, "op", ""), op) == 0)
            return v;
    }
    return NULL;
}

/* The last one of this op; NULL: none. Locked. */
static inline const struct value *peer_last(struct peer *p, const char *op) {
    const struct value *last = NULL;
    size_t from = 0;
    for (const struct value *v; (v = peer_next(p, op, &from)) != NULL;)
        last = v;
    return last;
}

static inline int peer_count(struct peer *p, const char *op) {
    int n = 0;
    size_t from = 0;
    peer_lock(p);
    while (peer_next(p, op, &from) != NULL)
        n++;
    peer_unlock(p);
    return n;
}

/* Says something unasked, from JSON. */
static inline void peer_notice(struct peer *p, const char *text) {
    struct value *v = NULL;
    peer_lock(p);
    if (json_parse(&p->arena, text, strlen(text), "notice", &v, NULL) != STATUS_OK)
        abort();
    value_push(&p->arena, p->notices, v);
    peer_unlock(p);
}

#endif
