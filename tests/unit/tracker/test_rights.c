/* Who may change a run, and until when: roles, runs of sweeps that have ended, lost runs, sealed
 * runs. */
#include "core/bytes.h"
#include "tests/unit/tracker/store_fixture.h"
#include "tracker/ops/rights.h"

static int setup(void **state) {
    struct fixture *f = malloc(sizeof *f);
    fixture_init(f);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    fixture_release(f);
    free(f);
    return 0;
}

#define OWN "{'run':'" RUN_A "','experiment':'e'}"
#define OF_SWEEP                                                                                   \
    "{'run':'" RUN_A "','experiment':'e','sweep':'" SWEEP                                          \
    "','trial':1,'attempt':1,'state':'running'}"
#define HEX            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" /* of nothing */
#define UPDATE(fields) "{'run':'" RUN_A "'," fields "}"

static enum status put(struct fixture *f, const char *path) {
    char text[256];
    (void)snprintf(text, sizeof text, UPDATE("'path':'%s','size':0,'digest':'" HEX "'"), path);
    enum status st = fixture_write(f, "artifact.begin", text, NULL, 0);
    if (st != STATUS_OK)
        return st;
    (void)snprintf(text, sizeof text, UPDATE("'path':'%s','digest':'" HEX "'"), path);
    return fixture_write(f, "artifact.commit", text, NULL, 0);
}

static enum status log_point(struct fixture *f) {
    static const uint8_t zeros[8];
    const struct net_frame frames[3] = {{zeros, 8}, {zeros, 8}, {zeros, 8}};
    return fixture_write(f, "run.log", UPDATE("'series':[{'key':'loss','count':1}]"), frames, 3);
}

static int64_t count_of(struct fixture *f, const char *key) {
    char text[128];
    (void)snprintf(text, sizeof text, UPDATE("'key':'%s'"), key);
    enum status st = fixture_read(f, "run.metrics", text);
    return st == STATUS_OK ? value_get_int(f->reply, "total", -1) : -(int64_t)st;
}

static void pass_time(struct fixture *f, int64_t ns) {
    f->now_ns += ns;
}

/* What each role may do to a run of its own and to one of a sweep: o yes, - no. */
static void roles_and_whose_run_it_is(void **state) {
    struct fixture *f = *state;
    static const struct {
        enum net_role role;
        bool own, sweep;         /* points, artifacts, papers */
        bool own_tag, sweep_tag; /* tags */
        bool own_end, sweep_end; /* states */
        bool own_params, sweep_params;
    } rows[] = {
        {NET_VIEWER, 0, 0, 0, 0, 0, 0, 0, 0}, {NET_SUBMITTER, 1, 0, 1, 1, 1, 0, 1, 0},
        {NET_WORKER, 0, 1, 0, 0, 0, 0, 0, 0}, {NET_COORDINATOR, 0, 1, 0, 1, 0, 1, 0, 1},
        {NET_ADMIN, 1, 1, 1, 1, 1, 1, 1, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int sweep = 0; sweep < 2; sweep++) {
            f->role = NET_ADMIN;
            WRITE_OK(f, "run.create", sweep ? OF_SWEEP : OWN);
            f->role = rows[i].role;
            enum status may = (sweep ? rows[i].sweep : rows[i].own) ? STATUS_OK : STATUS_DENIED;
            enum status tag =
                (sweep ? rows[i].sweep_tag : rows[i].own_tag) ? STATUS_OK : STATUS_DENIED;
            enum status end =
                (sweep ? rows[i].sweep_end : rows[i].own_end) ? STATUS_OK : STATUS_DENIED;
            enum status params =
                (sweep ? rows[i].sweep_params : rows[i].own_params) ? STATUS_OK : STATUS_DENIED;
            assert_int_equal(log_point(f), may);
            assert_int_equal(put(f, "a"), may);
            WRITE_FAILS(f, may, "run.update", UPDATE("'manifest':{'x':1}"));
            WRITE_FAILS(f, may, "run.update", UPDATE("'summary':{'x':1}"));
            WRITE_FAILS(f, params, "run.update", UPDATE("'params':{'h':1}"));
            WRITE_FAILS(f, tag, "run.update", UPDATE("'tags':{'x':'y'}"));
            WRITE_FAILS(f, end, "run.update", UPDATE("'reason':'why'"));
            WRITE_FAILS(f, end, "run.update", UPDATE("'state':'completed'"));
            fixture_release(f);
            fixture_init(f);
        }
    }
    f->role = NET_SUBMITTER;
    WRITE_FAILS(f, STATUS_DENIED, "run.create", OF_SWEEP);
    WRITE_OK(f, "run.create", OWN);
    f->role = NET_COORDINATOR;
    WRITE_FAILS(f, STATUS_DENIED, "run.create", "{'run':'" RUN_B "','experiment':'e'}");
}

