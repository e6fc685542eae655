/* Which weights of a run: names, the choice, what is said. */
#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "core/json.h"
#include "wire/weights.h"

static struct arena a;

static int setup(void **state) {
    (void)state;
    arena_init(&a, (size_t)16 << 20);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    arena_release(&a);
    return 0;
}

static struct value *parse(const char *text) {
    struct value *v = NULL;
    struct err err;
    if (json_parse(&a, text, strlen(text), "test", &v, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return v;
}

static void names(void **state) {
    (void)state;
    struct weights_ref r;
    struct err err;
    assert_int_equal(weights_parse(&a, "01J", &r, &err), STATUS_OK);
    assert_string_equal(r.run, "01J");
    assert_int_equal(r.which, WEIGHTS_ANY);
    assert_int_equal(weights_parse(&a, "s/3:best", &r, &err), STATUS_OK);
    assert_string_equal(r.run, "s/3");
    assert_int_equal(r.which, WEIGHTS_BEST);
    assert_int_equal(weights_parse(&a, "01J:last", &r, &err), STATUS_OK);
    assert_int_equal(r.which, WEIGHTS_LAST);
    assert_int_equal(weights_parse(&a, "01J:000120", &r, &err), STATUS_OK);
    assert_int_equal(r.which, WEIGHTS_STEP);
    assert_int_equal(r.step, 120);
    static const char *const bad[] = {"01J:",    "01J:Best",  "01J:-1",
                                      "01J:1.5", "01J:best:", "01J:9999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(weights_parse(&a, bad[i], &r, &err), STATUS_INVALID);
}

static const char both[] =
    "{\"run\":\"R\",\"config\":{\"language\":3,\"metric\":\"e\",\"metric_of\":\"%s\"},"
    "\"summary\":{\"steps\":40,\"weights_digest\":\"dd\",\"metrics\":{\"e\":0.5},"
    "\"best\":{\"step\":30,\"metric\":\"e\",\"value\":0.25,\"weights_digest\":\"bb\"}},"
    "\"artifacts\":[{\"path\":\"best.safetensors\"},{\"path\":\"model.safetensors\"},"
    "{\"path\":\"checkpoints/000000000020.safetensors\"}]}";

static struct weights choose(struct weights_ref ref, const char *metric_of, enum status want) {
    struct weights w = {.path = ""};
    struct err err;
    struct value *record = parse(arena_printf(&a, both, metric_of));
    assert_int_equal(weights_choose(&a, &ref, record, &w, &err), want);
    return w;
}

static void each_by_its_name(void **state) {
    (void)state;
    struct weights w = choose((struct weights_ref){.which = WEIGHTS_BEST}, "last", STATUS_OK);
    assert_string_equal(w.path, "best.safetensors");
    assert_string_equal(w.digest, "bb");
    assert_int_equal(w.step, 30);
    assert_null(w.note);
    w = choose((struct weights_ref){.which = WEIGHTS_LAST}, "best", STATUS_OK);
    assert_string_equal(w.path, "model.safetensors");
    assert_string_equal(w.digest, "dd");
    assert_int_equal(w.step, 40);
    w = choose((struct weights_ref){.which = WEIGHTS_STEP, .step = 20}, "best", STATUS_OK);
    assert_string_equal(w.path, "checkpoints/000000000020.safetensors");
    assert_true(w.checkpoint);
    w = choose((struct weights_ref){.which = WEIGHTS_STEP, .step = 30}, "best", STATUS_OK);
    assert_string_equal(w.which, "best");
    w = choose((struct weights_ref){.which = WEIGHTS_STEP, .step = 40}, "best", STATUS_OK);
    assert_string_equal(w.which, "last");
    (void)choose((struct weights_ref){.which = WEIGHTS_STEP, .step = 21}, "best", STATUS_NOT_FOUND);
}

static void a_bare_run_follows_metric_of(void **state) {
    (void)state;
    struct weights w = choose((struct weights_ref){.which = WEIGHTS_ANY}, "best", STATUS_OK);
    assert_string_equal(w.note, "run R: taking its best weights, of step 30 (e 0.25); R:last are "
                                "its last weights, of step 40 (e 0.5)");
    w = choose((struct weights_ref){.which = WEIGHTS_ANY}, "last", STATUS_OK);
    assert_string_equal(w.note, "run R: taking its last weights, of step 40 (e 0.5); R:best are "
                                "its best weights, of step 30 (e 0.25)");
}

static void the_default_depends_on_the_language(void **state) {
    (void)state;
    assert_true(weights_metric_of_best(parse("{\"config\":{\"language\":3}}")));
    assert_false(weights_metric_of_best(parse("{\"config\":{\"language\":2}}")));
    assert_false(weights_metric_of_best(parse("{\"config\":{}}")));
    assert_false(weights_metric_of_best(parse("{}")));
    assert_true(weights_metric_of_best(parse("{\"config\":{\"metric_of\":\"best\"}}")));
    assert_false(
        weights_metric_of_best(parse("{\"config\":{\"language\":3,\"metric_of\":\"last\"}}")));
}

static void a_run_without_a_best(void **state) {
    (void)state;
    struct weights w;
    struct err err;
    struct weights_ref best = {.which = WEIGHTS_BEST}, any = {.which = WEIGHTS_ANY};
    struct value *old =
        parse("{\"run\":\"R\",\"config\":{\"language\":3},\"summary\":{\"steps\":4},"
              "\"artifacts\":[{\"path\":\"model.safetensors\"}]}");
    assert_int_equal(weights_choose(&a, &best, old, &w, &err), STATUS_NOT_FOUND);
    assert_non_null(strstr(err.text, "R:last"));
    assert_int_equal(weights_choose(&a, &any, old, &w, &err), STATUS_OK);
    assert_string_equal(w.which, "last");
    assert_null(w.note);
    struct value *dropped = parse(
        "{\"run\":\"R\",\"config\":{\"language\":3},\"summary\":{\"steps\":4,"
        "\"best\":{\"step\":3,\"value\":1}},\"artifacts\":[{\"path\":\"model.safetensors\"}]}");
    assert_int_equal(weights_choose(&a, &best, dropped, &w, &err), STATUS_NOT_FOUND);
    assert_non_null(strstr(err.text, "step 3"));
    assert_int_equal(weights_choose(&a, &any, dropped, &w, &err), STATUS_OK);
    assert_non_null(strstr(w.note, "were not kept"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names, setup, teardown),
        cmocka_unit_test_setup_teardown(each_by_its_name, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bare_run_follows_metric_of, setup, teardown),
        cmocka_unit_test_setup_teardown(the_default_depends_on_the_language, setup, teardown),
        cmocka_unit_test_setup_teardown(a_run_without_a_best, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
