/* safetensors: what is written comes back; whatever is malformed is refused with its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/bytes.h"
#include "core/safetensors.h"
#include "tests/unit/alloc_fail.h"

static struct arena a;

static int setup(void **state) {
    (void)state;
    arena_init(&a, (size_t)16 << 20);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    arena_release(&a);
    return 0;
}

static const float weights[6] = {1, -2, 3.5F, 0, 1e-30F, 6};
static const double moments[2] = {0.1, -7};
static const int64_t steps[1] = {-9};
static const uint8_t mask[3] = {1, 0, 255};
static const struct tensor four[] = {
    {"0.weight", TENSOR_F32, 2, {2, 3}, weights, sizeof weights},
    {"m", TENSOR_F64, 1, {2}, moments, sizeof moments},
    {"step", TENSOR_I64, 0, {0}, steps, sizeof steps},
    {"mask", TENSOR_U8, 1, {3}, mask, sizeof mask},
};

static void written_tensors_come_back(void **state) {
    (void)state;
    struct value *meta = value_map(&a);
    value_set_string(&a, meta, "run", "01J");
    struct buf out = BUF_INIT(1 << 20);
    struct err err;
    assert_int_equal(safetensors_write(&out, four, 4, meta, &err), STATUS_OK);
    size_t data = 8 + (size_t)bytes_get_u64(out.data);
    assert_int_equal(data % 64, 0);
    assert_int_equal(out.len, data + sizeof weights + sizeof moments + sizeof steps + sizeof mask);

    struct tensors f;
    assert_int_equal(safetensors_read(&a, out.data, out.len, &f, &err), STATUS_OK);
    assert_int_equal(f.count, 4);
    assert_true(value_equal(meta, f.metadata));
    for (size_t i = 0; i < f.count; i++) {
        assert_string_equal(f.list[i].name, four[i].name);
        assert_int_equal(f.list[i].dtype, four[i].dtype);
        assert_int_equal(f.list[i].dims, four[i].dims);
        assert_memory_equal(f.list[i].dim, four[i].dim, sizeof(int64_t) * (size_t)f.list[i].dims);
        assert_int_equal(f.list[i].bytes, four[i].bytes);
        assert_memory_equal(f.list[i].data, four[i].data, f.list[i].bytes);
    }
    assert_ptr_equal(safetensors_find(f.list, f.count, "step"), &f.list[2]);
    assert_null(safetensors_find(f.list, f.count, "steps"));
    buf_release(&out);
}

static void nothing_and_empty_tensors_are_allowed(void **state) {
    (void)state;
    struct buf out = BUF_INIT(1 << 20);
    struct tensor none = {"e", TENSOR_F32, 2, {0, 7}, NULL, 0};
    struct tensors f;
    struct err err;
    assert_int_equal(safetensors_write(&out, NULL, 0, NULL, &err), STATUS_OK);
    assert_int_equal(safetensors_read(&a, out.data, out.len, &f, &err), STATUS_OK);
    assert_int_equal(f.count, 0);
    assert_null(f.metadata);
    buf_clear(&out);
    struct tensor two[] = {none, four[0]};
    assert_int_equal(safetensors_write(&out, two, 2, NULL, &err), STATUS_OK);
    assert_int_equal(safetensors_read(&a, out.data, out.len, &f, &err), STATUS_OK);
    assert_int_equal(f.count, 2);
    buf_release(&out);
}

static void writing_refuses(struct tensor t, enum status expected) {
    struct buf out = BUF_INIT(256);
    struct err err;
    struct tensor two[] = {four[0], t};
    assert_int_equal(safetensors_write(&out, two, 2, NULL, &err), expected);
    assert_int_equal(out.len, 0);
    buf_release(&out);
}

static void bad_tensors_are_not_written(void **state) {
    (void)state;
    char longest[TENSOR_NAME_MAX + 2];
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    struct tensor t = four[1];
    t.name = "0.weight";
    writing_refuses(t, STATUS_INVALID);
    t.name = "__metadata__";
    writing_refuses(t, STATUS_INVALID);
    t.name = longest;
    writing_refuses(t, STATUS_INVALID);
    t.name = "m";
    t.bytes--;
    writing_refuses(t, STATUS_INVALID);
    t = four[1];
    t.dim[0] = -2;
    writing_refuses(t, STATUS_INVALID);
    t = (struct tensor){"big", TENSOR_U8, 2, {INT64_MAX, 4}, mask, 3};
    writing_refuses(t, STATUS_INVALID);
    static const uint8_t much[4096];
    writing_refuses((struct tensor){"much", TENSOR_U8, 1, {4096}, much, 4096}, STATUS_TOO_LARGE);
}

/* A file with this header and `data_len` zero bytes behind it. */
static enum status read_text(const char *header, size_t data_len, struct err *err) {
    size_t len = strlen(header);
    uint8_t *file = calloc(1, 8 + len + data_len + 1); /* freed below; sized to catch overreads */
    uint8_t *exact = malloc(8 + len + data_len);
    assert_true(file != NULL && exact != NULL);
    bytes_put_u64(file, len);
    memcpy(file + 8, header, len);
    memcpy(exact, file, 8 + len + data_len);
    struct tensors f;
    enum status st = safetensors_read(&a, exact, 8 + len + data_len, &f, err);
    free(file);
    free(exact);
    return st;
}

