/* A trial's configuration, read: defaults, spellings, places, versions of the language. */
#include <string.h>

#include "core/json.h"
#include "spec/trial.h"
#include "tests/unit/cmocka_all.h"

static struct arena arena;

static int setup(void **state) {
    (void)state;
    arena_init(&arena, (size_t)16 << 20);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    arena_release(&arena);
    return 0;
}

#define DATA  "\"data\":{\"train\":{\"format\":\"csv\",\"file\":\"f.csv\",\"label\":\"y\"}}"
#define MODEL "\"model\":[\"batch_norm\",{\"max_pool\":[2,3]},{\"conv2d\":4},{\"dense\":10}]"
#define TRAINING                                                                                   \
    "\"training\":{\"loss\":\"mse\",\"global_batch_size\":64,\"optimizer\":{\"name\":\"adamw\","   \
    "\"lr\":1}}"
#define TRIAL "{\"seed\":-5,\"max_time\":3,\n" DATA ",\n" MODEL ",\n" TRAINING "}"

/* TRIAL with the first `old` replaced. */
static const char *with(const char *old, const char *new) {
    const char *at = strstr(TRIAL, old);
    assert_non_null(at);
    return arena_printf(&arena, "%.*s%s%s", (int)(at - TRIAL), TRIAL, new, at + strlen(old));
}

static enum status read_trial(struct arena *a, const char *text, struct spec_trial *t,
                              struct err *err) {
    struct value *root = NULL;
    assert_int_equal(json_parse(&arena, text, strlen(text), "t.json", &root, err), STATUS_OK);
    return spec_trial_read(a, root, "t.json", t, err);
}

static void defaults_are_the_tables(void **state) {
    (void)state;
    struct spec_trial t;
    struct err err = {0};
    assert_int_equal(read_trial(&arena, TRIAL, &t, &err), STATUS_OK);
    assert_true(t.seed == (uint64_t)-5 && t.split_seed == t.seed && t.language == 1);
    assert_true(t.shards == 8 && t.bitwise && !t.by_steps && t.max_time == 3);
    assert_true(t.keep == SPEC_KEEP_LAST && t.metric_of_last && t.smaller_is_better);
    assert_true(t.digest_every == 100 && t.checkpoint_every == 0);
    assert_string_equal(t.device, "auto");
    const struct spec_layer *l = t.model.layers;
    assert_true(l[0].eps == (float)1e-5 && l[0].momentum == (float)0.1);
    assert_true(l[1].kernel[0] == 2 && l[1].kernel[1] == 3 && l[1].stride[1] == 3);
    assert_true(l[2].out == 4 && l[2].kernel[0] == 3 && l[2].stride[0] == 1 && l[2].bias);
    assert_true(l[3].kind == LAYER_DENSE && l[3].out == 10 && l[3].node->line == 3);
    const struct spec_training *n = &t.training;
    assert_true(n->loss == LOSS_MSE && n->precision == PRECISION_FP32 && n->clip_norm == 0);
    assert_true(n->optimizer.kind == OPTIMIZER_ADAMW && n->optimizer.weight_decay == 0.01);
    assert_true(n->optimizer.betas[0] == 0.9 && n->optimizer.betas[1] == 0.999);
    assert_true(n->optimizer.eps == 1e-8 && n->optimizer.slots == 2);
    assert_true(n->schedule.kind == SCHEDULE_CONSTANT && n->initial_weights == NULL);
    const struct spec_source *s = &t.data.part[SPEC_TRAIN];
    assert_true(s->header && s->task == SPEC_CLASSIFY && s->shape_count == 0 && t.data.shuffle);
    assert_null(t.data.part[SPEC_TEST].node);
}

static void paths_start_from_dir(void **state) {
    (void)state;
    struct spec_trial t;
    struct err err = {0};
    const char *text = with("\"data\":{", "\"data\":{\"dir\":\"/d/e\",");
    assert_int_equal(read_trial(&arena, text, &t, &err), STATUS_OK);
    assert_string_equal(t.data.part[SPEC_TRAIN].file, "/d/e/f.csv");
}

