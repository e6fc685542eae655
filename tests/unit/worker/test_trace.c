/* The trace: the chain by its definition, the file there and back, and every way to break it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "tests/unit/cmocka_all.h"
#include "worker/train/trace.h"

#define STEPS 300

#define GOLDEN_CHAIN "460b1dea0ce306967fc8afe2314bd8ed637437e43c6d37542c1ec3ee9a24a45c"
#define GOLDEN_FILE  "f4ee8b4df658904faa340fa25c9fd451dee28eb572341e7145e3c41b1256445a"
#define GOLDEN_V1    "d1243d7c8f161c96cf155d054f9a85f673db8dc7f3011c8257693c47f799511f"

static void make(struct trace *t, int64_t steps) {
    struct digest a, b;
    assert_int_equal(trace_init(t, 10, 1, NULL), STATUS_OK);
    for (uint32_t s = 1; s <= steps; s++) {
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
    make(&t, STEPS);
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

/* Chunk by chunk into `u`; how many there were. */
static int chunks(struct trace *t, struct trace *u) {
    struct buf bytes = BUF_INIT((size_t)1 << 20);
    int n = 0;
    while (t->count > t->first) {
        char path[TRACE_PATH_MAX], want[TRACE_PATH_MAX];
        trace_path(t, path);
        (void)snprintf(want, sizeof want, "trace/%06d.bin", n++);
        assert_string_equal(path, want);
        buf_clear(&bytes);
        trace_write(t, &bytes);
        assert_int_equal(buf_status(&bytes, "trace", NULL), STATUS_OK);
        assert_int_equal(trace_append(u, bytes.data, bytes.len, NULL), STATUS_OK);
        if (!trace_cut(t))
            break;
    }
    buf_release(&bytes);
    return n;
}

static void test_there_and_back(void **state) {
    (void)state;
    for (int64_t steps = 1; steps <= 3 * TRACE_CHUNK + 1; steps += TRACE_CHUNK - 1) {
        struct trace t, u, v;
        make(&t, steps);
        make(&v, steps);
        assert_int_equal(trace_init(&u, 0, 0, NULL), STATUS_OK);
        assert_int_equal(chunks(&t, &u), (steps + TRACE_CHUNK - 1) / TRACE_CHUNK);
        assert_true(t.first <= steps && t.count == steps && u.first == 0 && u.count == steps);
        assert_true(t.count - t.first < TRACE_CHUNK); /* what is written is let go */
        assert_int_equal(u.mark_count, steps / 100);
        assert_memory_equal(u.bits, v.bits, (size_t)steps * sizeof *u.bits);
        if (u.mark_count > 0)
            assert_memory_equal(u.marks, v.marks, (size_t)u.mark_count * sizeof *u.marks);
        /* a resumed run goes on with the same chain, and so does one that let chunks go */
        assert_int_equal(trace_add(&t, 1, NULL), STATUS_OK);
        assert_int_equal(trace_add(&u, 1, NULL), STATUS_OK);
        assert_int_equal(trace_add(&v, 1, NULL), STATUS_OK);
        assert_memory_equal(&u.chain, &v.chain, sizeof u.chain);
        assert_memory_equal(&t.chain, &v.chain, sizeof t.chain);
        /* back to where it was, and to nothing that is held */
        struct digest longer = u.chain, start = {{0}};
        trace_shorten(&u, steps);
        assert_int_equal(u.mark_count, steps / 100);
        assert_memory_not_equal(&u.chain, &longer, sizeof longer);
        assert_int_equal(trace_add(&u, 1, NULL), STATUS_OK);
        assert_memory_equal(&u.chain, &longer, sizeof longer);
        trace_shorten(&u, 0);
        assert_true(u.mark_count == 0 && memcmp(&u.chain, &start, sizeof start) == 0);
        trace_release(&t);
        trace_release(&u);
        trace_release(&v);
    }
}

