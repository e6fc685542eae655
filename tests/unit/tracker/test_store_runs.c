/* Runs, experiments, listings, prefixes, feed numbers, resends. */
#include "tests/unit/tracker/store_fixture.h"

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

static const char create_a[] =
    "{'run':'" RUN_A "','experiment':'e1','sweep':'" SWEEP "','trial':3,'attempt':1,'name':'n',"
    "'params':{'lr':0.1,'act':'relu'},'tags':{'who':'me'},'config':{'x':[1,2.5,null]}}";

/* Each run has numbers of its own, however their changes alternate, across a restart too. */
static void feeds_count_by_themselves(void **state) {
    static const struct {
        const char *run;
        uint64_t sequence;
    } changes[] = {{RUN_A, 2}, {RUN_A, 3}, {RUN_B, 2}, {RUN_A, 4}, {RUN_B, 3}, {RUN_B, 4}};
    struct fixture *f = *state;
    char text[128], point[8] = {0};
    const struct net_frame frames[3] = {{point, 8}, {point, 8}, {point, 8}};
    fixture_run(f, RUN_A);
    fixture_run(f, RUN_B);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        (void)snprintf(text, sizeof text, "{'run':'%s','series':[{'key':'k','count':1}]}",
                       changes[i].run);
        assert_int_equal(fixture_write(f, "run.log", text, frames, 3), STATUS_OK);
        assert_int_equal(f->sequence, changes[i].sequence);
        (void)snprintf(text, sizeof text, "run.%s", changes[i].run);
        assert_string_equal(f->topic, text);
        if (i == 3)
            fixture_reopen(f);
    }
}

static void created_and_read(void **state) {
    struct fixture *f = *state;
    WRITE_OK(f, "run.create", create_a);
    assert_int_equal(f->deltas, 1);
    assert_string_equal(f->topic, "run." RUN_A);
    assert_string_equal(f->op, "run.state");
    assert_int_equal(f->sequence, 1);
    fixture_reopen(f);
    READ_OK(f, "run.get", "{'run':'" RUN_A "'}");
    struct value *run = value_get(f->reply, "run");
    assert_string_equal(value_get_string(run, "state", ""), "running");
    assert_string_equal(value_get_string(run, "sweep", ""), SWEEP);
    assert_int_equal(value_get_int(run, "trial", 0), 3);
    assert_true(value_get_int(run, "created_ns", 0) == f->now_ns);
    assert_int_equal(value_get(run, "ended_ns")->kind, VALUE_NULL);
    assert_true(value_get_real(value_get(run, "params"), "lr", 0) == 0.1);
    assert_string_equal(value_get_string(value_get(run, "tags"), "who", ""), "me");
    assert_int_equal(value_get(value_get(run, "config"), "x")->count, 3);
    assert_int_equal(value_get(run, "metrics")->count, 0);
    assert_int_equal(value_get(run, "artifacts")->count, 0);
    struct store_stats stats;
    store_stats(f->s, &stats);
    assert_int_equal(stats.runs, 1);
}

static void again_is_no_error(void **state) {
    struct fixture *f = *state;
    WRITE_OK(f, "run.create", create_a);
    WRITE_OK(f, "run.create", create_a);
    assert_int_equal(f->deltas, 1);
    WRITE_FAILS(f, STATUS_EXISTS, "run.create", "{'run':'" RUN_A "','experiment':'e2'}");
    WRITE_FAILS(f, STATUS_EXISTS, "run.create",
                "{'run':'" RUN_A "','experiment':'e1','sweep':'" SWEEP
                "','trial':4,'attempt':1,'name':'n','config':{'x':[1,2.5,null]}}");
    READ_OK(f, "experiment.list", "{}");
    struct value *list = value_get(f->reply, "experiments");
    assert_int_equal(list->count, 1);
    assert_int_equal(value_get_int(list->items[0], "runs", 0), 1);
}

static void params_never_change(void **state) {
    struct fixture *f = *state;
    WRITE_OK(f, "run.create", create_a);
    WRITE_OK(f, "run.update", "{'run':'" RUN_A "','params':{'lr':0.1,'depth':3}}");
    WRITE_FAILS(f, STATUS_CONFLICT, "run.update",
                "{'run':'" RUN_A "','params':{'new':1,'lr':0.2}}");
    READ_OK(f, "run.get", "{'run':'" RUN_A "'}");
    struct value *params = value_get(value_get(f->reply, "run"), "params");
    assert_int_equal(params->count, 3); /* 'new' went with its request */
    assert_true(value_get_real(params, "lr", 0) == 0.1);
}

