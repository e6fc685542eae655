/* Records of requests: what is built can be taken apart; memory that runs out; files of any bytes.
 */
#include "tests/unit/cmocka_all.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "tests/unit/alloc_fail.h"
#include "wire/entry.h"
#include "wire/message.h"

#define CLIENT "01ARZ3NDEKTSV4RRFFQ69G5FAV"

static const struct net_frame two_frames[2] = {{"abc", 3}, {"", 0}};

static struct value *make_request(struct arena *a, const char *op) {
    struct value *r = message_request(a, op, "replaced");
    value_set_string(a, r, "run", CLIENT);
    return r;
}

static void a_request_is_taken_apart_again(void **state) {
    (void)state;
    struct arena a;
    struct err err;
    struct entry *e = NULL;
    struct net_frame header, frames[NET_FRAMES_MAX];
    size_t count;
    struct message in;
    arena_init(&a, (size_t)1 << 20);
    assert_int_equal(entry_build((struct entry_name){CLIENT, 42}, make_request(&a, "run.update"),
                                 (struct net_frames){two_frames, 2}, &e, &err),
                     STATUS_OK);
    assert_true(entry_valid(e));
    assert_string_equal(entry_id(e), CLIENT "-42");
    entry_parts(e, &header, frames, &count);
    assert_int_equal(count, 2);
    assert_int_equal(frames[0].len, 3);
    assert_memory_equal(frames[0].data, "abc", 3);
    assert_int_equal(frames[1].len, 0);
    assert_int_equal(message_parse(&a, header.data, header.len, &in, &err), STATUS_OK);
    assert_string_equal(in.type->op, "run.update");
    assert_string_equal(in.id, CLIENT "-42");
    assert_string_equal(value_get_string(in.header, "client", ""), CLIENT);
    assert_int_equal(value_get_int(in.header, "seq", 0), 42);
    free(e);

    assert_int_equal(entry_build((struct entry_name){CLIENT, 43}, make_request(&a, "run.get"),
                                 NET_NO_FRAMES, &e, &err),
                     STATUS_OK);
    entry_parts(e, &header, frames, &count);
    assert_int_equal(message_parse(&a, header.data, header.len, &in, &err), STATUS_OK);
    assert_null(value_get(in.header, "seq")); /* a question changes nothing */
    free(e);
    arena_release(&a);
}

static void what_no_server_takes_is_refused_here(void **state) {
    (void)state;
    struct arena a;
    struct err err;
    struct entry *e = NULL;
    struct net_frame frames[NET_FRAMES_MAX + 1] = {{"", 0}};
    arena_init(&a, (size_t)1 << 20);
    struct value *r = make_request(&a, "run.update");
    assert_int_equal(entry_build((struct entry_name){CLIENT, 1}, r,
                                 (struct net_frames){frames, NET_FRAMES_MAX + 1}, &e, &err),
                     STATUS_TOO_LARGE);
    frames[0].len = NET_FRAME_MAX + 1;
    assert_int_equal(
        entry_build((struct entry_name){CLIENT, 1}, r, (struct net_frames){frames, 1}, &e, &err),
        STATUS_TOO_LARGE);
    assert_int_equal(entry_build((struct entry_name){CLIENT, 1}, make_request(&a, "run.nope"),
                                 NET_NO_FRAMES, &e, &err),
                     STATUS_INVALID);
    assert_int_equal(entry_build((struct entry_name){CLIENT, 1}, NULL, NET_NO_FRAMES, &e, &err),
                     STATUS_NOMEM);
    assert_null(e);
    arena_release(&a);
}

/* A record that came from a file may hold anything. */
static void lengths_that_lie_are_found(void **state) {
    (void)state;
    struct arena a;
    struct err err;
    struct entry *e = NULL;
    arena_init(&a, (size_t)1 << 20);
    assert_int_equal(entry_build((struct entry_name){CLIENT, 42}, make_request(&a, "run.update"),
                                 (struct net_frames){two_frames, 2}, &e, &err),
                     STATUS_OK);
    for (size_t at = SPOOL_PREFIX_BYTES; at < SPOOL_PREFIX_BYTES + 16; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            e->record[at] ^= (uint8_t)(1u << bit);
            assert_false(entry_valid(e));
            e->record[at] ^= (uint8_t)(1u << bit);
        }
    assert_true(entry_valid(e));
    size_t whole = e->len;
    for (e->len = 0; e->len < whole; e->len++)
        assert_false(entry_valid(e));
    free(e);
    arena_release(&a);
}

static enum status build(void *arg) {
    struct arena a;
    struct err err;
    struct entry *e = NULL;
    (void)arg;
    arena_init(&a, (size_t)1 << 20);
    struct value *r = make_request(&a, "run.update");
    enum status st = entry_build((struct entry_name){CLIENT, 42}, r,
                                 (struct net_frames){two_frames, 2}, &e, &err);
    free(e);
    arena_release(&a);
    return st;
}

static enum status spool(void *arg) {
    struct err err;
    struct spool *s = NULL;
    struct spool_place place;
    uint8_t record[SPOOL_PREFIX_BYTES + 10] = {0};
    enum status st = spool_open(arg, 1 << 20, &s, &err);
    if (st == STATUS_OK)
        st = spool_append(s, record, sizeof record, &place, &err);
    spool_close(&s);
    return st;
}

static void memory_that_runs_out_is_said(void **state) {
    (void)state;
    char path[] = "/tmp/trireme-entry-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    alloc_fail_each(build, NULL);
    alloc_fail_each(spool, path);
    (void)unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_taken_apart_again),
        cmocka_unit_test(what_no_server_takes_is_refused_here),
        cmocka_unit_test(lengths_that_lie_are_found),
        cmocka_unit_test(memory_that_runs_out_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
