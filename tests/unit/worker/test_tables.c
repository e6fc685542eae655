/* Tables: what a column is, which cell is at fault, what is said, what stays a double. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "tests/unit/worker/data_files.h"
#include "worker/data/csv_text.h"

/* By a version of the language; the sweep file is called s.yaml. */
static enum status try_load(const char *text, int language, struct dataset **out, struct err *err) {
    struct spec_data d;
    const struct schema_source source = {.file = "s.yaml", .language = language};
    *out = NULL;
    *err = (struct err){.status = STATUS_OK};
    enum status st = spec_data_read(data_map(text), source, &d, err);
    return st == STATUS_OK ? data_load(&(struct data_request){.data = &d, .seed = 1}, out, err)
                           : st;
}

static struct dataset *load(const char *text, int language) {
    struct dataset *d;
    struct err err;
    if (try_load(text, language, &d, &err) != STATUS_OK)
        fail_msg("%s\n  gave %s", text, err.text);
    return d;
}

static void refused(const char *text, enum status st, const char *says) {
    struct dataset *d;
    struct err err;
    enum status got = try_load(text, SPEC_LANGUAGE, &d, &err);
    if (got != st || strstr(err.text, says) == NULL)
        fail_msg("%s\n  gave %s '%s', expected %s '%s'", text, status_name(got), err.text,
                 status_name(st), says);
    data_destroy(&d);
}

#define WITH(keys) "{'train':{'format':'csv','file':'@f.csv','label':'y'" keys "}}"
#define PLAIN      WITH("")

/* Rows 0 … n-1 of three numbers and a label; then one cell is another. */
static void write_rows(const char *header, int n, int bad_row, const char *bad) {
    struct buf b = BUF_INIT(1 << 20);
    buf_addf(&b, "%s\n", header);
    for (int i = 0; i < n; i++)
        if (i == bad_row)
            buf_addf(&b, "%s\n", bad);
        else
            buf_addf(&b, "%d,%d.5,%s,%d\n", i, i % 7, i % 2 == 0 ? "red" : "blue", i % 3);
    write_file("f.csv", b.data, b.len);
    buf_release(&b);
}
#define ROWS(bad_row, bad) write_rows("a,b,c,y", 60, bad_row, bad)

static int64_t features(const char *text) {
    struct dataset *d = load(text, SPEC_LANGUAGE);
    int64_t n = data_info(d)->features;
    data_destroy(&d);
    return n;
}

static int64_t classes(const char *text) {
    struct dataset *d = load(text, SPEC_LANGUAGE);
    int64_t n = data_info(d)->classes;
    data_destroy(&d);
    return n;
}

/* ---- by the many ---- */

static void one_bad_cell_is_refused_by_its_place(void **state) {
    (void)state;
    ROWS(-1, "");
    assert_int_equal(features(PLAIN), 4); /* a, b, blue, red */
    ROWS(30, "30,x12,red,0");
    refused(PLAIN, STATUS_INVALID,
            "f.csv:32:4: 'x12' in column b is not a number, as 59 other cells of the column are; "
            "mend the cell, or say what the column is: data.train.types: {b: words}");
    assert_int_equal(features(WITH(",'types':{'b':'words'}")), 11);
    refused(WITH(",'types':{'b':'number'}"), STATUS_INVALID,
            "f.csv:32:4: 'x12' in column b is not a number, as types declares the column");
    ROWS(30, "30,2.5,7,0");
    refused(PLAIN, STATUS_INVALID, "f.csv:32:8: '7' in column c is a number, 59 other cells");
    ROWS(30, "30,\"NA\",red,0");
    refused(PLAIN, STATUS_INVALID, "f.csv:32:4: column b has no value ('NA'); fill it");
    ROWS(30, "30,,red,0");
    refused(PLAIN, STATUS_INVALID, "f.csv:32:4: column b has no value; fill it");
    ROWS(30, "30,\"2,5\",red,0");
    refused(PLAIN, STATUS_INVALID, "the decimal sign seems to be ',': data.train.decimal");
    ROWS(30, "30,2.5,red,\"0\nx\"");
    refused(PLAIN, STATUS_INVALID, "f.csv:32:12: '0?x' in column y is not a number");
}

