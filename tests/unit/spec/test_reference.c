/* What docs/SWEEP.md and shell completion say of the language; the searchers' list. */
#include <string.h>

#include "core/path.h"
#include "spec/reference.h"
#include "spec/searcher.h"
#include "tests/unit/cmocka_all.h"

static void docs_are_current(void **state) {
    (void)state;
    static const char begin[] = "<!-- Written by `make docs`. -->\n", end[] = "<!-- End. -->\n";
    struct buf want = BUF_INIT((size_t)1 << 20), have = BUF_INIT((size_t)1 << 20);
    struct err err;
    spec_reference(&want);
    assert_int_equal(buf_status(&want, "reference", &err), STATUS_OK);
    assert_int_equal(path_read("docs/SWEEP.md", &have, &err), STATUS_OK);
    const char *from = strstr(buf_text(&have), begin);
    assert_non_null(from);
    from += sizeof begin - 1;
    const char *to = strstr(from, end);
    assert_non_null(to);
    if ((size_t)(to - from) != want.len || memcmp(from, want.data, want.len) != 0)
        fail_msg("docs/SWEEP.md is not what the tables say: run make docs");
    buf_release(&want);
    buf_release(&have);
}

static void every_row_is_documented(void **state) {
    (void)state;
    struct buf text = BUF_INIT((size_t)1 << 20);
    spec_reference(&text);
    assert_null(strstr(buf_text(&text), "| (null)"));
    assert_null(strstr(buf_text(&text), "|  |\n"));
    buf_release(&text);
}

static void keys_are_paths(void **state) {
    (void)state;
    static const char *const some[] = {"name\n",
                                       "searcher.max_time\n",
                                       "data.validation_split\n",
                                       "data.train.label\n",
                                       "training.optimizer.lr\n",
                                       "training.schedule.min_lr\n",
                                       "reproducibility.virtual_shards\n"};
    struct buf text = BUF_INIT((size_t)1 << 20);
    spec_keys(&text);
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        const char *at = strstr(buf_text(&text), some[i]);
        assert_non_null(at);
        for (at = strstr(at + 1, some[i]); at != NULL; at = strstr(at + 1, some[i]))
            assert_true(at[-1] != '\n'); /* each once */
    }
    buf_release(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(docs_are_current),
        cmocka_unit_test(every_row_is_documented),
        cmocka_unit_test(keys_are_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
