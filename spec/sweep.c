/* A sweep file as a whole: the keys at its root, and the checks across its sections. */
#include "spec/sweep.h"

#include <stdio.h>
#include <string.h>

#include "spec/model.h"
#include "spec/searcher.h"
#include "spec/space.h"
#include "spec/sweep_private.h"

#define SWEEP(member) INTO(struct sweep, member)

const struct field spec_resources_fields[] = {
    F_INT("slots_per_trial", 0, 1, SWEEP_SLOTS_MAX, "P: ranks of a group; divides virtual_shards",
          DEFAULT("1"), SWEEP(slots_per_trial)),
    F_INT("max_slots", 0, 1, SWEEP_SLOTS_MAX, "slots that the sweep takes at a time, at most",
          DEFAULT("slots_per_trial"), SWEEP(max_slots)),
    F_INT("slots_per_gpu", 0, 1, SWEEP_SLOTS_PER_GPU_MAX, "ranks that share a GPU", DEFAULT("1"),
          SWEEP(slots_per_gpu)),
    F_INT("priority", 0, 0, 99, "1 goes before 99", DEFAULT("42"), SWEEP(priority)), FIELD_END};
const struct field spec_reproducibility_fields[] = {
    F_INT("experiment_seed", 0, 0, SPEC_WHOLE_MAX, "what points, seeds and the split come from",
          DEFAULT("0"), SWEEP(experiment_seed)),
    SPEC_SHARDS_ROW(SWEEP(virtual_shards)), SPEC_BITWISE_ROW(SWEEP(bitwise)), FIELD_END};

const struct field spec_sweep_fields[] = {
    F_STRING("name", REQUIRED, 1, 200, "of the sweep, and of its experiment in the tracker",
             SWEEP(name)),
    F_MAP("hyperparameters", 0, 0, SWEEP_PARAMS_MAX,
          "name: a value or a range, see Hyperparameters", DEFAULT("{}")),
    F_TABLE("searcher", REQUIRED, spec_searcher_fields, "which points are tried, and how long"),
    F_TABLE("resources", 0, spec_resources_fields, "what the sweep may take"),
    F_INT("max_restarts", 0, 0, 1000, "attempts after the first when something breaks",
          DEFAULT("5"), SWEEP(max_restarts)),
    F_TABLE("reproducibility", 0, spec_reproducibility_fields, "what the bits depend on"),
    SPEC_DEVICE_ROW(SWEEP(device)),
    F_MAP("data", REQUIRED, 0, 0, "train: {format, …} and more, see Data"),
    F_LIST("model", REQUIRED, 1, SPEC_LAYERS_MAX, NULL, "a list of layers, see Model"),
    F_MAP("training", REQUIRED, 0, 0, "loss, optimizer and more, see Training"),
    F_TABLE("checkpoint", 0, spec_checkpoint_fields, "when the state is kept"),
    SPEC_DIGEST_ROW(.store = STORE_NOTHING),
    FIELD_END};

/* ---- resources, reproducibility ---- */

static enum status check_slots(const struct sweep *s, struct err *err) {
    const struct value *r = value_get(s->root, "resources");
    if (s->max_slots < s->slots_per_trial)
        return spec_refuse(s->source, value_get(r, "max_slots"), err,
                           "resources.max_slots (%lld) is less than slots_per_trial (%lld): no "
                           "trial could ever start",
                           (long long)s->max_slots, (long long)s->slots_per_trial);
    const struct value *p = value_get(s->root, "reproducibility");
    if ((s->virtual_shards & (s->virtual_shards - 1)) != 0)
        return spec_refuse(s->source, value_get(p, "virtual_shards"), err,
                           "reproducibility.virtual_shards must be a power of two, not %lld",
                           (long long)s->virtual_shards);
    if (s->virtual_shards % s->slots_per_trial != 0)
        return spec_refuse(s->source, value_get(r, "slots_per_trial"), err,
                           "resources.slots_per_trial is %lld, which does not divide "
                           "reproducibility.virtual_shards (%lld); use a power of two up to it",
                           (long long)s->slots_per_trial, (long long)s->virtual_shards);
    if (!s->bitwise && strcmp(s->device, "cpu") == 0)
        return spec_refuse(s->source, value_get(p, "bitwise"), err,
                           "reproducibility.bitwise: false is for GPUs; the CPU's sums have one "
                           "order at no cost: leave it out, or take another device");
    return STATUS_OK;
}

