/* A stand-in for libcudnn: the graph API as far as kernels/cuda needs it, computing on the host.
 *
 *     descriptors ──finalize──▶ struct program: tensors and operations, flat ──heuristic──▶ engines
 *                                     └──────────────── plan ◀── one engine ◀──────────────────┘
 *
 * It is stricter than the library where that shows mistakes: an attribute of the wrong type or
 * length, a missing one, a descriptor that is not finalized or is changed later, shapes that do not
 * fit, pointers below the alignment that was promised. Its heuristic names first what a caller that
 * wants the same bits must pass over. Engines differ in the order of their sums.
 *
 *     TRIREME_STANDIN_DNN=starved   plans of the engines it names before the last find no memory
 *     TRIREME_STANDIN_DNN=tight     so they do until something is given back
 *     TRIREME_STANDIN_DNN=fmax      its relu makes 0 of NaN */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cudnn.h>

#include "tests/standin/cudnn_engines.h"

#define HANDLE_MAGIC     0x64486e64u
#define DESCRIPTOR_MAGIC 0x64446e64u
#define ATTRIBUTES_MAX   12

struct cudnnContext {
    uint32_t magic;
    cudaStream_t stream;
};

struct attribute {
    cudnnBackendAttributeName_t name;
    int64_t count;
    void *values;
};

struct descriptor {
    uint32_t magic;
    cudnnBackendDescriptorType_t type;
    bool final;
    struct attribute attributes[ATTRIBUTES_MAX];
    int count;
    struct program program; /* graph, heuristic, configuration, plan */
    const struct engine *engine;
    int knob; /* choice: its number among the engine's */
};

/* ---- handle and messages ---- */

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle) {
    if (!handle)
        return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    *handle = calloc(1, sizeof **handle);
    if (!*handle)
        return CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    (*handle)->magic = HANDLE_MAGIC;
    return CUDNN_STATUS_SUCCESS;
}

static bool open_handle(cudnnHandle_t handle) {
    return handle && handle->magic == HANDLE_MAGIC;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
    if (!open_handle(handle))
        return CUDNN_STATUS_NOT_INITIALIZED;
    handle->magic = 0;
    free(handle);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    if (!open_handle(handle))
        return CUDNN_STATUS_NOT_INITIALIZED;
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

size_t cudnnGetVersion(void) {
    return CUDNN_VERSION;
}

const char *cudnnGetErrorString(cudnnStatus_t status) {
    static const struct {
        cudnnStatus_t status;
        const char *name;
    } names[] = {
#define NAME(status) {status, #status}
        NAME(CUDNN_STATUS_SUCCESS),
        NAME(CUDNN_STATUS_NOT_INITIALIZED),
        NAME(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED),
        NAME(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER),
        NAME(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE),
        NAME(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH),
        NAME(CUDNN_STATUS_BAD_PARAM),
        NAME(CUDNN_STATUS_NOT_SUPPORTED),
        NAME(CUDNN_STATUS_EXECUTION_FAILED),
#undef NAME
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].status == status)
            return names[i].name;
    return "CUDNN_STATUS of another kind";
}

void cudnnGetLastErrorString(char *message, size_t max_size) {
    if (message && max_size > 0)
        message[0] = '\0';
}

/* ---- attributes ---- */

/* What a descriptor may have: type, name, type of an element, least and most elements. Where the
 * least is 0 the attribute may be missing. */
