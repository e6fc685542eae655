/* The CPU backend: plain memory, one thread, and the operator table. */
#include <dlfcn.h>
#include <dnnl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/simd.h"

#define FOLD_TILE 512
#define HUGE_PAGE ((size_t)2 << 20)

struct cpu_device {
    struct device base; /* first */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    void (*set_threads)(int); /* of the OpenMP runtime that oneDNN brings along; NULL: none */
    char model[96];
    struct step_terms terms;
    uint32_t flags;
    double peak; /* FLOP/s; 0: not measured yet */
};

/* Large buffers ask for huge pages: a new engine touches tens of MiB, a fault a 4 KiB page. */
void *cpu_alloc(size_t bytes) {
    size_t align = bytes >= HUGE_PAGE / 2 ? HUGE_PAGE : 64;
    size_t whole = bytes ? (bytes + align - 1) / align * align : align;
    void *p = whole < bytes ? NULL : aligned_alloc(align, whole);
    if (p && align == HUGE_PAGE)
        (void)madvise(p, whole, MADV_HUGEPAGE); /* a wish, no more */
    if (p)
        memset(p, 0, whole);
    return p;
}

void cpu_free(void *p) {
    free(p);
}

enum status cpu_part(struct node *n, int64_t count, size_t size, void **out, struct err *err) {
    size_t bytes = (size_t)count * size;
    *out = cpu_alloc(bytes);
    if (!*out)
        return err_set(err, STATUS_NOMEM, "no memory for %zu bytes of workspace", bytes);
    n->state_bytes += bytes;
    return STATUS_OK;
}

enum status cpu_state(struct node *n, size_t bytes, void **out, struct err *err) {
    enum status st = cpu_part(n, 1, bytes, out, err);
    n->state = *out;
    return st;
}

void *cpu_dnnl_engine(struct device *d) {
    return ((struct cpu_device *)d)->engine;
}

void *cpu_dnnl_stream(struct device *d) {
    return ((struct cpu_device *)d)->stream;
}

/* ---- the backend's functions ---- */

static void *device_alloc(struct device *d, size_t bytes) {
    (void)d;
    return cpu_alloc(bytes);
}

static void device_release(struct device *d, void *p) {
    (void)d;
    cpu_free(p);
}

static void device_move(struct device *d, enum queue q, void *dst, const void *src, size_t bytes) {
    (void)d;
    (void)q;
    memcpy(dst, src, bytes);
}

static void device_copy(struct device *d, void *dst, const void *src, size_t bytes) {
    (void)d;
    memcpy(dst, src, bytes);
}

/* oneDNN asks OpenMP how many threads there are; the answer belongs to the calling thread, and a
 * rank has one core. (OMP_NUM_THREADS is read before main, too late for us to set.) */
static void device_enter(struct device *d) {
    struct cpu_device *cpu = (struct cpu_device *)d;
    if (cpu->set_threads)
        cpu->set_threads(1);
}

static void device_sync(struct device *d) {
    (void)d;
}

static enum status device_status(struct device *d, struct err *err) {
    (void)d;
    (void)err;
    return STATUS_OK;
}

static void device_after(struct device *d, enum queue later, enum queue earlier) {
    (void)d;
    (void)later;
    (void)earlier;
}

static void device_mark(struct device *d, enum queue q, int mark) {
    (void)d;
    (void)q;
    (void)mark;
}

static bool device_reached(struct device *d, int mark) {
    (void)d;
    (void)mark;
    return true;
}

static void *device_native_queue(struct device *d, enum queue q) {
    (void)d;
    (void)q;
    return NULL;
}

static int device_count(struct err *err) {
    (void)err;
    return 1;
}

static void device_memory(struct device *d, int64_t *available, int64_t *total) {
    (void)d;
    int64_t page = sysconf(_SC_PAGESIZE);
    *available = sysconf(_SC_AVPHYS_PAGES) * page;
    *total = sysconf(_SC_PHYS_PAGES) * page;
}

/* ---- a step ---- */

const struct step_terms *cpu_terms(const struct device *d) {
    return &((const struct cpu_device *)d)->terms;
}

uint32_t *cpu_flags(struct device *d) {
    return &((struct cpu_device *)d)->flags;
}

static void device_begin_step(struct device *d, const struct step_terms *terms) {
    struct cpu_device *cpu = (struct cpu_device *)d;
    cpu->terms = *terms;
    cpu->flags = 0;
}

