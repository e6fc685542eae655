/* Arenas: alignment, bounds, every allocation failing. */
#include "tests/unit/cmocka_all.h"

#include <stdint.h>
#include <string.h>

#include "core/arena.h"
#include "tests/unit/alloc_fail.h"

static void takes_are_zeroed_and_aligned(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 20);
    for (int round = 0; round < 2; round++) {
        for (size_t n = 0; n < 300; n++) {
            unsigned char *p = arena_take(&a, n);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % 16, 0);
            for (size_t i = 0; i < n; i++)
                assert_int_equal(p[i], 0);
            memset(p, 0xAA, n);
        }
        arena_clear(&a); /* the second round reuses dirty memory */
        assert_int_equal(a.bytes_used, 0);
    }
    arena_release(&a);
    arena_release(&a);
}

static void takes_do_not_overlap(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 16 << 20);
    unsigned char *p[64];
    for (size_t i = 0; i < 64; i++) {
        p[i] = arena_take(&a, 1 + i * 997);
        assert_non_null(p[i]);
        memset(p[i], (int)i, 1 + i * 997);
    }
    for (size_t i = 0; i < 64; i++)
        for (size_t k = 0; k < 1 + i * 997; k++)
            assert_int_equal(p[i][k], i);
    arena_release(&a);
}

static void the_bound_holds(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 100);
    assert_null(arena_take(&a, 101));
    assert_null(arena_take(&a, SIZE_MAX));
    assert_null(arena_take(&a, SIZE_MAX - 20));
    assert_null(arena_array(&a, SIZE_MAX / 2, 3));
    assert_non_null(arena_take(&a, 90));
    assert_int_equal(a.bytes_used, 96);
    assert_null(arena_take(&a, 1));
    arena_release(&a);
    assert_int_equal(a.bytes_max, 100);
    assert_non_null(arena_take(&a, 90)); /* usable again */
    arena_release(&a);
    struct arena zero = {0};
    assert_null(arena_take(&zero, 0));
    arena_clear(&zero);
}

static void text_copies(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 16);
    assert_memory_equal(arena_copy(&a, "a\0b", 3), "a\0b", 4);
    assert_string_equal(arena_copy(&a, NULL, 0), "");
    assert_null(arena_copy(&a, "x", SIZE_MAX));
    assert_string_equal(arena_strdup(&a, "text"), "text");
    assert_string_equal(arena_printf(&a, "%d-%s", 42, "x"), "42-x");
    arena_release(&a);
}

static enum status take_much(void *arg) {
    (void)arg;
    struct arena a;
    arena_init(&a, 8 << 20);
    bool ok = arena_take(&a, 100) != NULL;
    for (int i = 0; i < 20 && ok; i++)
        ok = arena_array(&a, 1000, 8) != NULL && arena_strdup(&a, "x") != NULL &&
             arena_printf(&a, "%d", i) != NULL;
    ok = ok && arena_take(&a, 4 << 20) != NULL;
    arena_clear(&a);
    arena_release(&a);
    return ok ? STATUS_OK : STATUS_NOMEM;
}

static void survives_failed_allocations(void **state) {
    (void)state;
    assert_allocations_failed(alloc_fail_each(take_much, NULL), 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_are_zeroed_and_aligned),
        cmocka_unit_test(takes_do_not_overlap),
        cmocka_unit_test(the_bound_holds),
        cmocka_unit_test(text_copies),
        cmocka_unit_test(survives_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