static void malformed_headers_are_refused(void **state) {
    (void)state;
#define T(shape, offsets)                                                                          \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
    static const struct {
        const char *header;
        size_t data;
        enum status expected;
        const char *says;
    } rows[] = {
        {T("[2]", "[0,8]") "   ", 8, STATUS_OK, NULL},
        {T("[]", "[0,4]"), 4, STATUS_OK, NULL},
        {T("[2]", "[0,8]"), 7, STATUS_CORRUPT, "go beyond the file"},
        {T("[2]", "[0,8]"), 9, STATUS_CORRUPT, "belong to no tensor"},
        {T("[2]", "[4,12]"), 12, STATUS_CORRUPT, "before it belong"},
        {T("[2]", "[8,0]"), 8, STATUS_CORRUPT, "go beyond the file"},
        {T("[2]", "[-8,0]"), 8, STATUS_CORRUPT, "go beyond the file"},
        {T("[3]", "[0,8]"), 8, STATUS_CORRUPT, "fit its shape"},
        {T("[-2]", "[0,8]"), 8, STATUS_CORRUPT, "shape[0]"},
        {T("[2.0]", "[0,8]"), 8, STATUS_CORRUPT, "shape[0]"},
        {T("[4611686018427387905,4]", "[0,16]"), 16, STATUS_CORRUPT, "fit its shape"},
        {T("[1,1,1,1,1,1,1,1,2]", "[0,8]"), 8, STATUS_CORRUPT, "at most 8"},
        {T("2", "[0,8]"), 8, STATUS_CORRUPT, "list"},
        {T("[2]", "[0]"), 8, STATUS_CORRUPT, "two numbers"},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, STATUS_INVALID,
         "BF16"},
        {"{\"a\":7}", 0, STATUS_INVALID, "dtype"},
        {"{\"\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, STATUS_CORRUPT,
         "name"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
         6, STATUS_CORRUPT, "overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
         2, STATUS_CORRUPT, "duplicate"},
        {"{\"__metadata__\":{\"x\":1}}", 0, STATUS_CORRUPT, "string"},
        {"{\"__metadata__\":[]}", 0, STATUS_CORRUPT, "map"},
        {"[]", 0, STATUS_CORRUPT, "map"},
        {"{", 0, STATUS_CORRUPT, "header"},
        {"", 0, STATUS_CORRUPT, "header"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = {0};
        enum status st = read_text(rows[i].header, rows[i].data, &err);
        if (st != rows[i].expected || (st != STATUS_OK && strstr(err.text, rows[i].says) == NULL))
            fail_msg("row %zu: %s '%s'", i, status_name(st), err.text);
    }
}

static void tensors_may_stand_in_any_order(void **state) {
    (void)state;
    struct err err;
    assert_int_equal(read_text("{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[1,4]},"
                               "\"e\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]},"
                               "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
                               4, &err),
                     STATUS_OK);
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    struct buf out = BUF_INIT(1 << 20);
    struct err err;
    assert_int_equal(safetensors_write(&out, four, 4, NULL, &err), STATUS_OK);
    for (size_t len = 0; len < out.len; len++) {
        struct tensors f;
        uint8_t *part = malloc(len + 1);
        assert_non_null(part);
        memcpy(part, out.data, len);
        assert_int_equal(safetensors_read(&a, part, len, &f, &err), STATUS_CORRUPT);
        free(part);
    }
    bytes_put_u64(out.data, UINT64_MAX);
    struct tensors f;
    assert_int_equal(safetensors_read(&a, out.data, out.len, &f, &err), STATUS_CORRUPT);
    buf_release(&out);
}

/* Writes and reads with an arena and a buffer of its own. */
static enum status write_and_read(void *arg) {
    struct arena mine;
    arena_init(&mine, (size_t)1 << 20);
    struct buf out = BUF_INIT(1 << 20);
    struct tensors f;
    enum status st = safetensors_write(&out, four, 4, arg, NULL);
    if (st == STATUS_OK)
        st = safetensors_read(&mine, out.data, out.len, &f, NULL);
    buf_release(&out);
    arena_release(&mine);
    return st;
}

static void survives_failed_allocations(void **state) {
    (void)state;
    struct value *meta = value_map(&a);
    value_set_string(&a, meta, "run", "01J");
    assert_allocations_failed(alloc_fail_each(write_and_read, meta), 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(written_tensors_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_and_empty_tensors_are_allowed, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_tensors_are_not_written, setup, teardown),
        cmocka_unit_test_setup_teardown(malformed_headers_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(tensors_may_stand_in_any_order, setup, teardown),
        cmocka_unit_test_setup_teardown(every_truncation_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(survives_failed_allocations, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
