/* Artifacts against a small server in a thread: one artifact, chunks of CHUNK bytes. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/json.h"
#include "core/path.h"
#include "tests/unit/cmocka_all.h"
#include "wire/artifact.h"

#define RUN   "01ARZ3NDEKTSV4RRFFQ69G5FAV"
#define CHUNK 1000
#define TOP   ((size_t)16 << 20)

struct server {
    char dir[32], endpoint[64];
    struct net *net;
    struct net_socket *socket;
    struct session *session;
    pthread_t thread;
    atomic_bool stop;
    atomic_uint turn;
    /* of the thread; the test looks only between calls, after hand_over */
    char digest[DIGEST_HEX], path[64];
    struct buf bytes;
    int chunks, commits;
    bool committed, flip; /* flip: damages what it sends */
};

static void must(enum status st, const struct err *err) {
    if (st != STATUS_OK)
        fail_msg("%s: %s", status_name(st), err->text);
}

/* What one thread did before is done for the other after: request and reply say so already, but
 * the thread sanitizer does not see through libzmq. */
static void hand_over(struct server *v) {
    atomic_fetch_add(&v->turn, 1);
}

static enum status get(struct server *v, struct arena *a, const struct value *request,
                       struct value *reply, struct net_frame *out, struct err *why) {
    size_t offset = (size_t)value_get_int(request, "offset", 0);
    if (!v->committed || strcmp(value_get_string(request, "path", ""), v->path) != 0)
        return err_set(why, STATUS_NOT_FOUND, "no such path");
    size_t left = v->bytes.len - offset;
    char *part = arena_copy(a, left > 0 ? v->bytes.data + offset : "", left);
    if (v->flip && left > 0)
        part[0] ^= 1;
    *out = (struct net_frame){part, left > 300000 ? 300000 : left};
    value_set_int(a, reply, "size", (int64_t)v->bytes.len);
    value_set_string(a, reply, "digest", v->digest);
    value_set_int(a, reply, "offset", (int64_t)offset);
    return STATUS_OK;
}

static enum status handle(struct server *v, struct arena *a, const char *op,
                          const struct value *request, const struct net_message *m,
                          struct value *reply, struct net_frame *out, struct err *why) {
    const char *digest = value_get_string(request, "digest", "");
    size_t offset = (size_t)value_get_int(request, "offset", 0);
    if (strcmp(op, "artifact.begin") == 0) {
        if (strcmp(digest, v->digest) != 0) {
            (void)snprintf(v->digest, sizeof v->digest, "%s", digest);
            buf_clear(&v->bytes);
            v->committed = false;
        }
        value_set_bool(a, reply, "complete", v->committed);
        value_set_int(a, reply, "offset", (int64_t)v->bytes.len);
        value_set_int(a, reply, "chunk", CHUNK);
        value_set_int(a, reply, "credit", 8);
    } else if (strcmp(op, "artifact.chunk") == 0) {
        v->chunks++;
        if (strcmp(digest, v->digest) != 0 || offset > v->bytes.len)
            return err_set(why, STATUS_CONFLICT, "begin first");
        if (offset == v->bytes.len)
            buf_add(&v->bytes, m->frames[0].data, m->frames[0].len);
        value_set_int(a, reply, "offset", (int64_t)v->bytes.len);
    } else if (strcmp(op, "artifact.commit") == 0) {
        struct digest d;
        char hex[DIGEST_HEX];
        hash_bytes(v->bytes.data != NULL ? v->bytes.data : "", v->bytes.len, &d);
        hash_hex(&d, hex);
        v->commits++;
        if (strcmp(hex, digest) != 0)
            return err_set(why, STATUS_CORRUPT, "other bytes");
        v->committed = true;
        (void)snprintf(v->path, sizeof v->path, "%s", value_get_string(request, "path", ""));
    } else if (strcmp(op, "artifact.get") == 0) {
        return get(v, a, request, reply, out, why);
    }
    return STATUS_OK;
}

static void serve_one(struct server *v, const struct net_message *m) {
    struct arena a;
    struct err why, err;
    struct message in;
    struct net_frame out = {NULL, 0};
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    arena_init(&a, TOP);
    hand_over(v);
    enum status st = message_parse(&a, m->header.data, m->header.len, &in, &why);
    struct value *reply = message_reply(&a, in.id);
    if (st == STATUS_OK)
        st = handle(v, &a, in.type->op, in.header, m, reply, &out, &why);
    if (st != STATUS_OK)
        reply = message_failure(&a, in.id, &why);
    hand_over(v);
    if (json_dump(reply, JSON_COMPACT, &text, &err) == STATUS_OK)
        (void)!net_send(v->socket,
                        &(struct net_outgoing){.peer = &m->peer,
                                               .header = {text.data, text.len},
                                               .frames = {&out, out.data != NULL}},
                        &err);
    buf_release(&text);
    arena_release(&a);
}

static void *serve(void *arg) {
    struct server *v = arg;
    while (!atomic_load(&v->stop)) {
        struct net_message m = {0};
        bool readable = false, got = false;
        if (net_wait(v->socket, 10, &readable, NULL) == STATUS_OK && readable &&
            net_receive(v->socket, &m, &got, NULL) == STATUS_OK && got)
            serve_one(v, &m);
        net_message_release(&m);
    }
    return NULL;
}

