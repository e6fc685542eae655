/* Sweeps and their events; models, aliases and the audit chain. */
#include "tests/unit/tracker/store_fixture.h"

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"

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

static const char create[] = "{'sweep':'" SWEEP "','name':'grid','config':{'a':[1,2]}}";

static void sweeps(void **state) {
    struct fixture *f = *state;
    WRITE_OK(f, "sweep.create", create);
    assert_string_equal(f->topic, "sweep." SWEEP);
    assert_string_equal(f->op, "sweep.state");
    WRITE_OK(f, "sweep.create", create);
    assert_int_equal(f->deltas, 1);
    WRITE_FAILS(f, STATUS_EXISTS, "sweep.create",
                "{'sweep':'" SWEEP "','name':'grid','config':{'a':[1,3]}}");
    READ_OK(f, "experiment.list", "{}");
    assert_int_equal(value_get(f->reply, "experiments")->count, 1);
    WRITE_OK(f, "sweep.update",
             "{'sweep':'" SWEEP "','state':'failed','reason':'why','summary':{'x':1}}");
    assert_int_equal(f->sequence, 2);
    READ_OK(f, "sweep.get", "{'sweep':'" SWEEP "'}");
    struct value *s = value_get(f->reply, "sweep");
    assert_string_equal(value_get_string(s, "reason", ""), "why");
    assert_true(value_get_int(s, "ended_ns", 0) == f->now_ns);
    assert_int_equal(value_get_int(value_get(s, "summary"), "x", 0), 1);
    assert_int_equal(value_get(value_get(s, "config"), "a")->count, 2);
    WRITE_OK(f, "sweep.update", "{'sweep':'" SWEEP "','state':'active'}");
    WRITE_OK(f, "sweep.create", "{'sweep':'" RUN_A "','name':'other','config':{}}");
    READ_OK(f, "sweep.list", "{}");
    struct value *list = value_get(f->reply, "sweeps");
    assert_int_equal(list->count, 2);
    assert_string_equal(value_get_string(list->items[0], "sweep", ""), SWEEP);
    assert_int_equal(value_get(list->items[0], "ended_ns")->kind, VALUE_NULL);
    READ_OK(f, "sweep.list", "{'state':'failed'}");
    assert_int_equal(value_get(f->reply, "sweeps")->count, 0);
    READ_FAILS(f, STATUS_NOT_FOUND, "sweep.get", "{'sweep':'" RUN_B "'}");
}

static void events(void **state) {
    struct fixture *f = *state;
    WRITE_OK(f, "sweep.create", create);
    WRITE_OK(f, "event.append", "{'sweep':'" SWEEP "','first':1,'events':[{'n':1},{'n':2}]}");
    assert_string_equal(f->op, "sweep.events");
    /* one of these is there already: only the new one is added and published */
    WRITE_OK(f, "event.append", "{'sweep':'" SWEEP "','first':2,'events':[{'n':99},{'n':3}]}");
    assert_int_equal(value_get_int(f->reply, "last", 0), 3);
    assert_int_equal(value_get_int(f->header, "first", 0), 3);
    assert_int_equal(value_get(f->header, "events")->count, 1);
    int deltas = f->deltas;
    WRITE_OK(f, "event.append", "{'sweep':'" SWEEP "','first':1,'events':[{'n':1}]}");
    assert_int_equal(f->deltas, deltas);
    assert_int_equal(value_get_int(f->reply, "last", 0), 3);
    WRITE_FAILS(f, STATUS_CONFLICT, "event.append", "{'sweep':'" SWEEP "','first':5,'events':[]}");
    assert_non_null(strstr(f->err.text, "4"));
    WRITE_FAILS(f, STATUS_INVALID, "event.append",
                "{'sweep':'" SWEEP "','first':4,'events':[{'n':4},7]}");
    READ_OK(f, "event.read", "{'sweep':'" SWEEP "'}");
    struct value *list = value_get(f->reply, "events");
    assert_int_equal(list->count, 3);
    assert_int_equal(value_get_int(list->items[1], "n", 0), 2);
    assert_int_equal(value_get_int(f->reply, "first", 0), 1);
    READ_OK(f, "event.read", "{'sweep':'" SWEEP "','after':1,'limit':1}");
    assert_int_equal(value_get(f->reply, "events")->count, 1);
    assert_int_equal(value_get_int(f->reply, "first", 0), 2);
    assert_int_equal(value_get_int(f->reply, "last", 0), 3);
    READ_OK(f, "event.read", "{'sweep':'" SWEEP "','after':3}");
    assert_int_equal(value_get_int(f->reply, "first", -1), 0);
    READ_OK(f, "event.read", "{'sweep':'" SWEEP "','after':77}");
    assert_int_equal(value_get(f->reply, "events")->count, 0);
    READ_OK(f, "sweep.get", "{'sweep':'" SWEEP "'}");
    assert_int_equal(value_get_int(value_get(f->reply, "sweep"), "events", 0), 3);
}

