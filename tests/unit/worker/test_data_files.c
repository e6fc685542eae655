/* Data files, good and bad: each format's parser, and the message for every way to be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/alloc_fail.h"
#include "tests/unit/worker/data_files.h"

/* Loads and expects this refusal. */
static void refused(const char *text, enum status expected, const char *says) {
    struct dataset *d = NULL;
    struct err err = {0};
    const struct spec_data *spec = NULL;
    enum status st = data_try(text, &spec, &err);
    if (st == STATUS_OK)
        st = data_load(&(struct data_request){.data = spec, .seed = 1}, &d, &err);
    if (st != expected || strstr(err.text, says) == NULL)
        fail_msg("%s\n  gave %s '%s', expected %s '%s'", text, status_name(st), err.text,
                 status_name(expected), says);
    assert_null(d);
}

static void loaded(const char *text, struct dataset **d) {
    struct err err = {0};
    if (data_load(&(struct data_request){.data = data_spec(text), .seed = 1}, d, &err) != STATUS_OK)
        fail_msg("%s: %s", text, err.text);
}

#define IDX "{'train':{'format':'idx','images':'@i','labels':'@l'}}"

static uint8_t idx[4096];

static void images(size_t len_change, uint32_t n) {
    static const uint8_t pixels[400];
    size_t len = make_idx(idx, 3, (uint32_t[]){n, 2, 2}, pixels, (size_t)n * 4);
    write_file("i", idx, len - len_change);
}

static void labels(const uint8_t *label, uint32_t n, size_t len_change) {
    size_t len = make_idx(idx, 1, (uint32_t[]){n}, label, n);
    write_file("l", idx, len - len_change);
}

static void bad_idx_is_refused(void **state) {
    (void)state;
    static const uint8_t four[4] = {0, 1, 2, 3};
    unlink(file_path("i"));
    refused(IDX, STATUS_NOT_FOUND, "/i");
    images(0, 4);
    refused(IDX, STATUS_NOT_FOUND, "/l");
    labels(four, 4, 1);
    refused(IDX, STATUS_CORRUPT, "truncated");
    labels(four, 3, 0);
    refused(IDX, STATUS_INVALID, "3 labels, but");
    labels(four, 4, 0);
    images(1, 4);
    refused(IDX, STATUS_CORRUPT, "truncated");
    images(17, 4); /* into the header's pixels: none left */
    refused(IDX, STATUS_CORRUPT, "truncated");
    write_file("i", idx, 6); /* within the sizes */
    refused(IDX, STATUS_CORRUPT, "truncated");
    images(0, 0);
    refused(IDX, STATUS_INVALID, "is 0");
    write_text("i", "");
    refused(IDX, STATUS_INVALID, "empty");
    write_text("i", "PNG and something more");
    refused(IDX, STATUS_INVALID, "wrong magic");
    images(0, 4);
    idx[3] = 9;
    write_file("i", idx, 100);
    refused(IDX, STATUS_INVALID, "wrong magic");
    bytes_put_be32(idx, 0x0803);
    bytes_put_be32(idx + 4, UINT32_MAX);
    bytes_put_be32(idx + 8, UINT32_MAX);
    bytes_put_be32(idx + 12, UINT32_MAX);
    write_file("i", idx, 100);
    refused(IDX, STATUS_INVALID, "overflow");
    bytes_put_be32(idx + 12, 1);
    write_file("i", idx, 100);
    refused(IDX, STATUS_CORRUPT, "cannot hold");
    images(0, 4);
    make_idx(idx, 3, (uint32_t[]){4, 2, 2}, four, 4);
    write_file("i", idx, 16 + 17);
    refused(IDX, STATUS_CORRUPT, "after the announced end");
    images(0, 4);
    refused("{'train':{'format':'idx','images':'@l','labels':'@i'}}", STATUS_INVALID, "swapped");
    refused("{'train':{'format':'idx','images':'@i'}}", STATUS_INVALID, "labels");
    refused("{'train':{'format':'jpeg'}}", STATUS_INVALID, "jpeg");
    refused("{'train':{'format':'idx','images':'@i','labels':'@l','shape':[3,2,2]}}",
            STATUS_INVALID, "shape asks for 12");
    refused("{'train':{'format':'idx','images':'@i','labels':'@l'},'validation_split':0.01}",
            STATUS_INVALID, "leaves validation without");
    refused("{'train':{'format':'idx','images':'@i','labels':'@l'},'validation_split':0.99}",
            STATUS_INVALID, "leaves training without");
    refused("{'train':{'format':'idx','images':'@i','labels':'@l'},'validation_split':1}",
            STATUS_INVALID, "validation_split must be a number from 0 to 0.999999");
    refused("{'train':{'format':'idx','images':'@i','labels':'@l'},'transforms':[{'crop':1}]}",
            STATUS_INVALID, "transforms[0]");
    refused("{'train':{'format':'idx','images':'@i','labels':'@l'},"
            "'transforms':[{'normalize':{'mean':[1,2],'std':1}}]}",
            STATUS_INVALID, "normalize has 2 numbers; give one, or as many");
    refused("{'train':{'format':'idx','images':'@i','labels':'@l'},"
            "'transforms':[{'normalize':{'mean':1,'std':0}}]}",
            STATUS_INVALID, "data.transforms[0].normalize.std must be a number");
    refused("{}", STATUS_INVALID, "train");
}

