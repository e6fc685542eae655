/* A trial's configuration: the keys at its root, and what its sections must agree on. */
#include "spec/trial.h"

#include <string.h>

#include "spec/tables_private.h"

#define TRIAL(member) INTO(struct spec_trial, member)

const struct field spec_checkpoint_fields[] = {
    F_INT("every", 0, 1, SPEC_COUNT_MAX, "units of time_metric between two checkpoints",
          DEFAULT("every epoch; by steps, the end"), TRIAL(checkpoint_every)),
    F_ENUM("keep", 0, "best|last|all",
           "what stays of the trial beside its end: the best weights, nothing, or the best weights "
           "and every checkpoint",
           DEFAULT("best; before version 3 last"), TRIAL(keep)),
    FIELD_END};

/* Sections are checked by those who read them. */
static const struct field trial_fields[] = {
    F_INT("language", 0, 1, SPEC_LANGUAGE, "version of the language it is written in", DEFAULT("1"),
          TRIAL(language)),
    F_STRING("name", 0, 1, 200, "of the sweep"),
    F_MAP("hyperparameters", 0, 0, 0, "as chosen"),
    F_INT("seed", REQUIRED, 0, 0, "of the trial", TRIAL(seed)),
    F_INT("experiment_seed", 0, 0, 0, "of the sweep", DEFAULT("seed")),
    SPEC_SHARDS_ROW(TRIAL(shards)),
    SPEC_BITWISE_ROW(TRIAL(bitwise)),
    SPEC_DEVICE_ROW(TRIAL(device)),
    SPEC_TIME_METRIC_ROW(TRIAL(by_steps)),
    SPEC_MAX_TIME_ROW(TRIAL(max_time)),
    SPEC_METRIC_ROW(TRIAL(metric)),
    SPEC_SMALLER_ROW(TRIAL(smaller_is_better)),
    SPEC_METRIC_OF_ROW(TRIAL(metric_of_last)),
    F_MAP("data", REQUIRED, 0, 0, "train, …"),
    F_LIST("model", REQUIRED, 1, SPEC_LAYERS_MAX, NULL, "layers"),
    F_MAP("training", REQUIRED, 0, 0, "loss, optimizer, …"),
    F_TABLE("checkpoint", 0, spec_checkpoint_fields, "every, keep"),
    SPEC_DIGEST_ROW(TRIAL(digest_every)),
    FIELD_END};

/* ---- what sections must agree on ---- */

static enum status check_shards(const struct spec_trial *t, struct schema_source source,
                                struct err *err) {
    if ((t->shards & (t->shards - 1)) != 0)
        return spec_refuse(source, value_get(t->root, "virtual_shards"), err,
                           "virtual_shards must be a power of two, not %d", t->shards);
    const struct value *batch = value_at(t->root, "training.global_batch_size");
    if (t->training.batch % t->shards != 0)
        return spec_refuse(source, batch, err,
                           "training.global_batch_size is %lld, which is not a multiple of "
                           "virtual_shards (%d)",
                           (long long)t->training.batch, t->shards);
    return STATUS_OK;
}

static enum status check_device(const struct spec_trial *t, struct schema_source source,
                                struct err *err) {
    const struct value *precision = value_at(t->root, "training.precision");
    if (strcmp(t->device, "cpu") != 0)
        return STATUS_OK;
    if (t->training.precision != PRECISION_FP32)
        return spec_refuse(source, precision, err,
                           "training.precision is %s, which GPUs compute; with device: cpu it is "
                           "fp32",
                           precision->string);
    if (!t->bitwise)
        return spec_refuse(source, value_get(t->root, "bitwise"), err,
                           "bitwise: false is for GPUs; the CPU's sums have one order at no cost: "
                           "leave it out, or take another device");
    return STATUS_OK;
}

enum status spec_trial_measures(const struct spec_trial *t, struct schema_source source,
                                struct err *err) {
    const struct value *at = value_get(t->root, "metric");
    bool validates = t->data.part[SPEC_VALIDATION].node != NULL || t->data.validation_split > 0.0;
    if (at == NULL)
        return STATUS_OK;
    if (strncmp(t->metric, "val_", 4) == 0 && !validates)
        return spec_refuse(source, at, err,
                           "the metric is %s, but there is no validation data; set "
                           "data.validation_split or data.validation",
                           t->metric);
    if (strncmp(t->metric, "test_", 5) == 0 && t->data.part[SPEC_TEST].node == NULL)
        return spec_refuse(source, at, err, "the metric is %s, but there is no data.test",
                           t->metric);
    if (strstr(t->metric, "_error") != NULL && t->training.loss != LOSS_CROSS_ENTROPY)
        return spec_refuse(source, at, err,
                           "the metric is %s, which exists with training.loss cross_entropy only; "
                           "use val_loss",
                           t->metric);
    return STATUS_OK;
}

