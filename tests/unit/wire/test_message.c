/* Headers: what is accepted, what is refused and with which words, the tables themselves. */
#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "core/json.h"
#include "core/path.h"
#include "tests/unit/alloc_fail.h"
#include "wire/message.h"

#define RUN "01ARZ3NDEKTSV4RRFFQ69G5FAV"

static struct arena arena;

static int setup(void **state) {
    (void)state;
    arena_init(&arena, (size_t)1 << 22);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    arena_release(&arena);
    return 0;
}

struct parsed {
    struct message in;
    struct err err;
};

static enum status parse(const char *text, struct parsed *p) {
    memset(p, 0, sizeof *p);
    return message_parse(&arena, text, strlen(text), &p->in, &p->err);
}

static void refuse(const char *text, enum status status, const char *id, const char *words) {
    struct parsed p;
    assert_int_equal(parse(text, &p), status);
    assert_int_equal(p.err.status, status);
    assert_string_equal(p.in.id, id);
    if (strstr(p.err.text, words) == NULL)
        fail_msg("%s: '%s' does not say '%s'", text, p.err.text, words);
}

static void test_parse(void **state) {
    (void)state;
    struct parsed p;
    assert_int_equal(parse("{\"v\":1,\"id\":\"c1-42\",\"op\":\"run.metrics\",\"run\":\"" RUN
                           "\",\"key\":\"loss\",\"points\":500,\"client\":\"c1\",\"seq\":42}",
                           &p),
                     STATUS_OK);
    assert_string_equal(p.in.type->op, "run.metrics");
    assert_string_equal(p.in.id, "c1-42");
    assert_int_equal(value_get_int(p.in.header, "points", 0), 500);
    assert_int_equal(value_get_int(p.in.header, "seq", 0), 42);
    assert_int_equal(parse("{\"v\":1,\"op\":\"group.exit\"}", &p), STATUS_OK);
    assert_string_equal(p.in.id, "");
}

static void test_refusals(void **state) {
    (void)state;
    refuse("", STATUS_INVALID, "", "empty");
    refuse("{", STATUS_INVALID, "", "message header");
    refuse("[]", STATUS_INVALID, "", "must be a JSON object");
    refuse("{}", STATUS_INVALID, "", "v must be 1");
    refuse("{\"v\":0,\"id\":\"a\",\"op\":\"hello\"}", STATUS_INVALID, "a", "v must be 1");
    refuse("{\"v\":\"1\",\"id\":\"a\",\"op\":\"hello\"}", STATUS_INVALID, "a", "v must be 1");
    refuse("{\"v\":2,\"id\":\"a\",\"whatever\":[]}", STATUS_TOO_NEW, "a", "version 2");
    refuse("{\"v\":1,\"id\":\"a\"}", STATUS_INVALID, "a", "op is missing");
    refuse("{\"v\":1,\"id\":\"a\",\"op\":3}", STATUS_INVALID, "a", "op must be a string");
    refuse("{\"v\":1,\"id\":\"a\",\"op\":\"run.metric\"}", STATUS_INVALID, "a", "'run.metrics'");
    refuse("{\"v\":1,\"id\":\"a\",\"op\":\"zzzzzzzz\"}", STATUS_INVALID, "a",
           "unknown op 'zzzzzzzz'");
    refuse("{\"v\":1,\"op\":\"hello\"}", STATUS_INVALID, "", "id is missing");
    refuse("{\"v\":1,\"id\":\"\",\"op\":\"hello\"}", STATUS_INVALID, "", "id must be a string");
    refuse("{\"v\":1,\"id\":7,\"op\":\"hello\"}", STATUS_INVALID, "", "id must be a string");
    refuse("{\"v\":1,\"id\":\"a\",\"op\":\"hello\",\"x\":1}", STATUS_INVALID, "a",
           "hello: unknown key 'x'");
    refuse("{\"v\":1,\"id\":\"a\",\"op\":\"hello\",\"client\":\"c\"}", STATUS_INVALID, "a",
           "together");
    refuse("{\"v\":1,\"id\":\"a\",\"op\":\"hello\",\"seq\":1}", STATUS_INVALID, "a", "together");
    refuse("{\"v\":1,\"id\":\"a\",\"op\":\"hello\",\"client\":\"c\",\"seq\":0}", STATUS_INVALID,
           "a", "seq must be an integer of at least 1");
    refuse("{\"v\":1,\"id\":\"a\",\"op\":\"run.get\"}", STATUS_INVALID, "a",
           "run.get: run is missing");
    refuse("{\"v\":1,\"id\":\"a\",\"op\":\"run.log\",\"run\":\"" RUN
           "\",\"series\":[{\"key\":\"a\",\"count\":0}]}",
           STATUS_INVALID, "a", "series[0].count must be an integer from 1 to 65536, not 0");
}

