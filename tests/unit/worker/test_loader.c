/* The loader: whatever way rows come and in whatever order they are asked for, they are
 * data_gather's.
 */
#include "core/order.h"
#include "core/philox.h"
#include "kernels/devices.h"
#include "kernels/run/device.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/worker/data_files.h"
#include "tests/unit/worker/gpu.h"
#include "worker/data/loader.h"

#define SAMPLES 90
#define SIDE    5
#define CALLS   120
#define AHEAD   8 /* steps that a trainer queues behind each other */

enum way { HOST, RESIDENT, STREAMED };

struct fixture {
    struct device *device;
    struct dataset *data;
    struct loader *loader;
    struct loader_spec spec;
    float *x, *targets, *want_x, *want_targets; /* (rows most) */
    int32_t *labels, *want_labels;
    int64_t *ids;
    void *kept[AHEAD]; /* device: rows of steps under way */
};

static struct device *cpu, *gpu; /* gpu NULL: none here */

static int setup(void **state) {
    static uint8_t pixels[SAMPLES * SIDE * SIDE], labels[SAMPLES], file[sizeof pixels + 16];
    const uint32_t shape[] = {SAMPLES, SIDE, SIDE};
    struct err err = {0};
    if (files_setup(state) != 0)
        return -1;
    for (uint64_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)philox(1, 0, i).v[0];
    for (uint64_t i = 0; i < SAMPLES; i++)
        labels[i] = (uint8_t)(philox(1, 1, i).v[0] % 7);
    write_file("x.idx", file, make_idx(file, 3, shape, pixels, sizeof pixels));
    write_file("y.idx", file, make_idx(file, 1, shape, labels, sizeof labels));
    FILE *csv = fopen(file_path("points.csv"), "w");
    for (int i = 0; i < SAMPLES; i++)
        (void)fprintf(csv, "%d.25,%d,-%d.5,%d.125\n", i, i * i, i, i % 11);
    assert_int_equal(fclose(csv), 0);
    must(device_open("cpu", 0, &cpu, &err), &err);
    if (find_gpu())
        must(device_open("cuda", 0, &gpu, &err), &err);
    else
        puts("no GPU: `make standin` has built no GPU backend here; host rows alone are tested");
    return 0;
}

static int teardown(void **state) {
    device_close(&gpu);
    device_close(&cpu);
    return files_teardown(state);
}

/* ---- one loader, and what its rows must be ---- */

static int64_t part_rows(const struct fixture *f, enum data_part part) {
    const struct data_info *info = data_info(f->data);
    return part == DATA_TRAIN        ? info->train
           : part == DATA_VALIDATION ? info->validation
                                     : info->test;
}

static void open_loader(struct fixture *f, enum way way, bool classes, enum precision precision) {
    struct err err = {0};
    const char *images =
        "{'train':{'format':'idx','images':'@x.idx','labels':'@y.idx'},"
        "'validation_split':0.2,'transforms':[{'scale':0.01},{'normalize':'fit'}]}";
    const char *points =
        "{'train':{'format':'csv','file':'@points.csv','header':false,'label':3,'task':'regress'},"
        "'validation_split':0.2,'transforms':[{'normalize':'fit'}]}";
    memset(f, 0, sizeof *f);
    must(data_load(&(struct data_request){.data = data_spec(classes ? images : points), .seed = 3},
                   &f->data, &err),
         &err);
    f->device = way == HOST ? cpu : gpu;
    f->spec = (struct loader_spec){
        .device = f->device,
        .data = f->data,
        .seed = 11,
        .shuffle = true,
        .batch = 16,
        .rows = 8,
        .first_row = 8, /* the second of two ranks */
        .steps_per_epoch = part_rows(f, DATA_TRAIN) / 16,
        .eval_rows = 13,
        .classes = classes,
        .resident = way == RESIDENT,
        .precision = precision,
    };
    must(loader_new(&f->spec, &f->loader, &err), &err);
    static const char *const names[] = {"host", "resident", "streamed"};
    assert_string_equal(loader_name(f->loader), names[way]);
    size_t most = 13, features = (size_t)data_info(f->data)->features;
    f->x = calloc(most * features, sizeof *f->x);
    f->want_x = calloc(most * features, sizeof *f->x);
    f->targets = calloc(most, sizeof *f->targets);
    f->want_targets = calloc(most, sizeof *f->targets);
    f->labels = calloc(most, sizeof *f->labels);
    f->want_labels = calloc(most, sizeof *f->labels);
    f->ids = calloc(most, sizeof *f->ids);
    for (int i = 0; i < AHEAD; i++)
        f->kept[i] = f->device->backend->memory->alloc(f->device, most * features * sizeof *f->x);
    f->device->backend->update->resume(f->device);
}

