/* The CPU backend: one thread that does everything at once. */
#include "kernels/cpu/backend.h"

#include <dlfcn.h>
#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/device.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/ops.h"
#include "kernels/host/simd.h"
#include "kernels/host/tree.h"

/* ---- the backend's functions ---- */

/* oneDNN asks OpenMP how many threads there are; the answer belongs to the calling thread, and a
 * rank has one core. (OMP_NUM_THREADS is read before main, too late for us to set.) */
static void device_enter(struct device *d) {
    struct cpu_device *cpu = cpu_of(d);
    if (cpu->set_threads != NULL)
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

/* ---- a step ---- */

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
    tail[SCALAR_STOP] = cpu_of(d)->terms.stop;
}

static void read_cpu_model(char *out, size_t len) {
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "re");
    (void)snprintf(out, len, "unknown");
    while (f != NULL && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || colon == NULL)
            continue;
        colon[strcspn(colon, "\n")] = '\0';
        (void)snprintf(out, len, "%s", colon + 1 + strspn(colon + 1, " \t"));
        break;
    }
    if (f != NULL)
        fclose(f);
}

/* One core's view of a cache, from sysfs: sysconf(3) adds up what virtual machines report. */
static size_t cache_size(int index, size_t fallback) {
    char path[96];
    unsigned kib = 0;
    (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
    FILE *f = fopen(path, "re");
    if (f != NULL && fscanf(f, "%7uK", &kib) != 1)
        kib = 0;
    if (f != NULL)
        fclose(f);
    return kib ? (size_t)kib << 10 : fallback;
}

static void cpu_close(struct device *d) {
    struct cpu_device *cpu = cpu_of(d);
    if (cpu->stream != NULL)
        dnnl_stream_destroy(cpu->stream);
    if (cpu->engine != NULL)
        dnnl_engine_destroy(cpu->engine);
    free(cpu);
}

static enum status cpu_open(int index, struct device **out, struct err *err) {
    (void)index;
    struct cpu_device *cpu = calloc(1, sizeof *cpu);
    if (cpu == NULL)
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
        return err_set(err, STATUS_UNAVAILABLE,
                       "oneDNN could not create a CPU engine: this processor or its memory limits "
                       "do not suit it");
    }
    *out = &cpu->base;
    return STATUS_OK;
}

static void device_fold(struct device *d, enum queue q, float *dst, const float *const *srcs, int n,
                        int64_t count) {
    (void)d;
    (void)q;
    tree_sum(dst, srcs, n, count);
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
    struct cpu_device *cpu = cpu_of(d);
    (void)precision;
    if (cpu->peak == 0)
        cpu->peak = cpu_gemm_peak();
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
    (void)snprintf(version, sizeof version, "%d.%d.%d", v->major, v->minor, v->patch);
    value_set_string(a, out, "device", "cpu");
    value_set_string(a, out, "cpu", cpu->model);
    value_set_string(a, out, "isa", isa_name());
    value_set_string(a, out, "onednn", version);
    return out;
}

static const struct operation *const rows[OP_KINDS] = {
#define OP_ROW(kind, name, layer, images, promises) [OP_##kind] = &cpu_##name,
    OPERATORS(OP_ROW)
#undef OP_ROW
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
    .rows = rows,
    .fold = device_fold,
    .scalars = device_scalars,
    .finite = cpu_finite,
};

const struct backend cpu_backend = {
    .name = "cpu",
    .traits = &cpu_traits,
    .memory = &cpu_memory_table,
    .order = &order_table,
    .operators = &operators_table,
    .update = &cpu_update_table,
    .open = cpu_open,
    .close = cpu_close,
    .count = device_count,
    .describe = cpu_describe,
    .peak_flops = cpu_peak_flops,
};
