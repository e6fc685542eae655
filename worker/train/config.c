#include "worker/train/config.h"

#include <string.h>

#include "spec/language.h"

#define COUNT_MAX 1e12

static const struct field checkpoint_fields[] = {
    F_INT("every", 0, 1, COUNT_MAX, "in time_metric"),
    F_ENUM("keep", 0, "last|all", "default last"),
    FIELD_END,
};

static const struct field training_fields[] = {
    F_ENUM("loss", REQUIRED, "cross_entropy|mse", "which"),
    F_MAP("optimizer", REQUIRED, 0, 0, "name, lr, …"),
    F_INT("global_batch_size", REQUIRED, 1, 1e9, "a multiple of virtual_shards"),
    F_MAP("schedule", 0, 0, 0, "name, …"),
    F_ENUM("precision", 0, "fp32|tf32|bf16", "of products; default fp32"),
    F_REAL("clip_norm", 0, 1e-30, 1e300, "of the mean gradient"),
    F_INT("eval_every", 0, 1, COUNT_MAX, "in time_metric"),
    F_STRING("initial_weights", NULLABLE, 1, 1023, "a safetensors file"),
    FIELD_END,
};

/* kernels/graph/model.c reads the layers. */
static const struct field layer_item[] = {{.name = "layer", .type = FIELD_ANY}, FIELD_END};

static const struct field config_fields[] = {
    F_INT("language", 0, 1, SPEC_LANGUAGE, "version of the sweep language", DEFAULT("1")),
    F_STRING("name", 0, 0, 200, "of the sweep"),
    F_MAP("hyperparameters", 0, 0, 0, "as chosen"),
    F_INT("seed", REQUIRED, 0, 0, "of the trial"),
    F_INT("experiment_seed", 0, 0, 0, "of the sweep"),
    F_INT("virtual_shards", 0, 1, CONFIG_SHARDS_MAX, "default 8"),
    F_BOOL("bitwise", 0, "default true"),
    F_ENUM("device", 0, "auto|cpu|cuda", "default auto"),
    F_ENUM("time_metric", 0, "epochs|steps", "default epochs"),
    F_REAL("max_time", REQUIRED, 1e-9, COUNT_MAX, "in time_metric"),
    F_STRING("metric", 0, 0, 200, "the searched one"),
    F_BOOL("smaller_is_better", 0, "default true"),
    F_MAP("data", REQUIRED, 0, 0, "train, …"),
    F_LIST("model", REQUIRED, 1, SPEC_LAYERS_MAX, layer_item, "layers"),
    F_TABLE("training", REQUIRED, training_fields, "loss, optimizer, …"),
    F_TABLE("checkpoint", 0, checkpoint_fields, "every, keep"),
    F_INT("digest_every", 0, 1, COUNT_MAX, "steps; default 100"),
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
