/* Data sets: split, fit, gather, digest and cache, over small files of each format. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>

#include "tests/unit/worker/data_files.h"

static void load(const char *text, uint64_t seed, struct dataset **out) {
    struct err err = {0};
    if (data_load(&(struct data_request){.data = data_spec(text), .seed = seed}, out, &err) !=
        STATUS_OK)
        fail_msg("%s", err.text);
}

#define COUNT  100
#define SIDE   5
#define PIXELS (SIDE * SIDE)

/* 100 images of 5×5 whose pixels and labels say which one they are. */
static void write_images(void) {
    uint8_t pixels[COUNT * PIXELS], labels[COUNT], file[COUNT * PIXELS + 64];
    for (int i = 0; i < COUNT; i++) {
        labels[i] = (uint8_t)(i % 10);
        for (int k = 0; k < PIXELS; k++)
            pixels[i * PIXELS + k] = (uint8_t)(i + k * 3 + i * k % 7);
    }
    size_t len = make_idx(file, 3, (uint32_t[]){COUNT, SIDE, SIDE}, pixels, sizeof pixels);
    write_file("images", file, len);
    write_gzip("images.gz", file, len);
    len = make_idx(file, 1, (uint32_t[]){COUNT}, labels, COUNT);
    write_file("labels", file, len);
    write_gzip("labels.gz", file, len);
}

static void idx_comes_back_scaled(void **state) {
    (void)state;
    struct dataset *d;
    write_images();
    load("{'train':{'format':'idx','images':'@images','labels':'@labels'},'transforms':[{'scale':0."
         "5}]}",
         0, &d);
    const struct data_info *info = data_info(d);
    assert_int_equal(info->train, COUNT);
    assert_int_equal(info->validation, 0);
    assert_int_equal(info->classes, 10);
    assert_int_equal(info->features, PIXELS);
    assert_int_equal(info->shape.rank, 3);
    assert_int_equal(info->shape.dim[0], 1);
    assert_int_equal(info->shape.dim[2], SIDE);
    float x[2 * PIXELS];
    int32_t labels[2];
    data_gather(d, DATA_TRAIN, (int64_t[]){97, 3}, 2, &(struct data_rows){x, labels, NULL});
    assert_int_equal(labels[0], 7);
    assert_int_equal(labels[1], 3);
    for (int k = 0; k < PIXELS; k++) {
        assert_true(x[k] == 0.5F * (float)(uint8_t)(97 + k * 3 + 97 * k % 7));
        assert_true(x[PIXELS + k] == 0.5F * (float)(uint8_t)(3 + k * 3 + 3 * k % 7));
    }
    data_destroy(&d);
    assert_null(d);
}

static void the_split_parts_the_samples(void **state) {
    (void)state;
    struct dataset *d, *same, *other;
    write_images();
    const char *text = "{'train':{'format':'idx','images':'@images.gz','labels':'@labels.gz'},"
                       "'validation_split':0.25}";
    load(text, 7, &d);
    load(text, 7, &same);
    load(text, 8, &other);
    assert_int_equal(data_info(d)->train, 75);
    assert_int_equal(data_info(d)->validation, 25);
    int seen[COUNT] = {0}, differ = 0, previous = -1;
    for (int64_t i = 0; i < COUNT; i++) {
        enum data_part part = i < 75 ? DATA_TRAIN : DATA_VALIDATION;
        int64_t id = i < 75 ? i : i - 75;
        float x[PIXELS], y[PIXELS], z[PIXELS];
        data_gather(d, part, &id, 1, &(struct data_rows){x, NULL, NULL});
        data_gather(same, part, &id, 1, &(struct data_rows){y, NULL, NULL});
        data_gather(other, part, &id, 1, &(struct data_rows){z, NULL, NULL});
        assert_memory_equal(x, y, sizeof x);
        differ += memcmp(x, z, sizeof x) != 0;
        int which = (int)x[0]; /* pixel 0 is the number of the image */
        seen[which]++;
        assert_true(id == 0 || which > previous); /* the file's order is kept */
        previous = which;
    }
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(seen[i], 1);
    assert_true(differ > 20);
    assert_string_equal(data_info(d)->digest, data_info(other)->digest);
    data_destroy(&d);
    data_destroy(&same);
    data_destroy(&other);
}

