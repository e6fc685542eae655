/* cuBLASLt counts its matrices by columns. What lies by rows is the transpose of that:
 *
 *     D (m, n) = A · B, by rows      is      D' (n, m) = B' · A', by columns
 *
 * so that the library's first operand is our B, its second our A, and a bias for each column of
 * ours is the bias for each row of its result that its epilogues know.
 *
 * Bits: the heuristic is asked once, for one entry, about algorithms without any reduction. What it
 * names is taken in its order: the first that also runs BATCH_PROBE entries. batch_max has no say
 * in that, since it follows from the number of ranks; where the algorithm cannot run so many at
 * once, they go in slices. cuBLASLt promises the same bits for the same algorithm; entries of a
 * batch are products of their own. */
#include "kernels/cuda/matmul.h"

#include <stdlib.h>

#include "kernels/cuda/matmul_kernels.h"

#define CANDIDATES  32
#define BATCH_PROBE 16
#define ALIGN_MAX   16 /* bytes: what every vector load and TMA is content with */

enum verdict { UNKNOWN, SAME, DIFFERENT };

struct matmul {
    struct device *device;
    struct matmul_spec spec;
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t a, b, d;
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace;
    bool plain;           /* our own kernel; no algorithm */
    bool relu_apart;      /* the library's relu makes a number of NaN: ours comes after it */
    int slice;            /* entries of one call at most */
    int batch;            /* what the layouts say now */
    enum verdict checked; /* the self-check's */
    bool starved;         /* the library had no memory to answer: what it said does not count */
};

/* ---- descriptors ---- */

static cudaDataType_t operand_type(const struct matmul_spec *s) {
    return s->precision == PRECISION_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static cudaDataType_t result_type(const struct matmul_spec *s) {
    return s->d_float ? CUDA_R_32F : operand_type(s);
}

static int64_t type_bytes(cudaDataType_t type) {
    return type == CUDA_R_16BF ? 2 : 4;
}

/* A matrix stored (rows, columns) by rows. The library sees (columns, rows) by columns. */
static cublasStatus_t layout_init(cublasLtMatrixLayout_t layout, cudaDataType_t type, int64_t rows,
                                  int64_t columns, int64_t stride) {
    cublasStatus_t st =
        cublasLtMatrixLayoutInit(layout, type, (uint64_t)columns, (uint64_t)rows, columns);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                              &stride, sizeof stride);
    return st;
}

static cublasStatus_t layouts_init(struct matmul *m) {
    const struct matmul_spec *s = &m->spec;
    cudaDataType_t type = operand_type(s);
    cublasStatus_t st = layout_init(&m->a, type, s->transpose_a ? s->k : s->m,
                                    s->transpose_a ? s->m : s->k, s->a_stride);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = layout_init(&m->b, type, s->transpose_b ? s->n : s->k, s->transpose_b ? s->k : s->n,
                         s->b_stride);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = layout_init(&m->d, result_type(s), s->m, s->n, s->d_stride);
    m->batch = 1; /* the library's default */
    return st;
}

