/* Initial weights, and what `preview` shows of a model. */
#include <math.h>
#include <string.h>

#include "core/philox.h"
#include "kernels/graph/model.h"
#include "kernels/graph/random_stream.h"
#include "kernels/host/random.h"

/* Every second element uniform in [-bound, bound) from 53 bits of two words, as philox_double() has
 * it. */
static void uniform(const uint32_t *a, const uint32_t *b, double bound, float *out) {
    for (int j = 0; j < RANDOM_BLOCK; j++)
        out[2 * j] = (float)((2.0 * philox_double(a[j], b[j]) - 1.0) * bound);
}

/* Element 2i takes words 0 and 1 of counter i, element 2i + 1 words 2 and 3. */
static void fill_uniform(uint64_t seed, int index, float bound, float *out, int64_t count) {
    uint64_t stream = STREAM_INIT | (uint64_t)index;
    uint32_t word[4][RANDOM_BLOCK];
    float block[2 * RANDOM_BLOCK];
    for (int64_t i = 0; i < count; i += 2 * RANDOM_BLOCK) {
        int64_t n = count - i < 2 * RANDOM_BLOCK ? count - i : 2 * RANDOM_BLOCK;
        random_block(seed, stream, (uint64_t)i / 2, word);
        uniform(word[0], word[1], (double)bound, block);
        uniform(word[2], word[3], (double)bound, block + 1);
        memcpy(out + i, block, (size_t)n * sizeof *out);
    }
}

static int64_t fan_in(const struct model *model, const struct layer *layer) {
    const struct param *weight = &model->params[layer->param_first];
    return weight->count / weight->dim[0];
}

void model_init(const struct model *model, uint64_t seed, float *flat) {
    memset(flat, 0, (size_t)model->vector_count * sizeof *flat);
    for (int i = 0; i < model->param_count; i++) {
        const struct param *p = &model->params[i];
        const struct layer *layer = &model->layers[p->layer];
        if (layer->kind == LAYER_BATCH_NORM) {
            int role = i - layer->param_first; /* gamma, beta, mean, variance */
            for (int64_t j = 0; j < p->count; j++)
                flat[p->offset + j] = role == 0 || role == 3 ? 1.0f : 0.0f;
        } else {
            float bound = (float)(1.0 / sqrt((double)fan_in(model, layer)));
            fill_uniform(seed, i, bound, flat + p->offset, p->count);
        }
    }
}

static struct value *shape_value(struct arena *a, const struct shape *s) {
    struct value *list = value_list(a);
    for (int i = 0; i < s->rank; i++)
        value_push(a, list, value_int(a, s->dim[i]));
    return list;
}

struct value *model_describe(struct arena *a, const struct model *model) {
    struct value *layers = value_list(a), *out = value_map(a);
    int64_t flops = 0;
    for (int i = 0; i < model->layer_count; i++) {
        const struct layer *layer = &model->layers[i];
        struct value *row = value_map(a);
        int64_t params = 0;
        for (int j = 0; j < layer->param_count; j++)
            if (model->params[layer->param_first + j].kind != PARAM_STAT)
                params += model->params[layer->param_first + j].count;
        value_set_string(a, row, "name", spec_layer_name(layer->kind));
        value_set(a, row, "in", shape_value(a, &layer->in));
        value_set(a, row, "out", shape_value(a, &layer->out));
        value_set_int(a, row, "params", params);
        value_set_int(a, row, "flops", layer->flops);
        value_push(a, layers, row);
        flops += layer->flops;
    }
    value_set(a, out, "layers", layers);
    value_set_int(a, out, "trainable", model->trainable);
    value_set_int(a, out, "bytes", model->vector_count * (int64_t)sizeof(float));
    value_set_int(a, out, "flops_per_sample", flops);
    return out;
}
