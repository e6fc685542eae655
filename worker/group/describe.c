/* --plan: what a configuration would do, without training. For preview, and for people who want to
 * know whether a net fits on a card that this machine does not have. */
#include <stdio.h>

#include "core/arena.h"
#include "core/places.h"
#include "kernels/devices.h"
#include "kernels/graph/budget.h"
#include "worker/group/manifest.h"
#include "worker/group/modes.h"
#include "worker/group/share.h"
#include "worker/train/trainer.h"

#define ARENA_MAX ((size_t)64 << 20)

static struct value *buckets_value(struct arena *a, const struct plan *plan) {
    struct value *list = value_list(a);
    for (int i = 0; i < plan->bucket_count; i++) {
        struct value *b = value_map(a);
        value_set_int(a, b, "begin", plan->buckets[i].begin);
        value_set_int(a, b, "end", plan->buckets[i].end);
        value_set_int(a, b, "layer", plan->buckets[i].layer);
        value_push(a, list, b);
    }
    return list;
}

/* What is planned, and under which name messages know the file it came from. */
struct described {
    const struct value *config;
    const char *file;
};

/* The file is a trial configuration, or {config, file, places}: a configuration with the places of
 * its nodes in the user's sweep file. */
static struct described open_envelope(struct value *root, const char *file) {
    struct value *config = value_get(root, "config");
    if (config == NULL)
        return (struct described){.config = root, .file = file};
    places_apply(config, value_get(root, "places"));
    return (struct described){.config = config, .file = value_get_string(root, "file", NULL)};
}

/* What is allowed and seldom meant: those of the data, and outputs that no label ever asks for. */
static struct value *plan_warnings(struct arena *a, const struct dataset *data,
                                   const struct model *m) {
    struct value *list = data_warnings(a, data);
    const struct data_info *info = data_info(data);
    if (info->classes > 0 && m->out.rank == 1 && m->out.dim[0] > info->classes)
        value_push(
            a, list,
            value_string(a, arena_printf(a,
                                         "the model ends with %lld outputs, the data has "
                                         "%lld classes: the others are never right",
                                         (long long)m->out.dim[0], (long long)info->classes)));
    return list;
}

/* On a card of so many GiB, without touching one. */
static enum status describe_assumed(struct worker *w, const struct describe_args *args,
                                    struct arena *a, const struct described *p, struct err *err) {
    enum status st = STATUS_OK;
    int ranks = args->ranks > 0 ? (int)args->ranks : 1;
    struct spec_trial c;
    struct model *model = NULL;
    struct dataset *data = NULL;
    struct plan *plan = arena_take(a, sizeof *plan);
    struct budget budget;
    bool cached;
    if (plan == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for the training plan");
    TRY(spec_trial_read(a, p->config, p->file, &c, err));
    TRY(spec_trial_ranks(&c, ranks, err));
    TRY(worker_device(w, "cpu", err));
    struct data_request request = {.data = &c.data, .seed = c.seed};
    TRY(data_cache_get(w->cache, &request, &data, &cached, err));
    const struct data_info *info = data_info(data);
    TRY(model_build(a, &c.model, info->shape, &model, err));
    const struct traits *card = device_traits("cuda");
    struct plan_spec rank = {
        .model = model,
        .loss = c.training.loss,
        .shard_rows = c.training.batch / c.shards,
        .shard_count = c.shards / ranks,
        .eval_rows = card->eval_rows,
        .precision = c.training.precision,
    };
    struct budget_spec spec = {
        .plan = &rank,
        .optimizer_slots = c.training.optimizer.slots,
        .ranks = ranks,
        .nccl = true,
        .features = info->features,
        .outputs = info->outputs,
        .data_bytes = data_table_bytes(data),
        .capacity = (args->gpu_gib << 30) - BUDGET_CONTEXT,
    };
    TRY(budget_make(&spec, card, plan, &budget, err));
    TRY(trainer_fits(&c, model, info, p->file, err));
    struct value *v = value_map(a);
    value_set(a, v, "budget", budget_describe(a, &budget));
    value_set(a, v, "buckets", buckets_value(a, plan));
    value_set(a, v, "model", model_describe(a, model));
    value_set(a, v, "data", data_describe(a, data));
    value_set(a, v, "warnings", plan_warnings(a, data, model));
    value_set_int(a, v, "ranks", ranks);
    TRY(worker_print(v, err));
out:
    return st;
}

static enum status describe_here(struct worker *w, struct arena *a, const struct described *p,
                                 struct err *err) {
    struct trainer *t = NULL;
    struct buf weights = BUF_INIT(CHECKPOINT_BYTES_MAX);
    bool given;
    enum status st = worker_trainer(
        w, &(struct worker_trial){.config = p->config, .file = p->file, .planned = true}, &t, err);
    if (st == STATUS_OK)
        st = worker_start_weights(w, t, &weights, &given, err);
    if (st == STATUS_OK)
        st = manifest_fits(manifest_make(a, t, w->world, w->device, NULL), err);
    if (st == STATUS_OK && world_rank(w->world) == 0) {
        struct value *v = trainer_describe(a, t);
        value_set(a, v, "model", model_describe(a, trainer_model(t)));
        value_set(a, v, "data", data_describe(a, trainer_data(t)));
        value_set(a, v, "warnings", plan_warnings(a, trainer_data(t), trainer_model(t)));
        value_set(a, v, "device", device_describe(a, w->device));
        value_set_int(a, v, "ranks", world_size(w->world));
        value_set_int(a, v, "steps_per_epoch", trainer_steps_per_epoch(t));
        value_set_int(a, v, "steps", trainer_steps_total(t));
        st = worker_print(v, err);
    }
    buf_release(&weights);
    trainer_destroy(&t);
    return st;
}

enum status worker_describe(struct worker *w, const struct describe_args *args, struct err *err) {
    struct arena a;
    struct value *root = NULL;
    arena_init(&a, ARENA_MAX);
    enum status st = worker_load_config(w, args->file, &a, &root, err);
    if (st == STATUS_OK) {
        struct described p = open_envelope(root, args->file);
        st = args->gpu_gib > 0 ? describe_assumed(w, args, &a, &p, err)
                               : describe_here(w, &a, &p, err);
    }
    arena_release(&a);
    return st;
}

void worker_describe_refused(const struct worker *w, enum status status, const struct err *err) {
    struct arena a;
    arena_init(&a, ARENA_MAX);
    struct value *v = value_map(&a), *why = value_map(&a);
    value_set_string(&a, why, "code", status_name(status));
    value_set_string(&a, why, "message", err->text);
    if (w->device != NULL)
        value_set_string(&a, why, "device", device_name(w->device));
    value_set(&a, v, "error", why);
    if (worker_print(v, NULL) != STATUS_OK)
        (void)fprintf(stderr, "trireme-worker: %s\n", err->text);
    arena_release(&a);
}
