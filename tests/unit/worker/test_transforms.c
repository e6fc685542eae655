/* Transforms by themselves: bytes, floats and doubles through every kind, over more features than a block has, beside
 * arithmetic in double; what is fitted to some samples; what is described. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "spec/data.h"
#include "tests/unit/cmocka_all.h"
#include "worker/data/transform.h"

#define CHANNELS 3
#define SIDE     14 /* 588 features: over two blocks of 256, and a rest */
#define FEATURES (CHANNELS * SIDE * SIDE)
#define SAMPLES  5

static struct arena a;
static uint8_t bytes[SAMPLES * FEATURES];
static float floats[SAMPLES * FEATURES];
static double doubles[SAMPLES * FEATURES];

static int setup(void **state) {
    (void)state;
    arena_init(&a, (size_t)16 << 20);
    for (int i = 0; i < SAMPLES * FEATURES; i++) {
        bytes[i] = (uint8_t)(i * 37 % 251);
        floats[i] = (float)(i * 53 % 509) * 0.25F - 60;
        doubles[i] = 1.7e9 + (i * 71 % 1009) * 0.125;
    }
    return 0;
}

static int teardown(void **state) {
    (void)state;
    arena_release(&a);
    return 0;
}

static struct samples samples_of(enum sample_type type) {
    return (struct samples){.type = type,
                            .count = SAMPLES,
                            .features = FEATURES,
                            .shape = {3, {CHANNELS, SIDE, SIDE}},
                            .x = type == SAMPLE_U8    ? (void *)bytes
                                 : type == SAMPLE_F32 ? (void *)floats
                                                      : (void *)doubles};
}

/* A number for each feature. */
static struct value *for_each_feature(double first, double step) {
    struct value *list = value_list(&a);
    for (int i = 0; i < FEATURES; i++)
        value_push(&a, list, value_real(&a, first + step * i));
    return list;
}

static struct value *for_each_channel(void) {
    struct value *list = value_list(&a);
    value_push(&a, list, value_int(&a, 2));
    value_push(&a, list, value_real(&a, 0.5));
    value_push(&a, list, value_int(&a, 4));
    return list;
}

static void make(const struct spec_transform *rows, int count, enum sample_type type,
                 struct transforms *out) {
    struct spec_data data = {.transform_count = count};
    struct data_info info = {.features = FEATURES, .shape = {3, {CHANNELS, SIDE, SIDE}}};
    struct err err = {0};
    data.part[SPEC_TRAIN].language = 3;
    memcpy(data.transforms, rows, (size_t)count * sizeof *rows);
    if (transforms_make(&data, &info, type, out, &err) != STATUS_OK)
        fail_msg("%s", err.text);
}

static void close_to(double have, double want, double bound, int64_t feature) {
    if (!(fabs(have - want) <= bound * (1 + fabs(want))))
        fail_msg("feature %lld is %.9g, not %.9g", (long long)feature, have, want);
}

static void test_every_kind(void **state) {
    (void)state;
    const struct spec_transform rows[] = {
        {.kind = TRANSFORM_SCALE, .by = 0.5},
        {.kind = TRANSFORM_SHIFT, .by = -3},
        {.kind = TRANSFORM_NORMALIZE, .mean = for_each_feature(7, 0.25), .std = for_each_channel()},
        {.kind = TRANSFORM_SHIFT, .by = 1},
        {.kind = TRANSFORM_NORMALIZE, .mean = value_real(&a, 0.125), .std = value_int(&a, 8)},
        {.kind = TRANSFORM_SCALE, .by = 3},
    };
    static const double channel[] = {2, 0.5, 4};
    for (int type = SAMPLE_U8; type <= SAMPLE_F64; type++)
        for (int first = 0; first < 2;
             first++) { /* bytes are scaled on their way, if that is first */
            struct samples s = samples_of((enum sample_type)type);
            struct transforms t;
            float x[FEATURES];
            make(rows + first, 6 - first, s.type, &t);
            for (int64_t n = 0; n < SAMPLES; n++) {
                transforms_apply(&t, &s, n, x);
                for (int64_t i = 0; i < FEATURES; i++) {
                    double v = samples_value(&s, n * FEATURES + i) * (first == 0 ? 0.5 : 1) - 3;
                    v = (v - (7 + 0.25 * (double)i)) / channel[i / (SIDE * SIDE)] + 1;
                    v = (v - 0.125) / 8 * 3;
                    close_to((double)x[i], v, type == SAMPLE_F64 ? 1e-7 : 1e-5, i);
                    if (type == SAMPLE_F64)
                        assert_true(transforms_value(&t, &s, n, i) == x[i]);
                }
            }
            transforms_release(&t);
            assert_int_equal(t.count, 0);
        }
}