static void versions_of_the_language(void **state) {
    (void)state;
    struct spec_trial t;
    struct err err = {0};
    /* Version 1 did not ask whether the metric would be there. */
    assert_int_equal(
        read_trial(&arena, with("{\"seed\"", "{\"metric\":\"val_loss\",\"seed\""), &t, &err),
        STATUS_OK);
    assert_int_equal(
        read_trial(&arena, with("{\"seed\"", "{\"language\":2,\"metric\":\"val_loss\",\"seed\""),
                   &t, &err),
        STATUS_INVALID);
    assert_non_null(strstr(err.text, "t.json:1:24: the metric is val_loss, but there is no"));
    /* What no engine ever did is refused in every version. */
    assert_int_equal(read_trial(&arena, with("{\"dense\":10}", "{\"dropout\":0.9995}"), &t, &err),
                     STATUS_INVALID);
    assert_int_equal(read_trial(&arena, with("{\"seed\"", "{\"language\":99,\"seed\""), &t, &err),
                     STATUS_TOO_NEW);
    assert_non_null(strstr(err.text, "t.json:1:13: the trial is written in version 99"));
}

/* What stays and what counts depends on the trial's own language where it does not say. */
static void best_and_last(void **state) {
    (void)state;
    struct spec_trial t;
    struct err err = {0};
    for (int language = 1; language <= SPEC_LANGUAGE; language++) {
        const char *head = arena_printf(&arena, "{\"language\":%d,\"seed\"", language);
        assert_int_equal(read_trial(&arena, with("{\"seed\"", head), &t, &err), STATUS_OK);
        assert_int_equal(t.keep, language < 3 ? SPEC_KEEP_LAST : SPEC_KEEP_BEST);
        assert_int_equal(t.metric_of_last, language < 3);
        head = arena_printf(&arena,
                            "{\"language\":%d,\"metric_of\":\"best\",\"smaller_is_better\":"
                            "false,\"checkpoint\":{\"keep\":\"all\"},\"seed\"",
                            language);
        assert_int_equal(read_trial(&arena, with("{\"seed\"", head), &t, &err), STATUS_OK);
        assert_true(t.keep == SPEC_KEEP_ALL && !t.metric_of_last && !t.smaller_is_better);
    }
    const char *alone = "{\"language\":3,\"checkpoint\":{\"keep\":\"last\"},\"seed\"";
    assert_int_equal(read_trial(&arena, with("{\"seed\"", alone), &t, &err), STATUS_OK);
    assert_true(t.keep == SPEC_KEEP_LAST && t.metric_of_last);
    const char *wrong = with("{\"seed\"", "{\"metric_of\":\"lost\",\"seed\"");
    assert_int_equal(read_trial(&arena, wrong, &t, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "metric_of must be one of best, last, not 'lost'"));
}

static void ranks_divide_shards(void **state) {
    (void)state;
    struct spec_trial t;
    struct err err = {0};
    assert_int_equal(read_trial(&arena, TRIAL, &t, &err), STATUS_OK);
    assert_int_equal(spec_trial_ranks(&t, 4, &err), STATUS_OK);
    assert_int_equal(spec_trial_ranks(&t, 3, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "t.json:1:1: 3 ranks do not divide virtual_shards (8)"));
}

static void small_arenas_are_no_crash(void **state) {
    (void)state;
    for (size_t max = 0; max < 4096; max += 64) {
        struct arena small;
        struct spec_trial t;
        struct err err = {0};
        arena_init(&small, max);
        enum status st =
            read_trial(&small, with("\"data\":{", "\"data\":{\"dir\":\"/d\","), &t, &err);
        assert_true(st == STATUS_OK || st == STATUS_NOMEM);
        arena_release(&small);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults_are_the_tables, setup, teardown),
        cmocka_unit_test_setup_teardown(paths_start_from_dir, setup, teardown),
        cmocka_unit_test_setup_teardown(versions_of_the_language, setup, teardown),
        cmocka_unit_test_setup_teardown(best_and_last, setup, teardown),
        cmocka_unit_test_setup_teardown(ranks_divide_shards, setup, teardown),
        cmocka_unit_test_setup_teardown(small_arenas_are_no_crash, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