static void close_loader(struct fixture *f) {
    struct err err = {0};
    loader_destroy(&f->loader);
    data_destroy(&f->data);
    for (int i = 0; i < AHEAD; i++)
        f->device->backend->memory->release(f->device, f->kept[i]);
    must(f->device->backend->order->status(f->device, &err), &err);
    free(f->x);
    free(f->want_x);
    free(f->targets);
    free(f->want_targets);
    free(f->labels);
    free(f->want_labels);
    free(f->ids);
}

/* data_gather's rows as elements of the precision, and those at `x` on the device. */
static void compare_x(struct fixture *f, enum data_part part, const void *x, int64_t rows,
                      const char *what) {
    const struct backend *b = f->device->backend;
    int64_t elements = rows * data_info(f->data)->features;
    size_t width = precision_bytes(f->spec.precision), bytes = (size_t)elements * width;
    bool classes = f->spec.classes;
    data_gather(f->data, part, f->ids, rows,
                &(struct data_rows){f->want_x, classes ? f->want_labels : NULL,
                                    classes ? NULL : f->want_targets});
    if (f->spec.precision == PRECISION_BF16) {
        float *from = b->memory->alloc(f->device, (size_t)elements * sizeof *from);
        void *to = b->memory->alloc(f->device, bytes);
        b->memory->upload(f->device, from, f->want_x, (size_t)elements * sizeof *from);
        b->memory->convert(f->device, from, to, elements, f->spec.precision);
        b->memory->download(f->device, f->want_x, to, bytes);
        b->memory->release(f->device, from);
        b->memory->release(f->device, to);
    }
    b->memory->download(f->device, f->x, x, bytes);
    if (memcmp(f->x, f->want_x, bytes) != 0)
        fail_msg("%s: %s rows differ", what, loader_name(f->loader));
}

static void compare(struct fixture *f, enum data_part part, int64_t rows, const char *what) {
    const struct backend *b = f->device->backend;
    const struct batch *batch = loader_batch(f->loader);
    compare_x(f, part, batch->x, rows, what);
    if (f->spec.classes) {
        b->memory->download(f->device, f->labels, batch->labels, (size_t)rows * sizeof *f->labels);
        assert_memory_equal(f->labels, f->want_labels, (size_t)rows * sizeof *f->labels);
    } else {
        b->memory->download(f->device, f->targets, batch->targets,
                            (size_t)rows * sizeof *f->targets);
        assert_memory_equal(f->targets, f->want_targets, (size_t)rows * sizeof *f->targets);
    }
}

static void queue_step(struct fixture *f, int64_t step) {
    struct step_terms terms = {.step = step, .slot = (int32_t)(step % OUTCOME_SLOTS)};
    loader_terms(f->loader, step, &terms);
    loader_prepare(f->loader, step);
    f->device->backend->update->begin_step(f->device, &terms);
    loader_gather(f->loader, step);
}

static void ids_of_step(struct fixture *f, int64_t step) {
    const struct loader_spec *s = &f->spec;
    int64_t epoch = (step - 1) / s->steps_per_epoch;
    int64_t first = (step - 1) % s->steps_per_epoch * s->batch + s->first_row;
    for (int64_t i = 0; i < s->rows; i++)
        f->ids[i] = order_at(s->seed, epoch, first + i, part_rows(f, DATA_TRAIN), s->shuffle);
}

static void check_step(struct fixture *f, int64_t step) {
    ids_of_step(f, step);
    compare(f, DATA_TRAIN, f->spec.rows, arena_printf(&files_arena, "step %d", (int)step));
}