static void without_shuffle_the_end_of_the_file_validates(void **state) {
    (void)state;
    struct dataset *d;
    write_images();
    load("{'train':{'format':'idx','images':'@images','labels':'@labels'},'shuffle':false,"
         "'validation_split':0.1}",
         7, &d);
    float x[PIXELS];
    data_gather(d, DATA_VALIDATION, (int64_t[]){0}, 1, &(struct data_rows){x, NULL, NULL});
    assert_true(x[0] == 90.0F);
    data_destroy(&d);
}

static void normalize_is_fitted_on_the_training_part(void **state) {
    (void)state;
    struct dataset *d;
    write_images();
    load("{'train':{'format':'idx','images':'@images','labels':'@labels'},'validation_split':0.5,"
         "'transforms':[{'scale':0.00392156862745098},{'normalize':'fit'},{'shift':1.0}]}",
         7, &d);
    double sum[PIXELS] = {0}, squares[PIXELS] = {0};
    for (int64_t i = 0; i < 50; i++) {
        float x[PIXELS];
        data_gather(d, DATA_TRAIN, &i, 1, &(struct data_rows){x, NULL, NULL});
        for (int k = 0; k < PIXELS; k++) {
            sum[k] += (double)x[k] - 1;
            squares[k] += ((double)x[k] - 1) * ((double)x[k] - 1);
        }
    }
    for (int k = 0; k < PIXELS; k++) {
        assert_true(fabs(sum[k] / 50) < 1e-5);
        assert_true(fabs(squares[k] / 50 - 1) < 1e-5);
    }
    struct value *v = data_describe(&files_arena, d);
    struct value *mean = value_at(v, "transforms[1].normalize.mean");
    assert_int_equal(mean->count, PIXELS);
    assert_int_equal(value_at(v, "transforms")->count, 3);
    assert_int_equal(value_at(v, "files")->count, 2);
    assert_int_equal(value_get_int(v, "train", 0), 50);
    data_destroy(&d);
}

/* The described transforms, given back as configuration, make the same bits. */
static void described_transforms_repeat_the_bits(void **state) {
    (void)state;
    struct dataset *d, *again;
    write_images();
    struct value *config =
        data_map("{'train':{'format':'idx','images':'@images','labels':'@labels'},"
                 "'transforms':[{'shift':-3},{'normalize':'fit'},{'scale':0.3}]}");
    struct err err;
    struct spec_data spec;
    struct data_request request = {.data = &spec, .seed = 1};
    assert_int_equal(spec_data_read(config, SPEC_TODAY("test"), &spec, &err), STATUS_OK);
    assert_int_equal(data_load(&request, &d, &err), STATUS_OK);
    value_set(&files_arena, config, "transforms",
              value_get(data_describe(&files_arena, d), "transforms"));
    assert_int_equal(spec_data_read(config, SPEC_TODAY("test"), &spec, &err), STATUS_OK);
    assert_int_equal(data_load(&request, &again, &err), STATUS_OK);
    for (int64_t i = 0; i < COUNT; i++) {
        float x[PIXELS], y[PIXELS];
        data_gather(d, DATA_TRAIN, &i, 1, &(struct data_rows){x, NULL, NULL});
        data_gather(again, DATA_TRAIN, &i, 1, &(struct data_rows){y, NULL, NULL});
        assert_memory_equal(x, y, sizeof x);
    }
    data_destroy(&d);
    data_destroy(&again);
}