static void test_long_id(void **state) {
    (void)state;
    char text[256];
    (void)snprintf(text, sizeof text, "{\"v\":1,\"id\":\"%065d\",\"op\":\"hello\"}", 0);
    refuse(text, STATUS_INVALID, "", "id must be a string of 1 to 64 bytes");
    struct parsed p;
    (void)snprintf(text, sizeof text, "{\"v\":1,\"id\":\"%064d\",\"op\":\"hello\"}", 0);
    assert_int_equal(parse(text, &p), STATUS_OK);
    assert_int_equal(strlen(p.in.id), MESSAGE_ID_MAX);
}

static void dump(const struct value *v, struct buf *out) {
    struct err err;
    buf_clear(out);
    assert_int_equal(json_dump(v, JSON_COMPACT, out, &err), STATUS_OK);
}

static void test_build(void **state) {
    (void)state;
    struct buf out = BUF_INIT(4096);
    struct parsed p;
    dump(message_request(&arena, "hello", "i1"), &out);
    assert_int_equal(parse(buf_text(&out), &p), STATUS_OK);
    assert_string_equal(p.in.id, "i1");
    dump(message_request(&arena, "group.exit", NULL), &out);
    assert_string_equal(buf_text(&out), "{\"v\":1,\"op\":\"group.exit\"}");
    buf_release(&out);
}

static void test_replies(void **state) {
    (void)state;
    struct buf out = BUF_INIT(4096);
    struct err err;
    struct value *v = NULL;
    dump(message_reply(&arena, "i1"), &out);
    assert_int_equal(message_parse_reply(&arena, out.data, out.len, &v, &err), STATUS_OK);
    assert_string_equal(value_get_string(v, "id", ""), "i1");

    struct err why;
    assert_int_equal(err_set(&why, STATUS_NOT_FOUND, "no run 01J"), STATUS_NOT_FOUND);
    dump(message_failure(&arena, "i2", &why), &out);
    assert_string_equal(buf_text(&out),
                        "{\"id\":\"i2\",\"ok\":false,\"error\":{\"code\":\"not_found\","
                        "\"message\":\"no run 01J\"}}");
    assert_int_equal(message_parse_reply(&arena, out.data, out.len, &v, &err), STATUS_NOT_FOUND);
    assert_string_equal(err.text, "no run 01J");
    dump(message_failure(&arena, NULL, NULL), &out);
    assert_int_equal(message_parse_reply(&arena, out.data, out.len, &v, &err), STATUS_INTERNAL);
    buf_release(&out);
}

