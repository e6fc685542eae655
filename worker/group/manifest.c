/* A run's manifest: made, and compared with another. */
#include "worker/group/manifest.h"

#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/json.h"
#include "core/utf8.h"
#include "core/version.h"
#include "kernels/devices.h"

#define ENVIRONMENT_MAX 64
#define ENVIRONMENT_TEXT_MAX                                                                       \
    ((size_t)256 << 10) /* of one variable; the kernel's bound is 128 KiB */
#define HOST_MAX 256

extern char **environ;

/* What changes bits or speed of the libraries that we use, and where a run was. Of all else nothing is
 * recorded: a manifest is read by many, and an environment holds more than one would show them. */
static const char *const names[] = {"SLURM_JOB_ID",   "SLURM_STEP_ID",        "SLURM_NTASKS",
                                    "SLURM_NNODES",   "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH",
                                    "OMP_NUM_THREADS"};
static const char *const prefixes[] = {"OMP_",    "OMPI_MCA_", "ONEDNN_", "DNNL_",
                                       "GOMP_",   "KMP_",      "MALLOC_", "CUDA_",
                                       "CUBLAS_", "CUDNN_",    "NCCL_",   "NVIDIA_TF32_"};

/* Of these the manifest says that they were set, and not to what: parts of a name, in capitals. */
static const char *const secrets[] = {"TOKEN", "KEY",  "SECRET", "PASS",   "CREDENTIAL",
                                      "AUTH",  "CERT", "COOKIE", "SESSION"};

static bool among(const char *name, const char *const *list, size_t count, bool whole) {
    for (size_t i = 0; i < count; i++)
        if (whole ? strcmp(name, list[i]) == 0 : strncmp(name, list[i], strlen(list[i])) == 0)
            return true;
    return false;
}

#define COUNT(list) (sizeof(list) / sizeof *(list))

static bool is_secret(const char *name) {
    for (size_t i = 0; i < COUNT(secrets); i++)
        if (strcasestr(name, secrets[i]) != NULL)
            return true;
    return false;
}

/* Text from outside as UTF-8: "\\xff" for each byte that is none of it. */
static struct value *plain(struct arena *a, const char *text) {
    struct buf out = BUF_INIT(ENVIRONMENT_TEXT_MAX);
    size_t len = strlen(text);
    for (size_t i = 0, n; i<len; i += n> 0 ? n : 1) {
        n = utf8_length(text + i, len - i);
        if (n > 0)
            buf_add(&out, text + i, n);
        else
            buf_addf(&out, "\\x%02x", (unsigned)(unsigned char)text[i]);
    }
    struct value *v = value_bytes(a, buf_text(&out), out.len);
    buf_release(&out);
    return v;
}

static struct value *environment(struct arena *a) {
    struct value *map = value_map(a);
    int count = 0;
    for (char **e = environ; *e != NULL && count < ENVIRONMENT_MAX; e++) {
        const char *eq = strchr(*e, '=');
        const char *name = eq != NULL ? arena_copy(a, *e, (size_t)(eq - *e)) : NULL;
        if (name == NULL || !(among(name, names, COUNT(names), true) ||
                              among(name, prefixes, COUNT(prefixes), false)))
            continue;
        const struct value *key = plain(a, name);
        if (key == NULL)
            continue;
        value_set(a, map, key->string,
                  is_secret(name) ? value_string(a, "(set)") : plain(a, eq + 1));
        count++;
    }
    return map;
}

enum status manifest_fits(const struct value *manifest, struct err *err) {
    enum status st = STATUS_OK;
    struct buf text = BUF_INIT(JSON_TEXT_MAX), part = BUF_INIT(JSON_TEXT_MAX);
    const char *largest = "";
    size_t most = 0;
    TRY(json_dump(manifest, JSON_COMPACT, &text, err));
    if (text.len <= MANIFEST_BYTES_MAX)
        goto out;
    for (size_t i = 0; i < manifest->count; i++) {
        buf_clear(&part);
        TRY(json_dump(manifest->members[i].value, JSON_COMPACT, &part, err));
        if (part.len > most) {
            most = part.len;
            largest = manifest->members[i].key;
        }
    }
    st =
        err_set(err, STATUS_TOO_LARGE,
                "the run's manifest would have %zu bytes, %zu of them in '%s', and at most %zu can "
                "be stored%s",
                text.len, most, largest, MANIFEST_BYTES_MAX,
                strcmp(largest, "data") == 0
                    ? ": the words of classes and columns are kept there; use numbers for them, "
                      "shorter or fewer words"
                    : "");
out:
    buf_release(&text);
    buf_release(&part);
    return st;
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
    value_set_string(a, m, "exchange_because", value_get_string(plan, "exchange_because", NULL));
    value_set(a, m, "device", hardware);
    value_set_string(a, libraries, "mpi", world_library(w));
    for (size_t i = 0; i < sizeof of_device / sizeof of_device[0]; i++)
        if (value_get(hardware, of_device[i]) != NULL)
            value_set_string(a, libraries, of_device[i],
                             value_get_string(hardware, of_device[i], NULL));
    value_set(a, m, "libraries", libraries);
    value_set_string(a, m, "build", trireme_build_id);
    value_set_string(a, m, "version", TRIREME_VERSION);
    value_set(a, m, "host", plain(a, host));
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