/* What version 2 made of it, it makes of it still. */
static void an_older_language_reads_as_it_did(void **state) {
    (void)state;
    ROWS(30, "30,x12,red,0");
    struct dataset *d = load(PLAIN, 2);
    assert_int_equal(data_info(d)->features, 1 + 8 + 2);
    assert_string_equal(value_get_string(data_describe(&files_arena, d), "type", ""), "f32");
    data_destroy(&d);
    ROWS(30, "30,2.5,red,-1");
    d = load(PLAIN, 1);
    assert_int_equal(data_info(d)->classes, 4);
    struct value *names = value_get(data_describe(&files_arena, d), "class_names");
    assert_string_equal(names->items[0]->string, "-1");
    data_destroy(&d);
    struct err err;
    assert_int_equal(try_load(WITH(",'exclude':['a']"), 2, &d, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "data.train.exclude needs version 3"));
}

static void dates_and_ids_are_no_inputs(void **state) {
    (void)state;
    static const char *const months[][2] = {
        {"2026-11-", ""}, {"11/", "/26"}, {"2026-11-", "T08:30:00Z"}, {"", ".11.2026"}};
    char text[65536];
    for (size_t k = 0; k <= sizeof months / sizeof months[0]; k++) {
        size_t len = (size_t)snprintf(text, sizeof text, "when,x,y\n");
        for (int i = 0; i < 30; i++) {
            char cell[64];
            if (k < 4)
                (void)snprintf(cell, sizeof cell, "%s%02d%s", months[k][0], i % 28 + 1,
                               months[k][1]);
            else
                (void)snprintf(cell, sizeof cell, "customer%d", i);
            len += (size_t)snprintf(text + len, sizeof text - len, "%s,%d,%d\n", cell, i, i % 2);
        }
        write_text("f.csv", text);
        refused(PLAIN, STATUS_INVALID,
                k < 4 ? "in column when is a date, which is not an input"
                      : "f.csv:2:1: 'customer0' in column when is one of 30 different words in 30");
        refused(PLAIN, STATUS_INVALID, "data.train.exclude: [when]");
        assert_int_equal(features(WITH(",'exclude':['when']")), 1);
        assert_int_equal(features(WITH(",'columns':['x']")), 1);
        assert_int_equal(features(WITH(",'types':{'when':'words'}")), k < 4 ? 29 : 31);
    }
}

/* ---- labels ---- */

static void integer_labels_keep_their_order(void **state) {
    (void)state;
    static const struct {
        const char *bad, *says;
    } strays[] = {
        {"3,1,red,-1",
         "f.csv:5:9: '-1' in column y is not a class, which are whole numbers from 0"},
        {"3,1,red,1.5", "f.csv:5:9: '1.5' in column y is not a class"},
        {"3,1,red,x", "f.csv:5:9: 'x' in column y is not a number, as 59 other cells"},
        {"3,1,red,", "f.csv:5:9: column y has no value"},
    };
    for (size_t i = 0; i < sizeof strays / sizeof strays[0]; i++) {
        ROWS(3, strays[i].bad);
        refused(PLAIN, STATUS_INVALID, strays[i].says);
        refused(WITH(",'types':{'y':'number'}"), STATUS_INVALID, "f.csv:5:9: ");
    }
    write_text("f.csv", "x,y\n1,10\n2,9\n3,-1\n4,9\n");
    struct dataset *d = load(PLAIN, SPEC_LANGUAGE); /* as in {-1, 1}: names, in numeric order */
    struct value *names = value_at(data_describe(&files_arena, d), "outputs.classes");
    static const char *const sorted[] = {"-1", "9", "10"};
    int32_t labels[4];
    float x[4];
    data_gather(d, DATA_TRAIN, (int64_t[]){0, 1, 2, 3}, 4, &(struct data_rows){x, labels, NULL});
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(names->items[i]->string, sorted[i]);
    assert_true(labels[0] == 2 && labels[1] == 1 && labels[2] == 0 && labels[3] == 1);
    data_destroy(&d);
    write_text("f.csv", "x,y\n1,10\n2,9\n3,2\n4,9\n");
    assert_int_equal(classes(PLAIN), 11);
    assert_int_equal(classes(WITH(",'types':{'y':'words'}")), 3);
    write_text("f.csv", "x,y\n1,1.5\n2,0.25\n3,2\n4,9.75\n");
    refused(PLAIN, STATUS_INVALID, "predict numbers with task: regress");
    write_text("f.csv", "x,y\n1,a\n2,b\n3,3\n4,b\n");
    refused(PLAIN, STATUS_INVALID, "f.csv:4:3: '3' in column y is a number");
    refused(WITH(",'task':'regress'"), STATUS_INVALID, "f.csv:2:3: 'a' in column y is a word");
}

