/* A stand-in for libcublasLt: the symbols that kernels/cuda needs, computing on the host.
 *
 * It is stricter than the library where that shows mistakes: it checks pointers against what an
 * algorithm was promised, refuses descriptors that do not fit together, and its heuristic names
 * first what a caller that wants the same bits must pass over. Algorithms differ in the order of
 * their sums, so that a choice that depends on the number of entries changes bits here too.
 *
 *     TRIREME_STANDIN_BLAS=none       the heuristic knows no algorithm
 *     TRIREME_STANDIN_BLAS=even       nor does it for bfloat16 with odd numbers of columns
 *     TRIREME_STANDIN_BLAS=sixteen    nor for rows of any matrix that are not whole 16 bytes
 *     TRIREME_STANDIN_BLAS=fmax       its relu makes 0 of NaN
 *     TRIREME_STANDIN_BLAS=unsteady   an entry has other bits in a batch than alone
 *     TRIREME_STANDIN_BLAS=starved    checks of the algorithm it would take find no memory */
#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cublasLt.h>

#include "tests/standin/standin.h"

struct cublasLtContext {
    uint32_t magic;
};
#define CONTEXT_MAGIC 0x4c744278u

struct layout {
    uint32_t magic, type;
    int32_t order, batch;
    uint64_t rows, columns;
    int64_t ld, stride;
};
#define LAYOUT_MAGIC 0x4c61794fu

struct desc {
    uint32_t magic;
    int32_t compute, scale, pointer_mode, trans[3];
    uint32_t epilogue;
    int32_t bias_type;
    const void *bias;
    int64_t bias_stride;
};
#define DESC_MAGIC 0x44657363u

struct preference {
    uint32_t magic, search, reductions;
    uint32_t align[4]; /* A, B, C, D */
    uint64_t workspace;
};
#define PREFERENCE_MAGIC 0x50726566u

struct algorithm {
    uint32_t magic;
    int32_t id, split_k;
    uint32_t tile, stages, reduction, swizzle, custom;
    uint16_t inner, cluster;
    int32_t types[3]; /* compute type, A's type, D's type: what it was made for */
};
#define ALGORITHM_MAGIC 0x416c676fu

static_assert(sizeof(struct layout) <= sizeof(cublasLtMatrixLayoutOpaque_t), "layout");
static_assert(sizeof(struct desc) <= sizeof(cublasLtMatmulDescOpaque_t), "desc");
static_assert(sizeof(struct preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t), "preference");
static_assert(sizeof(struct algorithm) <= sizeof(cublasLtMatmulAlgo_t), "algorithm");

/* What the heuristic knows, in its order. */
static const struct kind {
    const char *name;
    int id, split_k;
    uint32_t reduction;
    bool refused;       /* its state says that it does not run after all */
    bool one_entry;     /* AlgoCheck refuses it for batches */
    uint32_t align;     /* bytes that every matrix needs */
    int chains;         /* element k goes into sum k mod chains: an order of its own */
    uint64_t workspace; /* for each entry */
} kinds[] = {
    {"split-K", 20, 4, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, false, false, 1, 8, 4096},
    {"split-K in place", 21, 2, CUBLASLT_REDUCTION_SCHEME_INPLACE, false, false, 1, 8, 0},
    {"sliced, by another name", 22, 3, CUBLASLT_REDUCTION_SCHEME_NONE, false, false, 1, 8, 0},
    {"refused", 23, 1, CUBLASLT_REDUCTION_SCHEME_NONE, true, false, 1, 8, 0},
    {"greedy", 24, 1, CUBLASLT_REDUCTION_SCHEME_NONE, false, false, 1, 8, (uint64_t)12 << 20},
    {"one entry", 25, 1, CUBLASLT_REDUCTION_SCHEME_NONE, false, true, 1, 8, 0},
    {"vectors", 66, 1, CUBLASLT_REDUCTION_SCHEME_NONE, false, false, 16, 4, (uint64_t)1 << 20},
    {"scalars", 67, 1, CUBLASLT_REDUCTION_SCHEME_NONE, false, false, 1, 1, 0},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static const struct kind *kind_of(int id) {
    for (int i = 0; i < KINDS; i++)
        if (kinds[i].id == id)
            return &kinds[i];
    return NULL;
}

static bool asked_for(const char *what) {
    const char *text = getenv("TRIREME_STANDIN_BLAS");
    return text && strcmp(text, what) == 0;
}

/* ---- handle and messages ---- */

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    if (!handle)
        return CUBLAS_STATUS_INVALID_VALUE;
    *handle = malloc(sizeof **handle);
    if (!*handle)
        return CUBLAS_STATUS_ALLOC_FAILED;
    (*handle)->magic = CONTEXT_MAGIC;
    return CUBLAS_STATUS_SUCCESS;
}

