/* Nets for tests: a model from YAML text, random data by Philox, an engine on some of its shards.
 */
#ifndef TESTS_UNIT_KERNELS_NET_H
#define TESTS_UNIT_KERNELS_NET_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/philox.h"
#include "core/yaml.h"
#include "kernels/devices.h"
#include "kernels/run/device.h"
#include "kernels/run/engine.h"

#define MLP                                                                                        \
    "[{dense: {out: 37}}, relu, {dropout: 0.25}, {dense: {out: 50}}, gelu, {dense: {out: 10}}]"
#define CNN                                                                                        \
    "[{conv2d: {out: 20, kernel: 3, padding: same}}, batch_norm, relu, {max_pool: 2},"             \
    " {conv2d: {out: 24, kernel: 3, padding: 1, bias: false}}, batch_norm, relu, {max_pool: 2},"   \
    " {conv2d: {out: 9, kernel: 2, stride: 1}}, relu, {avg_pool: {kernel: 2, stride: 1}},"         \
    " {dropout: 0.3}, flatten, {dense: {out: 33}}, tanh, {dense: {out: 10}}]"

struct net {
    struct arena arena;
    struct model *model;
    struct device *device;
    struct plan_spec spec; /* of the whole batch on one rank */
    int64_t rows;
    float *x, *targets, *weights;
    int32_t *labels, *rows_global;
};

static inline void must(enum status st, const struct err *err) {
    if (st != STATUS_OK)
        fail_msg("%s: %s", status_name(st), err->text);
}

/* Uniform in [−1, 1). */
static inline float noise(uint64_t stream, int64_t i) {
    return (float)(2.0 * philox_double(philox(99, stream, (uint64_t)i).v[0], 0) - 1.0);
}

static inline void net_open(struct net *net, const char *text, struct shape in, enum loss_kind loss,
                            int shards, int64_t shard_rows) {
    struct err err = {0};
    struct value *layers = NULL;
    memset(net, 0, sizeof *net);
    arena_init(&net->arena, (size_t)16 << 20);
    must(yaml_parse(&net->arena, text, strlen(text), "net", &layers, &err), &err);
    must(model_parse(&net->arena, layers, in, "net", &net->model, &err), &err);
    must(device_open("cpu", 0, &net->device, &err), &err);
    net->rows = shards * shard_rows;
    net->spec = (struct plan_spec){.model = net->model,
                                   .loss = loss,
                                   .shard_rows = shard_rows,
                                   .shard_count = shards,
                                   .eval_rows = net->rows,
                                   .seed = 42};
    int64_t width = 1, out = 1;
    for (int i = 0; i < in.rank; i++)
        width *= in.dim[i];
    for (int i = 0; i < net->model->out.rank; i++)
        out *= net->model->out.dim[i];
    net->x = calloc((size_t)(net->rows * width), sizeof(float));
    net->targets = calloc((size_t)(net->rows * out), sizeof(float));
    net->labels = calloc((size_t)net->rows, sizeof(int32_t));
    net->rows_global = calloc((size_t)net->rows, sizeof(int32_t));
    net->weights = calloc((size_t)net->model->vector_count, sizeof(float));
    for (int64_t i = 0; i < net->rows * width; i++)
        net->x[i] = noise(1, i);
    for (int64_t i = 0; i < net->rows * out; i++)
        net->targets[i] = noise(2, i);
    for (int64_t i = 0; i < net->rows; i++) {
        net->labels[i] = (int32_t)(philox(99, 3, (uint64_t)i).v[0] % (uint32_t)out);
        net->rows_global[i] = (int32_t)i;
    }
    model_init(net->model, 7, net->weights);
}

static inline void net_close(struct net *net) {
    device_close(&net->device);
    arena_release(&net->arena);
    free(net->x);
    free(net->targets);
    free(net->labels);
    free(net->rows_global);
    free(net->weights);
}

/* An engine over shards [first, first + count), with the net's weights. */
static inline struct engine *net_engine(struct net *net, int first, int count, int walk) {
    struct err err = {0};
    struct engine *e = NULL;
    struct plan_spec spec = net->spec;
    spec.first_shard = first;
    spec.shard_count = count;
    spec.walk = walk;
    must(engine_new(net->device, &spec, NULL, &e, &err), &err);
    memcpy(engine_weights(e), net->weights, (size_t)net->model->vector_count * sizeof(float));
    return e;
}

/* One step of that engine on its part of the net's batch. */
static inline void net_step(struct net *net, struct engine *e, int first, int64_t step) {
    struct err err = {0};
    int64_t row = first * net->spec.shard_rows, in = 1, out = 1;
    for (int i = 0; i < net->model->in.rank; i++)
        in *= net->model->in.dim[i];
    for (int i = 0; i < net->model->out.rank; i++)
        out *= net->model->out.dim[i];
    bool mse = net->spec.loss == LOSS_MSE;
    must(engine_step(e,
                     &(struct engine_batch){.x = net->x + row * in,
                                            .labels = mse ? NULL : net->labels + row,
                                            .targets = mse ? net->targets + row * out : NULL,
                                            .rows_global = net->rows_global + row},
                     step, NULL, &err),
         &err);
}

#endif