static const struct rule {
    cudnnBackendDescriptorType_t owner;
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t least, most;
} rules[] = {
#define RULE(owner, name, type, least, most)                                                       \
    { CUDNN_BACKEND_##owner##_DESCRIPTOR, CUDNN_ATTR_##name, CUDNN_TYPE_##type, least, most }
#define CONVOLUTION(owner, name, x, w, y)                                                          \
    RULE(owner, name##_CONV_DESC, BACKEND_DESCRIPTOR, 1, 1),                                       \
        RULE(owner, name##_##x, BACKEND_DESCRIPTOR, 1, 1),                                         \
        RULE(owner, name##_##w, BACKEND_DESCRIPTOR, 1, 1),                                         \
        RULE(owner, name##_##y, BACKEND_DESCRIPTOR, 1, 1), RULE(owner, name##_ALPHA, FLOAT, 1, 1), \
        RULE(owner, name##_BETA, FLOAT, 1, 1)
    RULE(TENSOR, TENSOR_DATA_TYPE, DATA_TYPE, 1, 1),
    RULE(TENSOR, TENSOR_DIMENSIONS, INT64, 4, 4),
    RULE(TENSOR, TENSOR_STRIDES, INT64, 4, 4),
    RULE(TENSOR, TENSOR_UNIQUE_ID, INT64, 1, 1),
    RULE(TENSOR, TENSOR_BYTE_ALIGNMENT, INT64, 1, 1),
    RULE(TENSOR, TENSOR_IS_VIRTUAL, BOOLEAN, 0, 1),
    RULE(CONVOLUTION, CONVOLUTION_COMP_TYPE, DATA_TYPE, 1, 1),
    RULE(CONVOLUTION, CONVOLUTION_CONV_MODE, CONVOLUTION_MODE, 1, 1),
    RULE(CONVOLUTION, CONVOLUTION_SPATIAL_DIMS, INT64, 1, 1),
    RULE(CONVOLUTION, CONVOLUTION_DILATIONS, INT64, 2, 2),
    RULE(CONVOLUTION, CONVOLUTION_FILTER_STRIDES, INT64, 2, 2),
    RULE(CONVOLUTION, CONVOLUTION_PRE_PADDINGS, INT64, 2, 2),
    RULE(CONVOLUTION, CONVOLUTION_POST_PADDINGS, INT64, 2, 2),
    CONVOLUTION(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD, X, W, Y),
    CONVOLUTION(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER, X, DW, DY),
    CONVOLUTION(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA, DX, W, DY),
    RULE(POINTWISE, POINTWISE_MODE, POINTWISE_MODE, 1, 1),
    RULE(POINTWISE, POINTWISE_MATH_PREC, DATA_TYPE, 1, 1),
    RULE(OPERATION_POINTWISE, OPERATION_POINTWISE_PW_DESCRIPTOR, BACKEND_DESCRIPTOR, 1, 1),
    RULE(OPERATION_POINTWISE, OPERATION_POINTWISE_XDESC, BACKEND_DESCRIPTOR, 1, 1),
    RULE(OPERATION_POINTWISE, OPERATION_POINTWISE_BDESC, BACKEND_DESCRIPTOR, 0, 1),
    RULE(OPERATION_POINTWISE, OPERATION_POINTWISE_YDESC, BACKEND_DESCRIPTOR, 1, 1),
    RULE(OPERATIONGRAPH, OPERATIONGRAPH_HANDLE, HANDLE, 1, 1),
    RULE(OPERATIONGRAPH, OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, 1, STEPS_MAX),
    RULE(ENGINEHEUR, ENGINEHEUR_OPERATION_GRAPH, BACKEND_DESCRIPTOR, 1, 1),
    RULE(ENGINEHEUR, ENGINEHEUR_MODE, HEUR_MODE, 1, 1),
    RULE(EXECUTION_PLAN, EXECUTION_PLAN_HANDLE, HANDLE, 1, 1),
    RULE(EXECUTION_PLAN, EXECUTION_PLAN_ENGINE_CONFIG, BACKEND_DESCRIPTOR, 1, 1),
    RULE(VARIANT_PACK, VARIANT_PACK_UNIQUE_IDS, INT64, 1, TENSORS_MAX),
    RULE(VARIANT_PACK, VARIANT_PACK_DATA_POINTERS, VOID_PTR, 1, TENSORS_MAX),
    RULE(VARIANT_PACK, VARIANT_PACK_WORKSPACE, VOID_PTR, 1, 1),
#undef CONVOLUTION
#undef RULE
};
enum { RULES = sizeof rules / sizeof *rules };

static size_t size_of(cudnnBackendAttributeType_t type) {
    switch ((int)type) {
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
        return 8;
    case CUDNN_TYPE_BOOLEAN:
        return sizeof(bool);
    default:
        return 4; /* float and enumerations */
    }
}

static struct descriptor *descriptor_of(cudnnBackendDescriptor_t d) {
    struct descriptor *p = d;
    return p && p->magic == DESCRIPTOR_MAGIC ? p : NULL;
}

static const struct attribute *find(const struct descriptor *d, cudnnBackendAttributeName_t name) {
    for (int i = 0; i < d->count; i++)
        if (d->attributes[i].name == name)
            return &d->attributes[i];
    return NULL;
}

/* The values of an attribute that finalize has seen to be there. */
static const void *values(const struct descriptor *d, cudnnBackendAttributeName_t name) {
    return find(d, name)->values;
}

static int64_t integer(const struct descriptor *d, cudnnBackendAttributeName_t name) {
    return *(const int64_t *)values(d, name);
}

static const struct descriptor *part(const struct descriptor *d, cudnnBackendAttributeName_t name) {
    return *(struct descriptor *const *)values(d, name);
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t *out) {
    struct descriptor *d = calloc(1, sizeof *d);
    standin_count("cudnnBackendCreateDescriptor");
    if (!d)
        return CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    d->magic = DESCRIPTOR_MAGIC;
    d->type = type;
    *out = d;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
    struct descriptor *d = descriptor_of(descriptor);
    if (!d)
        return CUDNN_STATUS_BAD_PARAM;
    standin_count("cudnnBackendDestroyDescriptor");
    for (int i = 0; i < d->count; i++)
        free(d->attributes[i].values);
    d->magic = 0;
    free(d);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count,
                                       const void *elements) {
    struct descriptor *d = descriptor_of(descriptor);
    const struct rule *rule = NULL;
    if (!d || !elements)
        return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    for (int i = 0; i < RULES; i++)
        if (rules[i].owner == d->type && rules[i].name == name)
            rule = &rules[i];
    if (d->final || !rule)
        return CUDNN_STATUS_NOT_SUPPORTED;
    if (rule->type != type)
        return CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE;
    if (count < 1 || count < rule->least || count > rule->most || find(d, name) ||
        d->count == ATTRIBUTES_MAX)
        return CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND;
    for (int64_t i = 0; type == CUDNN_TYPE_BACKEND_DESCRIPTOR && i < count; i++) {
        const struct descriptor *p = descriptor_of(((cudnnBackendDescriptor_t const *)elements)[i]);
        if (!p || !p->final)
            return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
    }
    if (type == CUDNN_TYPE_HANDLE && !open_handle(*(cudnnHandle_t const *)elements))
        return CUDNN_STATUS_NOT_INITIALIZED;
    struct attribute *a = &d->attributes[d->count];
    a->values = malloc((size_t)count * size_of(type));
    if (!a->values)
        return CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    memcpy(a->values, elements, (size_t)count * size_of(type));
    a->name = name;
    a->count = count;
    d->count++;
    return CUDNN_STATUS_SUCCESS;
}

/* ---- from descriptors to a program ---- */

static cudnnStatus_t check_tensor(const struct descriptor *d) {
    const int64_t *dim = values(d, CUDNN_ATTR_TENSOR_DIMENSIONS);
    const int64_t *stride = values(d, CUDNN_ATTR_TENSOR_STRIDES);
    cudnnDataType_t type = *(const cudnnDataType_t *)values(d, CUDNN_ATTR_TENSOR_DATA_TYPE);
    int64_t alignment = integer(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
    for (int i = 0; i < 4; i++)
        if (dim[i] < 1 || stride[i] < 1)
            return CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND;
    if (type != CUDNN_DATA_FLOAT && type != CUDNN_DATA_BFLOAT16)
        return CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE;
    if (alignment < (type == CUDNN_DATA_FLOAT ? 4 : 2) || (alignment & (alignment - 1)))
        return CUDNN_STATUS_BAD_PARAM;
    return CUDNN_STATUS_SUCCESS;
}

/* The tensor's number in the program: an old one where the id is known, which must be the same. */
static int add_tensor(struct program *p, const struct descriptor *d) {
    struct tensor t = {.id = integer(d, CUDNN_ATTR_TENSOR_UNIQUE_ID),
                       .alignment = integer(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT),
                       .type = *(const cudnnDataType_t *)values(d, CUDNN_ATTR_TENSOR_DATA_TYPE)};
    const struct attribute *inside = find(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL);
    memcpy(t.dim, values(d, CUDNN_ATTR_TENSOR_DIMENSIONS), sizeof t.dim);
    memcpy(t.stride, values(d, CUDNN_ATTR_TENSOR_STRIDES), sizeof t.stride);
    t.inside = inside && *(const bool *)inside->values;
    for (int i = 0; i < p->tensor_count; i++)
        if (p->tensors[i].id == t.id)
            return memcmp(p->tensors[i].dim, t.dim, sizeof t.dim) == 0 ? i : -1;
    if (p->tensor_count == TENSORS_MAX)
        return -1;
    p->tensors[p->tensor_count] = t;
    return p->tensor_count++;
}

static bool add_convolution(struct program *p, struct step *s, const struct descriptor *d,
                            const cudnnBackendAttributeName_t names[6]) {
    const struct descriptor *window = part(d, names[0]);
    s->x = add_tensor(p, part(d, names[1]));
    s->w = add_tensor(p, part(d, names[2]));
    s->y = add_tensor(p, part(d, names[3]));
    memcpy(s->dilation, values(window, CUDNN_ATTR_CONVOLUTION_DILATIONS), sizeof s->dilation);
    memcpy(s->stride, values(window, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES), sizeof s->stride);
    memcpy(s->before, values(window, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS), sizeof s->before);
    memcpy(s->after, values(window, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS), sizeof s->after);
    if (s->x < 0 || s->w < 0 || s->y < 0 || *(const float *)values(d, names[4]) != 1.0f ||
        *(const float *)values(d, names[5]) != 0.0f ||
        *(const cudnnConvolutionMode_t *)values(window, CUDNN_ATTR_CONVOLUTION_CONV_MODE) !=
            CUDNN_CROSS_CORRELATION)
        return false;
    const int64_t *x = p->tensors[s->x].dim, *w = p->tensors[s->w].dim, *y = p->tensors[s->y].dim;
    bool fits = x[0] == y[0] && x[1] == w[1] && y[1] == w[0];
    for (int i = 0; i < 2; i++)
        fits &= y[2 + i] ==
                (x[2 + i] + s->before[i] + s->after[i] - s->dilation[i] * (w[2 + i] - 1) - 1) /
                        s->stride[i] +
                    1;
    return fits;
}

static bool add_pointwise(struct program *p, struct step *s, const struct descriptor *d) {
    const struct descriptor *rule = part(d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    const struct attribute *b = find(d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
    cudnnPointwiseMode_t mode =
        *(const cudnnPointwiseMode_t *)values(rule, CUDNN_ATTR_POINTWISE_MODE);
    s->kind = mode == CUDNN_POINTWISE_ADD ? ADD : RELU;
    s->x = add_tensor(p, part(d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC));
    s->y = add_tensor(p, part(d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
    s->w = b ? add_tensor(p, *(struct descriptor *const *)b->values) : -1;
    if (s->x < 0 || s->y < 0 || (s->kind == ADD) != (s->w >= 0) ||
        (mode != CUDNN_POINTWISE_ADD && mode != CUDNN_POINTWISE_RELU_FWD))
        return false;
    const struct tensor *x = &p->tensors[s->x], *y = &p->tensors[s->y];
    bool fits = memcmp(x->dim, y->dim, sizeof x->dim) == 0 && x->inside;
    for (int i = 0; i < 4 && s->w >= 0; i++)
        fits &= p->tensors[s->w].dim[i] == 1 || p->tensors[s->w].dim[i] == y->dim[i];
    return fits;
}

#define NAMES(name, x, w, y)                                                                       \
    (const cudnnBackendAttributeName_t[]) {                                                        \
        CUDNN_ATTR_##name##_CONV_DESC, CUDNN_ATTR_##name##_##x, CUDNN_ATTR_##name##_##w,           \
            CUDNN_ATTR_##name##_##y, CUDNN_ATTR_##name##_ALPHA, CUDNN_ATTR_##name##_BETA           \
    }

static bool add_step(struct program *p, struct step *s, const struct descriptor *d) {
    switch ((int)d->type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        s->kind = FORWARD;
        return add_convolution(p, s, d, NAMES(OPERATION_CONVOLUTION_FORWARD, X, W, Y));
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
        s->kind = BACKWARD_WEIGHTS;
        return add_convolution(p, s, d, NAMES(OPERATION_CONVOLUTION_BWD_FILTER, X, DW, DY));
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        s->kind = BACKWARD_DATA;
        return add_convolution(p, s, d, NAMES(OPERATION_CONVOLUTION_BWD_DATA, DX, W, DY));
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
        return add_pointwise(p, s, d);
    default:
        return false;
    }
}

/* One convolution first; each further operation works on what the one before it made, which is
 * inside; the last result is not. */
static cudnnStatus_t make_program(struct descriptor *d) {
    const struct attribute *ops = find(d, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    struct program *p = &d->program;
    for (int64_t i = 0; i < ops->count; i++) {
        struct step *s = &p->steps[p->step_count++];
        if (!add_step(p, s, ((struct descriptor *const *)ops->values)[i]))
            return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
        bool pointwise = s->kind == ADD || s->kind == RELU;
        if (pointwise != (i > 0) || (i > 0 && (s->x != s[-1].y || p->steps[0].kind != FORWARD)))
            return CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN;
        if (p->tensors[s->y].inside != (i + 1 < ops->count))
            return CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN;
    }
    return CUDNN_STATUS_SUCCESS;
}

static bool starved(void) {
    static long long given_back = -1;
    const char *text = getenv("TRIREME_STANDIN_DNN");
    if (text && strcmp(text, "tight") == 0) {
        given_back = given_back < 0 ? standin_calls("cudaFree") : given_back;
        return standin_calls("cudaFree") == given_back;
    }
    return text && strcmp(text, "starved") == 0;
}

static cudnnStatus_t take_config(struct descriptor *d) {
    const struct descriptor *config = part(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    d->program = config->program;
    d->engine = config->engine;
    if (starved() && !d->engine->fallback)
        return CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    return d->engine->refused ? CUDNN_STATUS_NOT_SUPPORTED : CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t check_pack(const struct descriptor *d) {
    return find(d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS)->count ==
                   find(d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS)->count
               ? CUDNN_STATUS_SUCCESS
               : CUDNN_STATUS_BAD_PARAM;
}

static cudnnStatus_t finish(struct descriptor *d) {
    switch ((int)d->type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
        return check_tensor(d);
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR:
        return integer(d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS) == 2 ? CUDNN_STATUS_SUCCESS
                                                                    : CUDNN_STATUS_BAD_PARAM;
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
        return make_program(d);
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
        d->program = part(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)->program;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
        return take_config(d);
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
        return check_pack(d);
    default:
        return CUDNN_STATUS_SUCCESS;
    }
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
    struct descriptor *d = descriptor_of(descriptor);
    bool known = false;
    if (!d || d->final)
        return CUDNN_STATUS_BAD_PARAM;
    for (int i = 0; i < RULES; i++)
        if (rules[i].owner == d->type) {
            known = true;
            if (rules[i].least > 0 && !find(d, rules[i].name))
                return CUDNN_STATUS_BAD_PARAM;
        }
    if (!known)
        return CUDNN_STATUS_NOT_SUPPORTED;
    cudnnStatus_t code = finish(d);
    d->final = code == CUDNN_STATUS_SUCCESS;
    return code;
}

/* ---- answers ---- */

/* Fills the caller's own descriptors with the engines that are offered. */
static cudnnStatus_t get_results(const struct descriptor *d, int64_t room, int64_t *count,
                                 cudnnBackendDescriptor_t *out) {
    cudnnBackendHeurMode_t mode =
        *(const cudnnBackendHeurMode_t *)values(d, CUDNN_ATTR_ENGINEHEUR_MODE);
    *count = 0;
    for (int i = 0; i < ENGINES; i++) {
        if (!offered(&engines[i], &d->program, mode == CUDNN_HEUR_MODE_FALLBACK))
            continue;
        struct descriptor *config = *count < room && out ? descriptor_of(out[*count]) : NULL;
        if (config && (config->type != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR || config->final))
            return CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE;
        if (config) {
            config->program = d->program;
            config->engine = &engines[i];
            config->final = true;
        }
        ++*count;
    }
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t get_engine(const struct descriptor *d, int64_t *count,
                                cudnnBackendDescriptor_t *out) {
    struct descriptor *engine = descriptor_of(*out);
    if (!engine || engine->type != CUDNN_BACKEND_ENGINE_DESCRIPTOR)
        return CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE;
    engine->engine = d->engine;
    engine->final = true;
    *count = 1;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t get_knobs(const struct descriptor *d, int64_t room, int64_t *count,
                               cudnnBackendDescriptor_t *out) {
    *count = 0;
    for (int i = 0; i < KNOBS && i < room && d->engine->knobs[i]; i++, ++*count) {
        struct descriptor *choice = descriptor_of(out[i]);
        if (!choice || choice->type != CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR)
            return CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE;
        choice->engine = d->engine;
        choice->knob = i;
        choice->final = true;
    }
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t get_integer(int64_t value, cudnnBackendAttributeType_t type, int64_t *count,
                                 void *out) {
    if (type != CUDNN_TYPE_INT64)
        return CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE;
    memcpy(out, &value, sizeof value);
    *count = 1;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t room,
                                       int64_t *count, void *out) {
    const struct descriptor *d = descriptor_of(descriptor);
    int64_t unheard;
    count = count ? count : &unheard;
    if (!d || !d->final)
        return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
    if (!out && name != CUDNN_ATTR_ENGINEHEUR_RESULTS)
        return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    if (d->engine && d->engine->mute && d->engine->mute == (int)name)
        return CUDNN_STATUS_NOT_SUPPORTED;
    switch ((int)name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
        return get_results(d, room, count, out);
    case CUDNN_ATTR_ENGINECFG_ENGINE:
        return get_engine(d, count, out);
    case CUDNN_ATTR_ENGINECFG_KNOB_CHOICES:
        return get_knobs(d, room, count, out);
    case CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE:
        memcpy(out, &knob_types[d->knob], sizeof *knob_types);
        *count = 1;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE:
        return get_integer(d->engine->knobs[d->knob], type, count, out);
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
        return get_integer(d->engine->index, type, count, out);
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
        return get_integer(d->engine->workspace, type, count, out);
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
        if (type != CUDNN_TYPE_NUMERICAL_NOTE || room < CUDNN_NUMERICAL_NOTE_TYPE_COUNT)
            return CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE;
        *count = 0;
        for (int i = 0; i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; i++)
            if (d->engine->notes >> i & 1)
                ((cudnnBackendNumericalNote_t *)out)[(*count)++] = (cudnnBackendNumericalNote_t)i;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE:
        if (type != CUDNN_TYPE_BEHAVIOR_NOTE || room < 1)
            return CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE;
        *count = d->engine->compiled;
        if (d->engine->compiled)
            *(cudnnBackendBehaviorNote_t *)out = CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
        return CUDNN_STATUS_SUCCESS;
    default:
        return CUDNN_STATUS_NOT_SUPPORTED;
    }
}

/* ---- execution ---- */

static cudnnStatus_t bind(struct run *r, const struct descriptor *pack) {
    const struct attribute *ids = find(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    void *const *pointers = values(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    for (int i = 0; i < r->program.tensor_count; i++) {
        const struct tensor *t = &r->program.tensors[i];
        for (int64_t k = 0; k < ids->count; k++)
            if (((const int64_t *)ids->values)[k] == t->id)
                r->pointers[i] = pointers[k];
        if (t->inside != !r->pointers[i])
            return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
        if ((uintptr_t)r->pointers[i] % (uintptr_t)t->alignment != 0)
            return CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
    }
    r->workspace = *(void *const *)values(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    return r->engine->workspace > 0 && !r->workspace ? CUDNN_STATUS_BAD_PARAM_NULL_POINTER
                                                     : CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack) {
    const struct descriptor *d = descriptor_of(plan), *with = descriptor_of(pack);
    if (!open_handle(handle))
        return CUDNN_STATUS_NOT_INITIALIZED;
    if (!d || !with || !d->final || !with->final)
        return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
    if (d->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ||
        with->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
        return CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE;
    const char *asked = getenv("TRIREME_STANDIN_DNN");
    struct run r = {
        .program = d->program, .engine = d->engine, .fmax = asked && strcmp(asked, "fmax") == 0};
    cudnnStatus_t code = bind(&r, with);
    if (code != CUDNN_STATUS_SUCCESS)
        return code;
    struct run *queued = malloc(sizeof *queued);
    if (!queued)
        return CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    *queued = r;
    return standin_queue(handle->stream, "cudnnBackendExecute", run_plan, queued, free) ==
                   cudaSuccess
               ? CUDNN_STATUS_SUCCESS
               : CUDNN_STATUS_EXECUTION_FAILED;
}