static void device_resume(struct device *d) {
    *cpu_flags(d) = 0;
}

/* The tree over the rank's shards; each adds once. */
static void device_scalars(struct device *d, const struct loss_sum *losses, int shards,
                           int64_t shard_rows, float *tail) {
    float sum[FOLD_MAX][SCALAR_ROWS + 1];
    int top = 0;
    for (int i = 0; i < shards; i++) {
        float leaf[] = {(float)losses[i].loss, (float)losses[i].correct, (float)shard_rows};
        int level = 0;
        for (; i >> level & 1; level++)
            for (int j = 0; j <= SCALAR_ROWS; j++)
                leaf[j] = sum[level][j] + leaf[j];
        memcpy(sum[level], leaf, sizeof leaf);
        top = level;
    }
    memset(tail, 0, SCALARS * sizeof *tail);
    memcpy(tail, sum[top], sizeof sum[top]);
    tail[SCALAR_STOP] = cpu_terms(d)->stop;
}

static void read_cpu_model(char *out, size_t len) {
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "re");
    snprintf(out, len, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        colon[strcspn(colon, "\n")] = '\0';
        snprintf(out, len, "%s", colon + 1 + strspn(colon + 1, " \t"));
        break;
    }
    if (f)
        fclose(f);
}

/* One core's view of a cache, from sysfs: sysconf(3) adds up what virtual machines report. */
static size_t cache_size(int index, size_t fallback) {
    char path[96];
    unsigned kib = 0;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
    FILE *f = fopen(path, "re");
    if (f && fscanf(f, "%7uK", &kib) != 1)
        kib = 0;
    if (f)
        fclose(f);
    return kib ? (size_t)kib << 10 : fallback;
}

static void cpu_close(struct device *d) {
    struct cpu_device *cpu = (struct cpu_device *)d;
    if (cpu->stream)
        dnnl_stream_destroy(cpu->stream);
    if (cpu->engine)
        dnnl_engine_destroy(cpu->engine);
    free(cpu);
}

static enum status cpu_open(int index, struct device **out, struct err *err) {
    (void)index;
    struct cpu_device *cpu = calloc(1, sizeof *cpu);
    if (!cpu)
        return err_set(err, STATUS_NOMEM, "no memory for the device");
    cpu->base.backend = &cpu_backend;
    cpu->base.cache_bytes[0] = cache_size(2, (size_t)1 << 20);
    cpu->base.cache_bytes[1] = cache_size(3, (size_t)16 << 20);
    void *symbol = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    memcpy(&cpu->set_threads, &symbol, sizeof symbol); /* ISO C has no cast for this */
    device_enter(&cpu->base);
    read_cpu_model(cpu->model, sizeof cpu->model);
    if (dnnl_engine_create(&cpu->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&cpu->stream, cpu->engine, dnnl_stream_default_flags) != dnnl_success) {
        cpu_close(&cpu->base);
        return err_set(err, STATUS_UNAVAILABLE, "oneDNN gives no CPU engine");
    }
    *out = &cpu->base;
    return STATUS_OK;
}

/* ---- fold and finite ---- */

CLONES(static, add_to, (float *dst, const float *a, int64_t n), (dst, a, n)) {
    for (int64_t i = 0; i < n; i++)
        dst[i] += a[i];
}

/* Tile by tile with a binary counter: sum[l] holds the sum of 2^l neighbours. */
static void cpu_fold(struct device *d, enum queue q, float *dst, const float *const *srcs, int n,
                     int64_t count) {
    (void)d;
    (void)q;
    float sum[FOLD_MAX][FOLD_TILE];
    for (int64_t at = 0; at < count; at += FOLD_TILE) {
        int64_t len = count - at < FOLD_TILE ? count - at : FOLD_TILE;
        for (int i = 0; i < n; i++) {
            int level = 0;
            float *acc = sum[__builtin_ctz(~(unsigned)i)];
            memcpy(acc, srcs[i] + at, (size_t)len * sizeof(float));
            for (; i >> level & 1; level++)
                add_to(acc, sum[level], len);
        }
        memcpy(dst + at, sum[log2_of(n)], (size_t)len * sizeof(float));
    }
}