static void final_states_stay(void **state) {
    struct fixture *f = *state;
    WRITE_OK(f, "run.create", "{'run':'" RUN_A "','experiment':'e1','state':'queued'}");
    WRITE_OK(f, "run.update", "{'run':'" RUN_A "','state':'running'}");
    f->now_ns += NS_PER_S;
    WRITE_OK(f, "run.update", "{'run':'" RUN_A "','state':'failed','reason':'it broke'}");
    assert_int_equal(f->deltas, 3);
    assert_int_equal(f->sequence, 3);
    WRITE_OK(f, "run.update", "{'run':'" RUN_A "','state':'failed','reason':'other'}");
    assert_int_equal(f->deltas, 3);
    WRITE_FAILS(f, STATUS_CONFLICT, "run.update", "{'run':'" RUN_A "','state':'running'}");
    WRITE_FAILS(f, STATUS_CONFLICT, "run.update", "{'run':'" RUN_A "','state':'completed'}");
    WRITE_OK(f, "run.update",
             "{'run':'" RUN_A "','summary':{'a':1},'manifest':{'m':{'x':1}},'tags':{'t':'1'}}");
    WRITE_OK(f, "run.update",
             "{'run':'" RUN_A "','summary':{'b':2},'manifest':{'m':3},'tags':{'t':null}}");
    READ_OK(f, "run.get", "{'run':'" RUN_A "'}");
    struct value *run = value_get(f->reply, "run");
    assert_string_equal(value_get_string(run, "reason", ""), "it broke");
    assert_true(value_get_int(run, "ended_ns", 0) == f->now_ns);
    assert_int_equal(value_get(run, "summary")->count, 2);
    assert_int_equal(value_get_int(value_get(run, "manifest"), "m", 0), 3);
    assert_int_equal(value_get(run, "tags")->count, 0);
}

static void unknown_runs(void **state) {
    struct fixture *f = *state;
    READ_FAILS(f, STATUS_NOT_FOUND, "run.get", "{'run':'" RUN_A "'}");
    WRITE_FAILS(f, STATUS_NOT_FOUND, "run.update", "{'run':'" RUN_A "','state':'failed'}");
    assert_non_null(strstr(f->err.text, RUN_A));
    WRITE_FAILS(f, STATUS_INVALID, "run.create",
                "{'run':'" RUN_A "','experiment':'e','tags':{'x':1}}");
    WRITE_FAILS(f, STATUS_INVALID, "run.create",
                "{'run':'" RUN_A "','experiment':'e','params':{'':1}}");
    READ_FAILS(f, STATUS_NOT_FOUND, "run.get", "{'run':'" RUN_A "'}");
}

static size_t listed(struct fixture *f, const char *fields, const char *first) {
    READ_OK(f, "run.list", fields);
    struct value *runs = value_get(f->reply, "runs");
    if (first != NULL && runs->count > 0)
        assert_string_equal(value_get_string(runs->items[0], "run", ""), first);
    return runs->count;
}

static void listings(void **state) {
    struct fixture *f = *state;
    WRITE_OK(f, "run.create", create_a);
    WRITE_OK(f, "run.create", "{'run':'" RUN_B "','experiment':'e1','sweep':'" SWEEP "'}");
    WRITE_OK(f, "run.create", "{'run':'" RUN_C "','experiment':'e2'}");
    WRITE_OK(f, "run.update", "{'run':'" RUN_B "','state':'completed'}");
    assert_int_equal(listed(f, "{}", RUN_C), 3);
    assert_int_equal(listed(f, "{'newest_first':false}", RUN_A), 3);
    assert_int_equal(listed(f, "{'sweep':'" SWEEP "'}", RUN_B), 2);
    assert_int_equal(listed(f, "{'experiment':'e1','newest_first':false}", RUN_A), 2);
    assert_int_equal(listed(f, "{'experiment':'e'}", NULL), 0);
    assert_int_equal(listed(f, "{'state':'running'}", RUN_C), 2);
    assert_int_equal(listed(f, "{'state':'completed','sweep':'" SWEEP "'}", RUN_B), 1);
    assert_int_equal(listed(f, "{'state':'completed','experiment':'e2'}", NULL), 0);
    assert_int_equal(listed(f, "{'limit':1}", RUN_C), 1);
    assert_true(value_get_bool(f->reply, "more", false));
    assert_int_equal(listed(f, "{'limit':2,'after':'" RUN_C "'}", RUN_B), 2);
    assert_false(value_get_bool(f->reply, "more", true));
    assert_int_equal(listed(f, "{'newest_first':false,'after':'" RUN_A "'}", RUN_B), 2);
    assert_int_equal(listed(f, "{'sweep':'" SWEEP "','after':'" RUN_B "'}", RUN_A), 1);
}

