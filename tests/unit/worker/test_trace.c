/* The trace: the chain by its definition, the file there and back, and every way to break it. */
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "tests/unit/cmocka_all.h"
#include "worker/train/trace.h"

#define STEPS 300

static void make(struct trace *t) {
    struct digest a, b;
    assert_int_equal(trace_init(t, 10, 1, NULL), STATUS_OK);
    for (uint32_t s = 1; s <= STEPS; s++) {
        assert_int_equal(trace_add(t, 0x3f800000u + s * 7919u, NULL), STATUS_OK);
        if (s % 100 == 0) {
            hash_bytes(&s, sizeof s, &a);
            hash_bytes(&a, sizeof a, &b);
            assert_int_equal(trace_mark(t, &a, &b, NULL), STATUS_OK);
            assert_int_equal(trace_mark(t, &b, &a, NULL), STATUS_OK); /* the first one stays */
        }
    }
}

static void test_chain(void **state) {
    (void)state;
    struct trace t;
    make(&t);
    struct digest chain = {{0}};
    for (int64_t s = 1; s <= STEPS; s++) {
        uint8_t link[DIGEST_BYTES + 12];
        memcpy(link, chain.bytes, DIGEST_BYTES);
        bytes_put_u64(link + DIGEST_BYTES, (uint64_t)s);
        bytes_put_u32(link + DIGEST_BYTES + 8, t.bits[s - 1]);
        hash_bytes(link, sizeof link, &chain);
    }
    assert_memory_equal(chain.bytes, t.chain.bytes, DIGEST_BYTES);
    trace_release(&t);
    trace_release(&t);
}

static void test_there_and_back(void **state) {
    (void)state;
    struct trace t, u;
    struct buf bytes = BUF_INIT((size_t)1 << 20);
    make(&t);
    trace_write(&t, &bytes);
    assert_int_equal(buf_status(&bytes, "trace", NULL), STATUS_OK);
    assert_int_equal(trace_init(&u, 0, 0, NULL), STATUS_OK);
    for (int round = 0; round < 2; round++) { /* reading replaces */
        assert_int_equal(trace_read(&u, bytes.data, bytes.len, NULL), STATUS_OK);
        assert_int_equal(u.count, STEPS);
        assert_int_equal(u.mark_count, 3);
        assert_memory_equal(u.bits, t.bits, STEPS * sizeof *t.bits);
        assert_memory_equal(u.marks, t.marks, 3 * sizeof *t.marks);
        assert_memory_equal(&u.chain, &t.chain, sizeof t.chain);
    }
    /* a resumed run goes on with the same chain */
    assert_int_equal(trace_add(&t, 1, NULL), STATUS_OK);
    assert_int_equal(trace_add(&u, 1, NULL), STATUS_OK);
    assert_memory_equal(&u.chain, &t.chain, sizeof t.chain);
    buf_release(&bytes);
    trace_release(&t);
    trace_release(&u);
}

static void test_broken(void **state) {
    (void)state;
    struct trace t, u;
    struct buf bytes = BUF_INIT((size_t)1 << 20);
    make(&t);
    trace_write(&t, &bytes);
    assert_int_equal(trace_init(&u, 0, 0, NULL), STATUS_OK);
    for (size_t len = 0; len < bytes.len; len += len < 70 ? 1 : 97)
        assert_int_equal(trace_read(&u, bytes.data, len, NULL), STATUS_CORRUPT);
    size_t marks = 64 + STEPS * 4, places[] = {0, 16, 24, 33, 64, 64 + 4 * 299, marks + 1};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        bytes.data[places[i]] ^= 0x41;
        assert_int_not_equal(trace_read(&u, bytes.data, bytes.len, NULL), STATUS_OK);
        bytes.data[places[i]] ^= 0x41;
    }
    bytes.data[8] = 2;
    assert_int_equal(trace_read(&u, bytes.data, bytes.len, NULL), STATUS_TOO_NEW);
    bytes.data[8] = 1;
    assert_int_equal(trace_read(&u, bytes.data, bytes.len, NULL), STATUS_OK);
    buf_release(&bytes);
    trace_release(&t);
    trace_release(&u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