/* Bytes that are written are O(steps), however often a checkpoint is made. */
static void test_bytes_written(void **state) {
    (void)state;
    enum { EVERY = 10, CHECKPOINTS = 3000 };
    struct trace t;
    struct buf bytes = BUF_INIT((size_t)1 << 20);
    size_t most = 0;
    assert_int_equal(trace_init(&t, 0, 0, NULL), STATUS_OK);
    for (int c = 0; c < CHECKPOINTS; c++) {
        for (int s = 0; s < EVERY; s++)
            assert_int_equal(trace_add(&t, (uint32_t)s, NULL), STATUS_OK);
        buf_clear(&bytes);
        do
            trace_write(&t, &bytes);
        while (trace_cut(&t) && t.count > t.first);
        most = bytes.len > most ? bytes.len : most;
    }
    assert_int_equal(t.count, EVERY * CHECKPOINTS);
    assert_true(most <= (size_t)(TRACE_CHUNK + EVERY) * 4 + (size_t)2 * 104);
    buf_release(&bytes);
    trace_release(&t);
}

static void test_broken(void **state) {
    (void)state;
    struct trace t, u;
    struct buf bytes = BUF_INIT((size_t)1 << 20);
    make(&t, STEPS);
    trace_write(&t, &bytes);
    assert_int_equal(trace_init(&u, 0, 0, NULL), STATUS_OK);
    const struct digest start = {{0}};
#define READ(len) (trace_begin_at(&u, 0, &start), trace_append(&u, bytes.data, len, NULL))
    for (size_t len = 0; len < bytes.len; len += len < 120 ? 1 : 97)
        assert_int_equal(READ(len), STATUS_CORRUPT);
    size_t marks = 104 + STEPS * 4,
           places[] = {0, 16, 24, 32, 40, 71, 72, 103, 104, 104 + 4 * 299, marks + 1};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        bytes.data[places[i]] ^= 0x41;
        assert_int_not_equal(READ(bytes.len), STATUS_OK);
        bytes.data[places[i]] ^= 0x41;
    }
    bytes.data[8] = 3;
    assert_int_equal(READ(bytes.len), STATUS_TOO_NEW);
    bytes.data[8] = 2;
    assert_int_equal(READ(bytes.len), STATUS_OK);
    assert_int_equal(trace_append(&u, bytes.data, bytes.len, NULL), STATUS_CORRUPT); /* twice */
    buf_release(&bytes);
    trace_release(&t);
    trace_release(&u);
}

/* What was written once must be read for ever: bytes and chains as literals, so that a change of what
 * writes and what reads together is seen. */
static void test_golden(void **state) {
    (void)state;
    struct trace t, u;
    struct buf bytes = BUF_INIT((size_t)1 << 20);
    struct digest d;
    char hex[DIGEST_HEX];
    make(&t, STEPS);
    hash_hex(&t.chain, hex);
    assert_string_equal(hex, GOLDEN_CHAIN);
    trace_write(&t, &bytes);
    hash_bytes(bytes.data, bytes.len, &d);
    hash_hex(&d, hex);
    assert_string_equal(hex, GOLDEN_FILE);
    /* Version 1: one file, without `first` and the chain behind it. */
    struct buf old = BUF_INIT((size_t)1 << 20);
    buf_add(&old, "TRITRACE\1\0\0\0\0\0\0\0", 16);
    buf_add(&old, bytes.data + 24, 16);
    buf_add(&old, bytes.data + 72, bytes.len - 72);
    hash_bytes(old.data, old.len, &d);
    hash_hex(&d, hex);
    assert_string_equal(hex, GOLDEN_V1);
    assert_int_equal(trace_init(&u, 0, 0, NULL), STATUS_OK);
    assert_int_equal(trace_append(&u, old.data, old.len, NULL), STATUS_OK);
    assert_memory_equal(&u.chain, &t.chain, sizeof t.chain);
    assert_true(u.count == STEPS && u.mark_count == STEPS / 100);
    buf_release(&bytes);
    buf_release(&old);
    trace_release(&t);
    trace_release(&u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain),         cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_bytes_written), cmocka_unit_test(test_broken),
        cmocka_unit_test(test_golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