/* ---- the keys ---- */

static void columns_are_chosen_by_name_and_number(void **state) {
    (void)state;
    ROWS(-1, "");
    assert_int_equal(features(WITH(",'exclude':['c',0]")), 1);
    assert_int_equal(features(WITH(",'columns':['c','y']")), 2);
    refused(WITH(",'exclude':['cc']"), STATUS_INVALID,
            "no column 'cc' for the list exclude; there are a, b, c, y");
    refused(WITH(",'columns':[4]"), STATUS_INVALID, "no column 4 for the list of columns");
    refused(WITH(",'exclude':['y']"), STATUS_INVALID, "data.train.exclude: 'y' is the label");
    refused(WITH(",'exclude':['a'],'types':{'a':'words'}"), STATUS_INVALID,
            "data.train.types: the column a is left out");
    refused(WITH(",'types':{'q':'words'}"), STATUS_INVALID, "no column 'q' for the map types");
    refused(WITH(",'types':{'a':'date'}"), STATUS_INVALID, "must be number or words, not date");
    refused(WITH(",'exclude':['a'],'columns':['b']"), STATUS_INVALID, "exclude each other");
    refused(WITH(",'columns':['y']"), STATUS_INVALID, "there is no column but the label");
    refused(WITH(",'separator':'ab'"), STATUS_INVALID, "a string of 1 byte or 'tab'");
    refused(WITH(",'separator':'5'"), STATUS_INVALID, "separator cannot be '5'");
    refused(WITH(",'decimal':';'"), STATUS_INVALID, "decimal must be '.' or ','");
    refused(WITH(",'decimal':','"), STATUS_INVALID, "are both ','");
    refused("{'train':{'format':'csv','file':'@f.csv','label':'y'},"
            "'test':{'format':'csv','file':'@f.csv','label':'y','missing':'drop'}}",
            STATUS_INVALID, "data.test.missing: this part is read with the columns of data.train");
}

static void separators_and_signs(void **state) {
    (void)state;
    float x[2];
    struct dataset *d;
    write_text("f.csv", "y;a;b\n0;0,5;1\n1;1,25;2\n");
    write_text("t.csv", "y;a;b\n1;7,5;1\n");
    refused(PLAIN, STATUS_INVALID,
            "f.csv:1: the first line has one column; the separator seems to "
            "be ';': say so with data.train.separator: \";\"");
    refused(WITH(",'separator':';'"), STATUS_INVALID, "decimal sign seems to be ','");
    d = load("{'train':{'format':'csv','file':'@f.csv','label':'y','separator':';','decimal':','},"
             "'test':{'format':'csv','file':'@t.csv','label':'y'}}",
             SPEC_LANGUAGE);
    data_gather(d, DATA_TEST, (int64_t[]){0}, 1, &(struct data_rows){x, NULL, NULL});
    assert_true(x[0] == 7.5F && x[1] == 1);
    data_destroy(&d);
    write_text("f.csv", "y\ta\n0\t0.5\n1\t1.25\n");
    refused(PLAIN, STATUS_INVALID, "the separator seems to be 'tab'");
    assert_int_equal(features(WITH(",'separator':'tab'")), 1);
    write_text("f.csv", "y|a\n0|0.5\n1|1.25\n");
    assert_int_equal(features(WITH(",'separator':'|'")), 1);
}