static bool open_handle(cublasLtHandle_t handle) {
    return handle && handle->magic == CONTEXT_MAGIC;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    if (!open_handle(handle))
        return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->magic = 0;
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion(void) {
    return CUBLAS_VERSION;
}

size_t cublasLtGetCudartVersion(void) {
    return CUDART_VERSION;
}

cublasStatus_t cublasLtGetProperty(libraryPropertyType type, int *value) {
    if (!value || type > PATCH_LEVEL)
        return CUBLAS_STATUS_INVALID_VALUE;
    *value = type == MAJOR_VERSION   ? CUBLAS_VER_MAJOR
             : type == MINOR_VERSION ? CUBLAS_VER_MINOR
                                     : CUBLAS_VER_PATCH;
    return CUBLAS_STATUS_SUCCESS;
}

#define STATUSES(X)                                                                                \
    X(SUCCESS, "success")                                                                          \
    X(NOT_INITIALIZED, "the library was not initialized")                                          \
    X(ALLOC_FAILED, "the resource allocation failed")                                              \
    X(INVALID_VALUE, "an invalid value was passed as an argument")                                 \
    X(ARCH_MISMATCH, "an absent device architectural feature is required")                         \
    X(MAPPING_ERROR, "an access to GPU memory space failed")                                       \
    X(EXECUTION_FAILED, "the function failed to launch on the GPU")                                \
    X(INTERNAL_ERROR, "an internal operation failed")                                              \
    X(NOT_SUPPORTED, "the functionality requested is not supported")                               \
    X(LICENSE_ERROR, "an error was detected when checking the current licensing")

const char *cublasLtGetStatusName(cublasStatus_t status) {
    switch (status) {
#define X(name, text)                                                                              \
    case CUBLAS_STATUS_##name:                                                                     \
        return "CUBLAS_STATUS_" #name;
        STATUSES(X)
#undef X
    }
    return "unknown";
}

const char *cublasLtGetStatusString(cublasStatus_t status) {
    switch (status) {
#define X(name, text)                                                                              \
    case CUBLAS_STATUS_##name:                                                                     \
        return text;
        STATUSES(X)
#undef X
    }
    return "unknown status";
}

/* ---- attributes: each has one type, and a size that does not fit is an error ---- */

struct attribute {
    int id;
    size_t offset, bytes;
};

static const struct attribute layout_attributes[] = {
    {CUBLASLT_MATRIX_LAYOUT_TYPE, offsetof(struct layout, type), 4},
    {CUBLASLT_MATRIX_LAYOUT_ORDER, offsetof(struct layout, order), 4},
    {CUBLASLT_MATRIX_LAYOUT_ROWS, offsetof(struct layout, rows), 8},
    {CUBLASLT_MATRIX_LAYOUT_COLS, offsetof(struct layout, columns), 8},
    {CUBLASLT_MATRIX_LAYOUT_LD, offsetof(struct layout, ld), 8},
    {CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, offsetof(struct layout, batch), 4},
    {CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, offsetof(struct layout, stride), 8},
    {-1, 0, 0},
};
static const struct attribute desc_attributes[] = {
    {CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, offsetof(struct desc, compute), 4},
    {CUBLASLT_MATMUL_DESC_SCALE_TYPE, offsetof(struct desc, scale), 4},
    {CUBLASLT_MATMUL_DESC_POINTER_MODE, offsetof(struct desc, pointer_mode), 4},
    {CUBLASLT_MATMUL_DESC_TRANSA, offsetof(struct desc, trans[0]), 4},
    {CUBLASLT_MATMUL_DESC_TRANSB, offsetof(struct desc, trans[1]), 4},
    {CUBLASLT_MATMUL_DESC_TRANSC, offsetof(struct desc, trans[2]), 4},
    {CUBLASLT_MATMUL_DESC_EPILOGUE, offsetof(struct desc, epilogue), 4},
    {CUBLASLT_MATMUL_DESC_BIAS_POINTER, offsetof(struct desc, bias), 8},
    {CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, offsetof(struct desc, bias_stride), 8},
    {CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, offsetof(struct desc, bias_type), 4},
    {-1, 0, 0},
};
static const struct attribute preference_attributes[] = {
    {CUBLASLT_MATMUL_PREF_SEARCH_MODE, offsetof(struct preference, search), 4},
    {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, offsetof(struct preference, workspace), 8},
    {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, offsetof(struct preference, reductions), 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, offsetof(struct preference, align[0]), 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, offsetof(struct preference, align[1]), 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, offsetof(struct preference, align[2]), 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, offsetof(struct preference, align[3]), 4},
    {-1, 0, 0},
};
static const struct attribute algorithm_attributes[] = {
    {CUBLASLT_ALGO_CONFIG_ID, offsetof(struct algorithm, id), 4},
    {CUBLASLT_ALGO_CONFIG_TILE_ID, offsetof(struct algorithm, tile), 4},
    {CUBLASLT_ALGO_CONFIG_SPLITK_NUM, offsetof(struct algorithm, split_k), 4},
    {CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, offsetof(struct algorithm, reduction), 4},
    {CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, offsetof(struct algorithm, swizzle), 4},
    {CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, offsetof(struct algorithm, custom), 4},
    {CUBLASLT_ALGO_CONFIG_STAGES_ID, offsetof(struct algorithm, stages), 4},
    {CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID, offsetof(struct algorithm, inner), 2},
    {CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, offsetof(struct algorithm, cluster), 2},
    {-1, 0, 0},
};

/* All structures begin with their magic number. */
static bool is(const void *object, uint32_t magic) {
    uint32_t found = 0;
    if (object)
        memcpy(&found, object, sizeof found);
    return found == magic;
}

static const struct attribute *find(const struct attribute *table, int id) {
    while (table->id >= 0 && table->id != id)
        table++;
    return table->id < 0 ? NULL : table;
}

static cublasStatus_t set(void *object, uint32_t magic, const struct attribute *table, int id,
                          const void *value, size_t bytes) {
    const struct attribute *a = find(table, id);
    if (!is(object, magic) || !a || !value || bytes != a->bytes)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy((char *)object + a->offset, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t get(const void *object, uint32_t magic, const struct attribute *table, int id,
                          void *value, size_t bytes, size_t *written) {
    const struct attribute *a = find(table, id);
    if (!is(object, magic) || !a || (bytes == 0 ? !written : !value || bytes != a->bytes))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (bytes)
        memcpy(value, (const char *)object + a->offset, bytes);
    if (written)
        *written = a->bytes;
    return CUBLAS_STATUS_SUCCESS;
}

#define ACCESSORS(prefix, opaque, attribute_t, magic, table)                                       \
    cublasStatus_t prefix##SetAttribute(opaque object, attribute_t id, const void *value,          \
                                        size_t bytes) {                                            \
        return set(object, magic, table, (int)id, value, bytes);                                   \
    }                                                                                              \
    cublasStatus_t prefix##GetAttribute(opaque object, attribute_t id, void *value, size_t bytes,  \
                                        size_t *written) {                                         \
        return get(object, magic, table, (int)id, value, bytes, written);                          \
    }

ACCESSORS(cublasLtMatrixLayout, cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t,
          LAYOUT_MAGIC, layout_attributes)
ACCESSORS(cublasLtMatmulDesc, cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, DESC_MAGIC,
          desc_attributes)
ACCESSORS(cublasLtMatmulPreference, cublasLtMatmulPreference_t,
          cublasLtMatmulPreferenceAttributes_t, PREFERENCE_MAGIC, preference_attributes)

cublasStatus_t cublasLtMatmulAlgoConfigSetAttribute(cublasLtMatmulAlgo_t *algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t id,
                                                    const void *value, size_t bytes) {
    if (id == CUBLASLT_ALGO_CONFIG_ID)
        return CUBLAS_STATUS_INVALID_VALUE;
    return set(algo, ALGORITHM_MAGIC, algorithm_attributes, (int)id, value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t id,
                                                    void *value, size_t bytes, size_t *written) {
    return get(algo, ALGORITHM_MAGIC, algorithm_attributes, (int)id, value, bytes, written);
}

/* ---- making descriptors ---- */

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t out, size_t size,
                                                 cudaDataType type, uint64_t rows, uint64_t columns,
                                                 int64_t ld) {
    struct layout l = {LAYOUT_MAGIC, type, CUBLASLT_ORDER_COL, 1, rows, columns, ld, 0};
    if (!out || size < sizeof l)
        return CUBLAS_STATUS_ALLOC_FAILED;
    memcpy(out, &l, sizeof l);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t out, size_t size,
                                               cublasComputeType_t compute, cudaDataType_t scale) {
    struct desc d = {.magic = DESC_MAGIC,
                     .compute = compute,
                     .scale = scale,
                     .epilogue = CUBLASLT_EPILOGUE_DEFAULT,
                     .bias_type = -1};
    if (!out || size < sizeof d)
        return CUBLAS_STATUS_ALLOC_FAILED;
    memcpy(out, &d, sizeof d);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t out, size_t size) {
    struct preference p = {.magic = PREFERENCE_MAGIC,
                           .reductions = CUBLASLT_REDUCTION_SCHEME_MASK,
                           .align = {256, 256, 256, 256}};
    if (!out || size < sizeof p)
        return CUBLAS_STATUS_ALLOC_FAILED;
    memcpy(out, &p, sizeof p);
    return CUBLAS_STATUS_SUCCESS;
}

#define ON_THE_HEAP(prefix, opaque, parameters, init)                                              \
    cublasStatus_t prefix##Create parameters {                                                     \
        *out = malloc(sizeof **out);                                                               \
        return *out ? init : CUBLAS_STATUS_ALLOC_FAILED;                                           \
    }                                                                                              \
    cublasStatus_t prefix##Destroy(opaque object) {                                                \
        free(object);                                                                              \
        return CUBLAS_STATUS_SUCCESS;                                                              \
    }

