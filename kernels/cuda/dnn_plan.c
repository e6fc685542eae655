/* Choosing an engine of cuDNN for a graph, and describing the graph to the library. */
#include "kernels/cuda/dnn_plan.h"

#include <assert.h>
#include <stdlib.h>

#define CONFIGS_MAX 64 /* proposals of one heuristic that are looked at */

static_assert(sizeof(struct dnn_recipe) % sizeof(int64_t) == 0, "a recipe is its own key");

/* ---- descriptors: the first error sticks to the plan ---- */

void dnn_destroy(cudnnBackendDescriptor_t d) {
    if (d != NULL)
        (void)cudnnBackendDestroyDescriptor(d);
}

static cudnnBackendDescriptor_t make(struct dnn_plan *p, cudnnBackendDescriptorType_t type) {
    cudnnBackendDescriptor_t d = NULL;
    assert(p->part_count < DNN_PARTS_MAX);
    if (p->code == CUDNN_STATUS_SUCCESS)
        p->code = cudnnBackendCreateDescriptor(type, &d);
    if (p->code != CUDNN_STATUS_SUCCESS)
        return NULL;
    p->parts[p->part_count++] = d;
    return d;
}

static void set(struct dnn_plan *p, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t count, const void *values) {
    if (p->code == CUDNN_STATUS_SUCCESS)
        p->code = cudnnBackendSetAttribute(d, name, type, count, values);
}

static void set_int(struct dnn_plan *p, cudnnBackendDescriptor_t d,
                    cudnnBackendAttributeName_t name, int64_t value) {
    set(p, d, name, CUDNN_TYPE_INT64, 1, &value);
}