static void missing_values_become_what_is_asked(void **state) {
    (void)state;
    float x[4];
    struct dataset *d;
    write_text("f.csv", "a,c,y\n1,red,0\nNA,blue,1\n5,,0\n");
    write_text("t.csv", "a,c,y\n?,red,1\n4,,0\n");
#define PARTS_WITH(keys)                                                                           \
    "{'train':{'format':'csv','file':'@f.csv','label':'y'" keys "},"                               \
    "'test':{'format':'csv','file':'@t.csv','label':'y'}}"
    d = load(PARTS_WITH(",'missing':'mean'"), SPEC_LANGUAGE);
    data_gather(d, DATA_TRAIN, (int64_t[]){1}, 1, &(struct data_rows){x, NULL, NULL});
    assert_true(x[0] == 3 && x[1] == 1 && x[2] == 0);
    data_gather(d, DATA_TRAIN, (int64_t[]){2}, 1, &(struct data_rows){x, NULL, NULL});
    assert_true(x[0] == 5 && x[1] == 0 && x[2] == 0); /* none of its words */
    data_gather(d, DATA_TEST, (int64_t[]){0}, 1, &(struct data_rows){x, NULL, NULL});
    assert_true(x[0] == 3); /* the training file's mean */
    struct value *v = data_describe(&files_arena, d);
    assert_true(value_at(v, "inputs[0].missing")->real == 3);
    assert_non_null(strstr(value_at(v, "warnings[0]")->string, "column a: 1 cells"));
    data_destroy(&d);
    d = load(PARTS_WITH(",'missing':-7.25"), SPEC_LANGUAGE);
    data_gather(d, DATA_TEST, (int64_t[]){0}, 1, &(struct data_rows){x, NULL, NULL});
    assert_true(x[0] == -7.25F);
    data_destroy(&d);
    write_text("t.csv", "a,c,y\n?,red,1\n4,red,0\n");
    d = load(PARTS_WITH(",'missing':'drop'"), SPEC_LANGUAGE);
    assert_int_equal(data_info(d)->train, 1);
    assert_int_equal(data_info(d)->test, 1);
    v = data_describe(&files_arena, d);
    assert_non_null(strstr(value_at(v, "warnings[0]")->string, "2 rows without all their values"));
    data_destroy(&d);
    refused(PARTS_WITH(",'missing':'error'"), STATUS_INVALID, "f.csv:3:1: column a has no value");
    write_text("f.csv", "a,y\n1,0\n2,\n");
    refused(WITH(",'missing':'mean'"), STATUS_INVALID, "a row without its label can be dropped");
    write_text("f.csv", "a,y\nNA,0\n2,\n");
    refused(WITH(",'missing':'drop'"), STATUS_INVALID, "no row has all its values");
    write_text("f.csv", "a,b,y\nNA,,0\nNA,,1\n");
    refused(PLAIN, STATUS_INVALID, "column b has no value in any row; leave it out");
}

static void names_and_words_are_utf8(void **state) {
    (void)state;
    write_text("f.csv", "a,y\n1,gro\xdf\n2,klein\n");
    refused(PLAIN, STATUS_INVALID,
            "f.csv:2:3: a word in column y is not UTF-8 (byte 0xdf after 'gro')");
    struct dataset *d = load(PLAIN, 2); /* written out, so that a manifest can be made */
    assert_string_equal(value_at(data_describe(&files_arena, d), "class_names[0]")->string,
                        "gro\\xdf");
    data_destroy(&d);
    write_text("f.csv", "a,c,y\n1,\xe4,0\n2,b,1\n");
    refused(PLAIN, STATUS_INVALID, "f.csv:2:3: a word in column c is not UTF-8");
    write_text("f.csv", "a,stra\xdf"
                        "e,y\n1,2,0\n");
    refused(PLAIN, STATUS_INVALID, "f.csv:1:3: the name of column 1 is not UTF-8 (byte 0xdf)");
    write_text("f.csv", "a,straße,y\n1,grün,0\n2,blau,1\n");
    d = load(PLAIN, SPEC_LANGUAGE);
    assert_string_equal(value_at(data_describe(&files_arena, d), "inputs[1].name")->string,
                        "straße");
    data_destroy(&d);
}

/* ---- digits ---- */

/* Seconds since 1970: a float32 tells two apart that are 128 s from each other. */
static void write_seconds(void) {
    struct buf b = BUF_INIT(1 << 20);
    buf_adds(&b, "t,b,y\n");
    for (int i = 0; i < 200; i++)
        buf_addf(&b, "%lld,%d.5,%d\n", 1764320000LL + i, i % 5, i >= 100);
    write_file("f.csv", b.data, b.len);
    buf_release(&b);
}

#define NORMALIZED                                                                                 \
    "{'train':{'format':'csv','file':'@f.csv','label':'y'},'transforms':[{'normalize':'fit'}]}"

