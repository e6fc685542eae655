/* How sibling programs are started: what MPI ranks need in their environment (the coordinator,
 * `trireme replay`), and programs that answer a question with JSON. */
#ifndef CORE_LAUNCH_H
#define CORE_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>

#include "core/value.h"

/* Settings for Open MPI on one machine with one thread per rank, "KEY=value": those that the user
 * has not set. Fills env[0..n) and returns n ≤ LAUNCH_SETTINGS_MAX; the strings are static. */
#define LAUNCH_SETTINGS_MAX 7
size_t launch_settings(const char *env[LAUNCH_SETTINGS_MAX]);

/* What starts the ranks of a world. */
struct launch_plan {
    bool srun;   /* a step of this Slurm allocation; else mpirun */
    bool beside; /* srun: on this node, beside other steps */
    bool quiet;  /* mpirun: no words of its own when a rank ends with an error */
    const char *ranks;
    const char *gpus; /* "CUDA_VISIBLE_DEVICES=…" for a step; NULL or "": none */
};

/* Fills argv[0..n) with the launcher and its options, to be followed by the program, and returns
 * n ≤ LAUNCH_ARGV_MAX. The strings are static or the plan's. */
#define LAUNCH_ARGV_MAX 14
size_t launch_argv(const struct launch_plan *plan, const char *argv[LAUNCH_ARGV_MAX]);

/* What sees a world to its end (coordinator/shell/keeper.h): trireme-coordinator under this name, with HOME,
 * a token and the launcher's argv. A token that begins with LAUNCH_ALONE is of a world without a coordinator:
 * it ends with the process that started its keeper. */
#define LAUNCH_KEEPER "trireme-keeper"
#define LAUNCH_ALONE  "replay-"

/* Runs argv (NULL at the end) and reads what it prints on standard output as one JSON text; its
 * standard error is ours. TIMEOUT: it was ended after timeout_ms (0: no limit). INVALID: it succeeded
 * without printing JSON. */
struct launch_answer {
    int exit_code;
    struct value *value; /* NULL: it failed and printed no JSON */
};
enum status launch_ask(const char *const *argv, int timeout_ms, struct arena *a,
                       struct launch_answer *out, struct err *err) MUST_USE;

/* What `trireme-worker --devices --json` answers (worker/group/devices.h), within LAUNCH_DEVICES_MS. */
#define LAUNCH_DEVICES_MS 10000
/* need_gpu: `--need-gpu` too, which takes up to LAUNCH_NEED_GPU_MS. */
#define LAUNCH_NEED_GPU_MS 260000
enum status launch_devices(const char *worker, bool need_gpu, struct arena *a, struct value **out,
                           struct err *err) MUST_USE;

#endif
