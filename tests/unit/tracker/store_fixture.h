/* What the tests of the store share: a store in a directory of its own, requests from JSON with
 * single quotes, a clock that stops until it is moved. */
#ifndef TESTS_UNIT_TRACKER_STORE_FIXTURE_H
#define TESTS_UNIT_TRACKER_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/path.h"
#include "tracker/ops/store.h"

#define RUN_A "01J8AAAAAAAAAAAAAAAAAAAAA1"
#define RUN_B "01J8AAAAAAAAAAAAAAAAAAAAB2"
#define RUN_C "01J8BBBBBBBBBBBBBBBBBBBBB3"
#define SWEEP "01J8SSSSSSSSSSSSSSSSSSSSS1"

struct fixture {
    char dir[64];
    struct store_options options;
    struct clock clock;
    int64_t now_ns;
    struct store *s;
    struct arena a;
    struct err err;
    struct value *reply;
    struct buf bytes;
    size_t frame_lens[NET_FRAMES_MAX], frame_count;
    /* the last delta */
    int deltas;
    char topic[64], op[32];
    uint64_t sequence;
    struct value *header;
    enum net_role role; /* of who asks */
};

static int64_t fixture_now(void *self) {
    return ((struct fixture *)self)->now_ns;
}

static int fixture_unlink(const char *path, const struct stat *sb, int flag, struct FTW *ftw) {
    (void)sb, (void)flag, (void)ftw;
    return remove(path);
}

static inline void fixture_open(struct fixture *f) {
    enum status st = store_open(f->dir, &f->options, &f->s, &f->err);
    if (st != STATUS_OK)
        fail_msg("store_open: %s: %s", status_name(st), f->err.text);
}

