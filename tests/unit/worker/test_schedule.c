/* Learning rates and the configuration of a trial. */
#include <string.h>

#include "core/json.h"
#include "spec/trial.h"
#include "tests/unit/cmocka_all.h"
#include "worker/train/schedule.h"

#define ARENA_MAX ((size_t)1 << 20)

static struct spec_schedule parse(const char *text, enum status expected) {
    struct arena a;
    struct value *v = NULL;
    struct err err = {0};
    struct spec_schedule s = {0};
    arena_init(&a, ARENA_MAX);
    assert_int_equal(json_parse(&a, text, strlen(text), "test", &v, &err), STATUS_OK);
    assert_int_equal(spec_schedule_read(v, SPEC_TODAY(NULL), &s, &err), expected);
    arena_release(&a);
    return s;
}

static void near(double a, double b) {
    assert_true(a - b < 1e-12 && b - a < 1e-12);
}

static void test_constant_and_warmup(void **state) {
    (void)state;
    struct spec_schedule s = {0};
    assert_int_equal(spec_schedule_read(NULL, SPEC_TODAY(NULL), &s, NULL), STATUS_OK);
    near(schedule_lr(&s, 0.1, 1, 100, 1), 0.1);
    s = parse("{\"name\":\"constant\",\"warmup_steps\":4}", STATUS_OK);
    near(schedule_lr(&s, 0.1, 1, 100, 1), 0.025);
    near(schedule_lr(&s, 0.1, 4, 100, 1), 0.1);
    near(schedule_lr(&s, 0.1, 5, 100, 1), 0.1);
    assert_int_equal(s.kind, SCHEDULE_CONSTANT);
    /* The rate as it is, whatever the other schedules' members say. */
    s = (struct spec_schedule){
        .kind = SCHEDULE_CONSTANT, .every = 1, .factor = 0.5, .min_lr = 0.01};
    near(schedule_lr(&s, 0.1, 7, 100, 1), 0.1);
}

static void test_steps(void **state) {
    (void)state;
    struct spec_schedule s = parse("{\"name\":\"step\",\"every\":2,\"factor\":0.5}", STATUS_OK);
    near(schedule_lr(&s, 1.0, 20, 100, 10),
         1.0); /* ten steps an epoch: two epochs are done after */
    near(schedule_lr(&s, 1.0, 21, 100, 10), 0.5);
    near(schedule_lr(&s, 1.0, 41, 100, 10), 0.25);
    (void)parse("{\"name\":\"step\",\"every\":2}", STATUS_INVALID);
    (void)parse("{\"name\":\"steps\"}", STATUS_INVALID);
}

static void test_cosine(void **state) {
    (void)state;
    struct spec_schedule s =
        parse("{\"name\":\"cosine\",\"warmup_steps\":10,\"min_lr\":0.01}", STATUS_OK);
    near(schedule_lr(&s, 0.1, 10, 110, 1), 0.1);
    near(schedule_lr(&s, 0.1, 11, 110, 1), 0.1);
    near(schedule_lr(&s, 0.1, 61, 110, 1), 0.055);
    near(schedule_lr(&s, 0.1, 111, 110, 1), 0.01);
    near(schedule_lr(&s, 0.1, 500, 110, 1), 0.01);
    for (int64_t step = 12; step <= 110; step++)
        assert_true(schedule_lr(&s, 0.1, step, 110, 1) < schedule_lr(&s, 0.1, step - 1, 110, 1));
}

#define TRAINING                                                                                   \
    "\"training\":{\"loss\":\"mse\",\"global_batch_size\":64,\"optimizer\":{\"name\":\"sgd\","     \
    "\"lr\":0.1}}"
#define REST                                                                                       \
    "\"data\":{\"train\":{\"format\":\"csv\",\"file\":\"f\",\"label\":0}},\"model\":[\"relu\"],"   \
    "\"max_time\":3,\"seed\":-5"

static enum status config_of(const char *text, int ranks, struct spec_trial *c, struct err *err) {
    static struct arena a; /* the configuration points into it */
    struct value *v = NULL;
    arena_release(&a);
    arena_init(&a, ARENA_MAX);
    assert_int_equal(json_parse(&a, text, strlen(text), "test", &v, err), STATUS_OK);
    enum status st = spec_trial_read(&a, v, "t.json", c, err);
    return st == STATUS_OK ? spec_trial_ranks(c, ranks, err) : st;
}

static void test_config(void **state) {
    (void)state;
    struct spec_trial c;
    struct err err = {0};
    assert_int_equal(config_of("{" REST "," TRAINING "}", 8, &c, &err), STATUS_OK);
    assert_int_equal(c.seed, (uint64_t)-5);
    assert_int_equal(c.shards, 8);
    assert_int_equal(c.training.batch, 64);
    assert_true(c.data.shuffle && !c.by_steps && c.training.loss == LOSS_MSE && c.max_time == 3);
    assert_int_equal(c.training.eval_every, 0);
    assert_null(c.training.initial_weights);
}

static void test_config_refuses(void **state) {
    (void)state;
    static const struct {
        const char *text, *words;
        int ranks;
        enum status st;
    } rows[] = {
        {"{" REST "," TRAINING ",\"colour\":1}", "unknown key 'colour'", 1, STATUS_INVALID},
        {"{" REST "," TRAINING "}", "16 ranks do not divide virtual_shards (8)", 16,
         STATUS_INVALID},
        {"{" REST "," TRAINING "}", "3 ranks do not divide virtual_shards (8)", 3, STATUS_INVALID},
        {"{" REST "," TRAINING ",\"virtual_shards\":12}",
         "virtual_shards must be a power of two, not 12", 1, STATUS_INVALID},
        {"{" REST "," TRAINING ",\"virtual_shards\":128}",
         "is 64, which is not a multiple of virtual_shards (128)", 1, STATUS_INVALID},
        {"{" REST "," TRAINING ",\"device\":\"abacus\"}", "device", 1, STATUS_INVALID},
        {"{" REST "," TRAINING ",\"bitwise\":3}", "bitwise", 1, STATUS_INVALID},
        {"{" TRAINING "}", "is missing", 1, STATUS_INVALID},
        {"{" REST "}", "training is missing", 1, STATUS_INVALID},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct spec_trial c;
        struct err err = {0};
        assert_int_equal(config_of(rows[i].text, rows[i].ranks, &c, &err), rows[i].st);
        if (strstr(err.text, rows[i].words) == NULL)
            fail_msg("'%s' is not in '%s'", rows[i].words, err.text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constant_and_warmup),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_config_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