CLONES(static, find_nonfinite, (const float *x, int64_t count, uint32_t *found),
       (x, count, found)) {
    uint32_t seen = 0;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        seen |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    *found = seen;
}

static bool cpu_finite(struct device *d, const void *x, int64_t count, enum precision precision) {
    uint32_t found = 0;
    (void)d;
    (void)precision;
    find_nonfinite(x, count, &found);
    return !found;
}

/* ---- description ---- */

/* What one core's products reach, measured once on a product that stays in cache. */
static double cpu_peak_flops(struct device *d, enum precision precision) {
    struct cpu_device *cpu = (struct cpu_device *)d;
    (void)precision;
    if (cpu->peak == 0)
        cpu->peak = gemm_peak();
    return cpu->peak;
}

static const char *isa_name(void) {
    switch ((unsigned)dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_sse41:
        return "sse41";
    case dnnl_cpu_isa_avx:
        return "avx";
    case dnnl_cpu_isa_avx2:
        return "avx2";
    case dnnl_cpu_isa_avx2_vnni:
        return "avx2_vnni";
    case dnnl_cpu_isa_avx512_core:
        return "avx512_core";
    case dnnl_cpu_isa_avx512_core_vnni:
        return "avx512_core_vnni";
    case dnnl_cpu_isa_avx512_core_bf16:
        return "avx512_core_bf16";
    case dnnl_cpu_isa_avx512_core_amx:
        return "avx512_core_amx";
    default:
        return "base";
    }
}

static struct value *cpu_describe(struct arena *a, const struct device *d) {
    const struct cpu_device *cpu = (const struct cpu_device *)d;
    const dnnl_version_t *v = dnnl_version();
    struct value *out = value_map(a);
    char version[64];
    snprintf(version, sizeof version, "%d.%d.%d", v->major, v->minor, v->patch);
    value_set_string(a, out, "device", "cpu");
    value_set_string(a, out, "cpu", cpu->model);
    value_set_string(a, out, "isa", isa_name());
    value_set_string(a, out, "onednn", version);
    return out;
}

static const struct operation *const table[OP_KINDS] = {
    [OP_DENSE] = &cpu_dense,
    [OP_CONV2D] = &cpu_conv2d,
    [OP_BATCH_NORM] = &cpu_batch_norm,
    [OP_MAX_POOL] = &cpu_max_pool,
    [OP_AVG_POOL] = &cpu_avg_pool,
    [OP_RELU] = &cpu_relu,
    [OP_GELU] = &cpu_gelu,
    [OP_TANH] = &cpu_tanh,
    [OP_SIGMOID] = &cpu_sigmoid,
    [OP_DROPOUT] = &cpu_dropout,
    [OP_TO_NHWC] = &cpu_to_nhwc,
    [OP_TO_NCHW] = &cpu_to_nchw,
    [OP_CROSS_ENTROPY] = &cpu_cross_entropy,
    [OP_MSE] = &cpu_mse,
};

static const struct device_memory memory_table = {
    .alloc = device_alloc,
    .release = device_release,
    .host_alloc = device_alloc,
    .host_release = device_release,
    .room = device_memory,
    .upload = device_copy,
    .download = device_copy,
    .copy = device_move,
};

static const struct device_order order_table = {
    .enter = device_enter,
    .sync = device_sync,
    .status = device_status,
    .after = device_after,
    .mark = device_mark,
    .reached = device_reached,
    .native_queue = device_native_queue,
};

static const struct device_operators operators_table = {
    .rows = table,
    .fold = cpu_fold,
    .scalars = device_scalars,
    .finite = cpu_finite,
};

static const struct device_update update_table = {
    .begin_step = device_begin_step,
    .flags = cpu_flags,
    .resume = device_resume,
    .create = cpu_update_new,
    .release = cpu_update_release,
    .slot = cpu_update_slot,
    .norms = cpu_update_norms,
    .clip = cpu_update_clip,
    .norm = cpu_grad_norm,
    .apply = cpu_update_apply,
};

const struct backend cpu_backend = {
    .name = "cpu",
    .eval_rows = 256,
    .traits = cpu_traits,
    .memory = &memory_table,
    .order = &order_table,
    .operators = &operators_table,
    .update = &update_table,
    .open = cpu_open,
    .close = cpu_close,
    .count = device_count,
    .describe = cpu_describe,
    .peak_flops = cpu_peak_flops,
};