ON_THE_HEAP(cublasLtMatrixLayout, cublasLtMatrixLayout_t,
            (cublasLtMatrixLayout_t * out, cudaDataType type, uint64_t rows, uint64_t columns,
             int64_t ld),
            cublasLtMatrixLayoutInit(*out, type, rows, columns, ld))
ON_THE_HEAP(cublasLtMatmulDesc, cublasLtMatmulDesc_t,
            (cublasLtMatmulDesc_t * out, cublasComputeType_t compute, cudaDataType_t scale),
            cublasLtMatmulDescInit(*out, compute, scale))
ON_THE_HEAP(cublasLtMatmulPreference, cublasLtMatmulPreference_t,
            (cublasLtMatmulPreference_t * out), cublasLtMatmulPreferenceInit(*out))

/* ---- what fits together ---- */

struct problem {
    struct desc desc;
    struct layout a, b, c, d;
    int64_t m, n, k; /* of the library: D (m, n) by columns */
};

static size_t element(uint32_t type) {
    return type == CUDA_R_16BF ? 2 : 4;
}

static bool sound(const struct layout *l) {
    bool type = l->type == CUDA_R_32F || l->type == CUDA_R_16BF;
    return type && l->order == CUBLASLT_ORDER_COL && l->rows > 0 && l->columns > 0 &&
           l->rows <= INT32_MAX && l->columns <= INT32_MAX && l->ld >= (int64_t)l->rows &&
           l->batch >= 1 && l->stride >= 0;
}

