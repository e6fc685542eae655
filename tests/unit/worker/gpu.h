/* Where the worker's tests find a GPU: the stand-ins (tests/standin/README.md) that were built
 * beside the test, or a real one where TRIREME_CUDA_BACKEND names a backend. */
#ifndef TESTS_UNIT_WORKER_GPU_H
#define TESTS_UNIT_WORKER_GPU_H

#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/status.h"

static inline void must(enum status st, const struct err *err) {
    if (st != STATUS_OK)
        fail_msg("%s: %s", status_name(st), err->text);
}

/* <build>/tests/unit/worker/test_x ─▶ <build>/standin/lib. False: there is nothing to test. */
static inline bool find_gpu(void) {
    char exe[PATH_MAX], path[PATH_MAX + 64];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (getenv("TRIREME_CUDA_BACKEND") != NULL)
        return true;
    if (n <= 0)
        return false;
    exe[n] = '\0';
    const char *build = dirname(dirname(dirname(dirname(exe))));
    (void)snprintf(path, sizeof path, "%s/standin/lib/libtrireme-cuda.so", build);
    return access(path, F_OK) == 0 && setenv("TRIREME_CUDA_BACKEND", path, 1) == 0;
}

/* Makes the stand-ins read their variables again; NULL on a real GPU. Once a device is open. */
static inline void (*find_standin(void))(void) {
    void *runtime = dlopen("libcudart.so.13", RTLD_NOLOAD | RTLD_NOW);
    void *found = runtime != NULL ? dlsym(runtime, "standin_begin") : NULL;
    void (*begin)(void);
    memcpy(&begin, &found, sizeof begin);
    return begin;
}

#endif
