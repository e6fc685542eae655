/* A run's manifest: made, and compared with another. */
#include "worker/group/manifest.h"

#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/json.h"
#include "core/version.h"
#include "kernels/devices.h"

#define ENVIRONMENT_MAX 64
#define HOST_MAX        256

extern char **environ;

/* What changes bits or speed of the libraries we use. */
static bool telling(const char *entry) {
    static const char *const prefixes[] = {
        "OMP_",  "OMPI_MCA_", "ONEDNN_", "DNNL_",   "GOMP_", "KMP_",         "MALLOC_",
        "CUDA_", "CUBLAS_",   "CUDNN_",  "NVIDIA_", "NCCL_", "SLURM_JOB_ID="};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (strncmp(entry, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

static struct value *environment(struct arena *a) {
    struct value *map = value_map(a);
    int count = 0;
    for (char **e = environ; *e != NULL && count < ENVIRONMENT_MAX; e++) {
        const char *eq = strchr(*e, '=');
        if (eq == NULL || !telling(*e))
            continue;
        value_set_string(a, map, arena_copy(a, *e, (size_t)(eq - *e)), eq + 1);
        count++;
    }
    return map;
}

/* Libraries that the device's description names, each where it is used. */
static const char *const of_device[] = {"onednn", "cuda", "cublas", "cudnn", "driver"};

struct value *manifest_make(struct arena *a, const struct trainer *t, struct world *w,
                            const struct device *device, const struct value *resumed_from) {
    const struct spec_trial *c = trainer_config(t);
    struct value *m = value_map(a), *libraries = value_map(a), *plan = trainer_describe(a, t);
    struct value *hardware = device_describe(a, device);
    char host[HOST_MAX] = "";
    (void)gethostname(host, sizeof host - 1);
    value_set(a, m, "config", value_copy(a, c->root));
    value_set_int(a, m, "seed", (int64_t)c->seed);
    value_set_int(a, m, "virtual_shards", c->shards);
    value_set_int(a, m, "ranks", world_size(w));
    value_set(a, m, "data", data_describe(a, trainer_data(t)));
    value_set(a, m, "model", model_describe(a, trainer_model(t)));
    value_set(a, m, "engine", value_get(plan, "engine"));
    value_set_string(a, m, "exchange", value_get_string(plan, "exchange", NULL));
    value_set(a, m, "device", hardware);
    value_set_string(a, libraries, "mpi", world_library(w));
    for (size_t i = 0; i < sizeof of_device / sizeof of_device[0]; i++)
        if (value_get(hardware, of_device[i]) != NULL)
            value_set_string(a, libraries, of_device[i],
                             value_get_string(hardware, of_device[i], NULL));
    value_set(a, m, "libraries", libraries);
    value_set_string(a, m, "build", trireme_build_id);
    value_set_string(a, m, "version", TRIREME_VERSION);
    value_set_string(a, m, "host", host);
    value_set(a, m, "environment", environment(a));
    if (resumed_from != NULL)
        value_set(a, m, "resumed_from", value_copy(a, resumed_from));
    value_set_int(a, m, "started_ns", clock_wall_ns(&clock_system));
    return m;
}

static const char *text_at(const struct value *m, const char *path) {
    const struct value *v = value_at(m, path);
    return v != NULL && v->kind == VALUE_STRING ? v->string : NULL;
}

static void differ(const struct value *then, const struct value *now, const char *path,
                   const char *name, struct buf *out) {
    const char *a = text_at(then, path), *b = text_at(now, path);
    if (a == NULL || b == NULL || strcmp(a, b) == 0)
        return;
    bool digest = strlen(a) == DIGEST_HEX - 1; /* twelve digits tell two builds apart */
    buf_addf(out, "%s%s: %.*s then, %.*s now", out->len > 0 ? "; " : "", name, digest ? 12 : 120, a,
             digest ? 12 : 120, b);
}

/* A library may choose another algorithm though its version is the same: the first layer says so.
 */
static void differ_algorithms(const struct value *then, const struct value *now, struct buf *out) {
    const struct value *a = value_at(then, "engine.algorithms");
    const struct value *b = value_at(now, "engine.algorithms");
    for (size_t i = 0; a != NULL && b != NULL && i < a->count; i++) {
        const struct member *m = &a->members[i];
        const struct value *other = value_get(b, m->key);
        if (other == NULL || value_equal(m->value, other))
            continue;
        buf_addf(out, "%salgorithm of %.80s: another was chosen", out->len > 0 ? "; " : "", m->key);
        return;
    }
}

void manifest_differences(const struct value *then, const struct value *now, struct buf *out) {
    differ(then, now, "device.device", "device", out);
    differ(then, now, "device.isa", "instruction set", out);
    differ(then, now, "device.cpu", "cpu", out);
    differ(then, now, "device.gpu", "gpu", out);
    differ(then, now, "engine.precision", "precision", out);
    differ(then, now, "libraries.onednn", "library onednn", out);
    differ(then, now, "libraries.cuda", "library cuda", out);
    differ(then, now, "libraries.cublas", "library cublas", out);
    differ(then, now, "libraries.cudnn", "library cudnn", out);
    differ_algorithms(then, now, out);
    differ(then, now, "build", "program (build id)", out);
}