/* The rows of the table of data types in the documentation of cublasLtMatmul that are for float32
 * and bfloat16. */
static bool types_fit(const struct problem *p) {
    uint32_t in = p->a.type, out = p->d.type;
    if (p->desc.scale != CUDA_R_32F || in != p->b.type || out != p->c.type)
        return false;
    if (p->desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32)
        return in == CUDA_R_32F && out == CUDA_R_32F;
    return p->desc.compute == CUBLAS_COMPUTE_32F && (in == CUDA_R_16BF || out == CUDA_R_32F);
}

static bool epilogue_fits(const struct desc *d, uint32_t out) {
    uint32_t known = CUBLASLT_EPILOGUE_RELU_BIAS | CUBLASLT_EPILOGUE_DEFAULT;
    bool bias = d->epilogue & CUBLASLT_EPILOGUE_BIAS;
    if (d->epilogue & ~known || (d->epilogue != CUBLASLT_EPILOGUE_DEFAULT && d->epilogue & 1))
        return false;
    return !bias ||
           (d->bias && (d->bias_type == -1 || d->bias_type == (int32_t)out) && d->bias_stride == 0);
}

static cublasStatus_t problem_of(const void *desc, const void *a, const void *b, const void *c,
                                 const void *d, struct problem *p) {
    if (!is(desc, DESC_MAGIC) || !is(a, LAYOUT_MAGIC) || !is(b, LAYOUT_MAGIC) ||
        !is(c, LAYOUT_MAGIC) || !is(d, LAYOUT_MAGIC))
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&p->desc, desc, sizeof p->desc);
    memcpy(&p->a, a, sizeof p->a);
    memcpy(&p->b, b, sizeof p->b);
    memcpy(&p->c, c, sizeof p->c);
    memcpy(&p->d, d, sizeof p->d);
    bool ta = p->desc.trans[0] == CUBLAS_OP_T, tb = p->desc.trans[1] == CUBLAS_OP_T;
    p->m = (int64_t)p->d.rows;
    p->n = (int64_t)p->d.columns;
    p->k = (int64_t)(ta ? p->a.rows : p->a.columns);
    if (!sound(&p->a) || !sound(&p->b) || !sound(&p->c) || !sound(&p->d) || p->desc.trans[2] ||
        p->desc.pointer_mode != CUBLASLT_POINTER_MODE_HOST)
        return CUBLAS_STATUS_INVALID_VALUE;
    if ((int64_t)(ta ? p->a.columns : p->a.rows) != p->m ||
        (int64_t)(tb ? p->b.rows : p->b.columns) != p->n ||
        (int64_t)(tb ? p->b.columns : p->b.rows) != p->k || p->c.rows != p->d.rows ||
        p->c.columns != p->d.columns || p->a.batch != p->d.batch || p->b.batch != p->d.batch ||
        p->c.batch != p->d.batch)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (p->d.batch > 1 && p->d.stride < p->d.ld * (int64_t)p->d.columns)
        return CUBLAS_STATUS_INVALID_VALUE; /* entries would write over each other */
    return types_fit(p) && epilogue_fits(&p->desc, p->d.type) ? CUBLAS_STATUS_SUCCESS
                                                              : CUBLAS_STATUS_NOT_SUPPORTED;
}