static void later_parts_must_fit_the_training_part(void **state) {
    (void)state;
    static const uint8_t four[4] = {0, 1, 2, 1};
    static uint8_t more[8];
    images(0, 4);
    labels(four, 4, 0);
    rename(file_path("l"), file_path("tl"));
    static const uint8_t high[4] = {0, 1, 3, 1};
    labels(high, 4, 0);
    refused("{'train':{'format':'idx','images':'@i','labels':'@tl'},"
            "'test':{'format':'idx','images':'@i','labels':'@l'}}",
            STATUS_INVALID, "label 3 of sample 2 is out of range");
    write_file("w", idx, make_idx(idx, 2, (uint32_t[]){4, 2}, more, 8));
    refused("{'train':{'format':'idx','images':'@i','labels':'@tl'},"
            "'validation':{'format':'idx','images':'@w','labels':'@tl'}}",
            STATUS_INVALID, "the training data has 4");
    refused("{'train':{'format':'idx','images':'@i','labels':'@tl'},'validation_split':0.5,"
            "'validation':{'format':'idx','images':'@i','labels':'@tl'}}",
            STATUS_INVALID, "exclude each other");
}

static void damaged_gzip_is_found(void **state) {
    (void)state;
    static uint8_t noise[2000], file[8192];
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)(i * i * 2654435761u >> 13);
    static const uint8_t label[500];
    write_file("l", idx, make_idx(idx, 1, (uint32_t[]){500}, label, 500));
    size_t len = make_idx(idx, 3, (uint32_t[]){500, 2, 2}, noise, 2000);
    write_gzip("i", idx, len);
    struct dataset *d;
    loaded(IDX, &d);
    data_destroy(&d);
    FILE *f = fopen(file_path("i"), "rb");
    assert_non_null(f);
    size_t packed = fread(file, 1, sizeof file, f);
    assert_int_equal(fclose(f), 0);
    for (size_t cut = 3; cut < packed; cut += 97) {
        write_file("i", file, cut);
        refused(IDX, STATUS_CORRUPT, "truncated");
    }
    write_file("i", file, packed - 1); /* all data there, the length behind it not */
    refused(IDX, STATUS_CORRUPT, "truncated");
    file[packed - 6] ^= 1; /* of the CRC */
    write_file("i", file, packed);
    refused(IDX, STATUS_CORRUPT, "damaged");
    file[packed - 6] ^= 1;
    file[packed] = 'x';
    write_file("i", file, packed + 1);
    refused(IDX, STATUS_CORRUPT, "after the end");
    memcpy(file + packed, file, packed); /* a second member: more than was announced */
    write_file("i", file, packed * 2);
    refused(IDX, STATUS_CORRUPT, "after the announced end");
}

/* ---- csv ---- */

#define CSV "{'train':{'format':'csv','file':'@f.csv','label':'y'}}"

