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
    assert_int_equal(weights_parse(&a, "a:b/3", &r, &err), STATUS_OK);
    assert_string_equal(r.run, "a:b/3");
    assert_int_equal(r.which, WEIGHTS_ANY);
    assert_int_equal(weights_parse(&a, "a:b/3:last", &r, &err), STATUS_OK);
    assert_string_equal(r.run, "a:b/3");
    assert_int_equal(r.which, WEIGHTS_LAST);
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

/* Three attempts at a trial: C goes on from B, B from A. */
#define ATTEMPT(run, attempt, trial, from, files)                                                  \
    "{\"run\":\"" run "\",\"sweep\":\"S\",\"trial\":" trial ",\"attempt\":" attempt                \
    ",\"manifest\":{\"resumed_from\":{\"run\":\"" from "\",\"step\":20}},\"summary\":{},"          \
    "\"artifacts\":[" files "]}"
#define STEP_FILE(step) "{\"path\":\"checkpoints/0000000000" step ".safetensors\"}"

static enum status get_attempt(void *arg, const char *run, const struct value **record,
                               struct err *err) {
    static const char *const attempts[] = {
        ATTEMPT("A", "1", "7", "A", STEP_FILE("10") "," STEP_FILE("20")),
        ATTEMPT("B", "2", "7", "A", STEP_FILE("20") "," STEP_FILE("30")),
        ATTEMPT("X", "1", "8", "A", STEP_FILE("50")),
        ATTEMPT("Y", "9", "7", "B", STEP_FILE("50")),
    };
    int *asked = arg;
    (*asked)++;
    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
        *record = parse(attempts[i]);
        if (strcmp(value_get_string(*record, "run", ""), run) == 0)
            return STATUS_OK;
    }
    return err_set(err, STATUS_NOT_FOUND, "no run %s", run);
}

/* Who has the step, and how many records were asked for. */
static const char *find_step(const char *attempt, int64_t step, int asked) {
    int count = 0;
    struct weights w;
    struct err err;
    struct weights_ref ref = {.which = WEIGHTS_STEP, .step = step};
    struct weights_among among = {.record = parse(attempt), .get = get_attempt, .arg = &count};
    const char *named = value_get_string(among.record, "run", "");
    enum status st = weights_find(&a, &ref, &among, &w, &err);
    const char *found = value_get_string(among.record, "run", "");
    assert_int_equal(count, asked);
    if (st != STATUS_OK) {
        assert_int_equal(st, STATUS_NOT_FOUND);
        assert_non_null(strstr(err.text, arena_printf(&a, "run %s kept no weights", named)));
        return NULL;
    }
    assert_true((w.note != NULL) == (strcmp(named, found) != 0));
    if (w.note != NULL)
        assert_non_null(strstr(w.note, arena_printf(&a, "from run %s, attempt", found)));
    return found;
}

static void a_step_of_an_attempt_before(void **state) {
    (void)state;
    static const char c[] = ATTEMPT("C", "3", "7", "B", STEP_FILE("40"));
    assert_string_equal(find_step(c, 40, 0), "C");
    assert_string_equal(find_step(c, 30, 1), "B");
    assert_string_equal(find_step(c, 20, 1), "B"); /* the newest that has it */
    assert_string_equal(find_step(c, 10, 2), "A");
    assert_null(find_step(c, 15, 3)); /* A goes on from itself: no circle */
    assert_null(find_step(ATTEMPT("C", "3", "7", "X", ""), 50, 1)); /* another trial's */
    assert_null(find_step(ATTEMPT("C", "3", "7", "Y", ""), 50, 1)); /* a later attempt */
    assert_null(find_step(ATTEMPT("C", "3", "7", "Z", ""), 50, 1)); /* none at all */
}

static void only_a_step_is_looked_for(void **state) {
    (void)state;
    int count = 0;
    struct weights w;
    struct weights_ref best = {.which = WEIGHTS_BEST};
    struct weights_among among = {
        .record = parse(ATTEMPT("C", "3", "7", "B", "")), .get = get_attempt, .arg = &count};
    assert_int_equal(weights_find(&a, &best, &among, &w, NULL), STATUS_NOT_FOUND);
    assert_int_equal(count, 0);
}

static void who_trained_a_step(void **state) {
    (void)state;
    int count = 0;
    struct weights_among among = {
        .record = parse(ATTEMPT("C", "3", "7", "B", "")), .get = get_attempt, .arg = &count};
    const struct value *r = weights_trained_by(&among, 21);
    assert_ptr_equal(r, among.record); /* it goes on after step 20 */
    assert_int_equal(count, 0);
    r = weights_trained_by(&among, 20);
    assert_string_equal(value_get_string(r, "run", ""), "A");
    among.record = parse(ATTEMPT("C", "3", "7", "Z", "")); /* gone: the one that is left */
    assert_ptr_equal(weights_trained_by(&among, 20), among.record);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names, setup, teardown),
        cmocka_unit_test_setup_teardown(each_by_its_name, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bare_run_follows_metric_of, setup, teardown),
        cmocka_unit_test_setup_teardown(the_default_depends_on_the_language, setup, teardown),
        cmocka_unit_test_setup_teardown(a_run_without_a_best, setup, teardown),
        cmocka_unit_test_setup_teardown(a_step_of_an_attempt_before, setup, teardown),
        cmocka_unit_test_setup_teardown(only_a_step_is_looked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(who_trained_a_step, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