static void seconds_keep_their_digits(void **state) {
    (void)state;
    write_seconds();
    struct dataset *d = load(NORMALIZED, SPEC_LANGUAGE);
    double std = sqrt((200.0 * 200.0 - 1) / 12);
    for (int64_t i = 0; i < 200; i++) {
        float x[2];
        data_gather(d, DATA_TRAIN, &i, 1, &(struct data_rows){x, NULL, NULL});
        assert_true(x[0] == (float)(((double)i - 99.5) / std));
    }
    struct value *v = data_describe(&files_arena, d);
    assert_string_equal(value_get_string(v, "type", ""), "f64");
    assert_true(value_at(v, "transforms[0].normalize.mean[0]")->real == 1764320099.5);
    assert_null(value_get(v, "warnings"));
    data_destroy(&d);
    d = load(PLAIN, SPEC_LANGUAGE);
    const struct value *w = value_at(data_describe(&files_arena, d), "warnings[0]");
    assert_non_null(strstr(w->string, "column t: 200 different values become 3 in float32"));
    data_destroy(&d);
    d = load(NORMALIZED, 2); /* as it was */
    float a[2], b[2];
    data_gather(d, DATA_TRAIN, (int64_t[]){0}, 1, &(struct data_rows){a, NULL, NULL});
    data_gather(d, DATA_TRAIN, (int64_t[]){50}, 1, &(struct data_rows){b, NULL, NULL});
    assert_true(a[0] == b[0]);
    data_destroy(&d);
}

static size_t npy(uint8_t *out, const char *descr, int n, const void *data, size_t len) {
    int text = snprintf((char *)out + 10, 200,
                        "{'descr': '%s', 'fortran_order': False, 'shape': (%d,), }\n", descr, n);
    memcpy(out, "\x93NUMPY\1\0", 8);
    bytes_put_u16(out + 8, (uint16_t)text);
    memcpy(out + 10 + text, data, len);
    return 10 + (size_t)text + len;
}

#define ARRAYS                                                                                     \
    "{'train':{'format':'npy','images':'@i.npy','labels':'@l.npy'},"                               \
    "'transforms':[{'normalize':'fit'}]}"

/* The same of arrays and of IDX; what float32 holds stays float32. */
static void wide_arrays_keep_their_digits(void **state) {
    (void)state;
    static uint8_t file[4096];
    double wide[4] = {1764320000, 1764320001, 1764320002, 1764320003}, narrow[4] = {1, 2, 3, 4};
    int64_t labels[4] = {0, 1, 0, 1};
    float x, expected = (float)(-1.5 / sqrt(1.25));
    write_file("l.npy", file, npy(file, "<i8", 4, labels, sizeof labels));
    write_file("i.npy", file, npy(file, "<f8", 4, wide, sizeof wide));
    struct dataset *d = load(ARRAYS, SPEC_LANGUAGE);
    data_gather(d, DATA_TRAIN, (int64_t[]){0}, 1, &(struct data_rows){&x, NULL, NULL});
    assert_true(x == expected);
    data_destroy(&d);
    write_file("i.npy", file, npy(file, "<f8", 4, narrow, sizeof narrow));
    d = load(ARRAYS, SPEC_LANGUAGE);
    assert_string_equal(value_get_string(data_describe(&files_arena, d), "type", ""), "f32");
    data_destroy(&d);
    bytes_put_be32(file, 0x0c01); /* int32, one dimension */
    bytes_put_be32(file + 4, 4);
    for (uint32_t i = 0; i < 4; i++)
        bytes_put_be32(file + 8 + 4 * i, 1764320000U + i);
    write_file("i", file, 24);
    static const uint8_t bytes[4] = {0, 1, 0, 1};
    write_file("l", file, make_idx(file, 1, (uint32_t[]){4}, bytes, 4));
    d = load("{'train':{'format':'idx','images':'@i','labels':'@l'},"
             "'transforms':[{'normalize':'fit'}]}",
             SPEC_LANGUAGE);
    data_gather(d, DATA_TRAIN, (int64_t[]){0}, 1, &(struct data_rows){&x, NULL, NULL});
    assert_true(x == expected);
    data_destroy(&d);
}