static void gather_does_not_depend_on_company(void **state) {
    (void)state;
    struct dataset *d;
    write_images();
    load("{'train':{'format':'idx','images':'@images','labels':'@labels'},"
         "'transforms':[{'scale':0.1},{'normalize':'fit'}]}",
         7, &d);
    float all[COUNT * PIXELS], one[PIXELS];
    int64_t ids[COUNT];
    for (int64_t i = 0; i < COUNT; i++)
        ids[i] = COUNT - 1 - i;
    data_gather(d, DATA_TRAIN, ids, COUNT, &(struct data_rows){all, NULL, NULL});
    for (int64_t i = 0; i < COUNT; i++) {
        data_gather(d, DATA_TRAIN, &ids[i], 1, &(struct data_rows){one, NULL, NULL});
        assert_memory_equal(one, all + i * PIXELS, sizeof one);
    }
    data_destroy(&d);
}

static void given_normalization_takes_numbers_and_lists(void **state) {
    (void)state;
    struct dataset *d;
    write_text("f.csv", "a,b,y\n1,10,0\n3,20,1\n");
    load("{'train':{'format':'csv','file':'@f.csv','label':'y'},"
         "'transforms':[{'normalize':{'mean':[1,10],'std':[2,5]}},{'normalize':{'mean':0,'std':2}}]"
         "}",
         0, &d);
    float x[2];
    data_gather(d, DATA_TRAIN, (int64_t[]){1}, 1, &(struct data_rows){x, NULL, NULL});
    assert_true(x[0] == 0.5F && x[1] == 1.0F);
    data_destroy(&d);
}

static void the_digest_names_the_content(void **state) {
    (void)state;
    struct dataset *d[5];
    write_images();
    uint8_t file[COUNT * PIXELS + 64];
    int fd = open(file_path("images"), O_RDONLY);
    ssize_t len = read(fd, file, sizeof file);
    close(fd);
    assert_true(len > 0);
    write_file("elsewhere", file, (size_t)len);
    file[len - 1] ^= 1;
    write_file("changed", file, (size_t)len);
    load("{'train':{'format':'idx','images':'@images','labels':'@labels'}}", 0, &d[0]);
    load("{'train':{'format':'idx','images':'@elsewhere','labels':'@labels'}}", 0, &d[1]);
    load("{'train':{'format':'idx','images':'@images.gz','labels':'@labels.gz'}}", 1, &d[2]);
    load("{'train':{'format':'idx','images':'@changed','labels':'@labels'}}", 0, &d[3]);
    load("{'train':{'format':'idx','images':'@images','labels':'@labels'},'transforms':[{'scale':2}"
         "]}",
         0, &d[4]);
    assert_string_equal(data_info(d[0])->digest, data_info(d[1])->digest);
    assert_string_equal(data_info(d[0])->digest, data_info(d[2])->digest);
    assert_string_not_equal(data_info(d[0])->digest, data_info(d[3])->digest);
    assert_string_not_equal(data_info(d[0])->digest, data_info(d[4])->digest);
    for (int i = 0; i < 5; i++)
        data_destroy(&d[i]);
}

static void test_files_are_their_own_part(void **state) {
    (void)state;
    struct dataset *d;
    write_images();
    load("{'train':{'format':'idx','images':'@images','labels':'@labels'},"
         "'test':{'format':'idx','images':'@images.gz','labels':'@labels.gz'},'validation_split':0."
         "2}",
         7, &d);
    assert_int_equal(data_info(d)->test, COUNT);
    assert_int_equal(data_info(d)->validation, 20);
    int32_t label;
    float x[PIXELS];
    data_gather(d, DATA_TEST, (int64_t[]){42}, 1, &(struct data_rows){x, &label, NULL});
    assert_int_equal(label, 2);
    data_destroy(&d);
}

