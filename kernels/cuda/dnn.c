#include "kernels/cuda/dnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTS_MAX   32 /* descriptors of a graph */
#define TENSORS_MAX 8
#define STEPS_MAX   4  /* operations */
#define CONFIGS_MAX 64 /* proposals of one heuristic that are looked at */
#define PACKS       64 /* sets of pointers that are kept */

/* One set of pointers, as the library wants to see it. */
struct pack {
    cudnnBackendDescriptor_t descriptor; /* NULL: free */
    const void *pointers[TENSORS_MAX];
    void *workspace;
};

struct knob {
    int type;
    int64_t value;
};

struct dnn_graph {
    struct device *device;
    char what[160];
    cudnnStatus_t code; /* the first error while it was put together */
    cudnnBackendDescriptor_t parts[PARTS_MAX];
    int part_count;
    cudnnBackendDescriptor_t tensors[TENSORS_MAX], steps[STEPS_MAX];
    int tensor_count, step_count;
    int64_t ids[TENSORS_MAX]; /* of the tensors in memory */
    int id_count;
    cudnnBackendDescriptor_t config, plan;
    int64_t engine, workspace;
    struct knob knobs[CUDNN_KNOB_TYPE_COUNTS];
    int knob_count;
    struct pack packs[PACKS];
    int next; /* pack to give up */
};

/* ---- descriptors ---- */

static cudnnBackendDescriptor_t make(struct dnn_graph *g, cudnnBackendDescriptorType_t type) {
    cudnnBackendDescriptor_t d = NULL;
    if (g->code == CUDNN_STATUS_SUCCESS && g->part_count == PARTS_MAX)
        g->code = CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND;
    if (g->code == CUDNN_STATUS_SUCCESS)
        g->code = cudnnBackendCreateDescriptor(type, &d);
    if (g->code != CUDNN_STATUS_SUCCESS)
        return NULL;
    g->parts[g->part_count++] = d;
    return d;
}

static void set(struct dnn_graph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t count, const void *values) {
    if (g->code == CUDNN_STATUS_SUCCESS)
        g->code = cudnnBackendSetAttribute(d, name, type, count, values);
}

static void set_int(struct dnn_graph *g, cudnnBackendDescriptor_t d,
                    cudnnBackendAttributeName_t name, int64_t value) {
    set(g, d, name, CUDNN_TYPE_INT64, 1, &value);
}

static void set_part(struct dnn_graph *g, cudnnBackendDescriptor_t d,
                     cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t value) {
    set(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static void set_float(struct dnn_graph *g, cudnnBackendDescriptor_t d,
                      cudnnBackendAttributeName_t name, float value) {
    set(g, d, name, CUDNN_TYPE_FLOAT, 1, &value);
}

static void finalize(struct dnn_graph *g, cudnnBackendDescriptor_t d) {
    if (g->code == CUDNN_STATUS_SUCCESS)
        g->code = cudnnBackendFinalize(d);
}

enum status dnn_graph_new(struct device *d, const char *what, struct dnn_graph **out,
                          struct err *err) {
    struct dnn_graph *g = calloc(1, sizeof *g);
    if (!g)
        return err_set(err, STATUS_NOMEM, "no memory for the plan of %s", what);
    g->device = d;
    snprintf(g->what, sizeof g->what, "%s", what);
    *out = g;
    return STATUS_OK;
}

static void destroy(cudnnBackendDescriptor_t d) {
    if (d)
        (void)cudnnBackendDestroyDescriptor(d);
}

void dnn_graph_release(struct dnn_graph *g) {
    if (!g)
        return;
    for (int i = 0; i < PACKS; i++)
        destroy(g->packs[i].descriptor);
    destroy(g->plan);
    destroy(g->config);
    while (g->part_count > 0)
        destroy(g->parts[--g->part_count]);
    free(g);
}

/* ---- what is computed ---- */

int dnn_tensor(struct dnn_graph *g, const struct dnn_tensor *t) {
    if (g->code == CUDNN_STATUS_SUCCESS && g->tensor_count == TENSORS_MAX)
        g->code = CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND;
    if (g->code != CUDNN_STATUS_SUCCESS)
        return 0;
    int index = g->tensor_count++;
    cudnnBackendDescriptor_t d = make(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &t->type);
    set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, t->dim);
    set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, t->stride);
    set_int(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, index + 1);
    set_int(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, t->alignment);
    if (t->inside)
        set(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &t->inside);
    else
        g->ids[g->id_count++] = index + 1;
    finalize(g, d);
    g->tensors[index] = d;
    return index;
}

static void add_step(struct dnn_graph *g, cudnnBackendDescriptor_t d) {
    finalize(g, d);
    if (g->code == CUDNN_STATUS_SUCCESS && g->step_count == STEPS_MAX)
        g->code = CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND;
    if (g->code == CUDNN_STATUS_SUCCESS)
        g->steps[g->step_count++] = d;
}

