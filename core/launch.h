/* How siblings are started: worker groups by mpirun and srun (the coordinator, `trireme replay`),
 * and programs that answer a question with JSON. */
#ifndef CORE_LAUNCH_H
#define CORE_LAUNCH_H

#include <stddef.h>

#include "core/value.h"

/* Settings for Open MPI on one machine and one thread a rank, "KEY=value": those that the user has
 * not set himself. Fills env[0..n) and returns n ≤ LAUNCH_SETTINGS_MAX; the strings are static. */
#define LAUNCH_SETTINGS_MAX 7
size_t launch_settings(const char *env[LAUNCH_SETTINGS_MAX]);

/* Runs argv (NULL at the end) and parses the JSON that it prints on standard output; its words on
 * standard error go to ours. TIMEOUT: it was ended after timeout_ms (0: waits for ever). Otherwise
 * *exit_code is its own; *out stays NULL where that is not 0. */
enum status launch_ask(const char *const *argv, int timeout_ms, struct arena *a, int *exit_code,
                       struct value **out, struct err *err) MUST_USE;

/* What `trireme-worker --devices --json` answers (worker/group/devices.h), within LAUNCH_DEVICES_MS. */
#define LAUNCH_DEVICES_MS 10000
enum status launch_devices(const char *worker, struct arena *a, struct value **out,
                           struct err *err) MUST_USE;

#endif
