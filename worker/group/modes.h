/* The worker's modes, as main.c calls them. All ranks enter the same one.
 *
 *     --coordinator EP   serve.c      trains what it is assigned until it is told to leave
 *     --replay RUN       replay.c     trains a run again and compares every step
 *     --train FILE       solo.c       trains one configuration without any server
 *     --plan FILE        describe.c   says what a configuration would do
 *     --devices          devices.c    says what this machine offers (devices.h; no world) */
#ifndef WORKER_GROUP_MODES_H
#define WORKER_GROUP_MODES_H

#include "worker/group/warm.h"

struct serve_args {
    const char *coordinator, *tracker; /* endpoints */
};
enum status worker_serve(struct worker *w, const struct serve_args *args, struct err *err) MUST_USE;

/* *exit_code: 0 exact, 3 diverged, that of a status where replay was refused (changed data:
 * CONFLICT). */
struct replay_args {
    const char *run, *tracker;
    int64_t until; /* 0: all steps */
    bool json;
};
enum status worker_replay(struct worker *w, const struct replay_args *args, int *exit_code,
                          struct err *err) MUST_USE;

/* Rank 0 prints {"weights_digest", …}. */
struct train_args {
    const char *file, *weights_out, *best_out, *checkpoint;
};
enum status worker_train(struct worker *w, const struct train_args *args, struct err *err) MUST_USE;

/* Prints {"model", "engine", "data", …}; with gpu_gib, for a card of that size that need not be
 * here, {"budget", "buckets", "model", …}. */
struct describe_args {
    const char *file;
    int64_t gpu_gib, ranks; /* 0: on this machine's device, these ranks */
};
enum status worker_describe(struct worker *w, const struct describe_args *args,
                            struct err *err) MUST_USE;

/* Prints why worker_describe failed, for programs: {"error": {code, message, device}}; without
 * `device` where none was opened. */
void worker_describe_refused(const struct worker *w, enum status status, const struct err *err);

#endif
