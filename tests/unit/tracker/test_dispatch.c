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
        assert_true(store_allows(t, NET_SUBMITTER));
        assert_true(store_allows(t, NET_VIEWER) != t->writes);
    }
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