static int setup(void **state) {
    struct err err;
    struct server *v = calloc(1, sizeof *v);
    (void)snprintf(v->dir, sizeof v->dir, "/tmp/trireme-a-XXXXXX");
    if (mkdtemp(v->dir) == NULL)
        return -1;
    (void)snprintf(v->endpoint, sizeof v->endpoint, "ipc://%s/s", v->dir);
    buf_init(&v->bytes, TOP);
    must(net_new(&v->net, &err), &err);
    must(net_bind(v->net, NET_ROUTER, (struct net_place){v->endpoint, NULL}, &v->socket, &err),
         &err);
    struct session_options o = {.endpoint = v->endpoint, .clock = &clock_system};
    must(session_open(v->net, &o, &v->session, &err), &err);
    *state = v;
    return pthread_create(&v->thread, NULL, serve, v);
}

static int teardown(void **state) {
    struct server *v = *state;
    (void)session_close(&v->session, 0, NULL);
    atomic_store(&v->stop, true);
    (void)pthread_join(v->thread, NULL);
    net_close(&v->socket);
    net_destroy(&v->net);
    buf_release(&v->bytes);
    (void)unlink(v->endpoint + 6);
    (void)rmdir(v->dir);
    free(v);
    return 0;
}

static char *make_bytes(size_t len) {
    char *bytes = malloc(len + 1);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)(i * 2654435761u >> 7);
    return bytes;
}

static void bytes_go_and_come(void **state) {
    struct server *v = *state;
    struct err err;
    static const size_t sizes[] = {0, 1, CHUNK, CHUNK + 1, 700000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct buf out = BUF_INIT(TOP);
        struct digest put, got;
        char *bytes = make_bytes(sizes[i]);
        must(artifact_put(v->session, &(struct artifact){.run = RUN, .path = "a/b"},
                          (struct net_frame){bytes, sizes[i]}, &put, &err),
             &err);
        buf_adds(&out, "before");
        must(artifact_get(v->session, &(struct artifact){.run = RUN, .path = "a/b"}, &out, &got,
                          &err),
             &err);
        assert_memory_equal(put.bytes, got.bytes, DIGEST_BYTES);
        assert_int_equal(out.len, sizes[i] + 6);
        assert_memory_equal(out.data + 6, bytes, sizes[i]);
        free(bytes);
        buf_release(&out);
    }
}

static void an_upload_goes_on_where_it_stopped(void **state) {
    struct server *v = *state;
    struct err err;
    struct digest d;
    char *bytes = make_bytes(10 * CHUNK);
    hash_bytes(bytes, 10 * CHUNK, &d);
    hash_hex(&d, v->digest);
    buf_add(&v->bytes, bytes, 7 * CHUNK);
    hand_over(v);
    must(artifact_put(v->session, &(struct artifact){.run = RUN, .path = "x"},
                      (struct net_frame){bytes, 10 * CHUNK}, NULL, &err),
         &err);
    hand_over(v);
    assert_int_equal(v->chunks, 3);
    must(artifact_put(v->session, &(struct artifact){.run = RUN, .path = "x"},
                      (struct net_frame){bytes, 10 * CHUNK}, NULL, &err),
         &err);
    hand_over(v);
    assert_int_equal(v->chunks, 3); /* the bytes are there */
    assert_int_equal(v->commits, 2);
    free(bytes);
}

static void files_and_posts(void **state) {
    struct server *v = *state;
    struct err err;
    char file[64];
    char *bytes = make_bytes(3 * ARTIFACT_CHUNK);
    (void)snprintf(file, sizeof file, "%s/file", v->dir);
    must(path_write(file, bytes, 5 * CHUNK + 1, 0600, &err), &err);
    must(artifact_put_file(v->session, &(struct artifact){.run = RUN, .path = "file"}, file, NULL,
                           &err),
         &err);
    hand_over(v);
    assert_int_equal(v->bytes.len, 5 * CHUNK + 1);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(artifact_put_file(v->session, &(struct artifact){.run = RUN, .path = "file"},
                                       file, NULL, &err),
                     STATUS_NOT_FOUND);
    hand_over(v);
    assert_int_equal(artifact_put_file(v->session, &(struct artifact){.run = RUN, .path = "file"},
                                       v->dir, NULL, &err),
                     STATUS_INVALID);
    hand_over(v);

    v->chunks = 0;
    hand_over(v);
    must(artifact_post(v->session, &(struct artifact){.run = RUN, .path = "post"},
                       (struct net_frame){bytes, 3 * ARTIFACT_CHUNK}, NULL, &err),
         &err);
    must(session_flush(v->session, 20000, &err), &err);
    hand_over(v);
    assert_int_equal(v->chunks, 3);
    assert_true(v->committed);
    assert_string_equal(v->path, "post");
    free(bytes);
}

static void damage_and_absence_are_said(void **state) {
    struct server *v = *state;
    struct err err;
    struct buf out = BUF_INIT(TOP);
    must(artifact_put(v->session, &(struct artifact){.run = RUN, .path = "a"},
                      (struct net_frame){"bytes", 5}, NULL, &err),
         &err);
    hand_over(v);
    assert_int_equal(
        artifact_get(v->session, &(struct artifact){.run = RUN, .path = "b"}, &out, NULL, &err),
        STATUS_NOT_FOUND);
    hand_over(v);
    v->flip = true;
    hand_over(v);
    assert_int_equal(
        artifact_get(v->session, &(struct artifact){.run = RUN, .path = "a"}, &out, NULL, &err),
        STATUS_CORRUPT);
    hand_over(v);
    v->flip = false;
    hand_over(v);
    struct buf small = BUF_INIT(3);
    assert_int_equal(
        artifact_get(v->session, &(struct artifact){.run = RUN, .path = "a"}, &small, NULL, &err),
        STATUS_TOO_LARGE);
    hand_over(v);
    buf_release(&out);
    buf_release(&small);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(bytes_go_and_come),
        T(an_upload_goes_on_where_it_stopped),
        T(files_and_posts),
        T(damage_and_absence_are_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