/* The chain as a stranger checks it: canonical JSON without the digest, hashed. */
static size_t check_chain(struct fixture *f) {
    READ_OK(f, "audit.list", "{}");
    struct value *list = value_get(f->reply, "records");
    const char *previous = ZEROS;
    for (size_t i = 0; i < list->count; i++) {
        struct value *r = list->items[i];
        struct buf text = BUF_INIT(1 << 20);
        struct digest d;
        char hex[DIGEST_HEX];
        assert_int_equal(value_get_int(r, "sequence", 0), i + 1);
        assert_string_equal(value_get_string(r, "previous", ""), previous);
        previous = value_get_string(r, "digest", "");
        assert_true(value_remove(r, "digest"));
        assert_int_equal(json_dump(r, JSON_CANONICAL, &text, &f->err), STATUS_OK);
        hash_bytes(text.data, text.len, &d);
        hash_hex(&d, hex);
        buf_release(&text);
        assert_string_equal(hex, previous);
    }
    assert_string_equal(value_get_string(f->reply, "head", ""), previous);
    return list->count;
}

static const char promote[] = "{'name':'fashion','run':'" RUN_A
                              "','alias':'live','actor':'ann','card':{'weights':'x','n':1.5}}";

static void models(void **state) {
    struct fixture *f = *state;
    assert_int_equal(check_chain(f), 0);
    fixture_run(f, RUN_A);
    WRITE_FAILS(f, STATUS_CONFLICT, "model.promote", promote); /* still running */
    assert_non_null(strstr(f->err.text, "running"));
    WRITE_OK(f, "run.update", "{'run':'" RUN_A "','state':'completed'}");
    WRITE_OK(f, "model.promote", promote);
    assert_int_equal(value_get_int(f->reply, "version", 0), 1);
    WRITE_OK(f, "model.promote",
             "{'name':'fashion','run':'" RUN_A "','actor':'bob','comment':'c','card':{}}");
    assert_int_equal(value_get_int(f->reply, "version", 0), 2);
    assert_int_equal(check_chain(f), 2);
    READ_OK(f, "model.get", "{'name':'fashion','alias':'live'}");
    struct value *m = value_get(f->reply, "model");
    assert_int_equal(value_get_int(m, "version", 0), 1);
    assert_string_equal(value_get_string(m, "actor", ""), "ann");
    assert_true(value_get_real(value_get(m, "card"), "n", 0) == 1.5);
    assert_int_equal(value_get(m, "aliases")->count, 1);
    READ_OK(f, "model.get", "{'name':'fashion'}");
    assert_int_equal(value_get_int(value_get(f->reply, "model"), "version", 0), 2);
    WRITE_OK(f, "model.alias", "{'name':'fashion','alias':'live','version':2,'actor':'eve'}");
    assert_int_equal(check_chain(f), 3);
    struct value *details = value_get(value_get(f->reply, "records")->items[2], "details");
    assert_int_equal(value_get_int(details, "moved_from", 0), 1);
    WRITE_FAILS(f, STATUS_NOT_FOUND, "model.alias",
                "{'name':'fashion','alias':'live','version':3,'actor':'eve'}");
    WRITE_FAILS(f, STATUS_NOT_FOUND, "model.alias",
                "{'name':'none','alias':'live','version':1,'actor':'eve'}");
    fixture_reopen(f);
    assert_int_equal(check_chain(f), 3);
    READ_OK(f, "model.list", "{}");
    struct value *list = value_get(f->reply, "models");
    assert_int_equal(list->count, 1);
    assert_int_equal(value_get_int(list->items[0], "newest", 0), 2);
    assert_int_equal(value_get_int(value_get(list->items[0], "aliases"), "live", 0), 2);
    READ_FAILS(f, STATUS_NOT_FOUND, "model.get", "{'name':'fashion','version':9}");
    READ_FAILS(f, STATUS_NOT_FOUND, "model.get", "{'name':'fashion','alias':'none'}");
    READ_FAILS(f, STATUS_NOT_FOUND, "model.get", "{'name':'f'}");
    READ_OK(f, "audit.list", "{'after':1,'limit':1}");
    assert_int_equal(value_get(f->reply, "records")->count, 1);
}

/* Version, alias and audit record are stored together or not at all. */
static void promotion_is_atomic(void **state) {
    struct fixture *f = *state;
    fixture_run(f, RUN_A);
    WRITE_OK(f, "run.update", "{'run':'" RUN_A "','state':'stopped'}");
    assert_int_equal(store_begin(f->s, &f->err), STATUS_OK);
    assert_int_equal(fixture_apply(f, "model.promote", promote, NULL, 0), STATUS_OK);
    store_abort(f->s);
    READ_FAILS(f, STATUS_NOT_FOUND, "model.get", "{'name':'fashion'}");
    assert_int_equal(check_chain(f), 0);
    /* fails at its alias, after the version was put */
    WRITE_FAILS(f, STATUS_INVALID, "model.promote",
                "{'name':'fashion','run':'" RUN_A "','alias':'','actor':'a','card':{}}");
    READ_FAILS(f, STATUS_NOT_FOUND, "model.get", "{'name':'fashion'}");
    assert_int_equal(check_chain(f), 0);
    WRITE_OK(f, "model.promote", promote);
    assert_int_equal(value_get_int(f->reply, "version", 0), 1);
    READ_OK(f, "model.get", "{'name':'fashion','alias':'live'}");
    assert_int_equal(check_chain(f), 1);
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(sweeps),
        TEST(events),
        TEST(models),
        TEST(promotion_is_atomic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
