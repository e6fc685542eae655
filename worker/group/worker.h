/* The worker's modes, as main.c calls them. All ranks enter the same one. */
#ifndef WORKER_GROUP_WORKER_H
#define WORKER_GROUP_WORKER_H

#include <signal.h>

#include "wire/net.h"
#include "worker/train/trace.h"
#include "worker/train/trainer.h"

/* What every mode needs: made by main.c, one for the process. */
struct worker {
    struct world *world;
    const char *device_name;  /* --device: what "auto" means here */
    struct device *device;    /* the one in use; worker_device opens it */
    struct nccl *nccl;        /* made with the device, kept between trials; NULL: none */
    struct data_cache *cache; /* made with the device */
    size_t cache_bytes;
    bool stream_data;                       /* leave data sets in host memory */
    bool eager;                             /* queue every step anew */
    int gpu_share;                          /* ranks that share a card; 0: 1 */
    const volatile sig_atomic_t *terminate; /* SIGTERM or SIGINT came */
    enum exchange_choice exchange;
    int levels[EXCHANGE_LEVELS_MAX]; /* of the exchange; level_count 0: one */
    int level_count;
    struct net_pair pair; /* rank 0's; "": ipc alone */
    struct net_keys coordinator_keys, tracker_keys;
};

/* Rank 0, for tcp:// endpoints: our own pair from a file of `trireme keygen` (mode 0600), and the
 * servers' public keys, which may be NULL. */
enum status worker_read_keys(struct worker *w, const char *file, const char *coordinator_key,
                             const char *tracker_key, struct err *err) MUST_USE;

/* Collective. Opens the device that `name` asks for ("auto": --device's), unless it is open, and
 * with a GPU the communicator. Data sets on another device are let go. A device that cannot be
 * opened leaves everything as it was. */
enum status worker_device(struct worker *w, const char *name, struct err *err) MUST_USE;
void worker_close_device(struct worker *w);

/* A GPU that failed computes no more in this process. Not collective. */
bool worker_device_lost(const struct worker *w);

struct worker_trial {
    const struct value *config; /* outlives the trainer */
    const char *file;           /* it came from, for messages; may be NULL */
    struct pump pump;           /* see trainer.h */
};

/* The trainer of a configuration in this process. */
enum status worker_trainer(struct worker *w, const struct worker_trial *trial, struct trainer **out,
                           struct err *err) MUST_USE;

/* Initial weights from bytes, or the start of a checkpoint. The same on every rank: rank 0's bytes
 * (NULL: none) are shared. *found says whether there were any. */
enum status worker_share_weights(struct worker *w, struct trainer *t, const void *bytes, size_t len,
                                 bool *found, struct err *err) MUST_USE;
enum status worker_share_checkpoint(struct worker *w, struct trainer *t, struct trace *trace,
                                    const void *bytes, size_t len, bool *found,
                                    struct err *err) MUST_USE;

/* A value tree from rank 0 to all (NULL: none). */
enum status worker_share_value(struct worker *w, struct arena *a, const struct value *mine,
                               struct value **out, struct err *err) MUST_USE;

/* --train: a trial configuration without any server. Rank 0 prints {"weights_digest", …}. */
struct train_args {
    const char *file, *weights_out, *checkpoint;
};
enum status worker_train(struct worker *w, const struct train_args *args, struct err *err) MUST_USE;

/* --plan: what a configuration would do, without training: {"model", "engine", "data", …}; with
 * gpu_gib on a card of that size that need not be here: {"budget", "buckets", "model", …}. */
struct plan_args {
    const char *file;
    int64_t gpu_gib, ranks; /* 0: on this machine's device, these ranks */
};
enum status worker_plan(struct worker *w, const struct plan_args *args, struct err *err) MUST_USE;

/* Prints why worker_plan failed, for programs: {"error": {code, message, device}}; without device
 * where none was opened. */
void worker_plan_refused(const struct worker *w, enum status status, const struct err *err);

/* What --train and --plan share. A configuration from a file ("-": standard input), the same on
 * every rank; the configuration's initial weights, where it names some; a value on standard
 * output. */
enum status worker_load_config(struct worker *w, const char *file, struct arena *a,
                               struct value **out, struct err *err) MUST_USE;
enum status worker_start_weights(struct worker *w, struct trainer *t, struct err *err) MUST_USE;
enum status worker_print(const struct value *v, struct err *err) MUST_USE;

/* --replay: trains a run again and compares. *exit_code: 0 exact, 3 diverged,
 * that of a status where it was refused (changed data: CONFLICT). */
struct replay_args {
    const char *run, *tracker;
    int64_t until; /* 0: all steps */
    bool json;
};
enum status worker_replay(struct worker *w, const struct replay_args *args, int *exit_code,
                          struct err *err) MUST_USE;

/* A worker group: trains what the coordinator assigns until it is told to leave. */
struct group_args {
    const char *coordinator, *tracker;
};
enum status worker_group(struct worker *w, const struct group_args *args, struct err *err) MUST_USE;

#endif
