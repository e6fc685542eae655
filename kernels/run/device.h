/* The device seam: memory, queues of work, operators, the optimizer. The engine (engine.c) and the
 * optimizer's front (update.c) know nothing of a backend but what this file says. kernels/cpu/ is
 * the first backend; kernels/cuda/ is a shared object, loaded by kernels/devices.c, that exports one
 * `const struct backend trireme_backend`.
 *
 *     struct backend ─┬─ memory      alloc, copy, data sets and batches
 *                     ├─ order       queues, marks, recording
 *                     ├─ operators   a row for each enum op_kind; folds
 *                     └─ update      a step's terms, the optimizer, the outcome
 *
 *     a row:  prepare (once) · refresh (weights changed) · forward · backward_weights ·
 *             backward_data
 *
 * Bits: a row's result may depend on that row only (forward, backward_data) or on its shard only
 * (backward_weights, batch statistics), never on how many shards one call covers. */
#ifndef KERNELS_RUN_DEVICE_H
#define KERNELS_RUN_DEVICE_H

#include "kernels/graph/graph.h"
#include "kernels/run/optimizer_rule.h"

#define FOLD_MAX 32 /* levels of a tree; V ≤ 2^31 */

/* Where the partial gradient of one group of shards goes: dst = add[n−1] + (… + (add[0] + group)).
 * All are flat vectors; an operator touches its own stretch only. */
struct fold {
    float *dst;
    int adds;
    const float *add[FOLD_MAX];
};

struct loss_sum {
    double loss; /* summed over rows in order */
    int64_t correct;
};

/* One call. Pointers are the device's; x, y, dx, dy are (rows, elements of a sample) of float, or
 * of bfloat16 where the precision says so. Training: rows = shards · shard_rows. Evaluation: shards
 * is 1, shard_rows is rows. */
struct pass {
    bool training;
    int shards;
    int64_t rows, shard_rows;
    const void *x[NODE_INPUTS];
    void *y;
    void *dy;              /* backward_weights may change it (the mask of a fused relu) */
    void *dx[NODE_INPUTS]; /* NULL: not wanted; may be dy where the operator works in place */
    const float *weights;  /* the flat vector, float32 in every precision */
    const struct fold *fold;
    const int32_t *rows_global; /* training: of these rows */
    int64_t step;            /* backends that queue read it from their copy of the step's terms */
    const int32_t *labels;   /* loss */
    const float *targets;    /* loss */
    struct loss_sum *losses; /* loss: one per shard */
};

/* A row of the table; NULL where there is nothing to do. backward_weights comes before
 * backward_data, so that a bucket can leave early. The loss writes dy = ∂loss/∂x into pass.dx[0] in
 * forward when training. Nothing but prepare may allocate, and only prepare and self_check may
 * wait for the device. */
struct operation {
    const char *name;
    enum status (*prepare)(struct device *d, struct node *n, const struct extent *e,
                           struct err *err);
    void (*release)(struct device *d, struct node *n);
    void (*refresh)(const struct node *n, const float *weights, bool training);
    void (*forward)(const struct node *n, const struct pass *p);
    void (*backward_weights)(const struct node *n, const struct pass *p);
    void (*backward_data)(const struct node *n, const struct pass *p);
    bool (*self_check)(const struct node *n); /* same bits for a row alone and among others */
    /* The library's algorithms that were chosen, by name; NULL: there is nothing to choose. */
    struct value *(*describe)(struct arena *a, const struct node *n);
};

/* ---- queues ---- */

/* A backend that queues returns before the work is done; work in one queue is done in order. The
 * first error of a device sticks: status() tells it, and nothing that follows is done. The CPU
 * works at once and has one queue under both names. */
enum queue { QUEUE_COMPUTE, QUEUE_EXCHANGE, QUEUES };

/* What changes from step to step. Operators, gather and update of a queuing backend read the
 * device's copy, so that a recorded step can be played again. */