static void what_has_ended_is_closed(void **state) {
    struct fixture *f = *state;
    WRITE_OK(f, "run.create", OF_SWEEP);
    assert_int_equal(log_point(f), STATUS_OK);
    assert_int_equal(put(f, "model.safetensors"), STATUS_OK);
    WRITE_OK(f, "run.update", UPDATE("'summary':{'a':1},'state':'completed'"));
    assert_int_equal(log_point(f), STATUS_CONFLICT);
    assert_non_null(strstr(f->err.text, "metrics"));
    assert_int_equal(put(f, "model.safetensors"), STATUS_CONFLICT);
    assert_int_equal(put(f, "best.safetensors"), STATUS_CONFLICT);
    WRITE_FAILS(f, STATUS_CONFLICT, "artifact.delete", UPDATE("'path':'model.safetensors'"));
    WRITE_FAILS(f, STATUS_CONFLICT, "run.update", UPDATE("'manifest':{'x':1}"));
    WRITE_FAILS(f, STATUS_CONFLICT, "run.update", UPDATE("'summary':{'x':1}"));
    WRITE_FAILS(f, STATUS_CONFLICT, "run.update", UPDATE("'summary':{'x':1,'replay':{}}"));
    WRITE_FAILS(f, STATUS_CONFLICT, "run.update", UPDATE("'params':{'x':1}"));
    WRITE_FAILS(f, STATUS_CONFLICT, "run.update", UPDATE("'state':'failed','lost':true"));
    /* About the run, not of it. */
    f->role = NET_SUBMITTER;
    WRITE_OK(f, "run.update", UPDATE("'tags':{'note':'good'}"));
    WRITE_OK(f, "run.update", UPDATE("'summary':{'replay':{'verdict':'exact'}}"));
    assert_int_equal(put(f, "model.onnx"), STATUS_OK);
    assert_int_equal(put(f, "model.onnx"), STATUS_OK); /* the same bytes */
    WRITE_FAILS(f, STATUS_CONFLICT, "artifact.begin",
                UPDATE("'path':'model.onnx','size':1,'digest':"
                       "'00b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'"));
    f->role = NET_WORKER;
    assert_int_equal(put(f, "model-2.onnx"), STATUS_CONFLICT);
    f->role = NET_ADMIN;
    READ_OK(f, "run.get", "{'run':'" RUN_A "'}");
    const struct value *run = value_get(f->reply, "run");
    assert_int_equal(value_get_int(value_get(run, "summary"), "a", 0), 1);
    assert_null(value_get(value_get(run, "summary"), "x"));
    assert_int_equal(count_of(f, "loss"), 1);
}

