/* Keys, the ordered map, documents in parts. */
#include "tests/unit/tracker/store_fixture.h"

#include "core/bytes.h"
#include "tracker/map/docs.h"

struct map {
    char dir[64];
    struct kv *kv;
    struct kv_txn t;
    struct arena a;
    struct err err;
};

static int setup(void **state) {
    struct map *m = calloc(1, sizeof *m);
    (void)snprintf(m->dir, sizeof m->dir, "/tmp/trireme-docs-XXXXXX");
    assert_non_null(mkdtemp(m->dir));
    arena_init(&m->a, (size_t)1 << 28);
    assert_int_equal(
        kv_open(m->dir, &(struct kv_how){.map_bytes = (size_t)1 << 28}, &m->kv, &m->err),
        STATUS_OK);
    assert_int_equal(kv_begin(m->kv, NULL, true, &m->t, &m->err), STATUS_OK);
    *state = m;
    return 0;
}

static int teardown(void **state) {
    struct map *m = *state;
    kv_abort(&m->t);
    kv_close(&m->kv);
    arena_release(&m->a);
    (void)nftw(m->dir, fixture_unlink, 16, FTW_DEPTH | FTW_PHYS);
    free(m);
    return 0;
}

static void keys(void **state) {
    (void)state;
    struct key k = key_id(KEY_EVENT, "01j8aaaaaaaaaaaaaaaaaaaaa1"), more;
    struct err err;
    key_add_be64(&k, 258);
    assert_int_equal(k.len, 1 + ULID_LEN + 8);
    assert_memory_equal(k.bytes, "v01J8AAAAAAAAAAAAAAAAAAAAA1\0\0\0\0\0\0\1\2", k.len);
    more = key_after(&k);
    assert_int_equal(more.bytes[more.len - 1], 3);
    key_add_be16(&k, 0xffff);
    more = key_after(&k);
    assert_int_equal(more.len, k.len - 2);
    char name[NAME_BYTES_MAX + 2];
    memset(name, 'n', sizeof name);
    name[NAME_BYTES_MAX + 1] = '\0';
    assert_int_equal(key_check_name(name, NAME_BYTES_MAX, "a name", &err), STATUS_TOO_LARGE);
    name[NAME_BYTES_MAX] = '\0';
    assert_int_equal(key_check_name(name, NAME_BYTES_MAX, "a name", &err), STATUS_OK);
    assert_int_equal(key_check_name("", NAME_BYTES_MAX, "a name", &err), STATUS_INVALID);
    struct key big = key_of(KEY_PARAM);
    for (int i = 0; i < 3; i++)
        key_add(&big, name, NAME_BYTES_MAX);
    assert_true(big.over);
    assert_int_equal(big.len, 1 + 2 * NAME_BYTES_MAX);
}

static struct kv_bytes text(const char *s) {
    return (struct kv_bytes){s, strlen(s)};
}

static void put(struct map *m, const char *key, const char *value) {
    assert_int_equal(kv_put(&m->t, text(key), text(value), &m->err), STATUS_OK);
}

static void cursors(void **state) {
    struct map *m = *state;
    struct kv_cursor c;
    size_t deleted;
    bool found;
    assert_int_equal(kv_cursor_open(&m->t, &c, &m->err), STATUS_OK);
    assert_int_equal(kv_seek(&c, text("a"), &m->err), STATUS_OK);
    assert_null(c.key.data);
    assert_int_equal(kv_seek_before(&c, text("a"), &m->err), STATUS_OK);
    assert_null(c.key.data);
    put(m, "b1", "x");
    put(m, "b2", "y");
    put(m, "d", "z");
    assert_int_equal(kv_seek(&c, text("b11"), &m->err), STATUS_OK);
    assert_memory_equal(c.key.data, "b2", 2);
    assert_int_equal(kv_seek_before(&c, text("b2"), &m->err), STATUS_OK);
    assert_memory_equal(c.key.data, "b1", 2);
    assert_int_equal(kv_prev(&c, &m->err), STATUS_OK);
    assert_null(c.key.data);
    assert_int_equal(kv_seek_before(&c, text("z"), &m->err), STATUS_OK);
    assert_memory_equal(c.key.data, "d", 1);
    assert_int_equal(kv_next(&c, &m->err), STATUS_OK);
    assert_null(c.key.data);
    kv_cursor_close(&c);
    assert_int_equal(kv_del_prefix(&m->t, text("b"), 10, &deleted, &m->err), STATUS_OK);
    assert_int_equal(deleted, 2);
    assert_int_equal(kv_del(&m->t, text("b1"), &found, &m->err), STATUS_OK);
    assert_false(found);
    assert_int_equal(kv_del(&m->t, text("d"), &found, &m->err), STATUS_OK);
    assert_true(found);
}