static inline void fixture_init(struct fixture *f) {
    memset(f, 0, sizeof *f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/trireme-store-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->now_ns = INT64_C(1790000000) * NS_PER_S;
    f->clock = (struct clock){fixture_now, fixture_now, f};
    f->options.clock = &f->clock;
    f->role = NET_ADMIN;
    f->options.meta_bytes = (size_t)1 << 30;
    f->options.blobs_bytes = (size_t)1 << 30;
    arena_init(&f->a, (size_t)1 << 30);
    buf_init(&f->bytes, (size_t)64 << 20);
    fixture_open(f);
}

static inline void fixture_release(struct fixture *f) {
    store_close(&f->s);
    arena_release(&f->a);
    buf_release(&f->bytes);
    (void)nftw(f->dir, fixture_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void fixture_reopen(struct fixture *f) {
    store_close(&f->s);
    fixture_open(f);
}

/* 'single' quotes become "double" ones. */
static inline struct value *fixture_json(struct fixture *f, const char *text) {
    char *copy = arena_strdup(&f->a, text);
    for (char *p = copy; *p != '\0'; p++)
        if (*p == '\'')
            *p = '"';
    struct value *v = NULL;
    enum status st = json_parse(&f->a, copy, strlen(copy), "test", &v, &f->err);
    if (st != STATUS_OK)
        fail_msg("%s: %s", f->err.text, copy);
    return v;
}

static inline void fixture_delta(struct fixture *f, const struct store_delta *d) {
    f->deltas++;
    (void)snprintf(f->topic, sizeof f->topic, "%s", d->topic);
    (void)snprintf(f->op, sizeof f->op, "%s", value_get_string(d->header, "op", ""));
    f->sequence = d->sequence;
    f->header = d->header;
    for (const struct message_type *t = message_table(SERVER_FEED); t->op != NULL; t++) {
        struct value fields = *d->header;
        if (strcmp(t->op, f->op) != 0)
            continue;
        fields.members += 4; /* v, topic, sequence, op come first */
        fields.count -= 4;
        if (schema_check(t->request, &fields, NULL, "", &f->err) != STATUS_OK)
            fail_msg("delta %s: %s", f->op, f->err.text);
        return;
    }
    fail_msg("delta %s is not in the feed's table", f->op);
}

/* A whole message, checked as the server checks it. */
static inline const struct message_type *fixture_message(struct fixture *f, const char *op,
                                                         const char *fields, struct value **out) {
    struct value *v = fixture_json(f, fields), *m = message_request(&f->a, op, "t1");
    for (size_t i = 0; i < v->count; i++)
        value_set(&f->a, m, v->members[i].key, v->members[i].value);
    struct buf text = BUF_INIT((size_t)8 << 20);
    struct message parsed;
    assert_int_equal(json_dump(m, JSON_COMPACT, &text, &f->err), STATUS_OK);
    enum status st = message_parse(&f->a, text.data, text.len, &parsed, &f->err);
    buf_release(&text);
    if (st != STATUS_OK)
        fail_msg("%s %s: %s", op, fields, f->err.text);
    f->reply = message_reply(&f->a, parsed.id);
    *out = parsed.header;
    return parsed.type;
}

static inline void fixture_check_reply(struct fixture *f, const struct message_type *type) {
    struct err err;
    if (message_check_reply(&f->a, type, f->reply, &err) != STATUS_OK)
        fail_msg("%s", err.text);
}

/* Applied or answered into f->reply, built in `a`. */
static inline enum status fixture_send(struct fixture *f, const struct store_request *request,
                                       struct arena *a, struct err *err) {
    struct store_answer answer = {.a = a, .header = f->reply, .bytes = &f->bytes};
    enum status st = request->type->writes ? store_apply(f->s, request, &answer, err)
                                           : store_read(f->s, request, &answer, err);
    for (size_t i = 0; i < answer.delta_count; i++)
        fixture_delta(f, &answer.deltas[i]);
    memcpy(f->frame_lens, answer.frame_lens, sizeof f->frame_lens);
    f->frame_count = answer.frame_count;
    return st;
}

static inline enum status fixture_apply(struct fixture *f, const char *op, const char *fields,
                                        const struct net_frame *frames, size_t frame_count) {
    struct value *request;
    const struct message_type *type = fixture_message(f, op, fields, &request);
    enum status st = fixture_send(
        f,
        &(struct store_request){
            .type = type, .header = request, .frames = {frames, frame_count}, .role = f->role},
        &f->a, &f->err);
    if (st == STATUS_OK)
        fixture_check_reply(f, type);
    return st;
}

/* A transaction of one. After a failed request it is empty, and committed all the same. */
static inline enum status fixture_write(struct fixture *f, const char *op, const char *fields,
                                        const struct net_frame *frames, size_t frame_count) {
    struct err err;
    enum status st = store_begin(f->s, &f->err);
    if (st != STATUS_OK)
        return st;
    st = fixture_apply(f, op, fields, frames, frame_count);
    enum status committed = store_commit(f->s, st == STATUS_OK ? &f->err : &err);
    return st != STATUS_OK ? st : committed;
}

static inline enum status fixture_read(struct fixture *f, const char *op, const char *fields) {
    struct value *request;
    const struct message_type *type = fixture_message(f, op, fields, &request);
    buf_clear(&f->bytes);
    enum status st =
        fixture_send(f, &(struct store_request){.type = type, .header = request, .role = f->role},
                     &f->a, &f->err);
    if (st == STATUS_OK)
        fixture_check_reply(f, type);
    return st;
}

#define WRITE_OK(f, op, fields)                                                                    \
    do {                                                                                           \
        if (fixture_write(f, op, fields, NULL, 0) != STATUS_OK)                                    \
            fail_msg("%s: %s", op, (f)->err.text);                                                 \
    } while (0)
#define READ_OK(f, op, fields)                                                                     \
    do {                                                                                           \
        if (fixture_read(f, op, fields) != STATUS_OK)                                              \
            fail_msg("%s: %s", op, (f)->err.text);                                                 \
    } while (0)
#define WRITE_FAILS(f, status, op, fields)                                                         \
    assert_int_equal(fixture_write(f, op, fields, NULL, 0), status)
#define READ_FAILS(f, status, op, fields) assert_int_equal(fixture_read(f, op, fields), status)

static inline void fixture_run(struct fixture *f, const char *run) {
    char text[256];
    (void)snprintf(text, sizeof text, "{'run':'%s','experiment':'e1'}", run);
    WRITE_OK(f, "run.create", text);
}

#endif