static void prefixes(void **state) {
    struct fixture *f = *state;
    fixture_run(f, RUN_A);
    fixture_run(f, RUN_B);
    fixture_run(f, RUN_C);
    READ_OK(f, "run.resolve", "{'prefix':'01j8b'}");
    assert_string_equal(value_get_string(f->reply, "resolved", ""), RUN_C);
    READ_OK(f, "run.resolve", "{'prefix':'" RUN_A "'}");
    READ_FAILS(f, STATUS_NOT_FOUND, "run.resolve", "{'prefix':'02'}");
    READ_FAILS(f, STATUS_NOT_FOUND, "run.resolve", "{'prefix':'01','kind':'sweep'}");
    READ_FAILS(f, STATUS_AMBIGUOUS, "run.resolve", "{'prefix':'01J8A'}");
    assert_non_null(strstr(f->err.text, RUN_A ", " RUN_B));
    for (int i = 0; i < 4; i++) {
        char text[128];
        (void)snprintf(text, sizeof text, "{'run':'01J8AAAAAAAAAAAAAAAAAAAAC%d','experiment':'e'}",
                       i);
        WRITE_OK(f, "run.create", text);
    }
    READ_FAILS(f, STATUS_AMBIGUOUS, "run.resolve", "{'prefix':'01J8A'}");
    assert_non_null(strstr(f->err.text, "…"));
    WRITE_OK(f, "sweep.create", "{'sweep':'" SWEEP "','name':'s','config':{}}");
    READ_OK(f, "run.resolve", "{'prefix':'01J8S','kind':'sweep'}");
    assert_string_equal(value_get_string(f->reply, "resolved", ""), SWEEP);
}

static void lower_case_ids(void **state) {
    struct fixture *f = *state;
    fixture_run(f, RUN_A);
    char lower[] = "{'run':'" RUN_A "','state':'completed'}";
    for (char *p = lower + 8; *p != '\''; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p + 32);
    WRITE_OK(f, "run.update", lower);
    assert_string_equal(f->topic, "run." RUN_A);
    assert_string_equal(value_get_string(f->header, "run", ""), RUN_A);
}

static void resends_change_nothing(void **state) {
    struct fixture *f = *state;
    const char *append = "{'sweep':'" SWEEP "','first':1,'events':[{'a':1}],'client':'c','seq':7}";
    WRITE_OK(f, "sweep.create", "{'sweep':'" SWEEP "','name':'s','config':{}}");
    WRITE_OK(f, "event.append", append);
    int deltas = f->deltas;
    fixture_reopen(f);
    WRITE_OK(f, "event.append", append);
    assert_int_equal(f->deltas, deltas);
    assert_int_equal(value_get_int(f->reply, "last", 0), 1);

    fixture_run(f, RUN_A);
    WRITE_OK(f, "run.update", "{'run':'" RUN_A "','state':'completed'}");
    const char *promote =
        "{'name':'m','run':'" RUN_A "','actor':'me','card':{},'client':'c','seq':8}";
    WRITE_OK(f, "model.promote", promote);
    const char *audit = arena_strdup(&f->a, value_get_string(f->reply, "audit", ""));
    WRITE_OK(f, "model.promote", promote);
    assert_int_equal(value_get_int(f->reply, "version", 0), 1);
    assert_string_equal(value_get_string(f->reply, "audit", ""), audit);
    /* within one transaction as well */
    assert_int_equal(store_begin(f->s, &f->err), STATUS_OK);
    const char *other =
        "{'name':'m','run':'" RUN_A "','actor':'me','card':{},'client':'c','seq':9}";
    assert_int_equal(fixture_apply(f, "model.promote", other, NULL, 0), STATUS_OK);
    assert_int_equal(fixture_apply(f, "model.promote", other, NULL, 0), STATUS_OK);
    assert_int_equal(value_get_int(f->reply, "version", 0), 2);
    assert_int_equal(store_commit(f->s, &f->err), STATUS_OK);
    WRITE_FAILS(f, STATUS_CONFLICT, "run.create",
                "{'run':'" RUN_B "','experiment':'e','client':'c','seq':9}");
}

