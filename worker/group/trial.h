/* One trial from its first step (or its checkpoint) to its end: when to evaluate, to take digests,
 * to keep a checkpoint, to ask for a verdict. What is done with all that is the caller's: hooks.
 *
 *     step ─▶ metric ─▶ (stop?) ─▶ digest every K ─▶ evaluate ─▶ best? ─▶ report ─▶ checkpoint
 *       ▲                                                                             │
 *       └────────────── verdict ◀── ask, at a boundary ◀──────────────────────────────┘
 *
 * Collective, as the trainer is. Hooks are called on rank 0, except `stop` and `pump`, which every
 * rank may have. A hook that must end the trial does so through `stop`. Threading: one thread. */
#ifndef WORKER_GROUP_TRIAL_H
#define WORKER_GROUP_TRIAL_H

#include "worker/train/checkpoint.h"
#include "worker/train/trace.h"
#include "worker/train/trainer.h"

#define TRIAL_METRICS_MAX 16

struct trial_metrics {
    struct {
        const char *key; /* static */
        double value;
    } items[TRIAL_METRICS_MAX];
    int count;
};
void trial_metric_set(struct trial_metrics *m, const char *key, double value);
struct value *trial_metrics_map(struct arena *a, const struct trial_metrics *m);

struct trial_verdict {
    bool stop;
    double until; /* units of the next boundary */
};

struct trial_hooks {
    void *arg;
    bool (*stop)(void *arg); /* asked before each step: leave after it */
    void (*pump)(void *arg, int64_t step, double units);
    void (*step)(void *arg, const struct step_result *r);
    void (*mark)(void *arg, const struct trace_mark *m); /* a digest was taken */
    void (*metric)(void *arg, const char *key, int64_t step, double value);
    void (*report)(void *arg, const struct trial_metrics *m, int64_t step, double units,
                   bool boundary);
    void (*best)(void *arg, const struct best *b); /* this step's weights are the best so far */
    struct trial_verdict (*verdict)(void *arg);    /* waits */
    void (*checkpoint)(void *arg, const struct buf *bytes, int64_t step);
};

enum trial_outcome {
    TRIAL_COMPLETED, /* all units done */
    TRIAL_STOPPED,   /* by a verdict */
    TRIAL_LEFT,      /* some rank's `stop` */
};

struct trial {
    struct trainer *trainer;
    struct world *world;
    struct progress *progress; /* where it starts, and what it comes to */
    struct trial_hooks hooks;  /* any may be NULL */
    double until;              /* units of the first boundary; 0: none before the end */
    int64_t step_limit;        /* leave after this step; 0: at the end */
    int64_t digest_at;         /* one more step after which a digest is taken; 0: none */
    bool evaluate;             /* false: losses and digests only */
    bool checkpoints;          /* the same on every rank: rank 0 has the hook */

    /* written: */
    enum trial_outcome outcome;
    struct trial_metrics metrics; /* the last of each */
    struct digest weights, state; /* of the last step */
};

/* NONFINITE when loss, gradient or a metric is not finite. */
enum status trial_run(struct trial *t, struct err *err) MUST_USE;

#endif