/* What ranks a trial must be what stays of it. */
static enum status check_kept(const struct sweep *s, struct err *err) {
    const struct value *keep = value_at(s->root, SPEC_KEEP_PATH);
    if (s->metric_of_last || keep == NULL || spec_keeps_last(s->source.language) ||
        !spec_ranks_last(s->source.language, keep))
        return STATUS_OK;
    return spec_refuse(
        s->source, value_at(s->root, "searcher.metric_of"), err,
        "searcher.metric_of is best, but checkpoint.keep is last: the weights of the "
        "best evaluation would not be kept; say keep: best, or metric_of: last");
}

static void read_root(struct sweep *s) {
    const struct value *resources = value_get(s->root, "resources");
    schema_read(spec_sweep_fields, s->root, s);
    schema_read(spec_searcher_fields, value_get(s->root, "searcher"), s);
    schema_read(spec_resources_fields, resources, s);
    schema_read(spec_reproducibility_fields, value_get(s->root, "reproducibility"), s);
    if (value_at(s->root, "searcher.metric_of") == NULL)
        s->metric_of_last = spec_ranks_last(s->source.language, value_at(s->root, SPEC_KEEP_PATH));
    if (value_get(resources, "max_slots") == NULL)
        s->max_slots = s->slots_per_trial;
}

/* ---- the plan ---- */

static enum status plan_grid(struct sweep *s, struct err *err) {
    for (int i = 0; i < s->param_count; i++) {
        const struct hyperparameter *p = &s->params[i];
        if ((p->kind == SPACE_DOUBLE || p->kind == SPACE_LOG) && p->count == 0)
            return spec_refuse(s->source, p->at, err,
                               "hyperparameters.%s needs `count: N`, the number of points along "
                               "this axis of the grid",
                               p->name);
    }
    s->grid_size = sweep_grid_size(s);
    if (s->grid_size > SWEEP_TRIALS_MAX && s->max_trials == 0)
        return spec_refuse(s->source, value_get(s->root, "hyperparameters"), err,
                           "the grid has more than %d points; lower the counts or set "
                           "searcher.max_trials",
                           SWEEP_TRIALS_MAX);
    if (s->max_trials == 0 || s->max_trials > s->grid_size)
        s->max_trials = s->grid_size;
    return STATUS_OK;
}

static enum status plan(struct sweep *s, struct err *err) {
    if (strcmp(s->searcher, "grid") == 0)
        return plan_grid(s, err);
    if (strcmp(s->searcher, "single") == 0 && s->max_trials > 1)
        return spec_refuse(s->source, value_at(s->root, "searcher.max_trials"), err,
                           "searcher single runs one trial, not %lld; use random or grid",
                           (long long)s->max_trials);
    if (s->max_trials == 0)
        s->max_trials = 1;
    return STATUS_OK;
}

/* ---- the whole ---- */

enum status sweep_parse(struct arena *a, const struct value *root, struct schema_source source,
                        struct sweep **out, struct err *err) {
    enum status st = STATUS_OK;
    struct sweep *s = arena_take(a, sizeof *s);
    if (s == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory while a sweep was read");
    s->root = root;
    s->source = source;
    if (source.file != NULL)
        s->source.file = arena_strdup(a, source.file);
    if (source.file != NULL && s->source.file == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory while a sweep was read");
    if (source.language < 1 || source.language > SPEC_LANGUAGE)
        return err_set(err, STATUS_TOO_NEW,
                       "the sweep is written in version %d of the sweep language, and this build "
                       "knows versions up to %d; use a newer one",
                       source.language, SPEC_LANGUAGE);
    TRY(schema_check_since(spec_sweep_fields, root, s->source, "", err));
    read_root(s);
    TRY(sweep_check_searcher(s, err));
    TRY(check_slots(s, err));
    TRY(check_kept(s, err));
    TRY(sweep_parse_params(s, err));
    TRY(plan(s, err));
    TRY(sweep_check_trials(s, err));
    if (s->source.language > 1)
        TRY(sweep_check_mentions(s, err));
    *out = s;
out:
    return st;
}
