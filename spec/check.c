/* Tables of the sweep file's sections, as docs/SWEEP.md describes them. `data`, `model` and
 * `training` are checked with every ${name} filled in, so that types can be exact. */
#include "spec/check.h"

#include <stdio.h>
#include <string.h>

#define ANY(n, d)                                                                                  \
    { .name = n, .type = FIELD_ANY, .doc = d }
#define TEXT(n, req, len)                                                                          \
    { .name = n, .type = FIELD_STRING, .flags = req, .min = 1, .max = len }
#define INT(n, req, lo, hi)                                                                        \
    { .name = n, .type = FIELD_INT, .flags = req, .min = lo, .max = hi }
#define REAL(n, req, lo, hi)                                                                       \
    { .name = n, .type = FIELD_REAL, .flags = req, .min = lo, .max = hi }
#define BOOL(n)                                                                                    \
    { .name = n, .type = FIELD_BOOL }
#define ENUM(n, req, c)                                                                            \
    { .name = n, .type = FIELD_ENUM, .flags = req, .choices = c }
#define MAP(n, req, f)                                                                             \
    { .name = n, .type = FIELD_MAP, .flags = req, .fields = f }
#define LIST(n, req, lo, hi, f)                                                                    \
    { .name = n, .type = FIELD_LIST, .flags = req, .min = lo, .max = hi, .fields = f }

#define REAL_MAX   1e300
#define LAYERS_MAX 256
#define PATH_BYTES 1000
#define METRICS    "val_error|val_loss|train_loss|test_error|test_loss"

/* ---- the root ---- */

static const struct field searcher_fields[] = {TEXT("name", REQUIRED, 32),
                                               ENUM("metric", 0, METRICS),
                                               BOOL("smaller_is_better"),
                                               INT("max_trials", 0, 1, SWEEP_TRIALS_MAX),
                                               INT("max_time", REQUIRED, 1, 1e12),
                                               ENUM("time_metric", 0, "epochs|steps"),
                                               FIELD_END};
static const struct field resources_fields[] = {
    INT("slots_per_trial", 0, 1, SWEEP_SLOTS_MAX), INT("max_slots", 0, 1, SWEEP_SLOTS_MAX),
    INT("slots_per_gpu", 0, 1, SWEEP_SLOTS_PER_GPU_MAX), INT("priority", 0, 0, 99), FIELD_END};
static const struct field reproducibility_fields[] = {INT("experiment_seed", 0, 0, SWEEP_COUNT_MAX),
                                                      INT("virtual_shards", 0, 1, SWEEP_SHARDS_MAX),
                                                      BOOL("bitwise"), FIELD_END};
static const struct field checkpoint_fields[] = {INT("every", 0, 1, 1e12),
                                                 ENUM("keep", 0, "last|all"), FIELD_END};

const struct field sweep_root_fields[] = {
    TEXT("name", REQUIRED, 200),
    {.name = "hyperparameters", .type = FIELD_MAP, .max = SWEEP_PARAMS_MAX},
    MAP("searcher", REQUIRED, searcher_fields),
    MAP("resources", 0, resources_fields),
    INT("max_restarts", 0, 0, 1000),
    MAP("reproducibility", 0, reproducibility_fields),
    ENUM("device", 0, "auto|cpu|cuda"),
    {.name = "data", .type = FIELD_MAP, .flags = REQUIRED, .doc = "train: {format, …} and more"},
    {.name = "model",
     .type = FIELD_LIST,
     .flags = REQUIRED,
     .min = 1,
     .max = LAYERS_MAX,
     .doc = "a list of layers"},
    {.name = "training", .type = FIELD_MAP, .flags = REQUIRED, .doc = "loss, optimizer, …"},
    MAP("checkpoint", 0, checkpoint_fields),
    INT("digest_every", 0, 1, 1e12),
    FIELD_END};

