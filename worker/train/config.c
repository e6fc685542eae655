#include "worker/train/config.h"

#include <string.h>

#include "core/schema.h"

#define COUNT_MAX 1e12

static const struct field checkpoint_fields[] = {
    {"every", FIELD_INT, 0, 1, COUNT_MAX, NULL, NULL, "in time_metric"},
    {"keep", FIELD_ENUM, 0, 0, 0, "last|all", NULL, "default last"},
    FIELD_END,
};

static const struct field training_fields[] = {
    {"loss", FIELD_ENUM, REQUIRED, 0, 0, "cross_entropy|mse", NULL, "which"},
    {"optimizer", FIELD_MAP, REQUIRED, 0, 0, NULL, NULL, "name, lr, …"},
    {"global_batch_size", FIELD_INT, REQUIRED, 1, 1e9, NULL, NULL, "a multiple of virtual_shards"},
    {"schedule", FIELD_MAP, 0, 0, 0, NULL, NULL, "name, …"},
    {"precision", FIELD_ENUM, 0, 0, 0, "fp32|tf32|bf16", NULL, "of products; default fp32"},
    {"clip_norm", FIELD_REAL, 0, 1e-30, 1e300, NULL, NULL, "of the mean gradient"},
    {"eval_every", FIELD_INT, 0, 1, COUNT_MAX, NULL, NULL, "in time_metric"},
    {"initial_weights", FIELD_STRING, NULLABLE, 1, 1023, NULL, NULL, "a safetensors file"},
    FIELD_END,
};

/* kernels/graph/model.c reads the layers. */
static const struct field layer_item[] = {{.name = "layer", .type = FIELD_ANY}, FIELD_END};

static const struct field config_fields[] = {
    {"name", FIELD_STRING, 0, 0, 200, NULL, NULL, "of the sweep"},
    {"hyperparameters", FIELD_MAP, 0, 0, 0, NULL, NULL, "as chosen"},
    {"seed", FIELD_INT, REQUIRED, 0, 0, NULL, NULL, "of the trial"},
    {"experiment_seed", FIELD_INT, 0, 0, 0, NULL, NULL, "of the sweep"},
    {"virtual_shards", FIELD_INT, 0, 1, CONFIG_SHARDS_MAX, NULL, NULL, "default 8"},
    {"bitwise", FIELD_BOOL, 0, 0, 0, NULL, NULL, "default true"},
    {"device", FIELD_ENUM, 0, 0, 0, "auto|cpu|cuda", NULL, "default auto"},
    {"time_metric", FIELD_ENUM, 0, 0, 0, "epochs|steps", NULL, "default epochs"},
    {"max_time", FIELD_REAL, REQUIRED, 1e-9, COUNT_MAX, NULL, NULL, "in time_metric"},
    {"metric", FIELD_STRING, 0, 0, 200, NULL, NULL, "the searched one"},
    {"smaller_is_better", FIELD_BOOL, 0, 0, 0, NULL, NULL, "default true"},
    {"data", FIELD_MAP, REQUIRED, 0, 0, NULL, NULL, "train, …"},
    {"model", FIELD_LIST, REQUIRED, 1, MODEL_LAYERS_MAX, NULL, layer_item, "layers"},
    {"training", FIELD_MAP, REQUIRED, 0, 0, NULL, training_fields, "loss, optimizer, …"},
    {"checkpoint", FIELD_MAP, 0, 0, 0, NULL, checkpoint_fields, "every, keep"},
    {"digest_every", FIELD_INT, 0, 1, COUNT_MAX, NULL, NULL, "steps; default 100"},
    FIELD_END,
};

static enum status check_batch(const struct trial_config *c, int ranks, struct err *err) {
    if ((c->shards & (c->shards - 1)) != 0)
        return err_set(err, STATUS_INVALID, "virtual_shards is %d, which is no power of two",
                       c->shards);
    if (c->shards % ranks != 0)
        return err_set(err, STATUS_INVALID,
                       "%d ranks do not divide virtual_shards (%d): use 1, 2, 4 … up to %d ranks",
                       ranks, c->shards, c->shards);
    if (c->batch % c->shards != 0)
        return err_set(err, STATUS_INVALID,
                       "training.global_batch_size is %lld, which is not a multiple of "
                       "virtual_shards (%d)",
                       (long long)c->batch, c->shards);
    return STATUS_OK;
}

static enum precision precision_of(const char *name) {
    return strcmp(name, "bf16") == 0   ? PRECISION_BF16
           : strcmp(name, "tf32") == 0 ? PRECISION_TF32
                                       : PRECISION_FP32;
}

enum status config_parse(const struct value *root, const char *file, int ranks,
                         struct trial_config *out, struct err *err) {
    enum status st = STATUS_OK;
    TRY(schema_check(config_fields, root, file, "", err));
    const struct value *training = value_get(root, "training");
    const struct value *checkpoint = value_get(root, "checkpoint");
    *out = (struct trial_config){
        .root = root,
        .data = value_get(root, "data"),
        .layers = value_get(root, "model"),
        .file = file,
        .seed = (uint64_t)value_get_int(root, "seed", 0),
        .shards = (int)value_get_int(root, "virtual_shards", 8),
        .shuffle = value_get_bool(value_get(root, "data"), "shuffle", true),
        .bitwise = value_get_bool(root, "bitwise", true),
        .precision = precision_of(value_get_string(training, "precision", "fp32")),
        .device = value_get_string(root, "device", "auto"),
        .by_steps = strcmp(value_get_string(root, "time_metric", "epochs"), "steps") == 0,
        .max_time = value_get_real(root, "max_time", 1),
        .metric = value_get_string(root, "metric", "val_error"),
        .loss = strcmp(value_get_string(training, "loss", ""), "mse") == 0 ? LOSS_MSE
                                                                           : LOSS_CROSS_ENTROPY,
        .batch = value_get_int(training, "global_batch_size", 0),
        .clip_norm = value_get_real(training, "clip_norm", 0),
        .eval_every = value_get_int(training, "eval_every", 0),
        .checkpoint_every = value_get_int(checkpoint, "every", 0),
        .keep_all = strcmp(value_get_string(checkpoint, "keep", "last"), "all") == 0,
        .digest_every = value_get_int(root, "digest_every", 100),
        .initial_weights = value_get_string(training, "initial_weights", NULL),
    };
    TRY(check_batch(out, ranks, err));
    TRY(optimizer_parse(value_get(training, "optimizer"), file, &out->optimizer, err));
    TRY(schedule_parse(value_get(training, "schedule"), file, &out->schedule, err));
out:
    return st;
}