static void what_was_lost_may_come_late(void **state) {
    struct fixture *f = *state;
    WRITE_OK(f, "run.create", OF_SWEEP);
    WRITE_FAILS(f, STATUS_INVALID, "run.update", UPDATE("'lost':true"));
    WRITE_FAILS(f, STATUS_INVALID, "run.update", UPDATE("'state':'running','lost':true"));
    f->role = NET_COORDINATOR;
    WRITE_OK(f, "run.update", UPDATE("'state':'failed','lost':true,'reason':'group lost'"));
    f->role = NET_WORKER;
    pass_time(f, RIGHTS_LATE_NS - 1);
    assert_int_equal(log_point(f), STATUS_OK);
    assert_int_equal(put(f, "checkpoint.safetensors"), STATUS_OK);
    WRITE_OK(f, "run.update", UPDATE("'summary':{'x':1}"));
    pass_time(f, 1);
    assert_int_equal(put(f, "checkpoint.safetensors"), STATUS_CONFLICT);
    WRITE_FAILS(f, STATUS_CONFLICT, "run.update", UPDATE("'summary':{'x':1}"));
    assert_int_equal(count_of(f, "loss"), 1);
    assert_int_equal(log_point(f), STATUS_OK);
    assert_int_equal(count_of(f, "loss"), 1);
    assert_int_equal(count_of(f, "late/loss"), 1);
    assert_string_equal(f->op, "run.points");
    READ_OK(f, "run.get", "{'run':'" RUN_A "'}");
    assert_true(value_get_bool(value_get(f->reply, "run"), "lost", false));
    /* The coordinator learns better; from then on it is closed. */
    f->role = NET_COORDINATOR;
    WRITE_FAILS(f, STATUS_CONFLICT, "run.update", UPDATE("'state':'running'"));
    WRITE_OK(f, "run.update", UPDATE("'state':'completed','reason':'it had finished'"));
    f->role = NET_WORKER;
    assert_int_equal(log_point(f), STATUS_CONFLICT);
    f->role = NET_COORDINATOR;
    WRITE_FAILS(f, STATUS_CONFLICT, "run.update", UPDATE("'state':'failed'"));
    READ_OK(f, "run.list", "{'state':'completed'}");
    assert_int_equal(value_get(f->reply, "runs")->count, 1);
    READ_OK(f, "run.list", "{'state':'failed'}");
    assert_int_equal(value_get(f->reply, "runs")->count, 0);
}

static void preempted_runs_wait_for_what_is_on_its_way(void **state) {
    struct fixture *f = *state;
    WRITE_OK(f, "run.create", OF_SWEEP);
    WRITE_OK(f, "run.update", UPDATE("'state':'preempted'"));
    assert_int_equal(log_point(f), STATUS_OK);
    pass_time(f, RIGHTS_LATE_NS);
    assert_int_equal(log_point(f), STATUS_OK);
    assert_int_equal(count_of(f, "loss"), 1);
    assert_int_equal(count_of(f, "late/loss"), 1);
    WRITE_FAILS(f, STATUS_CONFLICT, "run.update", UPDATE("'state':'completed'"));
}

static void own_runs_stay_open_until_they_are_sealed(void **state) {
    struct fixture *f = *state;
    static const char seal[] = UPDATE("'actor':'ada','comment':'done'");
    f->role = NET_SUBMITTER;
    WRITE_OK(f, "run.create", OWN);
    WRITE_FAILS(f, STATUS_CONFLICT, "run.seal", seal);
    WRITE_OK(f, "run.update", UPDATE("'state':'completed'"));
    assert_int_equal(log_point(f), STATUS_OK); /* a second thought */
    assert_int_equal(put(f, "plot.png"), STATUS_OK);
    WRITE_OK(f, "run.seal", seal);
    WRITE_OK(f, "run.seal", UPDATE("'actor':'eve'")); /* stays as it is */
    assert_int_equal(log_point(f), STATUS_CONFLICT);
    assert_non_null(strstr(f->err.text, "sealed"));
    assert_int_equal(put(f, "plot.png"), STATUS_CONFLICT);
    WRITE_FAILS(f, STATUS_CONFLICT, "run.update", UPDATE("'summary':{'x':1}"));
    WRITE_OK(f, "run.update", UPDATE("'tags':{'x':'y'}"));
    READ_OK(f, "run.get", "{'run':'" RUN_A "'}");
    const struct value *sealed = value_get(value_get(f->reply, "run"), "sealed");
    assert_string_equal(value_get_string(sealed, "actor", ""), "ada");
    assert_string_equal(value_get_string(sealed, "comment", ""), "done");
    assert_true(value_get_int(sealed, "time_ns", 0) == f->now_ns);
    READ_OK(f, "audit.list", "{}");
    const struct value *records = value_get(f->reply, "records");
    assert_int_equal(records->count, 1);
    assert_string_equal(value_get_string(records->items[0], "action", ""), "seal");
    assert_string_equal(value_get_string(records->items[0], "subject", ""), RUN_A);

    /* One whose program died may be ended by the seal; a run of a sweep is not a submitter's. */
    fixture_run(f, RUN_B);
    WRITE_OK(f, "run.seal", "{'run':'" RUN_B "','actor':'ada','state':'failed'}");
    READ_OK(f, "run.list", "{'state':'failed'}");
    assert_int_equal(value_get(f->reply, "runs")->count, 1);
}