static bool strides_aligned(const struct layout *l, uint32_t align) {
    return (size_t)l->ld * element(l->type) % align == 0 &&
           (size_t)l->stride * element(l->type) % align == 0;
}

static bool kind_runs(const struct kind *kind, const struct problem *p) {
    uint32_t least = asked_for("even") ? sizeof(float) : asked_for("sixteen") ? 16 : 1;
    if (!strides_aligned(&p->a, least) || !strides_aligned(&p->b, least) ||
        !strides_aligned(&p->d, least))
        return false;
    return !(kind->one_entry && p->d.batch > 1) && strides_aligned(&p->a, kind->align) &&
           strides_aligned(&p->b, kind->align) && strides_aligned(&p->c, kind->align) &&
           strides_aligned(&p->d, kind->align);
}

static size_t kind_workspace(const struct kind *kind, const struct problem *p) {
    return kind->workspace * (size_t)p->d.batch;
}

/* ---- the heuristic ---- */

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int *found) {
    struct problem p;
    struct preference pref;
    standin_count("cublasLtMatmulAlgoGetHeuristic");
    if (!open_handle(handle))
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!is(preference, PREFERENCE_MAGIC) || wanted < 1 || !results || !found)
        return CUBLAS_STATUS_INVALID_VALUE;
    *found = 0;
    cublasStatus_t st = problem_of(desc, a, b, c, d, &p);
    if (st != CUBLAS_STATUS_SUCCESS)
        return st;
    memcpy(&pref, preference, sizeof pref);
    for (int i = 0; i < KINDS && *found < wanted && !asked_for("none"); i++) {
        const struct kind *kind = &kinds[i];
        bool allowed = kind->reduction == 0 || kind->reduction & pref.reductions;
        for (int j = 0; j < 4; j++)
            allowed &= pref.align[j] >= kind->align;
        /* Reductions that were masked out come all the same: a caller is to look. */
        allowed |= kind->split_k > 1;
        if (!allowed || !kind_runs(kind, &p) || kind_workspace(kind, &p) > pref.workspace)
            continue;
        struct algorithm algorithm = {
            .magic = ALGORITHM_MAGIC,
            .id = kind->id,
            .split_k = kind->split_k,
            .tile = CUBLASLT_MATMUL_TILE_64x64,
            .stages = CUBLASLT_MATMUL_STAGES_32x4,
            .reduction = kind->reduction,
            .inner = CUBLASLT_MATMUL_INNER_SHAPE_MMA16816,
            .types = {p.desc.compute, (int32_t)p.a.type, (int32_t)p.d.type},
        };
        cublasLtMatmulHeuristicResult_t *r = &results[(*found)++];
        memset(r, 0, sizeof *r);
        memcpy(&r->algo, &algorithm, sizeof algorithm);
        r->workspaceSize = kind_workspace(kind, &p);
        r->state = kind->refused ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
        r->wavesCount = 1.0f;
    }
    return *found ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