static void csv_words_become_columns(void **state) {
    (void)state;
    struct dataset *d;
    write_text("f.csv",
               "\xef\xbb\xbfx,colour,\"y\"\r\n1.5,red,cat\r\n\r\n-2e1,\"blue, dark\",dog\r\n"
               " 3 ,red,\"c\"\"at\"");
    loaded(CSV, &d);
    assert_int_equal(data_info(d)->train, 3);
    assert_int_equal(data_info(d)->features, 3);
    assert_int_equal(data_info(d)->classes, 3);
    float x[9];
    int32_t y[3];
    data_gather(d, DATA_TRAIN, (int64_t[]){0, 1, 2}, 3, &(struct data_rows){x, y, NULL});
    static const float expected[] = {1.5F, 0, 1, -20, 1, 0, 3, 0, 1};
    assert_memory_equal(x, expected, sizeof x);
    assert_int_equal(y[0], 1); /* c"at < cat < dog */
    assert_int_equal(y[1], 2);
    assert_int_equal(y[2], 0);
    struct value *names = value_get(data_describe(&files_arena, d), "class_names");
    assert_string_equal(names->items[0]->string, "c\"at");
    data_destroy(&d);
}

static void csv_without_header_and_by_number(void **state) {
    (void)state;
    struct dataset *d;
    write_text("f.csv", "2,0.5\n0,1.5\n1,\"2.5\"\n");
    loaded("{'train':{'format':'csv','file':'@f.csv','label':0,'header':false}}", &d);
    assert_int_equal(data_info(d)->train, 3);
    assert_int_equal(data_info(d)->classes, 3);
    float x[1];
    int32_t y;
    data_gather(d, DATA_TRAIN, (int64_t[]){2}, 1, &(struct data_rows){x, &y, NULL});
    assert_true(x[0] == 2.5F && y == 1);
    data_destroy(&d);
}

static void csv_regression_has_targets(void **state) {
    (void)state;
    struct dataset *d;
    write_text("f.csv", "a,y\n1,-0.5\n2,7e3\n");
    loaded("{'train':{'format':'csv','file':'@f.csv','label':'y','task':'regress'}}", &d);
    assert_int_equal(data_info(d)->classes, 0);
    assert_int_equal(data_info(d)->outputs, 1);
    float x[1], y[1];
    data_gather(d, DATA_TRAIN, (int64_t[]){1}, 1, &(struct data_rows){x, NULL, y});
    assert_true(y[0] == 7000.0F);
    data_destroy(&d);
}

static void csv_gzip_and_many_rows(void **state) {
    (void)state;
    struct buf text = BUF_INIT(8 << 20);
    buf_adds(&text, "a,b,y\n");
    for (int i = 0; i < 20000; i++)
        buf_addf(&text, "%d,%s,%d\n", i, i % 2 == 0 ? "even" : "odd", i % 5);
    write_gzip("f.csv", text.data, text.len);
    struct dataset *d;
    loaded(CSV, &d);
    assert_int_equal(data_info(d)->train, 20000);
    assert_int_equal(data_info(d)->features, 3);
    float x[3];
    data_gather(d, DATA_TRAIN, (int64_t[]){19999}, 1, &(struct data_rows){x, NULL, NULL});
    assert_true(x[0] == 19999.0F && x[1] == 0 && x[2] == 1);
    data_destroy(&d);
    buf_release(&text);
}