static void promotion_seals(void **state) {
    struct fixture *f = *state;
    static const char promote[] = "{'name':'m','run':'" RUN_A "','actor':'ada','card':{}}";
    f->role = NET_SUBMITTER;
    WRITE_OK(f, "run.create", OWN);
    WRITE_FAILS(f, STATUS_CONFLICT, "model.promote", promote);
    WRITE_OK(f, "run.update", UPDATE("'state':'completed'"));
    WRITE_OK(f, "model.promote", promote);
    assert_int_equal(log_point(f), STATUS_CONFLICT);
    WRITE_OK(f, "model.promote", promote);
    f->role = NET_ADMIN;
    WRITE_OK(f, "run.create",
             "{'run':'" RUN_B "','experiment':'e','sweep':'" SWEEP "','state':'running'}");
    f->role = NET_SUBMITTER;
    WRITE_FAILS(f, STATUS_DENIED, "run.seal", "{'run':'" RUN_B "','actor':'ada','state':'failed'}");
}

/* What a terminal obeys instead of showing, and what no file can be called. */
static void names_are_checked_at_the_door(void **state) {
    struct fixture *f = *state;
    static const char *const bad[] = {"a\\u001b[2Jb", "a\\nb",     "\\u007f",
                                      "x\\u0085",     "x\\u202ey", "\\u2066"};
    static const char *const names[] = {"../x", "a/b", "m@a", ".m", "m m", ""};
    static const uint8_t zeros[8];
    const struct net_frame frames[3] = {{zeros, 8}, {zeros, 8}, {zeros, 8}};
    char text[256];
    WRITE_OK(f, "run.create", OWN);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        (void)snprintf(text, sizeof text, UPDATE("'params':{'%s':1}"), bad[i]);
        WRITE_FAILS(f, STATUS_INVALID, "run.update", text);
        assert_non_null(strstr(f->err.text, "control characters"));
        (void)snprintf(text, sizeof text, UPDATE("'tags':{'%s':'x'}"), bad[i]);
        WRITE_FAILS(f, STATUS_INVALID, "run.update", text);
        (void)snprintf(text, sizeof text, UPDATE("'tags':{'%s':null}"), bad[i]);
        WRITE_OK(f, "run.update", text); /* an old one can be removed */
        (void)snprintf(text, sizeof text, UPDATE("'series':[{'key':'%s','count':1}]"), bad[i]);
        assert_int_equal(fixture_write(f, "run.log", text, frames, 3), STATUS_INVALID);
        (void)snprintf(text, sizeof text, UPDATE("'path':'%s','size':0,'digest':'" HEX "'"),
                       bad[i]);
        WRITE_FAILS(f, STATUS_INVALID, "artifact.begin", text);
        (void)snprintf(text, sizeof text, "{'run':'" RUN_B "','experiment':'%s'}", bad[i]);
        WRITE_FAILS(f, STATUS_INVALID, "run.create", text);
        (void)snprintf(text, sizeof text, "{'run':'" RUN_B "','experiment':'e','name':'%s'}",
                       bad[i]);
        WRITE_FAILS(f, STATUS_INVALID, "run.create", text);
        (void)snprintf(text, sizeof text, "{'sweep':'" SWEEP "','name':'%s','config':{}}", bad[i]);
        WRITE_FAILS(f, STATUS_INVALID, "sweep.create", text);
    }
    WRITE_OK(f, "run.update",
             UPDATE("'tags':{'Größe → ½':'any value\\u001b'},'state':'completed'"));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(text, sizeof text, "{'name':'%s','run':'" RUN_A "','actor':'a','card':{}}",
                       names[i]);
        WRITE_FAILS(f, STATUS_INVALID, "model.promote", text);
        (void)snprintf(text, sizeof text,
                       "{'name':'m','alias':'%s','run':'" RUN_A "','actor':'a','card':{}}",
                       names[i]);
        WRITE_FAILS(f, STATUS_INVALID, "model.promote", text);
    }
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(roles_and_whose_run_it_is),
        TEST(what_has_ended_is_closed),
        TEST(what_was_lost_may_come_late),
        TEST(preempted_runs_wait_for_what_is_on_its_way),
        TEST(own_runs_stay_open_until_they_are_sealed),
        TEST(promotion_seals),
        TEST(names_are_checked_at_the_door),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
