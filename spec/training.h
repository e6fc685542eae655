/* `training`: what is minimised, by which optimizer, in what precision. */
#ifndef SPEC_TRAINING_H
#define SPEC_TRAINING_H

#include "spec/schedule.h"

enum loss_kind { LOSS_CROSS_ENTROPY, LOSS_MSE };

/* What products are made in. Weights, their gradients and the optimizer are float32 in all of them.
 * TF32: float32 rounded to 10 bits of fraction on the way into a product. BF16: what lies between
 * operators is bfloat16 as well, and products see weights rounded stochastically. */
enum precision { PRECISION_FP32, PRECISION_TF32, PRECISION_BF16 };

enum optimizer_kind { OPTIMIZER_SGD, OPTIMIZER_ADAM, OPTIMIZER_ADAMW };

enum decay { DECAY_WEIGHTS, DECAY_ALL }; /* not of biases, gammas, betas; of all that is trained */

struct spec_optimizer {
    enum optimizer_kind kind;
    double lr;       /* base rate; the schedule gives the step's own */
    double momentum; /* sgd */
    bool nesterov;
    double betas[2], eps; /* adam, adamw */
    double weight_decay;
    int slots; /* vectors of state, each as long as the weights: sgd 0 or 1, adam 2 */
    enum decay decay;
};

struct spec_training {
    enum loss_kind loss;
    struct spec_optimizer optimizer;
    struct spec_schedule schedule;
    enum precision precision;
    int64_t batch;               /* B: global_batch_size */
    double clip_norm;            /* of the mean gradient; 0: none */
    int64_t eval_every;          /* in time_metric; 0: each epoch */
    const char *initial_weights; /* NULL: drawn from the seed */
};

enum status spec_optimizer_read(const struct value *map, struct schema_source source,
                                struct spec_optimizer *out, struct err *err) MUST_USE;

enum status spec_training_read(const struct value *map, struct schema_source source,
                               struct spec_training *out, struct err *err) MUST_USE;

#endif
