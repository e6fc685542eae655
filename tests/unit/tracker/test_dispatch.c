/* The tracker's tables agree: each message that the wire gives it has one operation, and each
 * operation a message. */
#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "tracker/ops/dispatch.h"

static void every_message_has_its_operation(void **state) {
    (void)state;
    for (const struct message_type *t = message_table(SERVER_TRACKER); t->op != NULL; t++) {
        const struct dispatch_row *row = dispatch_find(t->op);
        if (strcmp(t->op, "hello") == 0) { /* answered by the network thread */
            assert_null(row);
            continue;
        }
        if (row == NULL)
            fail_msg("%s has no row in tracker/ops/ops.h", t->op);
        assert_int_equal(row->writes, t->writes);
    }
}

/* Whoever may do nothing but read changes nothing, whoever writes events is the coordinator, and the
 * administrator may send everything. */
static void roles_are_sets_of_rights(void **state) {
    (void)state;
    struct err err;
    for (const struct message_type *t = message_next(NULL); t != NULL; t = message_next(t)) {
        assert_int_equal(message_allows(t, NET_ADMIN, &err), STATUS_OK);
        if (t->writes)
            assert_int_equal(message_allows(t, NET_VIEWER, &err), STATUS_DENIED);
        else if (t->server == SERVER_TRACKER)
            for (unsigned r = 0; r < NET_ROLES; r++)
                assert_int_equal(message_allows(t, (enum net_role)r, &err), STATUS_OK);
        bool of_group = strncmp(t->op, "group.", 6) == 0 || strncmp(t->op, "trial.", 6) == 0;
        if (t->server == SERVER_COORDINATOR && of_group) {
            assert_int_equal(message_allows(t, NET_WORKER, &err), STATUS_OK);
            assert_int_equal(message_allows(t, NET_SUBMITTER, &err), STATUS_DENIED);
            assert_int_equal(message_allows(t, NET_COORDINATOR, &err), STATUS_DENIED);
        }
    }
    const struct message_type *append = message_find("event.append");
    assert_int_equal(message_allows(append, NET_COORDINATOR, &err), STATUS_OK);
    assert_int_equal(message_allows(append, NET_SUBMITTER, &err), STATUS_DENIED);
    assert_non_null(strstr(err.text, "needs the role coordinator or admin"));
    assert_non_null(strstr(err.text, "your key has the role submitter"));
    assert_int_equal(message_allows(append, NET_WORKER, &err), STATUS_DENIED);
    assert_int_equal(message_allows(message_find("sweep.submit"), NET_SUBMITTER, &err), STATUS_OK);
    assert_int_equal(message_allows(message_find("sweep.submit"), NET_WORKER, &err), STATUS_DENIED);
    assert_int_equal(message_allows(message_find("coordinator.shutdown"), NET_SUBMITTER, &err),
                     STATUS_DENIED);
}

static void every_operation_has_its_message(void **state) {
    (void)state;
    size_t n = 0;
    for (const struct dispatch_row *row; (row = dispatch_row(n)) != NULL; n++) {
        const struct message_type *t = message_find(row->name);
        if (t == NULL || t->server != SERVER_TRACKER)
            fail_msg("%s has no row in wire/message_tracker.c", row->name);
        assert_ptr_equal(dispatch_find(row->name), row); /* once */
    }
    assert_true(n > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_has_its_operation),
        cmocka_unit_test(every_operation_has_its_message),
        cmocka_unit_test(roles_are_sets_of_rights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
