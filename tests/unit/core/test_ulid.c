/* ULIDs: form, order, uniqueness. */
#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "core/clock.h"
#include "core/ulid.h"

static void known_encodings(void **state) {
    (void)state;
    char id[ULID_TEXT];
    ulid_make(0, 0, 0, id);
    assert_string_equal(id, "00000000000000000000000000");
    ulid_make((INT64_C(1) << 48) - 1, UINT64_MAX, UINT64_MAX, id);
    assert_string_equal(id, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
    ulid_make(1469918176385, 0, 0, id); /* the time of the specification's example */
    assert_memory_equal(id, "01ARYZ6S41", 10);
    ulid_make(0, 0, 1, id);
    assert_string_equal(id, "00000000000000000000000001");
    ulid_make(0, 1, 0, id); /* bit 64 is bit 4 of the 13th digit from the end */
    assert_string_equal(id, "0000000000000G000000000000");
    ulid_make(-5, 0, 0, id);
    assert_string_equal(id, "00000000000000000000000000");
}

static void they_sort_by_time(void **state) {
    (void)state;
    char a[ULID_TEXT], b[ULID_TEXT];
    for (int64_t ms = 1; ms < INT64_C(1) << 47; ms *= 3) {
        ulid_make(ms, UINT64_MAX, UINT64_MAX, a);
        ulid_make(ms + 1, 0, 0, b);
        assert_true(strcmp(a, b) < 0);
    }
}

static void new_ones_differ_and_are_valid(void **state) {
    (void)state;
    char a[ULID_TEXT], b[ULID_TEXT];
    assert_int_equal(ulid_new(a, NULL), STATUS_OK);
    assert_int_equal(ulid_new(b, NULL), STATUS_OK);
    assert_string_not_equal(a, b);
    assert_true(ulid_valid(a, strlen(a), true));
}

static void validity(void **state) {
    (void)state;
    assert_true(ulid_valid("01j", 3, false));
    assert_false(ulid_valid("01J", 3, true));
    assert_false(ulid_valid("", 0, false));
    assert_true(ulid_valid("01ARYZ6S41TSV4RRFFQ69G5FAV", 26, true));
    assert_true(ulid_valid("01aryz6s41tsv4rrffq69g5fav", 26, true));
    assert_false(ulid_valid("01ARYZ6S41TSV4RRFFQ69G5FAV0", 27, false));
    assert_false(ulid_valid("8ZZZZZZZZZZZZZZZZZZZZZZZZZ", 26, true)); /* over 128 bits */
    for (const char *p = "ilouILOU-_ /"; *p != '\0'; p++) {
        char text[2] = {'0', *p};
        assert_false(ulid_valid(text, 2, false));
    }
    assert_false(ulid_valid("0\0", 2, false));
}

static void times_are_formatted(void **state) {
    (void)state;
    static const struct {
        int64_t ns;
        const char *text;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
        {INT64_C(951782400) * NS_PER_S, "2000-02-29T00:00:00.000Z"},
        {INT64_C(1709251199) * NS_PER_S + 999999999, "2024-02-29T23:59:59.999Z"},
        {INT64_C(4107542400) * NS_PER_S, "2100-03-01T00:00:00.000Z"},
        {INT64_MAX, "2262-04-11T23:47:16.854Z"},
        {INT64_MIN, "1677-09-21T00:12:43.145Z"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[CLOCK_TEXT_MAX];
        clock_format(rows[i].ns, text);
        assert_string_equal(text, rows[i].text);
    }
    int64_t before = clock_mono_ns(&clock_system);
    assert_true(clock_mono_ns(&clock_system) >= before);
    assert_true(clock_wall_ns(&clock_system) > INT64_C(1600000000) * NS_PER_S);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_encodings),
        cmocka_unit_test(they_sort_by_time),
        cmocka_unit_test(new_ones_differ_and_are_valid),
        cmocka_unit_test(validity),
        cmocka_unit_test(times_are_formatted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
