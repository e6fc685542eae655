/* The CPU backend, as kernels/devices.c opens it. */
#ifndef KERNELS_CPU_BACKEND_H
#define KERNELS_CPU_BACKEND_H

#include "kernels/run/device.h"

extern const struct backend cpu_backend;

#endif