static void the_cache_loads_once(void **state) {
    (void)state;
    struct data_cache *c;
    struct dataset *a, *b, *other;
    struct err err;
    bool hit;
    write_images();
    const struct spec_data *v =
        data_spec("{'train':{'format':'idx','images':'@images','labels':'@labels'},"
                  "'validation_split':0.2}");
    assert_int_equal(data_cache_new((size_t)1 << 20, &c, &err), STATUS_OK);
    assert_int_equal(
        data_cache_get(c, &(struct data_request){.data = v, .seed = 1}, &a, &hit, &err), STATUS_OK);
    assert_false(hit);
    assert_int_equal(
        data_cache_get(c, &(struct data_request){.data = v, .seed = 1}, &b, &hit, &err), STATUS_OK);
    assert_true(hit);
    assert_ptr_equal(a, b);
    assert_int_equal(
        data_cache_get(c, &(struct data_request){.data = v, .seed = 2}, &other, &hit, &err),
        STATUS_OK);
    assert_false(hit);
    assert_ptr_not_equal(a, other);
    /* Other times on the file: read again, though the name is the same. */
    struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    assert_int_equal(utimensat(AT_FDCWD, file_path("images"), times, 0), 0);
    assert_int_equal(
        data_cache_get(c, &(struct data_request){.data = v, .seed = 1}, &b, &hit, &err), STATUS_OK);
    assert_false(hit);
    unlink(file_path("labels"));
    assert_int_equal(
        data_cache_get(c, &(struct data_request){.data = v, .seed = 1}, &b, &hit, &err),
        STATUS_NOT_FOUND);
    data_cache_destroy(&c);
    assert_null(c);
}

static void a_small_cache_forgets(void **state) {
    (void)state;
    struct data_cache *c;
    struct dataset *d;
    struct err err;
    bool hit;
    write_images();
    const struct spec_data *v =
        data_spec("{'train':{'format':'idx','images':'@images','labels':'@labels'},"
                  "'validation_split':0.2}");
    assert_int_equal(data_cache_new(1, &c, &err), STATUS_OK);
    for (uint64_t seed = 0; seed < 30; seed++) {
        assert_int_equal(
            data_cache_get(c, &(struct data_request){.data = v, .seed = seed}, &d, &hit, &err),
            STATUS_OK);
        assert_false(hit);
        assert_int_equal(data_info(d)->train, 80);
    }
    data_cache_destroy(&c);
}

static void count_call(void *arg) {
    ++*(int *)arg;
}

static void long_work_pumps(void **state) {
    (void)state;
    size_t n = (size_t)6 << 20;
    uint8_t *pixels = calloc(1, n), *file = malloc(n + 64);
    assert_true(pixels != NULL && file != NULL);
    uint32_t rows = (uint32_t)(n / 1024);
    write_gzip("big.gz", file, make_idx(file, 2, (uint32_t[]){rows, 1024}, pixels, n));
    write_file("big.labels", file, make_idx(file, 1, (uint32_t[]){rows}, pixels, rows));
    struct dataset *d;
    struct err err;
    int calls = 0;
    assert_int_equal(
        data_load(
            &(struct data_request){.data = data_spec("{'train':{'format':'idx','images':'@big.gz',"
                                                     "'labels':'@big.labels'}}"),
                                   .pump = {count_call, &calls}},
            &d, &err),
        STATUS_OK);
    assert_true(calls >= 12); /* six chunks read, six digested */
    assert_int_equal(data_info(d)->shape.rank, 1);
    data_destroy(&d);
    free(pixels);
    free(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idx_comes_back_scaled),
        cmocka_unit_test(the_split_parts_the_samples),
        cmocka_unit_test(without_shuffle_the_end_of_the_file_validates),
        cmocka_unit_test(normalize_is_fitted_on_the_training_part),
        cmocka_unit_test(described_transforms_repeat_the_bits),
        cmocka_unit_test(gather_does_not_depend_on_company),
        cmocka_unit_test(given_normalization_takes_numbers_and_lists),
        cmocka_unit_test(the_digest_names_the_content),
        cmocka_unit_test(test_files_are_their_own_part),
        cmocka_unit_test(the_cache_loads_once),
        cmocka_unit_test(a_small_cache_forgets),
        cmocka_unit_test(long_work_pumps),
    };
    return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