static void replies_are_forgotten(void **state) {
    struct fixture *f = *state;
    char text[160];
    WRITE_OK(f, "sweep.create", "{'sweep':'" SWEEP "','name':'s','config':{}}");
    for (int i = 1; i <= 20; i++) {
        (void)snprintf(text, sizeof text,
                       "{'sweep':'" SWEEP "','first':1,'events':[],'client':'c%d','seq':%d}", i % 3,
                       i);
        if (i == 11)
            f->now_ns += 25 * 3600 * NS_PER_S;
        WRITE_OK(f, "event.append", text);
    }
    assert_int_equal(store_maintain(f->s, &f->err), STATUS_OK);
    /* a kept number of another op is a conflict, a forgotten one is free */
    WRITE_FAILS(f, STATUS_CONFLICT, "experiment.create", "{'name':'x','client':'c2','seq':11}");
    WRITE_FAILS(f, STATUS_CONFLICT, "experiment.create", "{'name':'x','client':'c2','seq':20}");
    WRITE_OK(f, "experiment.create", "{'name':'x','client':'c1','seq':10}");
    WRITE_OK(f, "experiment.create", "{'name':'x','client':'c1','seq':1}");
}

static void failures_leave_the_others_alone(void **state) {
    struct fixture *f = *state;
    assert_int_equal(store_begin(f->s, &f->err), STATUS_OK);
    assert_int_equal(
        fixture_apply(f, "run.create", "{'run':'" RUN_A "','experiment':'e'}", NULL, 0), STATUS_OK);
    assert_int_equal(fixture_apply(f, "run.update",
                                   "{'run':'" RUN_A "','params':{'a':1},'tags':{'t':3}}", NULL, 0),
                     STATUS_INVALID);
    assert_int_equal(
        fixture_apply(f, "run.create", "{'run':'" RUN_B "','experiment':'e'}", NULL, 0), STATUS_OK);
    READ_FAILS(f, STATUS_NOT_FOUND, "run.get", "{'run':'" RUN_A "'}"); /* not yet visible */
    assert_int_equal(store_commit(f->s, &f->err), STATUS_OK);
    READ_OK(f, "run.get", "{'run':'" RUN_A "'}");
    assert_int_equal(value_get(value_get(f->reply, "run"), "params")->count, 0);
    READ_OK(f, "run.get", "{'run':'" RUN_B "'}");
    assert_int_equal(store_begin(f->s, &f->err), STATUS_OK);
    assert_int_equal(
        fixture_apply(f, "run.create", "{'run':'" RUN_C "','experiment':'e'}", NULL, 0), STATUS_OK);
    store_abort(f->s);
    READ_FAILS(f, STATUS_NOT_FOUND, "run.get", "{'run':'" RUN_C "'}");
    struct store_stats stats;
    store_stats(f->s, &stats);
    assert_int_equal(stats.runs, 2);
}

static void large_documents(void **state) {
    struct fixture *f = *state;
    size_t len = 100000;
    char *text = malloc(len + 200);
    int head = snprintf(text, 200, "{'run':'" RUN_A "','experiment':'e','config':{'long':'");
    memset(text + head, 'x', len);
    (void)snprintf(text + (size_t)head + len, 100, "','end':1}}");
    WRITE_OK(f, "run.create", text);
    free(text);
    READ_OK(f, "run.get", "{'run':'" RUN_A "'}");
    struct value *config = value_get(value_get(f->reply, "run"), "config");
    assert_int_equal(value_get(config, "long")->count, len);
    assert_int_equal(value_get_int(config, "end", 0), 1);
}

