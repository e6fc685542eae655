/* Points: packed and unpacked to the bit, thinned with their extremes. Random, from a printed seed.
 */
#include "tests/unit/tracker/store_fixture.h"

#include <math.h>
#include <time.h>

#include "core/bytes.h"
#include "tracker/map/sum.h"
#include "tracker/series/codec.h"

#define POINTS 6000

static uint64_t rng_state;

static uint64_t rng(void) { /* splitmix64 */
    uint64_t z = rng_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static double unit(void) {
    return (double)(rng() >> 11) * 0x1p-53;
}

static uint64_t bits_of(double v) {
    uint64_t u;
    memcpy(&u, &v, 8);
    return u;
}

static double value_of(uint64_t u) {
    double v;
    memcpy(&v, &u, 8);
    return v;
}

struct data {
    int64_t step[POINTS], time_ns[POINTS];
    uint64_t bits[POINTS];
};

static uint64_t odd_value(void) {
    static const uint64_t odd[] = {
        0x8000000000000000, 0x7ff0000000000000,
        0xfff0000000000000, 0x7ff8000000000000,
        0x7ff8000000001234, 0xfff0000000000001,
        0x0000000000000001, 0x800fffffffffffff,
        0x7fefffffffffffff, 0,
    };
    return odd[rng() % (sizeof odd / sizeof odd[0])];
}

/* Kinds of series: usual losses, float32 losses, constants, wild bits, NaN only, wild steps. */
static void make(struct data *d, size_t n, int kind) {
    int64_t step = 0, now = INT64_C(1790000000) * NS_PER_S;
    double loss = 2.3;
    for (size_t i = 0; i < n; i++) {
        step += kind == 5 ? (int64_t)(rng() % 7) - 2 : 1;
        now += (int64_t)(1000000 + rng() % 100000);
        loss *= 1 - 0.01 * unit();
        d->step[i] = kind == 3 ? (int64_t)rng() : step;
        d->time_ns[i] = kind == 3 ? (int64_t)rng() : now;
        d->bits[i] = kind == 0   ? bits_of(loss)
                     : kind == 1 ? bits_of((double)(float)(loss + 0.1 * unit()))
                     : kind == 2 ? bits_of(0.001)
                     : kind == 3 ? rng()
                     : kind == 4 ? 0x7ff8000000000000 | (rng() & 0xfffff)
                                 : bits_of((double)(float)unit());
        if (kind != 4 && rng() % 50 == 0)
            d->bits[i] = odd_value();
    }
    if (kind == 3) {
        d->step[0] = INT64_MIN;
        d->step[n - 1] = INT64_MAX;
    }
}

static void chunks_keep_bits(void **state) {
    (void)state;
    static struct data d;
    static struct points p, q;
    for (int round = 0; round < 300; round++) {
        size_t n = 1 + rng() % 1500;
        struct chunk out, part;
        struct chunk_info info;
        struct err err;
        make(&d, n, round % 6);
        memcpy(p.step, d.step, n * 8);
        memcpy(p.time_ns, d.time_ns, n * 8);
        memcpy(p.bits, d.bits, n * 8);
        p.count = n;
        size_t taken = codec_encode(&p, 77, &out);
        assert_in_range(taken, 1, n);
        assert_in_range(out.len, CHUNK_HEADER + 1, CHUNK_BYTES_MAX);
        /* as many are taken when fewer follow */
        p.count = taken;
        assert_int_equal(codec_encode(&p, 77, &part), taken);
        for (int sealed = 0; sealed < 2; sealed++) {
            assert_int_equal(codec_decode((struct kv_bytes){out.bytes, out.len}, &info, &q, &err),
                             STATUS_OK);
            assert_int_equal(info.count, taken);
            assert_int_equal(q.count, taken);
            assert_int_equal(info.first, 77);
            assert_memory_equal(q.step, d.step, taken * 8);
            assert_memory_equal(q.time_ns, d.time_ns, taken * 8);
            assert_memory_equal(q.bits, d.bits, taken * 8);
            for (size_t i = 0; i < taken; i++) {
                assert_true(info.step_min <= d.step[i] && d.step[i] <= info.step_max);
                assert_false(value_of(d.bits[i]) < info.min || value_of(d.bits[i]) > info.max);
            }
            codec_seal(&out);
        }
        /* damage is noticed, or harmless; never a crash */
        for (int i = 0; i < 40; i++) {
            uint8_t bad[CHUNK_BYTES_MAX];
            size_t len = out.len;
            memcpy(bad, out.bytes, len);
            size_t at = rng() % len, cut = rng() % 4 == 0 ? rng() % len : len;
            bad[at] ^= (uint8_t)(1 + rng() % 255);
            assert_int_equal(codec_decode((struct kv_bytes){bad, cut}, &info, &q, &err),
                             STATUS_CORRUPT);
        }
    }
}

static void garbage_is_refused(void **state) {
    (void)state;
    static struct points q;
    struct chunk_info info;
    struct err err;
    uint8_t c[CHUNK_BYTES_MAX];
    for (int i = 0; i < 3000; i++) {
        size_t len = rng() % sizeof c;
        for (size_t j = 0; j < len; j++)
            c[j] = (uint8_t)rng();
        c[0] = (uint8_t)(i % 3);
        assert_int_equal(codec_decode((struct kv_bytes){c, len}, &info, &q, &err), STATUS_CORRUPT);
    }
}

static uint32_t sum_of(const uint8_t *c, size_t len) {
    uint64_t h = sum_add(sum_begin(len), c, 48);
    return sum_end(sum_add(h, c + CHUNK_HEADER, len - CHUNK_HEADER));
}

/* Lengths that lead out of the chunk, under a sum that is right. */
static void forged_lengths_are_refused(void **state) {
    (void)state;
    static struct points p, q;
    static struct data d;
    struct chunk out;
    struct chunk_info info;
    struct err err;
    make(&d, 200, 0);
    memcpy(p.step, d.step, sizeof p.step[0] * 200);
    memcpy(p.time_ns, d.time_ns, sizeof p.time_ns[0] * 200);
    memcpy(p.bits, d.bits, sizeof p.bits[0] * 200);
    p.count = 200;
    assert_int_equal(codec_encode(&p, 0, &out), 200);
    assert_int_equal(out.bytes[0], 1); /* delta */
    unsigned rest = (unsigned)(out.len - CHUNK_HEADER - 4);
    unsigned steps = bytes_get_u16(out.bytes + CHUNK_HEADER);
    const unsigned forged[][2] = {{rest + 1, 0}, {65535, 0},     {steps, rest - steps + 1},
                                  {rest, 1},     {steps, 65535}, {65535, 65535},
                                  {0, rest},     {rest, 65535},  {0, 0}};
    for (size_t i = 0; i < sizeof forged / sizeof forged[0]; i++) {
        uint8_t *c = malloc(out.len); /* exactly: a sanitizer sees what is read behind it */
        memcpy(c, out.bytes, out.len);
        bytes_put_u16(c + CHUNK_HEADER, (uint16_t)forged[i][0]);
        bytes_put_u16(c + CHUNK_HEADER + 2, (uint16_t)forged[i][1]);
        bytes_put_u32(c + 48, sum_of(c, out.len));
        assert_int_equal(codec_decode((struct kv_bytes){c, out.len}, &info, &q, &err),
                         STATUS_CORRUPT);
        free(c);
    }
    bytes_put_u32(out.bytes + 48, sum_of(out.bytes, out.len)); /* the sum is the right one */
    assert_int_equal(codec_decode((struct kv_bytes){out.bytes, out.len}, &info, &q, &err),
                     STATUS_OK);
}

static int setup(void **state) {
    struct fixture *f = malloc(sizeof *f);
    fixture_init(f);
    fixture_run(f, RUN_A);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    fixture_release(f);
    free(f);
    return 0;
}

static enum status log_points(struct fixture *f, const char *key, unsigned rank,
                              const struct data *d, size_t from, size_t n) {
    char text[200];
    (void)snprintf(text, sizeof text,
                   "{'run':'" RUN_A "','rank':%u,'series':[{'key':'%s','count':%zu}]}", rank, key,
                   n);
    struct net_frame frames[3] = {
        {d->step + from, n * 8}, {d->time_ns + from, n * 8}, {d->bits + from, n * 8}};
    return fixture_write(f, "run.log", text, frames, 3);
}

static const uint8_t *column(const struct fixture *f, size_t which) {
    return (const uint8_t *)f->bytes.data + which * f->frame_lens[0];
}

static void read_back(struct fixture *f, const char *key, unsigned rank, const struct data *d,
                      size_t n) {
    char text[200];
    (void)snprintf(text, sizeof text, "{'run':'" RUN_A "','key':'%s','rank':%u}", key, rank);
    READ_OK(f, "run.metrics", text);
    assert_int_equal(f->frame_count, 3);
    assert_int_equal(value_get_int(f->reply, "total", 0), n);
    assert_int_equal(value_get_int(f->reply, "count", 0), n);
    assert_int_equal(f->frame_lens[0], n * 8);
    assert_int_equal(f->bytes.len, n * 24);
    assert_memory_equal(column(f, 0), d->step, n * 8);
    assert_memory_equal(column(f, 1), d->time_ns, n * 8);
    assert_memory_equal(column(f, 2), d->bits, n * 8);
}

static void series_keep_bits(void **state) {
    struct fixture *f = *state;
    static struct data d[6];
    char key[16];
    for (int kind = 0; kind < 6; kind++) {
        make(&d[kind], POINTS, kind);
        (void)snprintf(key, sizeof key, "k%d", kind);
        for (size_t at = 0; at < POINTS;) {
            size_t n = rng() % 3 == 0 ? 1 + rng() % 2500 : 1 + rng() % 60;
            if (n > POINTS - at)
                n = POINTS - at;
            assert_int_equal(log_points(f, key, (unsigned)kind % 2, &d[kind], at, n), STATUS_OK);
            at += n;
        }
    }
    fixture_reopen(f);
    for (int kind = 0; kind < 6; kind++) {
        (void)snprintf(key, sizeof key, "k%d", kind);
        read_back(f, key, (unsigned)kind % 2, &d[kind], POINTS);
    }
    READ_OK(f, "run.metrics", "{'run':'" RUN_A "','key':'k0','points':10}");
    assert_true(value_get_int(f->reply, "sequence", 0) > 10);
}

/* The same choice in the plainest way: everything unpacked. */
static size_t plain_thin(const struct data *d, size_t n, int64_t after, size_t points,
                         size_t *out) {
    static size_t match[POINTS];
    size_t m = 0, k = 0;
    for (size_t i = 0; i < n; i++)
        if (d->step[i] > after)
            match[m++] = i;
    if (m <= points) {
        memcpy(out, match, m * sizeof *match);
        return m;
    }
    if (points == 1) {
        out[0] = match[m - 1];
        return 1;
    }
    out[k++] = match[0];
    size_t stretches = (points - 2) / 2;
    size_t width = stretches > 0 ? (m - 2 + stretches - 1) / stretches : m;
    for (size_t at = 1; stretches > 0 && at < m - 1; at += width) {
        size_t end = at + width < m - 1 ? at + width : m - 1, min = SIZE_MAX, max = SIZE_MAX;
        for (size_t i = at; i < end; i++) {
            double v = value_of(d->bits[match[i]]);
            if (isnan(v))
                continue;
            if (min == SIZE_MAX || v < value_of(d->bits[match[min]]))
                min = i;
            if (max == SIZE_MAX || v > value_of(d->bits[match[max]]))
                max = i;
        }
        if (min == SIZE_MAX) {
            out[k++] = match[at];
        } else if (min == max) {
            out[k++] = match[min];
        } else {
            out[k++] = match[min < max ? min : max];
            out[k++] = match[min < max ? max : min];
        }
    }
    out[k++] = match[m - 1];
    return k;
}

static void check_thin(struct fixture *f, const char *key, const struct data *d, size_t n,
                       int64_t after, size_t points) {
    static size_t want[POINTS];
    char text[200];
    size_t k = plain_thin(d, n, after, points, want);
    assert_true(k <= points);
    (void)snprintf(text, sizeof text,
                   "{'run':'" RUN_A "','key':'%s','points':%zu,'after_step':%lld}", key, points,
                   (long long)after);
    READ_OK(f, "run.metrics", text);
    assert_int_equal(value_get_int(f->reply, "count", -1), k);
    for (size_t i = 0; i < k; i++) {
        assert_true((int64_t)bytes_get_u64(column(f, 0) + 8 * i) == d->step[want[i]]);
        assert_true((int64_t)bytes_get_u64(column(f, 1) + 8 * i) == d->time_ns[want[i]]);
        assert_true(bytes_get_u64(column(f, 2) + 8 * i) == d->bits[want[i]]);
    }
}

static void thinning_keeps_extremes(void **state) {
    struct fixture *f = *state;
    static struct data d;
    for (int kind = 0; kind < 6; kind++) {
        char key[16];
        size_t n = POINTS - rng() % 1000;
        if (kind == 3)
            continue; /* steps beyond what after_step admits */
        make(&d, n, kind);
        (void)snprintf(key, sizeof key, "k%d", kind);
        assert_int_equal(log_points(f, key, 0, &d, 0, n), STATUS_OK);
        for (size_t points = 1; points < 12; points++)
            check_thin(f, key, &d, n, -1, points);
        for (int i = 0; i < 60; i++)
            check_thin(f, key, &d, n, i % 2 != 0 ? -1 : (int64_t)(rng() % n),
                       1 + rng() % (i % 3 == 0 ? n : 300));
        check_thin(f, key, &d, n, (int64_t)n * 3, 10); /* nothing left */
    }
}

static void summaries_are_json(void **state) {
    struct fixture *f = *state;
    static struct data d;
    make(&d, 4, 0);
    d.bits[0] = bits_of(2.5);
    d.bits[1] = 0x7ff8000000000001;
    d.bits[2] = bits_of(-1.5);
    d.bits[3] = bits_of((double)INFINITY);
    assert_int_equal(log_points(f, "loss", 0, &d, 0, 3), STATUS_OK);
    assert_int_equal(log_points(f, "inf", 0, &d, 3, 1), STATUS_OK);
    assert_int_equal(log_points(f, "loss", 65535, &d, 1, 1), STATUS_OK);
    assert_int_equal(f->sequence, 4); /* one for the run's creation */
    READ_OK(f, "run.get", "{'run':'" RUN_A "'}");
    struct value *m = value_get(value_get(f->reply, "run"), "metrics");
    assert_int_equal(m->count, 3);
    assert_string_equal(value_get_string(m->items[0], "key", ""), "inf");
    assert_int_equal(value_get(m->items[0], "last")->kind, VALUE_NULL);
    assert_int_equal(value_get(m->items[0], "max")->kind, VALUE_NULL);
    assert_true(value_get_real(m->items[1], "last", 0) == -1.5);
    assert_true(value_get_real(m->items[1], "min", 0) == -1.5);
    assert_true(value_get_real(m->items[1], "max", 0) == 2.5);
    assert_int_equal(value_get_int(m->items[1], "last_step", 0), d.step[2]);
    assert_int_equal(value_get_int(m->items[2], "rank", 0), 65535);
    assert_int_equal(value_get(m->items[2], "min")->kind, VALUE_NULL);
    struct buf text = BUF_INIT(1 << 20);
    assert_int_equal(json_dump(f->reply, JSON_COMPACT, &text, &f->err), STATUS_OK);
    buf_release(&text);
}

static void bad_columns(void **state) {
    struct fixture *f = *state;
    static struct data d;
    make(&d, 10, 0);
    struct net_frame frames[3] = {{d.step, 80}, {d.time_ns, 80}, {d.bits, 72}};
    const char *text = "{'run':'" RUN_A "','series':[{'key':'a','count':4},{'key':'b','count':6}]}";
    assert_int_equal(fixture_write(f, "run.log", text, frames, 3), STATUS_INVALID);
    assert_int_equal(fixture_write(f, "run.log", text, frames, 2), STATUS_INVALID);
    frames[2].len = 80;
    assert_int_equal(fixture_write(f, "run.log", text, frames, 3), STATUS_OK);
    assert_int_equal(value_get_int(f->reply, "points", 0), 10);
    assert_int_equal(fixture_write(f, "run.log",
                                   "{'run':'" RUN_B "','series':[{'key':'a','count':10}]}", frames,
                                   3),
                     STATUS_NOT_FOUND);
    READ_FAILS(f, STATUS_NOT_FOUND, "run.metrics", "{'run':'" RUN_A "','key':'c'}");
    READ_FAILS(f, STATUS_NOT_FOUND, "run.metrics", "{'run':'" RUN_A "','key':'a','rank':1}");
    /* one name in several stretches: in their order */
    const char *twice =
        "{'run':'" RUN_A "','series':[{'key':'z','count':4},{'key':'y','count':2},{'key':'z',"
        "'count':4}]}";
    assert_int_equal(fixture_write(f, "run.log", twice, frames, 3), STATUS_OK);
    READ_OK(f, "run.metrics", "{'run':'" RUN_A "','key':'z'}");
    assert_memory_equal(column(f, 0), d.step, 32);
    assert_memory_equal(column(f, 0) + 32, d.step + 6, 32);
}

static void resent_points_count_once(void **state) {
    struct fixture *f = *state;
    static struct data d;
    make(&d, 10, 0);
    struct net_frame frames[3] = {{d.step, 80}, {d.time_ns, 80}, {d.bits, 80}};
    const char *text =
        "{'run':'" RUN_A "','series':[{'key':'a','count':10}],'client':'me','seq':1}";
    assert_int_equal(fixture_write(f, "run.log", text, frames, 3), STATUS_OK);
    assert_int_equal(fixture_write(f, "run.log", text, frames, 3), STATUS_OK);
    assert_int_equal(value_get_int(f->reply, "points", 0), 10);
    READ_OK(f, "run.metrics", "{'run':'" RUN_A "','key':'a'}");
    assert_int_equal(value_get_int(f->reply, "total", 0), 10);
    struct store_stats stats;
    store_stats(f->s, &stats);
    assert_int_equal(stats.points, 10);
}

int main(void) {
    const char *seed = getenv("SEED");
    rng_state = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    printf("SEED=%llu\n", (unsigned long long)rng_state);
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_keep_bits),
        cmocka_unit_test(garbage_is_refused),
        cmocka_unit_test(forged_lengths_are_refused),
        TEST(series_keep_bits),
        TEST(thinning_keeps_extremes),
        TEST(summaries_are_json),
        TEST(bad_columns),
        TEST(resent_points_count_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
