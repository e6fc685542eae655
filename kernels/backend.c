/* Which devices there are: the CPU, linked in, and the GPU backend, loaded when it is asked for. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/device.h"

enum status device_open(const char *name, int index, struct device **out, struct err *err) {
    const struct backend *backend = &cpu_backend;
    bool automatic = !name || !strcmp(name, "auto");
    *out = NULL;
    if (automatic || !strcmp(name, "cuda")) {
        struct err why = {0};
        const struct backend *cuda = backend_cuda(&why);
        if (cuda && cuda->count(&why) > 0)
            backend = cuda;
        else if (!automatic)
            return err_set(err, STATUS_UNAVAILABLE, "device cuda: %s", why.text);
    } else if (strcmp(name, "cpu") != 0) {
        return err_set(err, STATUS_UNAVAILABLE, "device '%.32s' is unknown; known are auto, cpu, cuda",
                       name);
    }
    return backend->open(index, out, err);
}

void device_close(struct device **d) {
    if (*d)
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

const struct backend *backend_cuda(struct err *err) {
    (void)err_set(err, STATUS_UNAVAILABLE, "this build has no GPU backend");
    return NULL;
}