/* Means and deviations of some samples, after what comes before; a feature that never changes becomes 0. */
static void test_fit(void **state) {
    (void)state;
    static const int64_t ids[] = {4, 0, 3}, all[] = {0, 1, 2, 3, 4};
    const struct spec_transform rows[] = {{.kind = TRANSFORM_SHIFT, .by = 2},
                                          {.kind = TRANSFORM_NORMALIZE, .fit = true},
                                          {.kind = TRANSFORM_SCALE, .by = 2}};
    for (int n = 0; n < SAMPLES; n++) {
        bytes[n * FEATURES + 9] = 77;
        floats[n * FEATURES + 9] = 0.1F;
        doubles[n * FEATURES + 9] = 1.7e9 + 0.1;
    }
    for (int type = SAMPLE_U8; type <= SAMPLE_F64; type++)
        for (int some = 0; some < 2; some++) {
            struct samples s = samples_of((enum sample_type)type);
            const int64_t *which = some ? ids : all;
            int count = some ? 3 : SAMPLES;
            struct pump pump = {0};
            struct transforms_fit over = {&s, some ? ids : NULL, count, &pump};
            struct transforms t;
            struct err err;
            float x[FEATURES];
            make(rows, 3, s.type, &t);
            assert_int_equal(transforms_fit(&t, &over, &err), STATUS_OK);
            transforms_apply(&t, &s, 1, x);
            for (int64_t i = 0; i < FEATURES; i++) {
                double mean = 0, square = 0;
                for (int k = 0; k < count; k++)
                    mean += (samples_value(&s, which[k] * FEATURES + i) + 2) / count;
                for (int k = 0; k < count; k++)
                    square += pow(samples_value(&s, which[k] * FEATURES + i) + 2 - mean, 2) / count;
                double std = i == 9 ? 1 : sqrt(square);
                close_to((double)t.row[1].mean[i], mean, 1e-6, i);
                close_to((double)t.row[1].std[i], std, 1e-5, i);
                close_to(t.row[1].std64[i], std, 1e-5, i);
                if (std > 1e-3)
                    close_to((double)x[i], (samples_value(&s, FEATURES + i) + 2 - mean) / std * 2,
                             1e-3, i);
            }
            assert_true(fabs((double)x[9]) < 1e-5);
            transforms_release(&t);
        }
}

/* One number where all features have the same, else a list; given ones as they were given. */
static void test_described(void **state) {
    (void)state;
    const struct spec_transform rows[] = {
        {.kind = TRANSFORM_SCALE, .by = 0.1},
        {.kind = TRANSFORM_NORMALIZE, .mean = for_each_feature(0, 0.1), .std = value_real(&a, 0.3)},
        {.kind = TRANSFORM_SHIFT, .by = -0.7},
    };
    for (int type = SAMPLE_F32; type <= SAMPLE_F64; type++) {
        bool exact = type == SAMPLE_F64;
        struct transforms t;
        make(rows, 3, (enum sample_type)type, &t);
        const struct value *v = transforms_describe(&a, &t, FEATURES);
        assert_int_equal(v->count, 3);
        const struct value *mean = value_at(v, "[1].normalize.mean");
        assert_true(value_at(v, "[0].scale")->real == (exact ? 0.1 : (double)0.1F));
        assert_true(value_at(v, "[1].normalize.std")->real == (exact ? 0.3 : (double)0.3F));
        assert_true(value_at(v, "[2].shift")->real == (exact ? -0.7 : (double)-0.7F));
        assert_int_equal(mean->count, FEATURES);
        for (int i = 0; i < FEATURES; i++)
            assert_true(mean->items[i]->real == (exact ? 0.1 * i : (double)(float)(0.1 * i)));
        transforms_release(&t);
    }
}

static void test_refused(void **state) {
    (void)state;
    struct data_info info = {.features = FEATURES, .shape = {3, {CHANNELS, SIDE, SIDE}}};
    struct value *two = value_list(&a);
    value_push(&a, two, value_int(&a, 1));
    value_push(&a, two, value_int(&a, 2));
    for (int which = 0; which < 2; which++) {
        struct spec_data data = {.transform_count = 1};
        struct transforms t;
        struct err err = {0};
        data.transforms[0] = (struct spec_transform){.kind = TRANSFORM_NORMALIZE,
                                                     .mean = which == 0 ? two : value_int(&a, 0),
                                                     .std = which == 1 ? two : value_int(&a, 1)};
        assert_int_equal(transforms_make(&data, &info, SAMPLE_F32, &t, &err), STATUS_INVALID);
        assert_non_null(strstr(err.text,
                               "normalize has 2 numbers; give one, or as many as the data "
                               "has features (588) or channels"));
        transforms_release(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_described),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