struct step_terms {
    int64_t step;         /* from 1 */
    uint64_t seed;        /* of the order of samples (core/order.h): a table serves many trials */
    int32_t shuffle;      /* 0: the order is the part's own */
    int64_t epoch, first; /* position of this rank's first row in the epoch's order */
    struct optimizer_rates rates[2]; /* weight, plain (optimizer.h) */
    float scale;                     /* of the gradient, before clipping: 1/B */
    float stop;                      /* 1: this rank asks to stop */
    int32_t slot;                    /* of the outcome ring */
};

/* What a step came to, written to host memory. */
struct step_outcome {
    float scalars[SCALARS];
    double grad_norm;
    uint32_t flags; /* of all ranks */
    uint64_t begin_ns, work_ns,
        end_ns; /* the device's clock: step, end of backward, end; 0: none */
};
enum { OUTCOME_NONFINITE = 1 };

#define OUTCOME_SLOTS 16
#define MARKS         32

/* ---- a part of a data set on the device ---- */

enum table_transform_kind { TABLE_SCALE, TABLE_SHIFT, TABLE_NORMALIZE };
struct table_transform {
    enum table_transform_kind kind;
    float by;                    /* scale: x · by; shift: x + by */
    const float *mean, *inverse; /* (features): (x − mean) · inverse */
};
#define TABLE_TRANSFORMS_MAX 64

/* Host memory; the table copies what it needs. */
struct table_spec {
    bool bytes; /* x is uint8, else float32 */
    int64_t samples, features, outputs;
    const void *x;         /* (samples, features) */
    const int32_t *labels; /* (samples); NULL in regression */
    const float *targets;  /* (samples, outputs), or NULL */
    const int64_t *ids;    /* (count): the part's samples within x; NULL: all in order */
    int64_t count;
    const struct table *twin; /* of the same samples, outliving this: x, labels, targets are there
                                 already; NULL: none */
    const struct table_transform *transforms;
    int transform_count;
};
struct table;

/* Where a batch goes: (rows, features) elements, (rows) labels or (rows, outputs) targets. */
struct batch {
    void *x;
    int32_t *labels;
    float *targets;
};

/* ---- a backend: four tables ---- */

/* Where things lie. alloc: zeroed, aligned to 256 bytes (64 on the CPU); NULL when exhausted.
 * host_alloc: host memory that copies reach at full speed and kernels can write. */
struct device_memory {
    void *(*alloc)(struct device *d, size_t bytes);
    void (*release)(struct device *d, void *p);
    void *(*host_alloc)(struct device *d, size_t bytes);
    void (*host_release)(struct device *d, void *p);
    void (*room)(struct device *d, int64_t *available, int64_t *total); /* bytes now */

    /* upload: after what is queued; src may be changed on return. download: waits. copy: any two,
     * queued; host sides are host_alloc's and must stay as they are until it is done. */
    void (*upload)(struct device *d, void *dst, const void *src, size_t bytes);
    void (*download)(struct device *d, void *dst, const void *src, size_t bytes);
    void (*copy)(struct device *d, enum queue q, void *dst, const void *src, size_t bytes);
    /* (count) floats of device memory to elements of the precision. */
    void (*convert)(struct device *d, const float *src, void *dst, int64_t count,
                    enum precision precision);

    /* Data sets; NULL where batches are made on the host. gather_step: this step's rows by the
     * terms' epoch, first and order. gather_rows: rows from `first` on in the part's own order. */
    enum status (*table_new)(struct device *d, const struct table_spec *spec, struct table **out,
                             struct err *err);
    void (*table_release)(struct device *d, struct table *t);
    void (*gather_step)(struct device *d, const struct table *t, int64_t rows,
                        enum precision precision, const struct batch *out);
    void (*gather_rows)(struct device *d, const struct table *t, int64_t first, int64_t rows,
                        enum precision precision, const struct batch *out);
};