static void bad_csv_is_refused_by_line(void **state) {
    (void)state;
    static const struct {
        const char *text;
        enum status st;
        const char *says;
    } rows[] = {
        {"a,y\n1,0\n2\n", STATUS_INVALID, "f.csv:3: 1 fields; the first line has 2"},
        {"a,y\n1,0\n2,1,1\n", STATUS_INVALID, "f.csv:3: 3 fields"},
        {"a,y\n\n\"1\n2\",0\n3\n", STATUS_INVALID, "f.csv:5:"},
        {"a,y\n1,0\n,1\n", STATUS_INVALID, "f.csv:3:1: column a has no value"},
        {"a,y\n1,\n", STATUS_INVALID, "f.csv:2:3: column y has no value"},
        {"a,y\n\"1,0\n2,1\n", STATUS_INVALID, "f.csv:2: a quote that is never closed"},
        {"a,y\n\"1\"x,0\n", STATUS_INVALID, "f.csv:2: text after a closing quote"},
        {"a,y\n1,70000\n", STATUS_INVALID, "label 70000 is out of range"},
        {"a,z\n1,0\n", STATUS_INVALID, "no column 'y' for the label; there are a, z"},
        {"a,a,y\n1,1,0\n", STATUS_INVALID, "f.csv:1:3: two columns are named 'a'"},
        {"a,,y\n1,1,0\n", STATUS_INVALID, "f.csv:1:3: column 1 has no name"},
        {"y\n1\n", STATUS_INVALID, "there is no column but the label"},
        {"a,y\n", STATUS_INVALID, "no rows"},
        {"\n\n", STATUS_INVALID, "no lines"},
        {"a,y\n1e99,0\n", STATUS_INVALID, "f.csv:2:1: 1e99 is not finite"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_text("f.csv", rows[i].text);
        refused(CSV, rows[i].st, rows[i].says);
    }
    write_text("f.csv", "a,y\n1,cat\n");
    refused("{'train':{'format':'csv','file':'@f.csv','label':'y','task':'regress'}}",
            STATUS_INVALID, "f.csv:2:3: 'cat' in column y is a word; task: regress needs numbers");
    refused("{'train':{'format':'csv','file':'@f.csv','label':2}}", STATUS_INVALID,
            "no column 2 for the label; there are those from 0: a, y");
    refused("{'train':{'format':'csv','file':'@f.csv','label':1.5}}", STATUS_INVALID,
            "label must be");
}

static void csv_test_files_use_the_training_words(void **state) {
    (void)state;
#define BOTH                                                                                       \
    "{'train':{'format':'csv','file':'@f.csv','label':'y'},"                                       \
    "'test':{'format':'csv','file':'@t.csv','label':'y'}}"
    struct dataset *d;
    write_text("f.csv", "a,c,y\n1,red,no\n2,blue,yes\n");
    write_text("t.csv", "a,c,y\n5,red,yes\n");
    loaded(BOTH, &d);
    float x[3];
    int32_t y;
    data_gather(d, DATA_TEST, (int64_t[]){0}, 1, &(struct data_rows){x, &y, NULL});
    assert_true(x[0] == 5 && x[1] == 0 && x[2] == 1 && y == 1);
    data_destroy(&d);
    write_text("t.csv", "a,c,y\n5,red,yes\n6,green,no\n");
    refused(BOTH, STATUS_INVALID, "t.csv:3:3: 'green' in column c");
    write_text("t.csv", "a,c,y\n5,red,maybe\n");
    refused(BOTH, STATUS_INVALID, "t.csv:2:7: label 'maybe'");
    write_text("t.csv", "a,c,y\nfive,red,yes\n");
    refused(BOTH, STATUS_INVALID, "a number is needed here");
    write_text("t.csv", "c,y,a\nred,yes,5\n"); /* columns are found by their names */
    loaded(BOTH, &d);
    data_gather(d, DATA_TEST, (int64_t[]){0}, 1, &(struct data_rows){x, &y, NULL});
    assert_true(x[0] == 5 && x[1] == 0 && x[2] == 1 && y == 1);
    data_destroy(&d);
    write_text("t.csv", "a,y\n5,yes\n");
    refused(BOTH, STATUS_INVALID, "t.csv:1: no column 'c', which the training data has");
    write_text("t.csv", "a,c,z,y\n5,red,1,yes\n");
    refused(BOTH, STATUS_INVALID, "t.csv:1: the training data has no column 'z'");
}

/* ---- npy ---- */

static size_t npy(uint8_t *out, int version, const char *dict, const void *data, size_t len) {
    size_t wide = version == 1 ? 2 : 4, text = strlen(dict);
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (uint8_t)version;
    out[7] = 0;
    if (wide == 2)
        bytes_put_u16(out + 8, (uint16_t)text);
    else
        bytes_put_u32(out + 8, (uint32_t)text);
    memcpy(out + 8 + wide, dict, text);
    memcpy(out + 8 + wide + text, data, len);
    return 8 + wide + text + len;
}

#define NPY "{'train':{'format':'npy','images':'@i.npy','labels':'@l.npy'}}"
#define DICT(descr, shape)                                                                         \
    "{'descr': '" descr "', 'fortran_order': False, 'shape': " shape ", }   \n"

static void npy_arrays_are_read(void **state) {
    (void)state;
    static const double d[8] = {0.5, -1, 2, 3, 4, 5, 6, 7};
    static const int64_t classes[2] = {1, 0};
    static const float targets[4] = {1, 2, 3, 4};
    struct dataset *set;
    float x[4], y[2];
    int32_t label;
    write_file("i.npy", idx, npy(idx, 1, DICT("<f8", "(2, 2, 2)"), d, sizeof d));
    write_file("l.npy", idx, npy(idx, 2, DICT("<i8", "(2,)"), classes, sizeof classes));
    loaded(NPY, &set);
    assert_int_equal(data_info(set)->shape.rank, 3);
    assert_int_equal(data_info(set)->classes, 2);
    data_gather(set, DATA_TRAIN, (int64_t[]){0}, 1, &(struct data_rows){x, &label, NULL});
    assert_true(x[0] == 0.5F && x[1] == -1 && label == 1);
    data_destroy(&set);
    write_file("l.npy", idx, npy(idx, 1, DICT("<f4", "(2, 2)"), targets, sizeof targets));
    loaded("{'train':{'format':'npy','images':'@i.npy','labels':'@l.npy','shape':[4]}}", &set);
    assert_int_equal(data_info(set)->outputs, 2);
    assert_int_equal(data_info(set)->shape.rank, 1);
    data_gather(set, DATA_TRAIN, (int64_t[]){1}, 1, &(struct data_rows){x, NULL, y});
    assert_true(x[3] == 7 && y[0] == 3 && y[1] == 4);
    data_destroy(&set);
}

static void bad_npy_is_refused(void **state) {
    (void)state;
    static const uint8_t zero[64];
    static const int32_t negative[2] = {0, -1};
    static const float nan[2] = {0, __builtin_nanf("")};
    static const struct {
        const char *dict;
        size_t len;
        enum status st;
        const char *says;
    } rows[] = {
        {DICT("<f4", "(2, 2)"), 15, STATUS_CORRUPT, "truncated"},
        {DICT("<f4", "(2, 2)"), 17, STATUS_CORRUPT, "after the announced end"},
        {DICT(">f4", "(2, 2)"), 16, STATUS_INVALID, "npy type"},
        {DICT("<f2", "(2, 2)"), 16, STATUS_INVALID, "npy type"},
        {DICT("<f4", "()"), 16, STATUS_INVALID, "shape"},
        {DICT("<f4", "(2, x)"), 16, STATUS_INVALID, "shape"},
        {DICT("<f4", "(2, -2)"), 16, STATUS_INVALID, "shape"},
        {DICT("<f4", "(2, 0)"), 0, STATUS_INVALID, "is 0"},
        {DICT("<f4", "(2, 1, 1, 1, 1)"), 8, STATUS_INVALID, "shape"},
        {DICT("<f4", "(99999999, 99999999, 99999999)"), 8, STATUS_INVALID, "overflow"},
        {DICT("<f4", "(99999999, 999)"), 8, STATUS_CORRUPT, "cannot hold"},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2)}", 16, STATUS_INVALID, "Fortran"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 2)}", 16, STATUS_INVALID,
         "npy type"},
        {"{}", 16, STATUS_INVALID, "descr"},
    };
    static const int32_t good[2] = {0, 1};
    write_file("l.npy", idx, npy(idx, 1, DICT("<i4", "(2,)"), good, sizeof good));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_file("i.npy", idx, npy(idx, 1, rows[i].dict, zero, rows[i].len));
        refused(NPY, rows[i].st, rows[i].says);
    }
    write_file("i.npy", idx, npy(idx, 3, DICT("<f4", "(2, 2)"), zero, 16));
    refused(NPY, STATUS_INVALID, "npy version 3");
    write_text("i.npy", "NUMPY, it is not");
    refused(NPY, STATUS_INVALID, "wrong magic");
    write_file("i.npy", idx, npy(idx, 1, DICT("|u1", "(2, 2)"), zero, 4));
    write_file("l.npy", idx, npy(idx, 1, DICT("<i4", "(2,)"), negative, sizeof negative));
    refused(NPY, STATUS_INVALID, "label -1 of sample 1 is out of range");
    write_file("l.npy", idx, npy(idx, 1, DICT("<i4", "(1,)"), good, 4));
    refused(NPY, STATUS_INVALID, "1 labels, but");
    write_file("l.npy", idx, npy(idx, 1, DICT("<i4", "(2, 1)"), good, 8));
    refused(NPY, STATUS_INVALID, "one dimension");
    write_file("l.npy", idx, npy(idx, 1, DICT("<f4", "(2,)"), nan, 8));
    refused(NPY, STATUS_INVALID, "target 0 of sample 1 is not finite");
}