enum status sweep_refuse(const char *file, const struct value *at, struct err *err,
                         const char *format, ...) {
    char place[SCHEMA_PLACE_MAX], text[ERR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return err_set(err, STATUS_INVALID, "%s%s", schema_place(file, at, place), text);
}

/* Picks a table by the value of `key`; refuses what is none of `choices`. */
static enum status pick(const struct sweep *s, const struct value *map, const char *where,
                        const char *key, const char *choices, const struct field *const *tables,
                        struct err *err) {
    const struct value *v = value_get(map, key);
    if (map->kind != VALUE_MAP)
        return sweep_refuse(s->file, map, err, "%s must be a map, not a %s", where,
                            value_kind_name(map->kind));
    if (v == NULL)
        return sweep_refuse(s->file, map, err, "%s.%s is missing; it is one of %s", where, key,
                            choices);
    size_t i = 0;
    for (const char *c = choices; v->kind == VALUE_STRING && *c != '\0'; i++) {
        size_t len = strcspn(c, "|");
        if (len == v->count && memcmp(c, v->string, len) == 0)
            return schema_check(tables[i], map, s->file, where, err);
        c += len + (c[len] == '|');
    }
    char near[64];
    const char *guess = v->kind == VALUE_STRING ? schema_nearest(choices, v->string, near) : NULL;
    return sweep_refuse(s->file, v, err, "%s.%s must be one of %s%s%s%s%s%s", where, key, choices,
                        v->kind == VALUE_STRING ? ", not '" : "",
                        v->kind == VALUE_STRING ? v->string : "",
                        v->kind == VALUE_STRING ? "'" : "", guess != NULL ? "; nearest is " : "",
                        guess != NULL ? guess : "");
}

/* ---- data ---- */

static const struct field dim_fields[] = {INT("size", 0, 1, 1e9), FIELD_END};
#define SHAPE LIST("shape", 0, 1, 3, dim_fields)

static const struct field idx_fields[] = {TEXT("format", REQUIRED, 16),
                                          TEXT("images", REQUIRED, PATH_BYTES),
                                          TEXT("labels", REQUIRED, PATH_BYTES), SHAPE, FIELD_END};
static const struct field csv_fields[] = {
    TEXT("format", REQUIRED, 16),
    TEXT("file", REQUIRED, PATH_BYTES),
    BOOL("header"),
    {.name = "label", .type = FIELD_ANY, .flags = REQUIRED, .doc = "column name or number"},
    ENUM("task", 0, "classify|regress"),
    SHAPE,
    FIELD_END};
static const struct field *const format_tables[] = {idx_fields, csv_fields, idx_fields};

static const struct field scale_fields[] = {REAL("scale", REQUIRED, -REAL_MAX, REAL_MAX),
                                            FIELD_END};
static const struct field shift_fields[] = {REAL("shift", REQUIRED, -REAL_MAX, REAL_MAX),
                                            FIELD_END};
static const struct field normalize_fields[] = {ANY("normalize", "fit, or {mean, std}"), FIELD_END};
static const struct field mean_std_fields[] = {REAL("mean", REQUIRED, -REAL_MAX, REAL_MAX),
                                               REAL("std", REQUIRED, 1e-30, REAL_MAX), FIELD_END};
static const struct field data_fields[] = {{.name = "train", .type = FIELD_MAP, .flags = REQUIRED},
                                           {.name = "test", .type = FIELD_MAP},
                                           {.name = "validation", .type = FIELD_MAP},
                                           REAL("validation_split", 0, 0, 0.999999),
                                           BOOL("shuffle"),
                                           TEXT("dir", 0, PATH_BYTES),
                                           {.name = "transforms", .type = FIELD_LIST, .max = 64},
                                           FIELD_END};

static enum status check_transform(const struct sweep *s, const struct value *t, const char *where,
                                   struct err *err) {
    const char *key = t->kind == VALUE_MAP && t->count == 1 ? t->members[0].key : "";
    if (strcmp(key, "scale") == 0)
        return schema_check(scale_fields, t, s->file, where, err);
    if (strcmp(key, "shift") == 0)
        return schema_check(shift_fields, t, s->file, where, err);
    if (strcmp(key, "normalize") != 0)
        return sweep_refuse(s->file, t, err,
                            "%s must be one of {scale: s}, {shift: s}, {normalize: fit}, "
                            "{normalize: {mean: m, std: s}}",
                            where);
    const struct value *v = t->members[0].value;
    if (v->kind == VALUE_STRING && strcmp(v->string, "fit") == 0)
        return schema_check(normalize_fields, t, s->file, where, err);
    if (v->kind == VALUE_MAP)
        return schema_check(mean_std_fields, v, s->file, "data.transforms.normalize", err);
    return sweep_refuse(s->file, v, err, "%s.normalize must be fit or {mean: m, std: s}", where);
}

static enum status check_part(const struct sweep *s, const struct value *data, const char *part,
                              struct err *err) {
    char where[32];
    const struct value *v = value_get(data, part);
    if (v == NULL)
        return STATUS_OK;
    (void)snprintf(where, sizeof where, "data.%s", part);
    enum status st = pick(s, v, where, "format", "idx|csv|npy", format_tables, err);
    const struct value *label = value_get(v, "label");
    if (st == STATUS_OK && label != NULL && label->kind != VALUE_STRING &&
        (label->kind != VALUE_INT || label->integer < 0))
        return sweep_refuse(s->file, label, err,
                            "%s.label must be the name of a column or its number from 0", where);
    return st;
}

static enum status check_data(const struct sweep *s, const struct value *data, struct err *err) {
    static const char *const parts[] = {"train", "test", "validation"};
    enum status st = schema_check(data_fields, data, s->file, "data", err);
    for (size_t i = 0; st == STATUS_OK && i < 3; i++)
        st = check_part(s, data, parts[i], err);
    const struct value *list = value_get(data, "transforms");
    for (size_t i = 0; st == STATUS_OK && list != NULL && i < list->count; i++) {
        char where[48];
        (void)snprintf(where, sizeof where, "data.transforms[%zu]", i);
        st = check_transform(s, list->items[i], where, err);
    }
    const struct value *split = value_get(data, "validation_split");
    if (st == STATUS_OK && split != NULL && value_get(data, "validation") != NULL)
        return sweep_refuse(s->file, split, err,
                            "data.validation_split and data.validation exclude each other");
    return st;
}

/* ---- model ---- */

static const struct field dense_fields[] = {INT("out", REQUIRED, 1, 1e9), BOOL("bias"), FIELD_END};
static const struct field conv_fields[] = {INT("out", REQUIRED, 1, 1e6),
                                           INT("kernel", REQUIRED, 1, 1024),
                                           INT("stride", 0, 1, 1024),
                                           ANY("padding", "same, valid or a number"),
                                           BOOL("bias"),
                                           FIELD_END};
static const struct field norm_fields[] = {REAL("eps", 0, 0, 1), REAL("momentum", 0, 0, 1),
                                           FIELD_END};
static const struct field pool_fields[] = {INT("kernel", REQUIRED, 1, 1024),
                                           INT("stride", 0, 1, 1024), FIELD_END};
static const struct field dropout_fields[] = {REAL("rate", REQUIRED, 0, 0.999999), FIELD_END};

/* Layers that take something; `plain` says that the bare word will do, `scalar` names the field
 * that {layer: scalar} sets. kernels/graph/model.c reads the same list and infers the shapes. */
static const struct layer_row {
    const char *name;
    const struct field *fields;
    const char *scalar;
    bool plain;
} layer_rows[] = {
    {"dense", dense_fields, NULL, false},
    {"conv2d", conv_fields, NULL, false},
    {"batch_norm", norm_fields, NULL, true},
    {"max_pool", pool_fields, "kernel", false},
    {"avg_pool", pool_fields, "kernel", false},
    {"relu", NULL, NULL, true},
    {"gelu", NULL, NULL, true},
    {"tanh", NULL, NULL, true},
    {"sigmoid", NULL, NULL, true},
    {"flatten", NULL, NULL, true},
    {"dropout", dropout_fields, "rate", false},
};
#define LAYER_ROWS (sizeof layer_rows / sizeof layer_rows[0])
#define LAYER_NAMES                                                                                \
    "dense|conv2d|batch_norm|max_pool|avg_pool|relu|gelu|tanh|sigmoid|flatten|dropout"

static enum status unknown_layer(const struct sweep *s, const struct value *at, const char *where,
                                 const char *name, struct err *err) {
    char near[64];
    const char *guess = schema_nearest(LAYER_NAMES, name, near);
    return sweep_refuse(s->file, at, err, "%s: unknown layer '%.64s'%s%s%s", where, name,
                        guess != NULL ? "; nearest is '" : "; it is one of " LAYER_NAMES,
                        guess != NULL ? guess : "", guess != NULL ? "'" : "");
}

/* {max_pool: 2}: the scalar is checked as the field that it stands for. */
static enum status check_scalar(const struct sweep *s, const struct layer_row *row,
                                struct value *arg, const char *where, struct err *err) {
    char key[16];
    (void)snprintf(key, sizeof key, "%s", row->scalar);
    struct member only = {.key = key, .value = arg};
    struct value map = {.kind = VALUE_MAP, .count = 1, .cap = 1, .members = &only};
    return schema_check(row->fields, &map, s->file, where, err);
}

static enum status check_layer(const struct sweep *s, struct value *layer, size_t index,
                               struct err *err) {
    char where[64];
    (void)snprintf(where, sizeof where, "model[%zu]", index);
    bool word = layer->kind == VALUE_STRING;
    if (!word && (layer->kind != VALUE_MAP || layer->count != 1))
        return sweep_refuse(s->file, layer, err,
                            "%s must be a layer's name or {name: {…}}, not a %s", where,
                            value_kind_name(layer->kind));
    const char *name = word ? layer->string : layer->members[0].key;
    const struct layer_row *row = NULL;
    for (size_t i = 0; i < LAYER_ROWS; i++)
        if (strcmp(layer_rows[i].name, name) == 0)
            row = &layer_rows[i];
    if (row == NULL)
        return unknown_layer(s, layer, where, name, err);
    (void)snprintf(where, sizeof where, "model[%zu].%s", index, name);
    if (word)
        return row->plain
                   ? STATUS_OK
                   : sweep_refuse(s->file, layer, err, "%s needs its settings: {%s: {%s: …}}",
                                  where, name, row->fields[0].name);
    struct value *arg = layer->members[0].value;
    if (row->scalar != NULL && arg->kind != VALUE_MAP)
        return check_scalar(s, row, arg, where, err);
    if (row->fields == NULL)
        return sweep_refuse(s->file, layer, err, "%s takes nothing; write just %s", where, name);
    enum status st = schema_check(row->fields, arg, s->file, where, err);
    const struct value *pad = value_get(arg, "padding");
    if (st != STATUS_OK || pad == NULL)
        return st;
    if (pad->kind == VALUE_INT && pad->integer >= 0 && pad->integer <= 1024)
        return STATUS_OK;
    if (pad->kind == VALUE_STRING &&
        (strcmp(pad->string, "same") == 0 || strcmp(pad->string, "valid") == 0))
        return STATUS_OK;
    return sweep_refuse(s->file, pad, err, "%s.padding must be same, valid or a number from 0",
                        where);
}

/* ---- training ---- */

static const struct field beta_fields[] = {REAL("beta", 0, 0, 0.99999999), FIELD_END};
static const struct field sgd_fields[] = {
    TEXT("name", REQUIRED, 16), REAL("lr", REQUIRED, 0, 1e6),    REAL("momentum", 0, 0, 1),
    BOOL("nesterov"),           REAL("weight_decay", 0, 0, 1e6), FIELD_END};
static const struct field adam_fields[] = {
    TEXT("name", REQUIRED, 16),          REAL("lr", REQUIRED, 0, 1e6),
    LIST("betas", 0, 2, 2, beta_fields), REAL("eps", 0, 0, 1),
    REAL("weight_decay", 0, 0, 1e6),     FIELD_END};
static const struct field *const optimizer_tables[] = {sgd_fields, adam_fields, adam_fields};

static const struct field constant_fields[] = {TEXT("name", REQUIRED, 16),
                                               INT("warmup_steps", 0, 0, 1e12), FIELD_END};
static const struct field step_fields[] = {
    TEXT("name", REQUIRED, 16), INT("warmup_steps", 0, 0, 1e12), INT("every", REQUIRED, 1, 1e12),
    REAL("factor", REQUIRED, 0, 1e6), FIELD_END};
static const struct field cosine_fields[] = {TEXT("name", REQUIRED, 16),
                                             INT("warmup_steps", 0, 0, 1e12),
                                             REAL("min_lr", 0, 0, 1e6), FIELD_END};
static const struct field *const schedule_tables[] = {constant_fields, step_fields, cosine_fields};

static const struct field training_fields[] = {
    ENUM("loss", REQUIRED, "cross_entropy|mse"),
    {.name = "optimizer", .type = FIELD_MAP, .flags = REQUIRED},
    INT("global_batch_size", REQUIRED, 1, 1e9),
    {.name = "schedule", .type = FIELD_MAP},
    ENUM("precision", 0, "fp32|tf32|bf16"),
    REAL("clip_norm", 0, 1e-30, REAL_MAX),
    INT("eval_every", 0, 1, 1e12),
    TEXT("initial_weights", 0, PATH_BYTES),
    FIELD_END};

static enum status check_training(const struct sweep *s, const struct value *t, struct err *err) {
    enum status st = STATUS_OK;
    TRY(schema_check(training_fields, t, s->file, "training", err));
    TRY(pick(s, value_get(t, "optimizer"), "training.optimizer", "name", "sgd|adam|adamw",
             optimizer_tables, err));
    const struct value *schedule = value_get(t, "schedule");
    if (schedule != NULL)
        TRY(pick(s, schedule, "training.schedule", "name", "constant|step|cosine", schedule_tables,
                 err));
    const char *precision = value_get_string(t, "precision", "fp32");
    if (strcmp(s->device, "cpu") == 0 && strcmp(precision, "fp32") != 0)
        return sweep_refuse(s->file, value_get(t, "precision"), err,
                            "training.precision is %s, which GPUs compute; with device: cpu it is "
                            "fp32",
                            precision);
    const struct value *batch = value_get(t, "global_batch_size");
    if (batch->integer % s->virtual_shards != 0)
        return sweep_refuse(s->file, batch, err,
                            "training.global_batch_size is %lld, which is not a multiple of "
                            "reproducibility.virtual_shards (%lld)",
                            (long long)batch->integer, (long long)s->virtual_shards);
out:
    return st;
}

/* ---- together ---- */

static enum status check_metric(const struct sweep *s, const struct value *config,
                                struct err *err) {
    const struct value *data = value_get(config, "data");
    const struct value *training = value_get(config, "training");
    bool has_val = value_get(data, "validation") != NULL ||
                   value_get_real(data, "validation_split", 0.0) > 0.0;
    const char *metric = s->metric;
    const struct value *at = value_at(s->root, "searcher.metric");
    if (at == NULL)
        at = value_get(s->root, "searcher");
    if (strncmp(metric, "val_", 4) == 0 && !has_val)
        return sweep_refuse(s->file, at, err,
                            "searcher.metric is %s, but there is no validation data; set "
                            "data.validation_split or data.validation",
                            metric);
    if (strncmp(metric, "test_", 5) == 0 && value_get(data, "test") == NULL)
        return sweep_refuse(s->file, at, err, "searcher.metric is %s, but there is no data.test",
                            metric);
    if (strstr(metric, "_error") != NULL &&
        strcmp(value_get_string(training, "loss", ""), "cross_entropy") != 0)
        return sweep_refuse(s->file, at, err,
                            "searcher.metric is %s, which exists with training.loss "
                            "cross_entropy only; use val_loss",
                            metric);
    return STATUS_OK;
}

enum status sweep_check_config(const struct sweep *s, const struct value *config, struct err *err) {
    enum status st = STATUS_OK;
    const struct value *model = value_get(config, "model");
    TRY(check_data(s, value_get(config, "data"), err));
    if (model == NULL || model->kind != VALUE_LIST || model->count == 0)
        return sweep_refuse(s->file, value_get(s->root, "model"), err,
                            "model has no layer left for some choice of hyperparameters");
    for (size_t i = 0; i < model->count; i++)
        TRY(check_layer(s, model->items[i], i, err));
    TRY(check_training(s, value_get(config, "training"), err));
    TRY(check_metric(s, config, err));
out:
    return st;
}