static cublasStatus_t algorithm_of(const cublasLtMatmulAlgo_t *algo, const struct problem *p,
                                   const struct kind **out) {
    struct algorithm algorithm;
    if (!is(algo, ALGORITHM_MAGIC))
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&algorithm, algo, sizeof algorithm);
    *out = kind_of(algorithm.id);
    if (!*out || algorithm.types[0] != p->desc.compute ||
        algorithm.types[1] != (int32_t)p->a.type || algorithm.types[2] != (int32_t)p->d.type)
        return CUBLAS_STATUS_INVALID_VALUE;
    return (*out)->refused || !kind_runs(*out, p) ? CUBLAS_STATUS_NOT_SUPPORTED
                                                  : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algo,
                                       cublasLtMatmulHeuristicResult_t *result) {
    struct problem p;
    const struct kind *kind = NULL;
    standin_count("cublasLtMatmulAlgoCheck");
    if (!open_handle(handle))
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!result)
        return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t st = problem_of(desc, a, b, c, d, &p);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = algorithm_of(algo, &p, &kind);
    if (st == CUBLAS_STATUS_SUCCESS && asked_for("starved"))
        st = CUBLAS_STATUS_ALLOC_FAILED;
    result->state = st;
    if (st == CUBLAS_STATUS_SUCCESS)
        result->workspaceSize = kind_workspace(kind, &p);
    return st;
}