/* ---- the whole ---- */

/* What holds where the trial does not say depends on its own language, whatever it is read by. */
static void read_defaults(struct spec_trial *t) {
    const struct value *keep = value_at(t->root, SPEC_KEEP_PATH);
    if (keep == NULL)
        t->keep = spec_keeps_last(t->language) ? SPEC_KEEP_LAST : SPEC_KEEP_BEST;
    if (value_get(t->root, "metric_of") == NULL)
        t->metric_of_last = spec_ranks_last((int)t->language, keep);
}

/* What ranks a trial must be what stays of it, as in a sweep. */
static enum status check_kept(const struct spec_trial *t, struct schema_source source,
                              struct err *err) {
    if (t->metric_of_last || t->keep != SPEC_KEEP_LAST || spec_keeps_last(t->language))
        return STATUS_OK;
    return spec_refuse(source, value_get(t->root, "metric_of"), err,
                       "metric_of is best, but checkpoint.keep is last: the weights of the best "
                       "evaluation would not be kept; say keep: best, or metric_of: last");
}

/* A trial that a person wrote may have a `dir`; those that sweeps make have absolute paths. */
static enum status read_data(struct arena *a, struct schema_source source, struct spec_trial *t,
                             struct err *err) {
    const struct value *data = value_get(t->root, "data");
    enum status st = spec_data_read(data, source, &t->data, err);
    if (st != STATUS_OK || value_get(data, "dir") == NULL)
        return st;
    struct value *placed = value_copy(a, data);
    if (placed == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for a trial's data section");
    st = spec_place_data(a, placed, source, NULL, err);
    return st == STATUS_OK ? spec_data_read(placed, source, &t->data, err) : st;
}

enum status spec_trial_check(struct arena *a, const struct value *root, struct schema_source source,
                             struct spec_trial *out, struct err *err) {
    enum status st = STATUS_OK;
    *out = (struct spec_trial){.root = root, .file = source.file};
    TRY(schema_check_since(trial_fields, root, source, "", err));
    schema_read(trial_fields, root, out);
    schema_read(spec_checkpoint_fields, value_get(root, "checkpoint"), out);
    read_defaults(out);
    out->split_seed = (uint64_t)value_get_int(root, "experiment_seed", (int64_t)out->seed);
    TRY(check_kept(out, source, err));
    TRY(read_data(a, source, out, err));
    TRY(spec_model_read(a, value_get(root, "model"), source, &out->model, err));
    TRY(spec_training_read(value_get(root, "training"), source, &out->training, err));
    TRY(check_shards(out, source, err));
    TRY(check_device(out, source, err));
out:
    return st;
}

/* A trial is read by its own version, but for what version 1 said and no engine ever did: that fails
 * as it always has, when the trial begins. */
enum status spec_trial_read(struct arena *a, const struct value *root, const char *file,
                            struct spec_trial *out, struct err *err) {
    enum status st = STATUS_OK;
    int64_t language = value_get_int(root, "language", 1);
    struct schema_source source = {.file = file, .language = language < 2 ? 2 : (int)language};
    char place[SCHEMA_PLACE_MAX];
    if (language > SPEC_LANGUAGE)
        return err_set(err, STATUS_TOO_NEW,
                       "%sthe trial is written in version %lld of the sweep language, and this "
                       "worker knows versions up to %d; use a newer one",
                       schema_place(file, value_get(root, "language"), place), (long long)language,
                       SPEC_LANGUAGE);
    TRY(spec_trial_check(a, root, source, out, err));
    if (language > 1)
        TRY(spec_trial_measures(out, source, err));
out:
    return st;
}

enum status spec_trial_ranks(const struct spec_trial *t, int ranks, struct err *err) {
    if (t->shards % ranks == 0)
        return STATUS_OK;
    const struct value *at = value_get(t->root, "virtual_shards");
    return spec_refuse((struct schema_source){.file = t->file}, at != NULL ? at : t->root, err,
                       "%d ranks do not divide virtual_shards (%d): use 1, 2, 4 … up to %d ranks",
                       ranks, t->shards, t->shards);
}