/* Targets are float32, and are not transformed: what they lose is said, for each output. */
static void targets_that_collapse_are_said(void **state) {
    (void)state;
    static uint8_t file[4096];
    struct buf b = BUF_INIT(1 << 20);
    buf_adds(&b, "a,y\n");
    for (int i = 0; i < 200; i++)
        buf_addf(&b, "%d,%lld\n", i, 1764320000LL + i);
    write_file("f.csv", b.data, b.len);
    struct dataset *d = load(WITH(",'task':'regress'"), SPEC_LANGUAGE);
    struct value *said = value_get(data_describe(&files_arena, d), "warnings");
    assert_non_null(said);
    assert_int_equal(said->count, 1);
    assert_non_null(strstr(said->items[0]->string,
                           "label column y: 198 different targets become 3 in float32"));
    data_destroy(&d);
    buf_clear(&b);
    buf_adds(&b, "a,y\n");
    for (int i = 0; i < 200; i++)
        buf_addf(&b, "%d,%d.1\n", i, i);
    write_file("f.csv", b.data, b.len);
    d = load(WITH(",'task':'regress'"), SPEC_LANGUAGE);
    assert_null(value_get(data_describe(&files_arena, d), "warnings"));
    data_destroy(&d);
    double x[4] = {1, 2, 3, 4}, y[4] = {1764320001, 1764320002, 1764320003, 1764320004};
    write_file("i.npy", file, npy(file, "<f8", 4, x, sizeof x));
    write_file("l.npy", file, npy(file, "<f8", 4, y, sizeof y));
    d = load(ARRAYS, SPEC_LANGUAGE);
    said = value_at(data_describe(&files_arena, d), "warnings[0]");
    assert_non_null(said);
    assert_non_null(strstr(said->string, "output 0: 4 different targets become 1 in float32"));
    data_destroy(&d);
    buf_release(&b);
}

/* 1/std would be an infinity. */
static void tiny_deviations_are_no_infinities(void **state) {
    (void)state;
    static uint8_t file[4096];
    float tiny[4] = {0, 1e-40F, 0, 1e-40F}, near[4] = {1, 1 + 0x1p-23F, 1, 1};
    int64_t labels[4] = {0, 1, 0, 1};
    write_file("l.npy", file, npy(file, "<i8", 4, labels, sizeof labels));
    write_file("i.npy", file, npy(file, "<f4", 4, tiny, sizeof tiny));
    struct dataset *d = load(ARRAYS, SPEC_LANGUAGE);
    for (int64_t i = 0; i < 4; i++) {
        float x;
        data_gather(d, DATA_TRAIN, &i, 1, &(struct data_rows){&x, NULL, NULL});
        assert_true(isfinite(x) && fabsf(x) < 1e-30F);
    }
    data_destroy(&d);
    write_file("i.npy", file, npy(file, "<f4", 4, near, sizeof near));
    d = load(ARRAYS, SPEC_LANGUAGE);
    const struct value *w = value_at(data_describe(&files_arena, d), "warnings[0]");
    assert_non_null(w);
    assert_non_null(strstr(w->string, "feature 0: its deviation"));
    data_destroy(&d);
}

static void what_is_not_finite_is_blamed_on_its_file(void **state) {
    (void)state;
    static uint8_t file[4096];
    float x[4] = {1, 2, NAN, 4};
    double big[4] = {1, 2, 3, 1e300};
    int64_t labels[4] = {0, 1, 0, 1};
    write_file("l.npy", file, npy(file, "<i8", 4, labels, sizeof labels));
    write_file("i.npy", file, npy(file, "<f4", 4, x, sizeof x));
    refused(ARRAYS, STATUS_INVALID, "i.npy: feature 0 of sample 2 is not finite");
    write_file("i.npy", file, npy(file, "<f8", 4, big, sizeof big));
    refused(ARRAYS, STATUS_INVALID, "i.npy: feature 0 of sample 3 is 1e+300, more than a float32");
    write_text("f.csv", "a,y\n1,0\n\n1e999,1\n");
    refused(PLAIN, STATUS_INVALID, "f.csv:4:1: 1e999 is not finite");
}

/* ---- what is said ---- */