/* ---- allocations that fail ---- */

static enum status load_and_describe(void *arg) {
    struct dataset *d = NULL;
    struct arena mine;
    arena_init(&mine, (size_t)1 << 20);
    enum status st = data_load(&(struct data_request){.data = arg, .seed = 3}, &d, NULL);
    if (st == STATUS_OK) {
        struct value *v = data_describe(&mine, d);
        st = v == NULL || v->broken ? STATUS_NOMEM : STATUS_OK;
    }
    data_destroy(&d);
    arena_release(&mine);
    return st;
}

static enum status load_through_a_cache(void *arg) {
    struct data_cache *c = NULL;
    struct dataset *d = NULL;
    bool hit;
    enum status st = data_cache_new((size_t)1 << 20, &c, NULL);
    for (uint64_t seed = 0; seed < 3 && st == STATUS_OK; seed++)
        st = data_cache_get(c, &(struct data_request){.data = arg, .seed = seed / 2}, &d, &hit,
                            NULL);
    data_cache_destroy(&c);
    return st;
}

static void survives_failed_allocations(void **state) {
    (void)state;
    static const uint8_t four[4] = {0, 1, 2, 3}, pixels[16];
    static const float floats[4] = {1, 2, 3, 4};
    static const int64_t classes[2] = {0, 1};
    write_gzip("i", idx, make_idx(idx, 3, (uint32_t[]){4, 2, 2}, pixels, 16));
    labels(four, 4, 0);
    write_text("f.csv", "a,c,y\n1,red,no\n2,blue,yes\n3,\"green\",no\n");
    write_file("i.npy", idx, npy(idx, 1, DICT("<f4", "(2, 2)"), floats, sizeof floats));
    write_file("l.npy", idx, npy(idx, 1, DICT("<i8", "(2,)"), classes, sizeof classes));
    static const char *const texts[] = {
        "{'train':{'format':'idx','images':'@i','labels':'@l'},'validation_split':0.5,"
        "'transforms':[{'scale':0.5},{'normalize':'fit'}]}",
        "{'train':{'format':'csv','file':'@f.csv','label':'y'},"
        "'test':{'format':'csv','file':'@f.csv','label':'y'}}",
        NPY};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct spec_data v = *data_spec(texts[i]);
        assert_allocations_failed(alloc_fail_each(load_and_describe, &v), 15);
        assert_allocations_failed(alloc_fail_each(load_through_a_cache, &v), 25);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_idx_is_refused),
        cmocka_unit_test(later_parts_must_fit_the_training_part),
        cmocka_unit_test(damaged_gzip_is_found),
        cmocka_unit_test(csv_words_become_columns),
        cmocka_unit_test(csv_without_header_and_by_number),
        cmocka_unit_test(csv_regression_has_targets),
        cmocka_unit_test(csv_gzip_and_many_rows),
        cmocka_unit_test(bad_csv_is_refused_by_line),
        cmocka_unit_test(csv_test_files_use_the_training_words),
        cmocka_unit_test(npy_arrays_are_read),
        cmocka_unit_test(bad_npy_is_refused),
        cmocka_unit_test(survives_failed_allocations),
    };
    return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