static void nested(void **state) {
    struct map *m = *state;
    struct kv_txn inner;
    struct kv_bytes v;
    put(m, "k", "old");
    assert_int_equal(kv_begin(m->kv, &m->t, true, &inner, &m->err), STATUS_OK);
    assert_int_equal(kv_put(&inner, text("k"), text("new"), &m->err), STATUS_OK);
    kv_abort(&inner);
    kv_abort(&inner);
    assert_int_equal(kv_get(&m->t, text("k"), &v, &m->err), STATUS_OK);
    assert_memory_equal(v.data, "old", 3);
    assert_int_equal(kv_begin(m->kv, &m->t, true, &inner, &m->err), STATUS_OK);
    assert_int_equal(kv_put(&inner, text("k"), text("new"), &m->err), STATUS_OK);
    assert_int_equal(kv_commit(&inner, &m->err), STATUS_OK);
    struct kv_txn snapshot;
    assert_int_equal(kv_begin(m->kv, NULL, false, &snapshot, &m->err), STATUS_OK);
    assert_int_equal(kv_get(&snapshot, text("k"), &v, &m->err), STATUS_OK);
    assert_null(v.data); /* not committed yet */
    kv_abort(&snapshot);
    assert_int_equal(kv_commit(&m->t, &m->err), STATUS_OK);
    assert_int_equal(kv_begin(m->kv, NULL, true, &m->t, &m->err), STATUS_OK);
    assert_int_equal(kv_get(&m->t, text("k"), &v, &m->err), STATUS_OK);
    assert_memory_equal(v.data, "new", 3);
}

static size_t entries(struct map *m) {
    struct kv_cursor c;
    size_t n = 0;
    assert_int_equal(kv_cursor_open(&m->t, &c, &m->err), STATUS_OK);
    enum status st = kv_seek(&c, text("\1"), &m->err);
    for (; st == STATUS_OK && c.key.data != NULL; st = kv_next(&c, &m->err))
        n++;
    kv_cursor_close(&c);
    return n;
}

/* Every length around a part's border; growing and shrinking leave no part behind. */
static void documents_of_any_length(void **state) {
    static const size_t lens[] = {0,    1,    1795, 1796, 1797, 3595,   3596, 3597,
                                  5396, 1796, 100,  9000, 3597, 200000, 5,    0};
    struct map *m = *state;
    struct key k = key_name(KEY_TAG, "doc");
    char *bytes = malloc(200000);
    for (size_t i = 0; i < 200000; i++)
        bytes[i] = (char)(i * 31 >> 3);
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        struct kv_bytes doc;
        assert_int_equal(doc_put(&m->t, &k, bytes, lens[i], &m->err), STATUS_OK);
        assert_int_equal(doc_get(&m->t, &k, &m->a, &doc, &m->err), STATUS_OK);
        assert_int_equal(doc.len, lens[i]);
        assert_memory_equal(doc.data, bytes, doc.len);
        assert_int_equal(entries(m), (lens[i] + 4 + DOC_PART - 1) / DOC_PART);
    }
    bool found;
    assert_int_equal(doc_put(&m->t, &k, bytes, 9000, &m->err), STATUS_OK);
    assert_int_equal(doc_del(&m->t, &k, &found, &m->err), STATUS_OK);
    assert_true(found);
    assert_int_equal(entries(m), 0);
    assert_int_equal(doc_del(&m->t, &k, &found, &m->err), STATUS_OK);
    assert_false(found);
    free(bytes);
}

