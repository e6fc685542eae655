/* --devices: what this machine offers, without starting anything: the CPU, and each GPU or the
 * reason why there is none. Ends with 0 in either case, and within DEVICES_WAIT_MS: a driver that
 * does not answer is reported, not waited for.
 *
 * With --need-gpu a GPU is expected: CUDA's libraries are read into the page cache first, each of
 * DEVICES_TRIES tries is a process of its own and may take DEVICES_NEED_WAIT_MS, and where none finds
 * a GPU that can be used the exit code is DEVICES_NO_GPU. */
#ifndef WORKER_GROUP_DEVICES_H
#define WORKER_GROUP_DEVICES_H

#include <stdbool.h>

#include "core/status.h"

#define DEVICES_WAIT_MS      8000
#define DEVICES_NEED_WAIT_MS 60000
#define DEVICES_TRIES        3
#define DEVICES_NO_GPU       3
#define DEVICES_VARIABLE     "TRIREME_DEVICES_WAIT_MS" /* another limit, of a try too */

/* Text, or one JSON object:
 *   {cpu: {cpu, isa, cores, onednn}, gpus: [{index, gpu, memory, isa, sms, bus, …}], no_gpu,
 *    libraries: {driver, cuda, cublas, cudnn, nccl}}
 * A GPU that cannot be used has `error` in place of its name, one that did not answer in time has
 * neither. `no_gpu` is there where `gpus` is empty. Does not return where a driver hangs. */
enum status worker_devices(bool json, struct err *err) MUST_USE;

/* The same with --need-gpu. The process must have no threads yet. */
enum status worker_devices_needed(bool json, int *exit_code, struct err *err) MUST_USE;

#endif
