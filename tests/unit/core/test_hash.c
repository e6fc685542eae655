/* SHA-256 against published vectors; digests as text. */
#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "core/hash.h"
#include "tests/unit/alloc_fail.h"

/* FIPS 180-4 examples. */
#define ABC   "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void assert_digest(const struct digest *d, const char *expected) {
    char hex[DIGEST_HEX];
    hash_hex(d, hex);
    assert_string_equal(hex, expected);
}

static void known_answers(void **state) {
    (void)state;
    struct digest d;
    hash_bytes("abc", 3, &d);
    assert_digest(&d, ABC);
    hash_bytes(NULL, 0, &d);
    assert_digest(&d, EMPTY);
}

static void pieces_and_reset(void **state) {
    (void)state;
    struct digest d;
    struct hash *h = hash_new();
    assert_non_null(h);
    hash_add(h, "a", 1);
    hash_add(h, "", 0);
    hash_add(h, "bc", 2);
    hash_end(h, &d);
    assert_digest(&d, ABC);
    hash_reset(h);
    hash_end(h, &d);
    assert_digest(&d, EMPTY);
    hash_destroy(&h);
    assert_null(h);
    hash_destroy(&h);
}

static void parse_reads_hex(void **state) {
    (void)state;
    struct digest d;
    assert_int_equal(hash_parse(ABC, 64, &d, NULL), STATUS_OK);
    assert_digest(&d, ABC);
    assert_int_equal(hash_parse("BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD",
                                64, &d, NULL),
                     STATUS_OK);
    assert_digest(&d, ABC);
    struct err err;
    assert_int_equal(hash_parse(ABC, 63, &d, &err), STATUS_INVALID);
    assert_string_equal(err.text, "a digest must have 64 hex digits, not 63");
    char bad[] = ABC;
    bad[10] = 'g';
    assert_int_equal(hash_parse(bad, 64, &d, &err), STATUS_INVALID);
    assert_digest(&d, ABC); /* untouched */
}

static enum status make_one(void *arg) {
    (void)arg;
    struct hash *h = hash_new();
    enum status st = h != NULL ? STATUS_OK : STATUS_NOMEM;
    struct digest d;
    if (h != NULL) {
        hash_add(h, "x", 1);
        hash_reset(h);
        hash_add(h, "y", 1);
        hash_end(h, &d);
    }
    hash_bytes("z", 1, &d);
    hash_destroy(&h);
    return st;
}

static void only_new_allocates(void **state) {
    (void)state;
    long n = alloc_fail_each(make_one, NULL);
    assert_true(!ALLOC_FAIL_ON || n == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(pieces_and_reset),
        cmocka_unit_test(parse_reads_hex),
        cmocka_unit_test(only_new_allocates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