/* An arena that ends anywhere: NOMEM and nothing changed, or all of it. */
static void memory_runs_out(void **state) {
    static const char *const ops[][2] = {
        {"run.create", "{'run':'" RUN_B "','experiment':'e2','sweep':'" SWEEP
                       "','params':{'a':1},'tags':{'t':'x'},'config':{'c':[1]}}"},
        {"run.update", "{'run':'" RUN_A "','state':'completed','params':{'b':[1,2]},"
                       "'summary':{'s':1},'manifest':{'m':{}}}"},
        {"sweep.create", "{'sweep':'" SWEEP "','name':'s','config':{'x':1}}"},
        {"event.append", "{'sweep':'" SWEEP "','first':1,'events':[{'a':1},{'b':2}]}"},
        {"sweep.update", "{'sweep':'" SWEEP "','state':'completed','summary':{'x':1}}"},
        {"artifact.begin", "{'run':'" RUN_A "','path':'p','size':0,'digest':'"
                           "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'}"},
        {"artifact.commit", "{'run':'" RUN_A "','path':'p','digest':'"
                            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'}"},
        {"model.promote", "{'name':'m','run':'" RUN_A
                          "','alias':'live','actor':'me','card':{'c':1},'client':'c','seq':1}"},
        {"model.alias", "{'name':'m','alias':'old','version':1,'actor':'me'}"},
        {"run.get", "{'run':'" RUN_A "'}"},
        {"run.list", "{}"},
        {"sweep.get", "{'sweep':'" SWEEP "'}"},
        {"sweep.list", "{}"},
        {"event.read", "{'sweep':'" SWEEP "'}"},
        {"model.get", "{'name':'m','alias':'live'}"},
        {"model.list", "{}"},
        {"audit.list", "{}"},
        {"experiment.list", "{}"},
    };
    struct fixture *f = *state;
    fixture_run(f, RUN_A);
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        struct value *request;
        const struct message_type *type = fixture_message(f, ops[i][0], ops[i][1], &request);
        enum status st = STATUS_NOMEM;
        for (size_t bytes = 0; st == STATUS_NOMEM; bytes += 48) {
            struct arena a;
            struct err err;
            arena_init(&a, bytes);
            f->reply = message_reply(&f->a, "t1");
            buf_clear(&f->bytes);
            struct store_request r = {.type = type, .header = request, .role = NET_ADMIN};
            struct err end;
            if (type->writes)
                assert_int_equal(store_begin(f->s, &end), STATUS_OK);
            st = fixture_send(f, &r, &a, &err);
            if (type->writes)
                assert_int_equal(store_commit(f->s, &end), STATUS_OK);
            if (st == STATUS_OK)
                fixture_check_reply(f, type);
            else if (st != STATUS_NOMEM)
                fail_msg("%s with %zu bytes: %s: %s", ops[i][0], bytes, status_name(st), err.text);
            arena_release(&a);
            assert_true(bytes < 1000000);
        }
    }
    READ_OK(f, "audit.list", "{}");
    assert_int_equal(value_get(f->reply, "records")->count, 2);
    READ_OK(f, "event.read", "{'sweep':'" SWEEP "'}");
    assert_int_equal(value_get(f->reply, "events")->count, 2);
}

/* A listing ends before its header would be too large to send. */
static void long_listings_are_cut(void **state) {
    struct fixture *f = *state;
    size_t len = 700000, n = 0;
    char *text = malloc(len + 300), after[64] = "";
    for (int i = 0; i < 9; i++) {
        int head = snprintf(
            text, 300, "{'run':'01J8AAAAAAAAAAAAAAAAAAAA0%d','experiment':'e','tags':{'t':'", i);
        memset(text + head, 'x', len);
        (void)snprintf(text + (size_t)head + len, 10, "'}}");
        WRITE_OK(f, "run.create", text);
    }
    for (int pages = 1; pages < 9; pages++) {
        (void)snprintf(text, 300, "{'newest_first':false%s}", after);
        READ_OK(f, "run.list", text);
        struct value *runs = value_get(f->reply, "runs");
        n += runs->count;
        if (!value_get_bool(f->reply, "more", false))
            break;
        assert_true(runs->count > 0);
        (void)snprintf(after, sizeof after, ",'after':'%s'",
                       value_get_string(runs->items[runs->count - 1], "run", ""));
    }
    assert_int_equal(n, 9);
    free(text);
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(created_and_read),
        TEST(feeds_count_by_themselves),
        TEST(again_is_no_error),
        TEST(params_never_change),
        TEST(final_states_stay),
        TEST(unknown_runs),
        TEST(listings),
        TEST(prefixes),
        TEST(lower_case_ids),
        TEST(resends_change_nothing),
        TEST(replies_are_forgotten),
        TEST(large_documents),
        TEST(memory_runs_out),
        TEST(long_listings_are_cut),
        TEST(failures_leave_the_others_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