static cudnnBackendDescriptor_t make_window(struct dnn_graph *g, const struct dnn_window *w) {
    cudnnBackendDescriptor_t d = make(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t dilation[2] = {1, 1};
    set(g, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    set(g, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set_int(g, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2);
    set(g, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    set(g, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, w->stride);
    set(g, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, w->padding);
    set(g, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, w->padding);
    finalize(g, d);
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

void dnn_convolve(struct dnn_graph *g, enum dnn_direction direction,
                  const struct dnn_window *window, int x, int w, int y) {
    const struct direction *a = &directions[direction];
    cudnnBackendDescriptor_t over = make_window(g, window), d = make(g, a->type);
    set_part(g, d, a->window, over);
    set_part(g, d, a->x, g->tensors[x]);
    set_part(g, d, a->w, g->tensors[w]);
    set_part(g, d, a->y, g->tensors[y]);
    set_float(g, d, a->alpha, 1.0f);
    set_float(g, d, a->beta, 0.0f);
    add_step(g, d);
}

void dnn_pointwise(struct dnn_graph *g, cudnnPointwiseMode_t mode, int x, int b, int y) {
    cudnnBackendDescriptor_t rule = make(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    set(g, rule, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(g, rule, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    finalize(g, rule);
    cudnnBackendDescriptor_t d = make(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_part(g, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, rule);
    set_part(g, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, g->tensors[x]);
    if (b >= 0)
        set_part(g, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, g->tensors[b]);
    set_part(g, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, g->tensors[y]);
    add_step(g, d);
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
        destroy(part);
        return NULL;
    }
    return part;
}

static bool suits(cudnnBackendNumericalNote_t note, enum precision precision) {
    if (note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE)
        return precision != PRECISION_FP32;
    return note == CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP;
}

/* Whether an engine is there as it stands. */
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
static bool engine_suits(struct dnn_graph *g, cudnnBackendDescriptor_t config,
                         enum precision precision) {
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t count = 0, one = 0;
    cudnnBackendDescriptor_t engine =
        read_part(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    bool good = engine &&
                cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64,
                                         1, &one, &g->engine) == CUDNN_STATUS_SUCCESS &&
                cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                         CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT,
                                         &count, notes) == CUDNN_STATUS_SUCCESS &&
                count <= CUDNN_NUMERICAL_NOTE_TYPE_COUNT && ready_made(engine);
    for (int64_t i = 0; good && i < count; i++)
        good = suits(notes[i], precision);
    destroy(engine);
    return good;
}

/* A plan of this configuration, where the device takes it and it is small enough. */
static bool try_config(struct dnn_graph *g, cudnnBackendDescriptor_t config,
                       cudnnStatus_t *last_word) {
    cudnnHandle_t handle = cuda_of(g->device)->dnn;
    cudnnBackendDescriptor_t plan = NULL;
    int64_t one = 0;
    cudnnStatus_t code =
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE,
                                        1, &handle);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                                        CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendFinalize(plan);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                        CUDNN_TYPE_INT64, 1, &one, &g->workspace);
    if (code == CUDNN_STATUS_SUCCESS &&
        (g->workspace < 0 || g->workspace > (int64_t)CUDA_DNN_WORKSPACE))
        code = CUDNN_STATUS_NOT_SUPPORTED;
    if (code != CUDNN_STATUS_SUCCESS) {
        destroy(plan);
        *last_word = code;
        return false;
    }
    g->plan = plan;
    return true;
}

/* The first of one heuristic's proposals that serves. */
static bool choose(struct dnn_graph *g, cudnnBackendDescriptor_t operations,
                   cudnnBackendHeurMode_t mode, enum precision precision,
                   cudnnStatus_t *last_word) {
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
        *last_word = code;
        count = 0;
    }
    for (int64_t i = 0; i < count && i < CONFIGS_MAX && !g->plan; i++)
        if (engine_suits(g, configs[i], precision) && try_config(g, configs[i], last_word)) {
            g->config = configs[i];
            configs[i] = NULL;
        }
    for (int i = 0; i < CONFIGS_MAX; i++)
        destroy(configs[i]);
    destroy(heuristic);
    return g->plan != NULL;
}

/* For the manifest: what stays unreadable is left out. */
static void read_knobs(struct dnn_graph *g) {
    cudnnBackendDescriptor_t choices[CUDNN_KNOB_TYPE_COUNTS] = {0};
    int64_t count = 0, one = 0;
    cudnnStatus_t code = CUDNN_STATUS_SUCCESS;
    for (int i = 0; i < CUDNN_KNOB_TYPE_COUNTS && code == CUDNN_STATUS_SUCCESS; i++)
        code = cudnnBackendCreateDescriptor(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, &choices[i]);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendGetAttribute(g->config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                                        CUDNN_TYPE_BACKEND_DESCRIPTOR, CUDNN_KNOB_TYPE_COUNTS,
                                        &count, choices);
    for (int64_t i = 0; code == CUDNN_STATUS_SUCCESS && i < count && i < CUDNN_KNOB_TYPE_COUNTS;
         i++) {
        cudnnBackendKnobType_t type;
        struct knob *knob = &g->knobs[g->knob_count];
        if (cudnnBackendGetAttribute(choices[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE,
                                     CUDNN_TYPE_KNOB_TYPE, 1, &one,
                                     &type) != CUDNN_STATUS_SUCCESS ||
            cudnnBackendGetAttribute(choices[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE,
                                     CUDNN_TYPE_INT64, 1, &one,
                                     &knob->value) != CUDNN_STATUS_SUCCESS)
            continue;
        knob->type = (int)type;
        g->knob_count++;
    }
    for (int i = 0; i < CUDNN_KNOB_TYPE_COUNTS; i++)
        destroy(choices[i]);
}

enum status dnn_compile(struct dnn_graph *g, enum precision precision, struct err *err) {
    cudnnHandle_t handle = cuda_of(g->device)->dnn;
    cudnnStatus_t last_word = CUDNN_STATUS_NOT_SUPPORTED;
    cudnnBackendDescriptor_t operations = make(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(g, operations, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    set(g, operations, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->step_count,
        g->steps);
    finalize(g, operations);
    if (g->code != CUDNN_STATUS_SUCCESS)
        return err_set(err, STATUS_UNAVAILABLE, "cuDNN refuses %s: %s", g->what,
                       cudnnGetErrorString(g->code));
    if (!choose(g, operations, CUDNN_HEUR_MODE_A, precision, &last_word) &&
        !choose(g, operations, CUDNN_HEUR_MODE_FALLBACK, precision, &last_word))
        return err_set(err, STATUS_UNAVAILABLE,
                       "cuDNN %zu has no deterministic engine for %s within %zu MiB of workspace "
                       "(%s): change the layer, or train with device: cpu",
                       cudnnGetVersion(), g->what, CUDA_DNN_WORKSPACE >> 20,
                       cudnnGetErrorString(last_word));
    read_knobs(g);
    return cuda_dnn_reserve(g->device, (size_t)g->workspace, err);
}

struct value *dnn_describe(struct arena *a, const struct dnn_graph *g) {
    struct value *out = value_map(a), *knobs = value_map(a);
    value_set_int(a, out, "engine", g->engine);
    for (int i = 0; i < g->knob_count; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", g->knobs[i].type);
        value_set_int(a, knobs, arena_strdup(a, name), g->knobs[i].value);
    }
    value_set(a, out, "knobs", knobs);
    value_set_int(a, out, "workspace", g->workspace);
    return out;
}

/* ---- runs ---- */

static cudnnStatus_t fill_pack(const struct dnn_graph *g, struct pack *pack) {
    cudnnStatus_t code =
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack->descriptor);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendSetAttribute(pack->descriptor, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS,
                                        CUDNN_TYPE_INT64, g->id_count, g->ids);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendSetAttribute(pack->descriptor, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
                                        CUDNN_TYPE_VOID_PTR, g->id_count, pack->pointers);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendSetAttribute(pack->descriptor, CUDNN_ATTR_VARIANT_PACK_WORKSPACE,
                                        CUDNN_TYPE_VOID_PTR, 1, &pack->workspace);
    return code == CUDNN_STATUS_SUCCESS ? cudnnBackendFinalize(pack->descriptor) : code;
}

/* The pack of these pointers: a kept one, or a new one in the place of the oldest. */
static struct pack *find_pack(struct dnn_graph *g, const void *const *pointers) {
    size_t bytes = (size_t)g->id_count * sizeof *pointers;
    void *workspace = cuda_of(g->device)->dnn_workspace;
    for (int i = 0; i < PACKS; i++) {
        struct pack *pack = &g->packs[i];
        if (pack->descriptor && pack->workspace == workspace &&
            memcmp(pack->pointers, pointers, bytes) == 0)
            return pack;
    }
    struct pack *pack = &g->packs[g->next];
    g->next = (g->next + 1) % PACKS;
    destroy(pack->descriptor);
    *pack = (struct pack){.workspace = workspace};
    memcpy(pack->pointers, pointers, bytes);
    if (!cuda_dnn_ok(g->device, fill_pack(g, pack), g->what)) {
        destroy(pack->descriptor);
        pack->descriptor = NULL;
        return NULL;
    }
    return pack;
}

void dnn_run(struct dnn_graph *g, const void *const *pointers) {
    if (cuda_failed(g->device))
        return;
    struct pack *pack = find_pack(g, pointers);
    if (pack)
        (void)cuda_dnn_ok(g->device,
                          cudnnBackendExecute(cuda_of(g->device)->dnn, g->plan, pack->descriptor),
                          g->what);
}
