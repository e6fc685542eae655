/* Losses, optimizers and the rest of `training`. */
#include "spec/training.h"

#include <string.h>

#include "spec/tables_private.h"

#define OPTIMIZER(member) INTO(struct spec_optimizer, member)
#define TRAINING(member)  INTO(struct spec_training, member)

#define NAME_ROW F_STRING("name", REQUIRED, 1, 32, "which optimizer")
#define LR_ROW   F_REAL("lr", REQUIRED, 0, 1e6, "learning rate", OPTIMIZER(lr))
#define DECAY_ROW(d, text)                                                                         \
    F_REAL("weight_decay", 0, 0, 1e6, text, DEFAULT(d), OPTIMIZER(weight_decay))
#define BETAS_ROW                                                                                  \
    F_LIST("betas", 0, 2, 2, beta_item, "[b1, b2]: how slowly the two averages forget",            \
           DEFAULT("[0.9, 0.999]"), OPTIMIZER(betas))
#define EPS_ROW                                                                                    \
    F_REAL("eps", 0, 1e-30, 1, "added to the root of the second average", DEFAULT("1e-8"),         \
           SINCE(2, 0, 1), OPTIMIZER(eps))

/* As in most libraries' recipes, though not in their defaults: what is not a product's weight is left
 * alone. */
#define WHAT_ROW                                                                                   \
    F_ENUM(                                                                                        \
        "decay", 0, "weights|all",                                                                 \
        "what weight_decay applies to: weights of dense and conv2d, or biases and batch norm's "   \
        "weight and bias as well",                                                                 \
        DEFAULT("weights"), OPTIMIZER(decay))

static const struct field beta_item[] = {
    F_REAL("beta", 0, 0, 0.9999999, "decay", SINCE(2, 0, 0.99999999)), FIELD_END};
static const struct field sgd_fields[] = {
    NAME_ROW,
    LR_ROW,
    F_REAL("momentum", 0, 0, 0.9999999, "share of the last step that is kept", DEFAULT("0"),
           SINCE(2, 0, 1), OPTIMIZER(momentum)),
    F_BOOL("nesterov", 0, "look ahead by the momentum, which must then be greater than 0",
           DEFAULT("false"), OPTIMIZER(nesterov)),
    DECAY_ROW("0", "λ, added to the gradient as λ·w"),
    WHAT_ROW,
    FIELD_END};
static const struct field adam_fields[] = {
    NAME_ROW, LR_ROW,   BETAS_ROW, EPS_ROW, DECAY_ROW("0", "λ, added to the gradient as λ·w"),
    WHAT_ROW, FIELD_END};
static const struct field adamw_fields[] = {
    NAME_ROW, LR_ROW,   BETAS_ROW, EPS_ROW, DECAY_ROW("0.01", "λ: weights shrink by lr·λ·w"),
    WHAT_ROW, FIELD_END};

const struct spec_variant spec_optimizers[] = {
    [OPTIMIZER_SGD] = {"sgd", sgd_fields, "stochastic gradient descent, PyTorch's form"},
    [OPTIMIZER_ADAM] = {"adam", adam_fields, "Kingma & Ba 2015"},
    [OPTIMIZER_ADAMW] = {"adamw", adamw_fields, "Loshchilov & Hutter 2019"},
    {.name = NULL},
};

const struct field spec_training_fields[] = {
    F_ENUM("loss", REQUIRED, "cross_entropy|mse", "what is minimised", TRAINING(loss)),
    F_MAP("optimizer", REQUIRED, 0, 0, "name and settings, see Optimizers"),
    F_INT("global_batch_size", REQUIRED, 1, 1e9,
          "a multiple of virtual_shards; a last partial batch of an epoch is dropped",
          TRAINING(batch)),
    F_MAP("schedule", 0, 0, 0, "of the learning rate, see Schedules", DEFAULT("constant")),
    F_ENUM("precision", 0, "fp32|tf32|bf16", "what products are made in; tf32 and bf16 need a GPU",
           DEFAULT("fp32"), TRAINING(precision)),
    F_REAL("clip_norm", 0, 1e-30, SPEC_REAL_MAX, "largest norm of the mean gradient",
           DEFAULT("none"), TRAINING(clip_norm)),
    F_INT("eval_every", 0, 1, SPEC_COUNT_MAX, "units of time_metric between two evaluations",
          DEFAULT("every epoch; by steps, the end"), TRAINING(eval_every)),
    F_STRING("initial_weights", NULLABLE, 1, SPEC_PATH_MAX,
             "a safetensors file to start from; without it weights are drawn from the seed",
             TRAINING(initial_weights)),
    FIELD_END};

enum status spec_optimizer_read(const struct value *map, struct schema_source source,
                                struct spec_optimizer *out, struct err *err) {
    int kind = 0;
    struct spec_place place = {.source = source, .where = "training.optimizer"};
    enum status st = spec_pick(spec_optimizers, map, "name", place, &kind, err);
    if (st != STATUS_OK)
        return st;
    *out = (struct spec_optimizer){.betas = {0.9, 0.999}, .eps = 1e-8};
    schema_read(spec_optimizers[kind].fields, map, out);
    out->kind = (enum optimizer_kind)kind;
    out->slots = kind != OPTIMIZER_SGD ? 2 : out->momentum > 0.0 ? 1 : 0;
    if (out->nesterov && out->slots == 0 && spec_strict(source))
        return spec_refuse(source, value_get(map, "nesterov"), err,
                           "training.optimizer.nesterov needs a momentum greater than 0");
    return STATUS_OK;
}

enum status spec_training_read(const struct value *map, struct schema_source source,
                               struct spec_training *out, struct err *err) {
    enum status st = STATUS_OK;
    *out = (struct spec_training){0};
    TRY(schema_check_since(spec_training_fields, map, source, "training", err));
    schema_read(spec_training_fields, map, out);
    TRY(spec_optimizer_read(value_get(map, "optimizer"), source, &out->optimizer, err));
    TRY(spec_schedule_read(value_get(map, "schedule"), source, &out->schedule, err));
out:
    return st;
}
