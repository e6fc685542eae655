/* Which devices there are: the CPU, linked in, and the GPU backend, a shared object that is loaded
 * when it is first asked for. This file lies above both backends; nothing below it names either.
 *
 * Threading: any thread may open devices; a device belongs to one thread at a time. */
#ifndef KERNELS_DEVICES_H
#define KERNELS_DEVICES_H

#include "kernels/run/device.h"

/* `name`: "cpu"; "cuda"; "auto" or NULL: a GPU where one answers, else the CPU. `index`: of this
 * rank among those of its machine; GPUs are taken in turn. UNAVAILABLE for a GPU that is not there,
 * with what was looked for and what to do. */
enum status device_open(const char *name, int index, struct device **out, struct err *err) MUST_USE;
void device_close(struct device **d);

/* What goes into the manifest. CPU: {device, cpu, isa, onednn}; GPU: {device, gpu, isa ("sm_90"),
 * cuda, driver, cublas, cudnn, memory}. */
struct value *device_describe(struct arena *a, const struct device *d);
const char *device_name(const struct device *d); /* "cpu", "cuda" */
bool device_queues(const struct device *d);      /* work goes on after a call has returned */

/* What the planner knows of a backend: "cpu" or "cuda", whether one of its devices is here or not.
 * NULL: no such backend. */
const struct traits *device_traits(const char *name);

/* The GPU backend, loaded once in a process. NULL with the reason: what was looked for, what to do.
 */
const struct backend *device_cuda_backend(struct err *err);

#endif
