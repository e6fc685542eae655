/* Devices of all backends by name; loading the GPU's. */
#include "kernels/devices.h"

#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/version.h"
#include "kernels/cpu/backend.h"
#include "kernels/cuda/traits.h"

#define CUDA_LIBRARY  "libtrireme-cuda.so"
#define CUDA_VARIABLE "TRIREME_CUDA_BACKEND" /* another path of it */

/* ---- the GPU backend ---- */

/* Loaded once in a process: a CUDA library that has been used cannot be put away again. */
static struct {
    pthread_once_t once;
    const struct backend *backend;
    struct err err; /* why there is none */
} cuda = {.once = PTHREAD_ONCE_INIT};

/* <prefix>/lib beside the <prefix>/bin that the running program lies in; else left to the loader.
 */
static void find_library(char out[PATH_MAX]) {
    const char *named = getenv(CUDA_VARIABLE);
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (named != NULL && *named != '\0') {
        (void)snprintf(out, PATH_MAX, "%s", named);
        return;
    }
    if (n > 0) {
        exe[n] = '\0';
        int len = snprintf(out, PATH_MAX, "%s/lib/" CUDA_LIBRARY, dirname(dirname(exe)));
        if (len > 0 && len < PATH_MAX && access(out, F_OK) == 0)
            return;
    }
    (void)snprintf(out, PATH_MAX, CUDA_LIBRARY);
}

/* What the backend needs at run time, and where it comes from. */
static const struct {
    const char *name, *from;
} needed[] = {
    {"libcublasLt", "cuBLAS (pip: nvidia-cublas)"},
    {"libcudnn", "cuDNN 9 (pip: nvidia-cudnn-cu13)"},
    {"libcudart", "the CUDA runtime (pip: nvidia-cuda-runtime)"},
    {"libnvrtc", "NVRTC (pip: nvidia-cuda-nvrtc)"},
    {"libstdc++", "GCC's C++ library"},
};

/* The loader says "<object>: cannot open shared object file: …": which object is the question. */
static enum status explain(const char *path, const char *said, struct err *err) {
    const char *name = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
    bool missing = strstr(said, "cannot open shared object file") != NULL;
    if (missing &&
        (strncmp(said, path, strlen(path)) == 0 || strncmp(said, name, strlen(name)) == 0))
        return err_set(
            err, STATUS_UNAVAILABLE,
            "looked for the GPU backend (%.300s): rebuild with CUDA=1 (`make deps CUDA=1` "
            "brings the toolkit), or name it in " CUDA_VARIABLE,
            said);
    for (size_t i = 0; missing && i < sizeof needed / sizeof *needed; i++)
        if (strncmp(said, needed[i].name, strlen(needed[i].name)) == 0)
            return err_set(
                err, STATUS_UNAVAILABLE,
                "the GPU backend %.150s needs %s (%.150s): install it, or put its folder into "
                "LD_LIBRARY_PATH",
                path, needed[i].from, said);
    return err_set(err, STATUS_UNAVAILABLE, "the GPU backend %.150s does not load: %.150s; %s",
                   path, said,
                   missing ? "put the folder of that library into LD_LIBRARY_PATH"
                           : "rebuild it with CUDA=1 against the libraries that are here");
}

static enum status load_cuda(const struct backend **out, struct err *err) {
    char path[PATH_MAX];
    find_library(path);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        const char *said = dlerror();
        return explain(path, said != NULL ? said : "no reason given", err);
    }
    const struct backend *backend = dlsym(library, "trireme_backend");
    if (backend == NULL)
        return err_set(err, STATUS_UNAVAILABLE,
                       "%s is not a GPU backend of Trireme (it lacks the symbol trireme_backend): "
                       "rebuild it with "
                       "CUDA=1",
                       path);
    if (strcmp(backend->build, trireme_build_id) != 0)
        return err_set(err, STATUS_UNAVAILABLE,
                       "the GPU backend %s is of build %.12s, this program of build %.12s: rebuild "
                       "or install both together",
                       path, backend->build, trireme_build_id);
    *out = backend;
    return STATUS_OK;
}

static void load_once(void) {
    if (load_cuda(&cuda.backend, &cuda.err) != STATUS_OK)
        cuda.backend = NULL;
}

const struct backend *device_cuda_backend(struct err *err) {
    (void)pthread_once(&cuda.once, load_once);
    if (cuda.backend == NULL)
        (void)err_set(err, cuda.err.status, "%s", cuda.err.text);
    return cuda.backend;
}

/* ---- devices ---- */

static enum status open_cuda(int index, struct device **out, struct err *err) {
    const struct backend *backend = device_cuda_backend(err);
    return backend != NULL ? backend->open(index, out, err) : STATUS_UNAVAILABLE;
}

/* Where there is no GPU or no backend, the CPU serves silently. A GPU that is present and fails is
 * worth a warning. */
static enum status open_any(int index, struct device **out, struct err *err) {
    struct err why = {0};
    const struct backend *backend = device_cuda_backend(&why);
    bool there = backend != NULL && backend->count(&why) > 0;
    if (there && backend->open(index, out, &why) == STATUS_OK)
        return STATUS_OK;
    log_err(there ? LOG_WARN : LOG_DEBUG, "no_gpu", &why);
    return cpu_backend.open(index, out, err);
}

const struct traits *device_traits(const char *name) {
    if (strcmp(name, "cuda") == 0)
        return &cuda_traits;
    return strcmp(name, "cpu") == 0 ? cpu_backend.traits : NULL;
}

enum status device_open(const char *name, int index, struct device **out, struct err *err) {
    *out = NULL;
    if (name == NULL || strcmp(name, "auto") == 0)
        return open_any(index, out, err);
    if (strcmp(name, "cpu") == 0)
        return cpu_backend.open(index, out, err);
    if (strcmp(name, "cuda") != 0)
        return err_set(err, STATUS_UNAVAILABLE,
                       "device '%.32s' is unknown; known are auto, cpu, cuda", name);
    enum status st = open_cuda(index, out, err);
    return st == STATUS_OK ? st : err_wrap(err, st, "device cuda");
}

void device_close(struct device **d) {
    if (*d != NULL)
        (*d)->backend->close(*d);
    *d = NULL;
}

struct value *device_describe(struct arena *a, const struct device *d) {
    return d->backend->describe(a, d);
}

const char *device_name(const struct device *d) {
    return d->backend->name;
}

bool device_queues(const struct device *d) {
    return d->backend->queues;
}