static cublasStatus_t set_batch(struct matmul *m, int batch) {
    cublasLtMatrixLayout_t layouts[] = {&m->a, &m->b, &m->d};
    int32_t count = batch;
    if (batch == m->batch)
        return CUBLAS_STATUS_SUCCESS;
    for (int i = 0; i < 3; i++) {
        cublasStatus_t st = cublasLtMatrixLayoutSetAttribute(
            layouts[i], CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count);
        if (st != CUBLAS_STATUS_SUCCESS)
            return st;
    }
    m->batch = batch;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t set_desc(struct matmul *m, cublasLtMatmulDescAttributes_t attribute,
                               const void *value, size_t bytes) {
    return cublasLtMatmulDescSetAttribute(&m->desc, attribute, value, bytes);
}

static cublasStatus_t desc_init(struct matmul *m) {
    const struct matmul_spec *s = &m->spec;
    cublasComputeType_t compute =
        s->precision == PRECISION_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    int32_t first = s->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    int32_t second = s->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    bool relu = s->relu && !m->relu_apart;
    uint32_t epilogue = s->bias && relu ? CUBLASLT_EPILOGUE_RELU_BIAS
                        : s->bias       ? CUBLASLT_EPILOGUE_BIAS
                        : relu          ? CUBLASLT_EPILOGUE_RELU
                                        : CUBLASLT_EPILOGUE_DEFAULT;
    int64_t bias_stride = 0; /* every entry adds the same */
    /* The heuristic reads no bias, but takes its alignment from the pointer. */
    const void *bias = (const void *)(uintptr_t)ALIGN_MAX;
    cublasStatus_t st = cublasLtMatmulDescInit(&m->desc, compute, CUDA_R_32F);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = set_desc(m, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = set_desc(m, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = set_desc(m, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (st == CUBLAS_STATUS_SUCCESS && s->bias)
        st = set_desc(m, CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, &bias_stride, sizeof bias_stride);
    if (st == CUBLAS_STATUS_SUCCESS && s->bias)
        st = set_desc(m, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
    return st;
}

/* ---- the choice ---- */

/* The largest power of two up to ALIGN_MAX that divides each row's and each entry's beginning. */
static uint32_t alignment(cudaDataType_t type, int64_t columns, int64_t stride) {
    int64_t bytes = type_bytes(type), align = ALIGN_MAX;
    while (columns * bytes % align || stride * bytes % align)
        align /= 2;
    return (uint32_t)align;
}

struct alignments {
    uint32_t a, b, d;
};

static struct alignments alignments_of(const struct matmul_spec *s) {
    cudaDataType_t type = operand_type(s);
    return (struct alignments){
        .a = alignment(type, s->transpose_a ? s->m : s->k, s->a_stride),
        .b = alignment(type, s->transpose_b ? s->k : s->n, s->b_stride),
        .d = alignment(result_type(s), s->n, s->d_stride),
    };
}

static uint32_t least(const struct alignments *a) {
    uint32_t operands = a->a < a->b ? a->a : a->b;
    return operands < a->d ? operands : a->d;
}

static cublasStatus_t preference_init(cublasLtMatmulPreference_t p, const struct alignments *a) {
    uint64_t workspace = CUDA_BLAS_WORKSPACE;
    uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE;
    const struct {
        cublasLtMatmulPreferenceAttributes_t attribute;
        const void *value;
        size_t bytes;
    } set[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &a->b, sizeof a->b},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &a->a, sizeof a->a},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &a->d, sizeof a->d},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &a->d, sizeof a->d},
    };
    cublasStatus_t st = cublasLtMatmulPreferenceInit(p);
    for (size_t i = 0; st == CUBLAS_STATUS_SUCCESS && i < sizeof set / sizeof *set; i++)
        st = cublasLtMatmulPreferenceSetAttribute(p, set[i].attribute, set[i].value, set[i].bytes);
    return st;
}

static const struct {
    const char *name;
    cublasLtMatmulAlgoConfigAttributes_t attribute;
    size_t bytes;
} config[] = {
    {"algorithm", CUBLASLT_ALGO_CONFIG_ID, 4},
    {"tile", CUBLASLT_ALGO_CONFIG_TILE_ID, 4},
    {"stages", CUBLASLT_ALGO_CONFIG_STAGES_ID, 4},
    {"split_k", CUBLASLT_ALGO_CONFIG_SPLITK_NUM, 4},
    {"reduction", CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, 4},
    {"swizzle", CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, 4},
    {"custom", CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, 4},
    {"inner_shape", CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID, 2},
    {"cluster_shape", CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, 2},
};
enum { CONFIGS = sizeof config / sizeof *config, CONFIG_SPLIT_K = 3, CONFIG_REDUCTION = 4 };

/* −1 where the algorithm has no such attribute. */
static int64_t config_of(const cublasLtMatmulAlgo_t *algorithm, int i) {
    uint32_t word = 0;
    uint16_t half = 0;
    size_t written = 0;
    void *value = config[i].bytes == sizeof half ? (void *)&half : (void *)&word;
    if (cublasLtMatmulAlgoConfigGetAttribute(algorithm, config[i].attribute, value, config[i].bytes,
                                             &written) != CUBLAS_STATUS_SUCCESS)
        return -1;
    return config[i].bytes == sizeof half ? half : word;
}

static bool one_sum(const cublasLtMatmulAlgo_t *algorithm) {
    return config_of(algorithm, CONFIG_SPLIT_K) <= 1 &&
           config_of(algorithm, CONFIG_REDUCTION) <= CUBLASLT_REDUCTION_SCHEME_NONE;
}

/* Whether the library says yes. A choice must not depend on the memory that is left. */
static bool agrees(struct matmul *m, cublasStatus_t answer) {
    m->starved |= answer == CUBLAS_STATUS_ALLOC_FAILED;
    return answer == CUBLAS_STATUS_SUCCESS;
}

/* Whether it runs with `batch` entries in the workspace that there is. */
static bool runs(struct matmul *m, const cublasLtMatmulAlgo_t *algorithm, int batch) {
    cublasLtMatmulHeuristicResult_t result = {0};
    if (set_batch(m, batch) != CUBLAS_STATUS_SUCCESS ||
        !agrees(m, cublasLtMatmulAlgoCheck(cuda_of(m->device)->blas, &m->desc, &m->b, &m->a, &m->d,
                                           &m->d, algorithm, &result)))
        return false;
    m->workspace = result.workspaceSize;
    return result.workspaceSize <= CUDA_BLAS_WORKSPACE;
}

/* The first that runs `batch` entries, and one alone. */
static bool first_of(struct matmul *m, const cublasLtMatmulHeuristicResult_t *found, int count,
                     int batch) {
    for (int i = 0; i < count; i++) {
        const cublasLtMatmulAlgo_t *algorithm = &found[i].algo;
        if (found[i].state == CUBLAS_STATUS_SUCCESS && one_sum(algorithm) &&
            runs(m, algorithm, batch) && runs(m, algorithm, 1)) {
            m->algorithm = *algorithm;
            return true;
        }
    }
    return false;
}

static bool choose(struct matmul *m, const struct alignments *align) {
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    cublasLtMatmulPreferenceOpaque_t preference;
    int count = 0;
    if (set_batch(m, 1) != CUBLAS_STATUS_SUCCESS ||
        preference_init(&preference, align) != CUBLAS_STATUS_SUCCESS ||
        !agrees(m, cublasLtMatmulAlgoGetHeuristic(cuda_of(m->device)->blas, &m->desc, &m->b, &m->a,
                                                  &m->d, &m->d, &preference, CANDIDATES, found,
                                                  &count)))
        return false;
    if (!first_of(m, found, count, BATCH_PROBE) && !first_of(m, found, count, 1))
        return false;
    m->slice = m->spec.batch_max;
    while (!runs(m, &m->algorithm, m->slice) && m->slice > 1)
        m->slice = (m->slice + 1) / 2;
    return true;
}

/* First by what is true of each matrix, then as if all were as badly aligned as the worst: some
 * releases know kernels for 2-byte operands only where all are. Of what is badly aligned the library
 * may have nothing that sums without a split, in any precision: our own kernel, then. */
static bool choose_any(struct matmul *m) {
    struct alignments align = alignments_of(&m->spec);
    uint32_t worst = least(&align);
    if (choose(m, &align))
        return true;
    align = (struct alignments){worst, worst, worst};
    if (choose(m, &align))
        return true;
    m->plain = worst < ALIGN_MAX && !m->starved;
    return m->plain;
}

static const char *operands(enum precision p) {
    return p == PRECISION_FP32 ? "fp32" : p == PRECISION_TF32 ? "tf32" : "bf16";
}

static enum status refused(const struct matmul_spec *s, bool starved, const char *why,
                           struct err *err) {
    if (starved)
        return err_set(err, STATUS_NOMEM, "no memory for cuBLASLt to choose an algorithm in");
    return err_set(err, STATUS_UNAVAILABLE,
                   "cuBLASLt %zu has no deterministic algorithm for a product of m=%lld n=%lld "
                   "k=%lld in %s%s%s%s; try another width or precision",
                   cublasLtGetVersion(), (long long)s->m, (long long)s->n, (long long)s->k,
                   operands(s->precision), s->bias ? ", bias" : "", s->relu ? ", relu" : "", why);
}

/* ---- use ---- */

static const void *entry(const void *base, cudaDataType_t type, int64_t stride, int i) {
    return (const char *)base + i * stride * type_bytes(type);
}

static cublasStatus_t run_slice(struct matmul *m, int first, int count, const void *a,
                                const void *b, void *out) {
    const float one = 1.0f, zero = 0.0f;
    const struct matmul_spec *s = &m->spec;
    struct cuda_device *d = cuda_of(m->device);
    void *place = (char *)out + first * s->d_stride * type_bytes(result_type(s));
    cublasStatus_t st = set_batch(m, count);
    if (st != CUBLAS_STATUS_SUCCESS)
        return st;
    return cublasLtMatmul(d->blas, &m->desc, &one, entry(b, operand_type(s), s->b_stride, first),
                          &m->b, entry(a, operand_type(s), s->a_stride, first), &m->a, &zero, place,
                          &m->d, place, &m->d, &m->algorithm, d->blas_workspace,
                          CUDA_BLAS_WORKSPACE, d->stream[QUEUE_COMPUTE]);
}

static void run_plain(const struct matmul *m, int batch, const void *a, const void *b, void *out,
                      const void *bias) {
    const struct matmul_spec *s = &m->spec;
    struct matmul_call call = {
        .m = s->m,
        .n = s->n,
        .k = s->k,
        .transpose_a = s->transpose_a,
        .transpose_b = s->transpose_b,
        .bf16 = s->precision == PRECISION_BF16,
        .d_float = s->d_float,
        .relu = s->relu,
        .a_stride = s->a_stride,
        .b_stride = s->b_stride,
        .d_stride = s->d_stride,
        .a = a,
        .b = b,
        .bias = s->bias ? bias : NULL,
        .d = out,
    };
    matmul_plain(&call, batch, cuda_stream(m->device));
    cuda_launched(m->device, "matmul: plain product");
}

void matmul_run(struct matmul *m, int batch, const void *a, const void *b, void *out,
                const void *bias) {
    cublasStatus_t st = CUBLAS_STATUS_SUCCESS;
    if (cuda_failed(m->device))
        return;
    if (m->plain) {
        run_plain(m, batch, a, b, out, bias);
        return;
    }
    if (m->spec.bias)
        st = set_desc(m, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
    for (int i = 0; st == CUBLAS_STATUS_SUCCESS && i < batch; i += m->slice)
        st = run_slice(m, i, batch - i < m->slice ? batch - i : m->slice, a, b, out);
    if (!cuda_blas_ok(m->device, st, "matmul") || !m->relu_apart)
        return;
    matmul_relu(out, result_type(&m->spec) == CUDA_R_16BF, batch, m->spec.d_stride,
                m->spec.m * m->spec.n, cuda_stream(m->device));
    cuda_launched(m->device, "matmul: relu");
}

/* ---- self-check ---- */

/* All entries of the batch get the same numbers, so that one product alone speaks for each. One
 * entry is checked too, against itself: an algorithm that fails, or loads its kernels as it starts,
 * does so before a step is recorded. */
struct check {
    struct matmul *m;
    int entries;
    void *a, *b, *bias, *all, *alone;
    uint32_t *differs; /* device */
};

/* Elements of a matrix, and of a batch of it. */
static int64_t check_count(const struct check *c, int64_t elements, int64_t stride) {
    return (c->entries - 1) * stride + elements;
}

static int64_t check_bytes(const struct check *c) {
    const struct matmul_spec *s = &c->m->spec;
    return (check_count(c, s->m * s->k, s->a_stride) + check_count(c, s->k * s->n, s->b_stride)) *
               type_bytes(operand_type(s)) +
           check_count(c, s->m * s->n, s->d_stride) * type_bytes(result_type(s));
}

static void *take(struct device *d, int64_t count, cudaDataType_t type) {
    return d->backend->memory->alloc(d, (size_t)(count * type_bytes(type)));
}

static void *take_random(const struct check *c, int64_t elements, int64_t stride,
                         cudaDataType_t type, uint64_t seed) {
    struct device *d = c->m->device;
    int64_t count = check_count(c, elements, stride);
    void *p = take(d, count, type);
    if (p != NULL) {
        matmul_fill(p, type == CUDA_R_16BF, count, stride ? stride : count, seed, cuda_stream(d));
        cuda_launched(d, "matmul: numbers for a check");
    }
    return p;
}

static bool check_take(struct check *c) {
    const struct matmul_spec *s = &c->m->spec;
    struct device *d = c->m->device;
    c->a = take_random(c, s->m * s->k, s->a_stride, operand_type(s), 1);
    c->b = take_random(c, s->k * s->n, s->b_stride, operand_type(s), 2);
    c->bias = take_random(c, s->n, 0, result_type(s), 3);
    c->all = take(d, check_count(c, s->m * s->n, s->d_stride), result_type(s));
    c->alone = take(d, s->m * s->n, result_type(s));
    c->differs = d->backend->memory->alloc(d, sizeof *c->differs);
    return c->a && c->b && c->bias && c->all && c->alone && c->differs && !cuda_failed(d);
}

static void check_release(const struct check *c) {
    struct device *d = c->m->device;
    void *const blocks[] = {c->a, c->b, c->bias, c->all, c->alone, c->differs};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        d->backend->memory->release(d, blocks[i]);
}

static void check_run(struct check *c) {
    const struct matmul_spec *s = &c->m->spec;
    struct device *d = c->m->device;
    uint32_t differs = 1;
    int64_t words = type_bytes(result_type(s)) / (int64_t)sizeof(uint16_t); /* of an element */
    matmul_run(c->m, c->entries, c->a, c->b, c->all, c->bias);
    matmul_run(c->m, 1, c->a, c->b, c->alone, c->bias);
    if (cuda_failed(d))
        return;
    matmul_compare(c->all, s->d_stride * words, c->entries, c->alone, s->m * s->n * words,
                   c->differs, cuda_stream(d));
    cuda_launched(d, "matmul: comparison for a check");
    d->backend->memory->download(d, &differs, c->differs, sizeof differs);
    if (!cuda_failed(d))
        c->m->checked = differs == 0 ? SAME : DIFFERENT;
}

bool matmul_self_check(struct matmul *m) {
    struct check c = {.m = m, .entries = m->spec.batch_max};
    if (m->checked != UNKNOWN)
        return m->checked == SAME;
    while (c.entries > 2 && check_bytes(&c) > CUDA_CHECK_MAX)
        c.entries /= 2;
    if (check_take(&c))
        check_run(&c);
    check_release(&c);
    return m->checked == SAME || (m->checked == UNKNOWN && c.entries == 1);
}

/* Whether a NaN of the operands is a number in the result: a relu that takes the larger of 0 and x
 * may take the 0, and a net that has burst would train on. Known before the first step, since
 * another epilogue may mean another algorithm. */
static enum status loses_nan(struct matmul *m, bool *lost, struct err *err) {
    const struct matmul_spec *s = &m->spec;
    struct device *d = m->device;
    struct check c = {.m = m, .entries = 1};
    uint32_t numbers = 0;
    enum status st = STATUS_OK;
    if (!check_take(&c))
        st = cuda_failed(d) ? cuda_status(d, err)
                            : err_set(err, STATUS_NOMEM,
                                      "no device memory to check a product of m=%lld n=%lld k=%lld",
                                      (long long)s->m, (long long)s->n, (long long)s->k);
    else {
        size_t bytes = (size_t)(s->m * s->k * type_bytes(operand_type(s)));
        (void)cuda_ok(d, cudaMemsetAsync(c.a, 0xff, bytes, cuda_stream(d)), "matmul: NaN");
        matmul_run(m, 1, c.a, c.b, c.alone, c.bias);
        matmul_numbers(c.alone, result_type(s) == CUDA_R_16BF, s->m * s->n, c.differs,
                       cuda_stream(d));
        cuda_launched(d, "matmul: search for NaN");
        d->backend->memory->download(d, &numbers, c.differs, sizeof numbers);
        st = cuda_status(d, err);
        *lost = numbers != 0;
    }
    check_release(&c);
    return st;
}

/* ---- products, kept ---- */

static enum status make(struct device *d, const struct matmul_spec *spec, struct matmul **out,
                        struct err *err) {
    enum status st = STATUS_OK;
    bool lost = false;
    struct matmul *m = calloc(1, sizeof *m);
    if (m == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for a product's plan");
    m->device = d;
    m->spec = *spec;
    if (!agrees(m, desc_init(m)) || !agrees(m, layouts_init(m)))
        st = refused(spec, m->starved, " (its descriptors were refused)", err);
    else if (!choose_any(m) || m->starved)
        st = refused(spec, m->starved, "", err);
    else if (spec->relu && !m->plain)
        st = loses_nan(m, &lost, err);
    if (lost) {
        m->relu_apart = true;
        if (!agrees(m, desc_init(m)) || !choose_any(m) || m->starved)
            st = refused(spec, m->starved, " (and its relu loses NaN)", err);
    }
    if (st == STATUS_OK)
        *out = m;
    else
        free(m);
    return st;
}

enum status matmul_new(struct device *d, const struct matmul_spec *spec, struct matmul **out,
                       struct err *err) {
    const struct matmul_spec *s = spec;
    struct cuda_cache *cache = &cuda_of(d)->cache;
    /* All that the choice, the slices and the self-check depend on. */
    const int64_t key[] = {CUDA_CACHE_MATMUL, s->m,           s->n,        s->k,
                           s->a_stride,       s->b_stride,    s->d_stride, s->bias,
                           s->relu,           s->transpose_a, s->d_float,  (int64_t)s->precision,
                           s->transpose_b,    s->batch_max};
    enum { COUNT = sizeof key / sizeof *key };
    *out = cuda_cache_take(cache, key, COUNT);
    if (*out != NULL)
        return STATUS_OK;
    struct matmul *m = NULL;
    enum status st = make(d, spec, &m, err);
    if (st == STATUS_OK)
        st = cuda_cache_put(cache, key, COUNT, m, free, err);
    if (st == STATUS_OK)
        *out = m;
    else
        free(m);
    return st;
}

void matmul_release(struct matmul *m) {
    if (m != NULL)
        cuda_cache_give(&cuda_of(m->device)->cache, m);
}

struct value *matmul_describe(struct arena *a, const struct matmul *m) {
    struct value *out = value_map(a);
    value_set_int(a, out, "m", m->spec.m);
    value_set_int(a, out, "n", m->spec.n);
    value_set_int(a, out, "k", m->spec.k);
    if (m->plain) {
        value_set_string(a, out, "algorithm", "plain");
        return out;
    }
    for (int i = 0; i < CONFIGS; i++)
        value_set_int(a, out, config[i].name, config_of(&m->algorithm, i));
    if (m->relu_apart)
        value_set_bool(a, out, "relu_apart", true);
    return out;
}
