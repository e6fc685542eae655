/* Tests on the GPU backend: on the stand-ins of the CUDA libraries (tests/standin/README.md), built
 * beside the test, or on a real GPU where TRIREME_CUDA_BACKEND names a real backend; where there is
 * neither, nothing is tested. A net's batch lies on the device, and steps run there. */
#ifndef TESTS_UNIT_KERNELS_GPU_H
#define TESTS_UNIT_KERNELS_GPU_H

#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <unistd.h>

#include "kernels/devices.h"
#include "kernels/run/optimizer.h"
#include "tests/unit/kernels/twin.h"

static struct device *gpu;
static const struct backend *b;     /* gpu's */
static void (*standin_begin)(void); /* NULL: a real GPU */

/* ---- a net's batch on the device ---- */

struct rig {
    struct net net; /* its own device is the CPU */
    enum precision precision;
    void *x;
    int32_t *labels, *rows_global;
    float *targets;
    struct step_outcome *ring;
};

static inline void *on_gpu(const void *src, size_t bytes) {
    void *p = b->memory->alloc(gpu, bytes);
    assert_non_null(p);
    b->memory->upload(gpu, p, src, bytes);
    return p;
}

static inline void rig_open(struct rig *r, const char *text, struct shape in, enum loss_kind loss,
                            int shards, int64_t shard_rows, enum precision precision) {
    struct net *net = &r->net;
    memset(r, 0, sizeof *r);
    net_open(net, text, in, loss, shards, shard_rows);
    for (int i = 0; i < net->model->param_count; i++) { /* away from the start's zeros and ones */
        const struct param *p = &net->model->params[i];
        for (int64_t j = 0; p->kind != PARAM_WEIGHT && j < p->count; j++)
            net->weights[p->offset + j] += 0.1f * (noise(8, p->offset + j) + 1.0f);
    }
    int64_t count = net->rows * volume(&net->model->in);
    size_t out = (size_t)volume(&net->model->out), rows = (size_t)net->rows;
    float *x = on_gpu(net->x, (size_t)count * sizeof *x);
    r->precision = precision;
    r->x = b->memory->alloc(gpu, (size_t)count * precision_bytes(precision));
    b->memory->convert(gpu, x, r->x, count, precision);
    r->labels = on_gpu(net->labels, rows * sizeof *r->labels);
    r->rows_global = on_gpu(net->rows_global, rows * sizeof *r->rows_global);
    r->targets = on_gpu(net->targets, rows * out * sizeof *r->targets);
    r->ring = b->memory->host_alloc(gpu, OUTCOME_SLOTS * sizeof *r->ring);
    b->memory->release(gpu, x);
}

static inline void rig_close(struct rig *r) {
    struct err err = {0};
    b->order->sync(gpu);
    b->memory->release(gpu, r->x);
    b->memory->release(gpu, r->labels);
    b->memory->release(gpu, r->rows_global);
    b->memory->release(gpu, r->targets);
    b->memory->host_release(gpu, r->ring);
    must(b->order->status(gpu, &err), &err);
    net_close(&r->net);
}

static inline struct engine *rig_engine(struct rig *r, int first, int count, int walk) {
    struct err err = {0};
    struct engine *e = NULL;
    struct plan_spec spec = r->net.spec;
    spec.first_shard = first;
    spec.shard_count = count;
    spec.walk = walk;
    spec.precision = r->precision;
    must(engine_new(gpu, &spec, NULL, &e, &err), &err);
    b->memory->upload(gpu, engine_weights(e), r->net.weights,
                      (size_t)r->net.model->vector_count * sizeof(float));
    return e;
}

static inline void begin_step(const struct rig *r, int64_t step) {
    struct step_terms terms = {.step = step,
                               .seed = 11,
                               .shuffle = 1,
                               .epoch = step / 2,
                               .first = step % 2 * r->net.rows,
                               .scale = 1.0f / (float)r->net.rows,
                               .slot = (int32_t)(step % OUTCOME_SLOTS)};
    struct spec_optimizer adam = {OPTIMIZER_ADAMW, 0.01, 0, false, {0.9, 0.999}, 1e-8, 0.1, 2,
                                  DECAY_WEIGHTS};
    optimizer_rates(&adam, PARAM_WEIGHT, step, 0.01, &terms.rates[0]);
    optimizer_rates(&adam, PARAM_PLAIN, step, 0.01, &terms.rates[1]);
    b->update->begin_step(gpu, &terms);
}

static inline void run_step(const struct rig *r, struct engine *e, int first,
                            const struct engine_hook *hook) {
    struct err err = {0};
    const struct model *m = r->net.model;
    int64_t row = first * r->net.spec.shard_rows, out = volume(&m->out);
    bool mse = r->net.spec.loss == LOSS_MSE;
    size_t begin = (size_t)(row * volume(&m->in)) * precision_bytes(r->precision);
    must(engine_step(e,
                     &(struct engine_batch){.x = (char *)r->x + begin,
                                            .labels = mse ? NULL : r->labels + row,
                                            .targets = mse ? r->targets + row * out : NULL,
                                            .rows_global = r->rows_global + row},
                     0, hook, &err),
         &err);
}

static inline void rig_step(const struct rig *r, struct engine *e, int first, int64_t step) {
    begin_step(r, step);
    run_step(r, e, first, NULL);
}

static inline void gradient_of(const struct rig *r, struct engine *e, float *out) {
    b->memory->download(gpu, out, engine_gradient(e),
                        (size_t)r->net.model->vector_count * sizeof(float));
}

static inline void same(const struct rig *r, const char *what, const float *got,
                        const float *want) {
    for (int64_t i = 0; i < r->net.model->vector_count; i++)
        if (memcmp(&got[i], &want[i], sizeof(float)) != 0)
            fail_msg("%s, %s: element %lld is %a, not %a", what, precision_name(r->precision),
                     (long long)i, (double)got[i], (double)want[i]);
}

/* ---- where it is ---- */

/* <build>/tests/unit/kernels/test_cuda ─▶ <build>/standin/lib. False: there is nothing to test. */
static inline bool find_backend(void) {
    char exe[PATH_MAX], path[PATH_MAX + 64];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (getenv("TRIREME_CUDA_BACKEND"))
        return true;
    if (n <= 0)
        return false;
    exe[n] = '\0';
    const char *build = dirname(dirname(dirname(dirname(exe))));
    snprintf(path, sizeof path, "%s/standin/lib/libtrireme-cuda.so", build);
    return access(path, F_OK) == 0 && setenv("TRIREME_CUDA_BACKEND", path, 1) == 0;
}

static inline int open_gpu(void **state) {
    (void)state;
    struct err err = {0};
    if (device_open("cuda", 0, &gpu, &err) != STATUS_OK) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    b = gpu->backend;
    void *runtime = dlopen("libcudart.so.13", RTLD_NOLOAD | RTLD_NOW);
    void *found = runtime ? dlsym(runtime, "standin_begin") : NULL;
    memcpy(&standin_begin, &found, sizeof found);
    return 0;
}

static inline int close_gpu(void **state) {
    (void)state;
    device_close(&gpu);
    return 0;
}

/* Runs the tests where there is something to test. */
static inline int run_on_gpu(const struct CMUnitTest *tests, size_t count) {
    if (!find_backend()) {
        puts("skipped: `make standin` has built no GPU backend here");
        return 0;
    }
    return _cmocka_run_group_tests("GPU", tests, count, open_gpu, close_gpu);
}

#endif