/* ---- the product ---- */

struct call {
    struct problem problem;
    const struct kind *kind;
    int chains;
    const char *a, *b, *c;
    char *d;
    float alpha, beta;
    bool fmax; /* relu as fmaxf does it */
};

static float of_bf16(uint16_t bits) {
    uint32_t word = (uint32_t)bits << 16;
    float v;
    memcpy(&v, &word, sizeof v);
    return v;
}

/* Drops `bits` of the fraction, to nearest even; what is not finite stays so. */
static uint32_t rounded(float v, int bits) {
    uint32_t word, half = 1u << (bits - 1);
    memcpy(&word, &v, sizeof word);
    if ((word & 0x7f800000u) == 0x7f800000u)
        return word & 0x7fffffu ? word | 0x400000u : word;
    word += half - 1 + (word >> bits & 1);
    return word & ~(2 * half - 1);
}

static float load(const void *p, uint32_t type, int64_t i) {
    return type == CUDA_R_16BF ? of_bf16(((const uint16_t *)p)[i]) : ((const float *)p)[i];
}

static void store(void *p, uint32_t type, int64_t i, float v) {
    if (type == CUDA_R_16BF)
        ((uint16_t *)p)[i] = (uint16_t)(rounded(v, 16) >> 16);
    else
        ((float *)p)[i] = v;
}

/* A matrix as floats, by columns without gaps, as the product sees its elements. */
static void unpack(const void *x, const struct layout *l, bool tf32, float *out) {
    for (int64_t c = 0; c < (int64_t)l->columns; c++)
        for (int64_t r = 0; r < (int64_t)l->rows; r++) {
            float v = load(x, l->type, c * l->ld + r);
            if (tf32) {
                uint32_t word = rounded(v, 13);
                memcpy(&v, &word, sizeof v);
            }
            out[c * (int64_t)l->rows + r] = v;
        }
}

#define WIDTH  64
#define CHAINS 8

/* WIDTH elements of one column of D: a (k, WIDTH), zeros at the end; b: k elements, `step` apart.
 */
static void sums(const float *restrict a, const float *b, int64_t step, int64_t k, int chains,
                 float *restrict out) {
    float sum[CHAINS][WIDTH] = {{0}};
    for (int64_t i = 0; i < k; i++) {
        float *restrict s = sum[i % chains];
        float x = b[i * step];
        const float *restrict row = a + i * WIDTH;
        for (int c = 0; c < WIDTH; c++)
            s[c] += row[c] * x;
    }
    for (int n = chains; n > 1; n /= 2)
        for (int i = 0; i < n / 2; i++)
            for (int c = 0; c < WIDTH; c++)
                sum[i][c] = sum[2 * i][c] + sum[2 * i + 1][c];
    memcpy(out, sum[0], sizeof sum[0]);
}

static void write_column(const struct call *call, int64_t entry, int64_t column, int64_t row,
                         int64_t rows, const float *sum) {
    const struct desc *desc = &call->problem.desc;
    const struct layout *c = &call->problem.c, *d = &call->problem.d;
    for (int64_t r = 0; r < rows; r++) {
        float v = call->alpha * sum[r];
        int64_t at = column * d->ld + row + r;
        if (call->beta != 0.0f)
            v += call->beta * load(call->c, c->type, entry * c->stride + column * c->ld + row + r);
        if (desc->epilogue & CUBLASLT_EPILOGUE_BIAS)
            v += load(desc->bias, d->type, row + r);
        if (desc->epilogue & CUBLASLT_EPILOGUE_RELU)
            v = v < 0.0f || (call->fmax && isnan(v)) ? 0.0f : v;
        store(call->d, d->type, entry * d->stride + at, v);
    }
}