/* When things happen. */
struct device_order {
    void (*enter)(struct device *d); /* at the start of a call from a thread */
    void (*sync)(struct device *d);  /* waits until all queues are empty */
    enum status (*status)(struct device *d, struct err *err);              /* does not wait */
    void (*after)(struct device *d, enum queue later, enum queue earlier); /* of what is queued */
    void (*mark)(struct device *d, enum queue q, int mark);
    bool (*reached)(struct device *d, int mark); /* does not wait; also true after an error */
    void *(*native_queue)(struct device *d, enum queue q); /* cudaStream_t; NULL on the CPU */

    /* Recording: what is queued between begin and end, on all queues, becomes one object to play.
     * NULL where a backend does not queue. */
    enum status (*record_begin)(struct device *d, struct err *err);
    enum status (*record_end)(struct device *d, void **out, struct err *err);
    void (*play)(struct device *d, void *recorded);
    void (*record_release)(struct device *d, void *recorded);

    /* Ranges for a profiler; NULL: none. */
    void (*range_push)(const char *name);
    void (*range_pop)(void);
};

/* What is computed. fold: dst[i] = the tree sum of srcs[0..n)[i], n a power of two; a sum that is
 * not finite raises the step's flag. scalars: the tree over shards of loss, correct and rows, and
 * the stop, into the tail. */
struct device_operators {
    const struct operation *const *rows; /* [OP_KINDS] */
    void (*fold)(struct device *d, enum queue q, float *dst, const float *const *srcs, int n,
                 int64_t count);
    void (*scalars)(struct device *d, const struct loss_sum *losses, int shards, int64_t shard_rows,
                    float *tail);
    bool (*finite)(struct device *d, const void *x, int64_t count, enum precision precision);
};

struct update;      /* update.h */
struct update_spec; /* update.h */

/* What a step comes to: its terms, the optimizer (see update.h), its outcome. begin_step takes the
 * terms (before a recording, not inside it); outcome writes ring[terms.slot] and stops all further
 * updates when a flag is up; resume lowers flag and halt: for a new trial, or after a blame. */
struct device_update {
    void (*begin_step)(struct device *d, const struct step_terms *terms);
    uint32_t *(*flags)(struct device *d); /* the step's flag word: device memory; CPU: the host's */
    /* words: (ranks) flag words gathered, device memory. */
    void (*outcome)(struct device *d, const float *tail, const uint32_t *words, int ranks,
                    struct step_outcome *ring);
    void (*resume)(struct device *d);

    enum status (*create)(struct device *d, const struct update_spec *spec, struct update **out,
                          struct err *err);
    void (*release)(struct update *u);
    float *(*slot)(struct update *u, int slot);
    double *(*norms)(struct update *u, int bucket);
    void (*clip)(struct update *u, const double *norms);
    double (*norm)(struct update *u); /* waits */
    void (*apply)(struct update *u, int first, int count);
};

struct backend {
    const char *name;            /* "cpu", "cuda" */
    const char *build;           /* trireme_build_id: a loaded backend must be of the same build */
    bool queues;                 /* work goes on after a call has returned */
    const struct traits *traits; /* what the planner knows of it */
    const struct device_memory *memory;
    const struct device_order *order;
    const struct device_operators *operators;
    const struct device_update *update;

    /* `index`: which of the machine's, modulo their number (ranks may share one). */
    enum status (*open)(int index, struct device **out, struct err *err);
    void (*close)(struct device *d);
    int (*count)(struct err *err); /* devices here; 0 with the reason in *err */
    struct value *(*describe)(struct arena *a, const struct device *d);
    double (*peak_flops)(struct device *d, enum precision precision); /* per second */
};

/* The start of every backend's own device. */
struct device {
    const struct backend *backend;
    size_t cache_bytes[2]; /* L2, last level: what the planner divides by; 0: take whole walks */
};

#endif