/* A failure can never come back as a success, whatever a server writes. */
static void test_hostile_replies(void **state) {
    (void)state;
    static const struct {
        const char *text;
        enum status status;
    } rows[] = {
        {"", STATUS_INVALID},
        {"{}", STATUS_INVALID},
        {"{\"ok\":1}", STATUS_INVALID},
        {"{\"ok\":false}", STATUS_INTERNAL},
        {"{\"ok\":false,\"error\":3}", STATUS_INTERNAL},
        {"{\"ok\":false,\"error\":{\"code\":\"ok\"}}", STATUS_INTERNAL},
        {"{\"ok\":false,\"error\":{\"code\":\"from_the_future\"}}", STATUS_INTERNAL},
        {"{\"ok\":false,\"error\":{\"code\":\"full\",\"message\":7}}", STATUS_FULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err;
        struct value *v = NULL;
        assert_int_equal(message_parse_reply(&arena, rows[i].text, strlen(rows[i].text), &v, &err),
                         rows[i].status);
    }
}

static void test_check_reply(void **state) {
    (void)state;
    struct err err;
    const struct message_type *type = message_find("run.log");
    struct value *r = message_reply(&arena, "x");
    assert_int_equal(message_check_reply(&arena, type, r, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "points is missing"));
    value_set_int(&arena, r, "points", 3);
    assert_int_equal(message_check_reply(&arena, type, r, &err), STATUS_OK);
    value_set_int(&arena, r, "more", 3);
    assert_int_equal(message_check_reply(&arena, type, r, &err), STATUS_INVALID);
    assert_int_equal(message_check_reply(&arena, type, NULL, &err), STATUS_NOMEM);
}

/* ---- the tables ---- */

static void check_fields(const struct field *fields, int depth) {
    static const char *const reserved[] = {"v",  "op",    "id",    "client",  "seq",
                                           "ok", "error", "topic", "sequence"};
    for (const struct field *f = fields; f != NULL && f->name != NULL; f++) {
        assert_true(depth == 0 ? f->doc != NULL && f->doc[0] != '\0' : true);
        for (size_t i = 0; i < 7 && depth == 0; i++)
            assert_string_not_equal(f->name, reserved[i]);
        for (const struct field *g = f + 1; g->name != NULL; g++)
            assert_string_not_equal(f->name, g->name);
        if (f->type == FIELD_ENUM)
            assert_non_null(f->choices);
        if (f->type == FIELD_LIST || f->type == FIELD_STRING)
            assert_true(f->max > 0);
        if (f->fields != NULL)
            check_fields(f->fields, depth + 1);
    }
}

static void test_tables(void **state) {
    (void)state;
    size_t count = 0;
    for (enum message_server server = SERVER_TRACKER; server < SERVER_COUNT; server++)
        for (const struct message_type *t = message_table(server); t->op != NULL; t++) {
            assert_int_equal(t->server, server);
            assert_non_null(t->doc);
            check_fields(t->request, 0);
            check_fields(t->reply, 0);
            if (server == SERVER_FEED)
                continue;
            assert_ptr_equal(message_find(t->op), t);
            count++;
        }
    for (const struct message_type *t = message_next(NULL); t != NULL; t = message_next(t))
        count--;
    assert_int_equal(count, 0);
    assert_null(message_find("nothing"));
    assert_null(message_find("run.points")); /* published, not asked for */
}

static void test_reference(void **state) {
    (void)state;
    struct buf want = BUF_INIT((size_t)1 << 20), have = BUF_INIT((size_t)1 << 20);
    struct err err;
    message_write_reference(&want);
    assert_int_equal(buf_status(&want, "reference", &err), STATUS_OK);
    assert_int_equal(path_read("docs/WIRE.md", &have, &err), STATUS_OK);
    if (want.len != have.len || memcmp(want.data, have.data, want.len) != 0)
        fail_msg("docs/WIRE.md is not what the tables say: run make docs");
    for (const struct message_type *t = message_next(NULL); t != NULL; t = message_next(t))
        assert_non_null(strstr(want.data, t->op));
    buf_release(&want);
    buf_release(&have);
}

/* ---- memory ---- */

static enum status parse_scenario(void *arg) {
    (void)arg;
    static const char text[] = "{\"v\":1,\"id\":\"a\",\"op\":\"run.get\",\"run\":\"" RUN "\"}";
    struct arena a;
    arena_init(&a, (size_t)1 << 20);
    struct message in;
    struct err err;
    enum status st = message_parse(&a, text, strlen(text), &in, &err);
    arena_release(&a);
    return st;
}

static enum status reply_scenario(void *arg) {
    (void)arg;
    struct arena a;
    arena_init(&a, (size_t)1 << 20);
    struct buf out = BUF_INIT(4096);
    struct err err;
    struct value *v = NULL;
    enum status st = json_dump(message_reply(&a, "a"), JSON_COMPACT, &out, &err);
    if (st == STATUS_OK)
        st = message_parse_reply(&a, out.data, out.len, &v, &err);
    buf_release(&out);
    arena_release(&a);
    return st;
}

static enum status reference_scenario(void *arg) {
    (void)arg;
    struct buf out = BUF_INIT((size_t)1 << 20);
    struct err err;
    message_write_reference(&out);
    enum status st = buf_status(&out, "reference", &err);
    buf_release(&out);
    return st;
}

static void test_memory(void **state) {
    (void)state;
    assert_allocations_failed(alloc_fail_each(parse_scenario, NULL), 2);
    assert_allocations_failed(alloc_fail_each(reply_scenario, NULL), 2);
    assert_allocations_failed(alloc_fail_each(reference_scenario, NULL), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_parse, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_id, setup, teardown),
        cmocka_unit_test_setup_teardown(test_build, setup, teardown),
        cmocka_unit_test_setup_teardown(test_replies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_replies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_check_reply, setup, teardown),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