/* Panels of WIDTH rows of op(A), then all columns of D under each. */
static void multiply(const struct call *call, int64_t entry, const float *a, const float *b,
                     float *panel) {
    const struct problem *p = &call->problem;
    bool ta = p->desc.trans[0] == CUBLAS_OP_T, tb = p->desc.trans[1] == CUBLAS_OP_T;
    float sum[WIDTH];
    for (int64_t row = 0; row < p->m; row += WIDTH) {
        int64_t rows = p->m - row < WIDTH ? p->m - row : WIDTH;
        memset(panel, 0, (size_t)(p->k * WIDTH) * sizeof *panel);
        for (int64_t i = 0; i < p->k; i++)
            for (int64_t r = 0; r < rows; r++)
                panel[i * WIDTH + r] = ta ? a[(row + r) * p->k + i] : a[i * p->m + row + r];
        for (int64_t column = 0; column < p->n; column++) {
            sums(panel, tb ? b + column : b + column * p->k, tb ? p->n : 1, p->k, call->chains,
                 sum);
            write_column(call, entry, column, row, rows, sum);
        }
    }
}

static void run(void *arg) {
    const struct call *call = arg;
    const struct problem *p = &call->problem;
    bool tf32 = p->desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    float *a = malloc((size_t)(p->m * p->k) * sizeof *a);
    float *b = malloc((size_t)(p->k * p->n) * sizeof *b);
    float *panel = malloc((size_t)(p->k * WIDTH) * sizeof *panel);
    if (!a || !b || !panel)
        standin_trap("no memory for a product", __FILE__, __LINE__);
    for (int64_t i = 0; i < p->d.batch; i++) {
        unpack(call->a + (size_t)(i * p->a.stride) * element(p->a.type), &p->a, tf32, a);
        unpack(call->b + (size_t)(i * p->b.stride) * element(p->b.type), &p->b, tf32, b);
        multiply(call, i, a, b, panel);
    }
    free(a);
    free(b);
    free(panel);
}

static bool aligned(const void *p, size_t bytes) {
    return p && (uintptr_t)p % bytes == 0;
}

/* Pointers are checked against what the algorithm needs, as the kernel's loads would. */
static bool pointers_fit(const struct call *call) {
    const struct problem *p = &call->problem;
    size_t in = element(p->a.type), out = element(p->d.type), need = call->kind->align;
    if (p->desc.epilogue & CUBLASLT_EPILOGUE_BIAS && !aligned(p->desc.bias, 16))
        return false;
    return aligned(call->a, need > in ? need : in) && aligned(call->b, need > in ? need : in) &&
           aligned(call->c, need > out ? need : out) && aligned(call->d, need > out ? need : out);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream) {
    struct call call = {.a = a, .b = b, .c = c, .d = d};
    if (!open_handle(handle))
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!alpha || !beta || !algo) /* the library would choose by itself: never the same twice */
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&call.alpha, alpha, sizeof call.alpha);
    memcpy(&call.beta, beta, sizeof call.beta);
    cublasStatus_t st = problem_of(desc, a_layout, b_layout, c_layout, d_layout, &call.problem);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = algorithm_of(algo, &call.problem, &call.kind);
    if (st != CUBLAS_STATUS_SUCCESS)
        return st;
    size_t need = kind_workspace(call.kind, &call.problem);
    if (!pointers_fit(&call) || need > workspace_bytes || (need && !aligned(workspace, 256)))
        return CUBLAS_STATUS_INVALID_VALUE;
    bool other = call.problem.d.batch > 1 && asked_for("unsteady");
    call.fmax = asked_for("fmax");
    call.chains = other ? 2 : call.kind->chains;
    struct call *queued = malloc(sizeof *queued);
    if (!queued)
        return CUBLAS_STATUS_ALLOC_FAILED;
    *queued = call;
    return standin_queue(stream, "cublasLtMatmul", run, queued, free) == cudaSuccess
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_EXECUTION_FAILED;
}