static void lost_part(void **state) {
    struct map *m = *state;
    struct key k = key_name(KEY_TAG, "doc"), part = k;
    static char bytes[9000];
    struct kv_bytes doc;
    assert_int_equal(doc_put(&m->t, &k, bytes, sizeof bytes, &m->err), STATUS_OK);
    key_add_be16(&part, 2);
    assert_int_equal(kv_del(&m->t, key_bytes(&part), NULL, &m->err), STATUS_OK);
    assert_int_equal(doc_get(&m->t, &k, &m->a, &doc, &m->err), STATUS_CORRUPT);
}

/* What part 0 says of the whole is not what the parts are. */
static void forged_lengths(void **state) {
    static const struct {
        uint32_t whole;
        size_t first, second; /* bytes of the parts; SIZE_MAX: there is no second */
    } cases[] = {
        {9, 10, SIZE_MAX}, /* more than the whole */
        {20, 10, 11},
        {20, 10, 0},
        {20, 10, SIZE_MAX},
        {UINT32_MAX, 10, 10},
        {(uint32_t)DOC_BYTES_MAX + 1, 10, 10},
    };
    struct map *m = *state;
    struct key k = key_name(KEY_TAG, "doc"), part[2] = {k, k};
    uint8_t bytes[32] = {0};
    struct kv_bytes doc;
    key_add_be16(&part[0], 0);
    key_add_be16(&part[1], 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bytes_put_u32(bytes, cases[i].whole);
        assert_int_equal(kv_put(&m->t, key_bytes(&part[0]),
                                (struct kv_bytes){bytes, 4 + cases[i].first}, &m->err),
                         STATUS_OK);
        assert_int_equal(kv_del(&m->t, key_bytes(&part[1]), NULL, &m->err), STATUS_OK);
        if (cases[i].second != SIZE_MAX)
            assert_int_equal(kv_put(&m->t, key_bytes(&part[1]),
                                    (struct kv_bytes){bytes, cases[i].second}, &m->err),
                             STATUS_OK);
        assert_int_equal(doc_get(&m->t, &k, &m->a, &doc, &m->err), STATUS_CORRUPT);
    }
    for (size_t len = 0; len < 4; len++) { /* not even a length */
        assert_int_equal(kv_put(&m->t, key_bytes(&part[0]), (struct kv_bytes){bytes, len}, &m->err),
                         STATUS_OK);
        assert_int_equal(doc_get(&m->t, &k, &m->a, &doc, &m->err), STATUS_CORRUPT);
    }
}

/* Names that begin alike, long documents between short ones, both directions. */
static void scans(void **state) {
    static const char *const names[] = {"a", "a\x01", "ab", "b", "b\xff", "\xff\xff"};
    struct map *m = *state;
    struct key prefix = key_of(KEY_PARAM);
    char *big = malloc(5001);
    memset(big, 'y', 5000);
    big[5000] = '\0';
    put(m, "o", "before");
    put(m, "q", "after");
    for (int i = 5; i >= 0; i--) {
        struct key k = key_name(KEY_PARAM, names[i]);
        struct value *v = i % 2 != 0 ? value_string(&m->a, big) : value_int(&m->a, i);
        struct value *map = value_map(&m->a);
        value_set(&m->a, map, "v", v);
        assert_int_equal(doc_put_value(&m->t, &k, map, &m->err), STATUS_OK);
    }
    for (int backwards = 0; backwards < 2; backwards++) {
        struct doc_scan scan;
        assert_int_equal(doc_scan_open(&m->t, &prefix, backwards != 0, &scan, &m->err), STATUS_OK);
        for (int i = 0; i < 6; i++) {
            int want = backwards != 0 ? 5 - i : i;
            assert_int_equal(doc_scan_next(&scan, &m->a, &m->err), STATUS_OK);
            assert_string_equal(scan.name, names[want]);
            assert_int_equal(scan.name_len, strlen(names[want]) + 1);
            assert_int_equal(value_get(scan.value, "v")->kind,
                             want % 2 != 0 ? VALUE_STRING : VALUE_INT);
        }
        assert_int_equal(doc_scan_next(&scan, &m->a, &m->err), STATUS_OK);
        assert_null(scan.name);
        assert_null(scan.value);
        doc_scan_close(&scan);
    }
    free(big);
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys), TEST(cursors),        TEST(nested), TEST(documents_of_any_length),
        TEST(lost_part),        TEST(forged_lengths), TEST(scans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