static void odd_classes_are_said(void **state) {
    (void)state;
    static const struct {
        const char *labels[3], *says; /* NULL: nothing */
    } rows[] = {
        {{"1", "2", "3"}, "the labels are 1 to 3; classes count from 0"},
        {{"0", "1", "5"}, "3 of the classes 0 to 5 never occur"},
        {{"4", "4", "4"}, "every label is 4"},
        {{"0", "1", "2"}, NULL},
        {{"c", "b", "a"}, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[128];
        const char *const *l = rows[i].labels;
        (void)snprintf(text, sizeof text, "a,y\n1,%s\n2,%s\n3,%s\n", l[0], l[1], l[2]);
        write_text("f.csv", text);
        struct dataset *d = load(PLAIN, SPEC_LANGUAGE);
        const struct value *w = value_at(data_describe(&files_arena, d), "warnings[0]");
        assert_true((w == NULL) == (rows[i].says == NULL));
        assert_true(w == NULL || strstr(w->string, rows[i].says) != NULL);
        data_destroy(&d);
    }
}

static void inputs_are_described_in_order(void **state) {
    (void)state;
    ROWS(-1, "");
    struct dataset *d = load(WITH(",'exclude':['a']"), SPEC_LANGUAGE);
    struct value *v = data_describe(&files_arena, d), *in = value_get(v, "inputs");
    assert_int_equal(in->count, 2);
    assert_string_equal(value_get_string(in->items[0], "name", ""), "b");
    assert_string_equal(value_get_string(in->items[0], "kind", ""), "number");
    assert_int_equal(value_get_int(in->items[0], "first", -1), 0);
    assert_true(value_get(in->items[0], "min")->real == 0.5);
    assert_true(value_get(in->items[0], "max")->real == 6.5);
    assert_true(value_get(in->items[0], "example")->real == 0.5);
    assert_string_equal(value_get_string(in->items[1], "kind", ""), "words");
    assert_int_equal(value_get_int(in->items[1], "first", -1), 1);
    assert_int_equal(value_get_int(in->items[1], "count", -1), 2);
    assert_string_equal(value_at(in->items[1], "words[0]")->string, "blue");
    assert_string_equal(value_get_string(in->items[1], "example", ""), "red");
    assert_string_equal(value_at(v, "outputs.name")->string, "y");
    assert_string_equal(value_at(v, "outputs.kind")->string, "classes");
    assert_int_equal(value_at(v, "outputs.count")->integer, 3);
    data_destroy(&d);
}

/* Decimal numbers and nothing else that strtod would take. */
static void what_is_a_number(void **state) {
    (void)state;
    static const struct {
        const char *text;
        char point;
        bool is;
        double value;
    } rows[] = {
        {"1", '.', true, 1},      {" -2.5\t", '.', true, -2.5}, {"+1e3", '.', true, 1000},
        {"1,5", ',', true, 1.5},  {".5", '.', true, 0.5},       {"7.", '.', true, 7},
        {"1,5", '.', false, 0},   {"1.5", ',', false, 0},       {"0x10", '.', false, 0},
        {"nan", '.', false, 0},   {"inf", '.', false, 0},       {"1e", '.', false, 0},
        {"1 000", '.', false, 0}, {"1_000", '.', false, 0},     {"", '.', false, 0},
        {"  ", '.', false, 0},    {"--1", '.', false, 0},       {"1.2.3", '.', false, 0},
        {"0x1p3", '.', false, 0}, {"e5", '.', false, 0},        {"-", '.', false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct csv_field f = {.text = rows[i].text, .len = strlen(rows[i].text)};
        double v = 0;
        bool is = csv_text_number(&f, rows[i].point, &v);
        if (is != rows[i].is || (is && v != rows[i].value))
            fail_msg("'%s': %d, %g", rows[i].text, is, v);
    }
    const struct csv_field nul = {.text = "1\0002", .len = 3}; /* a byte of a field, not its end */
    double v;
    assert_false(csv_text_number(&nul, '.', &v));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_a_number),
        cmocka_unit_test(one_bad_cell_is_refused_by_its_place),
        cmocka_unit_test(an_older_language_reads_as_it_did),
        cmocka_unit_test(dates_and_ids_are_no_inputs),
        cmocka_unit_test(integer_labels_keep_their_order),
        cmocka_unit_test(columns_are_chosen_by_name_and_number),
        cmocka_unit_test(separators_and_signs),
        cmocka_unit_test(missing_values_become_what_is_asked),
        cmocka_unit_test(names_and_words_are_utf8),
        cmocka_unit_test(seconds_keep_their_digits),
        cmocka_unit_test(wide_arrays_keep_their_digits),
        cmocka_unit_test(targets_that_collapse_are_said),
        cmocka_unit_test(tiny_deviations_are_no_infinities),
        cmocka_unit_test(what_is_not_finite_is_blamed_on_its_file),
        cmocka_unit_test(odd_classes_are_said),
        cmocka_unit_test(inputs_are_described_in_order),
    };
    return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