static void set_part(struct dnn_plan *p, cudnnBackendDescriptor_t d,
                     cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t value) {
    set(p, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static void set_float(struct dnn_plan *p, cudnnBackendDescriptor_t d,
                      cudnnBackendAttributeName_t name, float value) {
    set(p, d, name, CUDNN_TYPE_FLOAT, 1, &value);
}

static void finalize(struct dnn_plan *p, cudnnBackendDescriptor_t d) {
    if (p->code == CUDNN_STATUS_SUCCESS)
        p->code = cudnnBackendFinalize(d);
}

/* ---- what is computed ---- */

static cudnnBackendDescriptor_t make_tensor(struct dnn_plan *p, const struct dnn_recipe *r, int i) {
    cudnnDataType_t type = (cudnnDataType_t)r->tensors[i].type;
    bool inside = r->tensors[i].inside;
    int64_t id = i + 1;
    cudnnBackendDescriptor_t d = make(p, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(p, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(p, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, r->tensors[i].dim);
    set(p, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, r->tensors[i].stride);
    set_int(p, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
    set_int(p, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, r->tensors[i].alignment);
    if (inside)
        set(p, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &inside);
    else
        p->ids[p->id_count++] = id;
    finalize(p, d);
    return d;
}

static cudnnBackendDescriptor_t make_window(struct dnn_plan *p, const int64_t stride[2],
                                            const int64_t padding[2]) {
    cudnnBackendDescriptor_t d = make(p, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t dilation[2] = {1, 1};
    set(p, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    set(p, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set_int(p, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2);
    set(p, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    set(p, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    set(p, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, padding);
    set(p, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, padding);
    finalize(p, d);
    return d;
}

/* The names of one direction's attributes. */
static const struct direction {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t window, x, w, y, alpha, beta;
} directions[] = {
    [DNN_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    [DNN_BACKWARD_WEIGHTS] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
    [DNN_BACKWARD_DATA] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
};

static cudnnBackendDescriptor_t make_convolution(struct dnn_plan *p, const struct dnn_recipe *r,
                                                 int i, const cudnnBackendDescriptor_t *tensors) {
    const struct direction *a = &directions[r->steps[i].mode];
    cudnnBackendDescriptor_t over = make_window(p, r->steps[i].stride, r->steps[i].padding);
    cudnnBackendDescriptor_t d = make(p, a->type);
    set_part(p, d, a->window, over);
    set_part(p, d, a->x, tensors[r->steps[i].x]);
    set_part(p, d, a->w, tensors[r->steps[i].w]);
    set_part(p, d, a->y, tensors[r->steps[i].y]);
    set_float(p, d, a->alpha, 1.0f);
    set_float(p, d, a->beta, 0.0f);
    finalize(p, d);
    return d;
}

static cudnnBackendDescriptor_t make_pointwise(struct dnn_plan *p, const struct dnn_recipe *r,
                                               int i, const cudnnBackendDescriptor_t *tensors) {
    cudnnBackendDescriptor_t rule = make(p, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    cudnnPointwiseMode_t mode = (cudnnPointwiseMode_t)r->steps[i].mode;
    set(p, rule, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(p, rule, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    finalize(p, rule);
    cudnnBackendDescriptor_t d = make(p, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_part(p, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, rule);
    set_part(p, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, tensors[r->steps[i].x]);
    if (r->steps[i].w >= 0)
        set_part(p, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, tensors[r->steps[i].w]);
    set_part(p, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, tensors[r->steps[i].y]);
    finalize(p, d);
    return d;
}

/* All operations as one; NULL where the library does not take them. */
static cudnnBackendDescriptor_t make_operations(struct dnn_plan *p, const struct dnn_recipe *r) {
    cudnnBackendDescriptor_t tensors[DNN_TENSORS_MAX], steps[DNN_STEPS_MAX];
    for (int i = 0; i < r->tensor_count; i++)
        tensors[i] = make_tensor(p, r, i);
    for (int i = 0; i < r->step_count; i++)
        steps[i] = (r->steps[i].pointwise ? make_pointwise : make_convolution)(p, r, i, tensors);
    cudnnBackendDescriptor_t d = make(p, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(p, d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &p->handle);
    set(p, d, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, r->step_count, steps);
    finalize(p, d);
    p->described = p->code == CUDNN_STATUS_SUCCESS;
    return p->described ? d : NULL;
}

/* ---- the engine ---- */

/* Reads one attribute that is a descriptor, into a new one. */
static cudnnBackendDescriptor_t read_part(cudnnBackendDescriptor_t from,
                                          cudnnBackendAttributeName_t name,
                                          cudnnBackendDescriptorType_t type) {
    cudnnBackendDescriptor_t part = NULL;
    int64_t count = 0;
    if (cudnnBackendCreateDescriptor(type, &part) != CUDNN_STATUS_SUCCESS)
        return NULL;
    if (cudnnBackendGetAttribute(from, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &part) !=
            CUDNN_STATUS_SUCCESS ||
        count != 1) {
        dnn_destroy(part);
        return NULL;
    }
    return part;
}

static bool suits(cudnnBackendNumericalNote_t note, enum precision precision) {
    if (note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE)
        return precision != PRECISION_FP32;
    return note == CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP;
}

/* Whether an engine is usable as it is. */
static bool ready_made(cudnnBackendDescriptor_t engine) {
    cudnnBackendBehaviorNote_t notes[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
    int64_t count = 0;
    bool ready = cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE,
                                          CUDNN_TYPE_BEHAVIOR_NOTE, CUDNN_BEHAVIOR_NOTE_TYPE_COUNT,
                                          &count, notes) == CUDNN_STATUS_SUCCESS &&
                 count <= CUDNN_BEHAVIOR_NOTE_TYPE_COUNT;
    for (int64_t i = 0; ready && i < count; i++)
        ready = notes[i] != CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    return ready;
}

/* Whether the engine of a configuration may serve; its number is noted. An engine whose notes
 * cannot be read may not. */
static bool engine_suits(struct dnn_plan *p, cudnnBackendDescriptor_t config,
                         enum precision precision) {
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t count = 0, one = 0;
    cudnnBackendDescriptor_t engine =
        read_part(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    bool good = engine &&
                cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64,
                                         1, &one, &p->engine) == CUDNN_STATUS_SUCCESS &&
                cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                         CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT,
                                         &count, notes) == CUDNN_STATUS_SUCCESS &&
                count <= CUDNN_NUMERICAL_NOTE_TYPE_COUNT && ready_made(engine);
    for (int64_t i = 0; good && i < count; i++)
        good = suits(notes[i], precision);
    dnn_destroy(engine);
    return good;
}

static bool starved(cudnnStatus_t code) {
    return code == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ||
           code == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
}

/* A choice must not depend on the memory that is left: an engine that found none has not answered. One
 * whose kernels could not be loaded may be, but is worth a second question. */
static void fail(struct dnn_plan *p, cudnnStatus_t code) {
    p->starved |= starved(code);
    p->doubtful |= starved(code) || CUDNN_STATUS_CATEGORY(code) == CUDNN_STATUS_EXECUTION_FAILED;
    p->code = code;
}

/* A plan of this configuration, where the device takes it and it is small enough. */
static bool try_config(struct dnn_plan *p, cudnnBackendDescriptor_t config) {
    cudnnBackendDescriptor_t plan = NULL;
    int64_t one = 0;
    cudnnStatus_t code =
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE,
                                        1, &p->handle);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                                        CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendFinalize(plan);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                        CUDNN_TYPE_INT64, 1, &one, &p->workspace);
    if (code == CUDNN_STATUS_SUCCESS &&
        (p->workspace < 0 || p->workspace > (int64_t)CUDA_DNN_WORKSPACE))
        code = CUDNN_STATUS_NOT_SUPPORTED;
    if (code != CUDNN_STATUS_SUCCESS) {
        dnn_destroy(plan);
        fail(p, code);
        return false;
    }
    p->plan = plan;
    return true;
}

/* The first of one heuristic's proposals that serves. */
static bool choose(struct dnn_plan *p, cudnnBackendDescriptor_t operations,
                   cudnnBackendHeurMode_t mode, enum precision precision) {
    cudnnBackendDescriptor_t configs[CONFIGS_MAX] = {0}, heuristic = NULL;
    int64_t count = 0;
    cudnnStatus_t code =
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristic);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendSetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH,
                                        CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &operations);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendSetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE,
                                        1, &mode);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendFinalize(heuristic);
    for (int i = 0; i < CONFIGS_MAX && code == CUDNN_STATUS_SUCCESS; i++)
        code = cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &configs[i]);
    if (code == CUDNN_STATUS_SUCCESS)
        code =
            cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                     CUDNN_TYPE_BACKEND_DESCRIPTOR, CONFIGS_MAX, &count, configs);
    if (code != CUDNN_STATUS_SUCCESS) {
        fail(p, code);
        count = 0;
    }
    for (int64_t i = 0; i < count && i < CONFIGS_MAX && !p->plan; i++)
        if (engine_suits(p, configs[i], precision) && try_config(p, configs[i])) {
            p->config = configs[i];
            configs[i] = NULL;
        }
    for (int i = 0; i < CONFIGS_MAX; i++)
        dnn_destroy(configs[i]);
    dnn_destroy(heuristic);
    return p->plan != NULL;
}

/* For the manifest: what stays unreadable is left out. */
static void read_knobs(struct dnn_plan *p) {
    cudnnBackendDescriptor_t choices[CUDNN_KNOB_TYPE_COUNTS] = {0};
    int64_t count = 0, one = 0;
    cudnnStatus_t code = CUDNN_STATUS_SUCCESS;
    for (int i = 0; i < CUDNN_KNOB_TYPE_COUNTS && code == CUDNN_STATUS_SUCCESS; i++)
        code = cudnnBackendCreateDescriptor(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, &choices[i]);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendGetAttribute(p->config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                                        CUDNN_TYPE_BACKEND_DESCRIPTOR, CUDNN_KNOB_TYPE_COUNTS,
                                        &count, choices);
    for (int64_t i = 0; code == CUDNN_STATUS_SUCCESS && i < count && i < CUDNN_KNOB_TYPE_COUNTS;
         i++) {
        cudnnBackendKnobType_t type;
        struct dnn_knob *knob = &p->knobs[p->knob_count];
        if (cudnnBackendGetAttribute(choices[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE,
                                     CUDNN_TYPE_KNOB_TYPE, 1, &one,
                                     &type) != CUDNN_STATUS_SUCCESS ||
            cudnnBackendGetAttribute(choices[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE,
                                     CUDNN_TYPE_INT64, 1, &one,
                                     &knob->value) != CUDNN_STATUS_SUCCESS)
            continue;
        knob->type = (int)type;
        p->knob_count++;
    }
    for (int i = 0; i < CUDNN_KNOB_TYPE_COUNTS; i++)
        dnn_destroy(choices[i]);
}

/* ---- plans ---- */

static void compile(struct dnn_plan *p, const struct dnn_recipe *r) {
    enum precision precision = (enum precision)r->precision;
    cudnnBackendDescriptor_t operations = make_operations(p, r);
    if (operations == NULL) {
        fail(p, p->code);
        return;
    }
    p->code = CUDNN_STATUS_NOT_SUPPORTED;
    if (choose(p, operations, CUDNN_HEUR_MODE_A, precision) ||
        choose(p, operations, CUDNN_HEUR_MODE_FALLBACK, precision))
        read_knobs(p);
}

static void clear(struct dnn_plan *p) {
    dnn_destroy(p->plan);
    dnn_destroy(p->config);
    p->plan = p->config = NULL;
    while (p->part_count > 0)
        dnn_destroy(p->parts[--p->part_count]);
}

static void release(void *value) {
    clear(value);
    free(value);
}

/* Where an answer may come from want of memory, it is asked for again with all that lies idle given
 * back: blocks of earlier engines must not show in a choice. */
static void compile_twice(struct dnn_plan *p, struct cuda_device *c, const struct dnn_recipe *r) {
    p->handle = c->dnn;
    compile(p, r);
    if (p->doubtful && c->pool.idle > 0) {
        clear(p);
        cuda_pool_trim(&c->pool);
        *p = (struct dnn_plan){.handle = c->dnn};
        compile(p, r);
    }
    if (p->plan == NULL)
        clear(p);
}

enum status dnn_plan_take(struct device *d, const struct dnn_recipe *recipe, struct dnn_plan **out,
                          struct err *err) {
    struct cuda_cache *cache = &cuda_of(d)->cache;
    const int64_t *key = (const int64_t *)recipe;
    size_t count = sizeof *recipe / sizeof *key;
    *out = cuda_cache_take(cache, key, count);
    if (*out != NULL)
        return STATUS_OK;
    struct dnn_plan *p = calloc(1, sizeof *p);
    if (p == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for the plan of a convolution");
    compile_twice(p, cuda_of(d), recipe);
    enum status st = p->starved
                         ? err_set(err, STATUS_NOMEM, "no memory for cuDNN to make a plan in")
                         : cuda_cache_put(cache, key, count, p, release, err);
    if (st == STATUS_OK)
        *out = p;
    else
        release(p);
    return st;
}
