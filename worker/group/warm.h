/* What a rank keeps warm from trial to trial: its place in the world, a device, a communicator,
 * data sets. The next trial finds them open and read.
 *
 *     main.c ──▶ struct worker ──▶ a mode (modes.h) ──▶ worker_trainer, once for each trial
 *
 * Threading: one thread. Lifetime: the process; devices are closed before the world. */
#ifndef WORKER_GROUP_WARM_H
#define WORKER_GROUP_WARM_H

#include <signal.h>

#include "wire/daemon.h"
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
    struct daemon_keys keys; /* rank 0's */
};

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
    bool planned;               /* to be described only */
    struct pump pump;           /* see trainer.h */
};

/* The trainer of a configuration in this process. */
enum status worker_trainer(struct worker *w, const struct worker_trial *trial, struct trainer **out,
                           struct err *err) MUST_USE;

#endif