/* Steps behind each other, before any of their rows is there. */
static void check_many(struct fixture *f, int64_t first) {
    const struct loader_spec *s = &f->spec;
    size_t bytes = (size_t)(s->rows * data_info(f->data)->features) * precision_bytes(s->precision);
    for (int i = 0; i < AHEAD; i++) {
        queue_step(f, first + i);
        s->device->backend->memory->copy(s->device, QUEUE_COMPUTE, f->kept[i],
                                         loader_batch(f->loader)->x, bytes);
    }
    for (int i = 0; i < AHEAD; i++) {
        ids_of_step(f, first + i);
        compare_x(f, DATA_TRAIN, f->kept[i], s->rows,
                  arena_printf(&files_arena, "step %d of many", (int)first + i));
    }
    check_step(f, first + AHEAD - 1);
}

static void check_rows(struct fixture *f, enum data_part part, int64_t first, int64_t rows) {
    char what[64];
    loader_rows(f->loader, part, first, rows);
    for (int64_t i = 0; i < rows; i++)
        f->ids[i] = first + i;
    (void)snprintf(what, sizeof what, "rows from %lld", (long long)first);
    compare(f, part, rows, what);
}

/* ---- orders of calls ---- */

/* As a trainer calls: steps one after the other, some of them queued behind each other; an
 * evaluation; a step again after it, or after later ones (a step that failed). */
static void any_order(struct fixture *f, uint64_t seed) {
    int64_t step = 0;
    for (uint64_t call = 0; call < CALLS; call++) {
        struct philox4 p = philox(seed, 2, call);
        enum data_part part = p.v[1] % 2 != 0 ? DATA_TRAIN : DATA_VALIDATION;
        int64_t first = (int64_t)(p.v[2] % (uint32_t)(part_rows(f, part)));
        int64_t rows = part_rows(f, part) - first;
        switch (p.v[0] % 8) {
        case 0:
            for (int64_t chunk = 0; chunk < 3; chunk++)
                check_rows(f, part, first, rows < 13 - chunk ? rows : 13 - chunk);
            break;
        case 1: /* again, from the last one back to eight before it */
            step -= p.v[1] % 9 < step ? p.v[1] % 9 : 0;
            step = step > 0 ? step : 1;
            queue_step(f, step);
            check_step(f, step);
            break;
        case 2: /* another place: a checkpoint */
            step = 1 + p.v[1] % 40;
            queue_step(f, step);
            check_step(f, step);
            break;
        case 3:
            check_many(f, step + 1);
            step += AHEAD;
            break;
        default:
            queue_step(f, ++step);
            check_step(f, step);
        }
    }
}

static void skip_without_gpu(void) {
    if (gpu == NULL) {
        puts("skipped: no stand-ins of the CUDA libraries: make standin");
        skip();
    }
}

static void every_kind(enum way way) {
    if (way != HOST)
        skip_without_gpu();
    for (enum precision p = PRECISION_FP32; p <= PRECISION_BF16; p++)
        for (int classes = 0; classes < 2 && (way != HOST || p == PRECISION_FP32); classes++) {
            struct fixture f;
            open_loader(&f, way, classes != 0, p);
            any_order(&f, (uint64_t)p + 1);
            close_loader(&f);
        }
}

static void test_host(void **state) {
    (void)state;
    every_kind(HOST);
}

static void test_resident(void **state) {
    (void)state;
    every_kind(RESIDENT);
}

static void test_streamed(void **state) {
    (void)state;
    every_kind(STREAMED);
}

/* A loader may end while rows are read ahead, or before any were asked for. */
static void test_ends_at_any_time(void **state) {
    (void)state;
    skip_without_gpu();
    for (int64_t steps = 0; steps < 6; steps++) {
        struct fixture f;
        open_loader(&f, STREAMED, true, PRECISION_BF16);
        for (int64_t step = 1; step <= steps; step++)
            queue_step(&f, step);
        close_loader(&f);
    }
}

static void test_without_shuffle(void **state) {
    (void)state;
    for (enum way way = HOST; way <= (gpu != NULL ? STREAMED : HOST); way++) {
        struct fixture f;
        struct err err = {0};
        open_loader(&f, way, true, PRECISION_FP32);
        loader_destroy(&f.loader);
        f.spec.shuffle = false;
        must(loader_new(&f.spec, &f.loader, &err), &err);
        for (int64_t step = 1; step < 12; step++) {
            queue_step(&f, step);
            check_step(&f, step);
            assert_true(f.ids[1] == f.ids[0] + 1);
        }
        close_loader(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host),
        cmocka_unit_test(test_resident),
        cmocka_unit_test(test_streamed),
        cmocka_unit_test(test_ends_at_any_time),
        cmocka_unit_test(test_without_shuffle),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
