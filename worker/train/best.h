/* The best evaluation of a trial so far: the first one whose metric no other beats. What is not
 * finite never wins. A function of the evaluations alone: a trial that was killed and resumed finds
 * the same one. Threading: one thread. */
#ifndef WORKER_TRAIN_BEST_H
#define WORKER_TRAIN_BEST_H

#include "core/hash.h"
#include "core/value.h"

struct best {
    int64_t step; /* 0: none yet */
    double value;
    struct digest weights; /* as trainer_digest has it */
    bool unknown; /* an earlier attempt, of a program that kept none, evaluated: nothing is said */
};

/* Whether an evaluation with this value is better than all before it. */
bool best_improves(const struct best *b, double value, bool smaller_is_better);

/* Sets out.best = {step, metric, value, weights_digest}, where there is one. */
void best_describe(struct arena *a, const struct best *b, const char *metric, struct value *out);

/* The __metadata__ of the best weights as a file: {run, step, metric, value}; `run` may be NULL. */
struct value *best_metadata(struct arena *a, const struct best *b, const char *metric,
                            const char *run);

/* To and from the metadata of a checkpoint (strings: best_step, best_value, best_digest). CORRUPT
 * when they are not what best_set writes. */
void best_set(struct arena *a, const struct best *b, struct value *metadata);
enum status best_get(const struct value *metadata, struct best *b, struct err *err) MUST_USE;

#endif
