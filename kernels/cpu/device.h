/* The CPU as a device: what its files know of it beyond the seam. */
#ifndef KERNELS_CPU_DEVICE_H
#define KERNELS_CPU_DEVICE_H

#include <dnnl.h>

#include "kernels/run/device.h"

struct cpu_device {
    struct device base; /* first */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    void (*set_threads)(int); /* of the OpenMP runtime that oneDNN brings along; NULL: none */
    char model[96];
    struct step_terms terms; /* of the step under way */
    uint32_t flags;          /* and its flag word */
    double peak;             /* FLOP/s; 0: not measured yet */
};

static inline struct cpu_device *cpu_of(struct device *d) {
    return (struct cpu_device *)d;
}

#endif
