/* Weights and checkpoints: a trainer to safetensors and back. */
#include "worker/train/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/safetensors.h"

#define ARENA_MAX   ((size_t)256 << 20)
#define FORMAT_NAME "trireme checkpoint 2"
#define FORMAT_V1   "trireme checkpoint 1" /* with all of the trace in it */

/* ---- weights ---- */

static struct tensor tensor_of(const struct param *p, const char *name, const float *flat) {
    struct tensor t = {.name = name,
                       .dtype = TENSOR_F32,
                       .dims = p->dims,
                       .data = flat + p->offset,
                       .bytes = (size_t)p->count * sizeof(float)};
    memcpy(t.dim, p->dim, sizeof p->dim);
    return t;
}

enum status checkpoint_write_weights(struct trainer *t, const struct value *metadata,
                                     struct buf *out, struct err *err) {
    const struct model *m = trainer_model(t);
    struct tensor *tensors = calloc((size_t)m->param_count + 1, sizeof *tensors);
    const float *flat = trainer_weights(t);
    if (tensors == NULL || flat == NULL) {
        free(tensors);
        enum status own = trainer_status(t, err);
        return own != STATUS_OK ? own : err_set(err, STATUS_NOMEM, "write weights");
    }
    for (int i = 0; i < m->param_count; i++)
        tensors[i] = tensor_of(&m->params[i], m->params[i].name, flat);
    enum status st = safetensors_write(out, tensors, (size_t)m->param_count, metadata, err);
    free(tensors);
    return st;
}

static void shape_text(const int64_t *dim, int dims, char out[96]) {
    size_t len = (size_t)snprintf(out, 96, "(");
    for (int i = 0; i < dims && len < 80; i++)
        len += (size_t)snprintf(out + len, 96 - len, "%s%" PRId64, i > 0 ? ", " : "", dim[i]);
    (void)snprintf(out + len, 96 - len, ")");
}

/* Copies one tensor of the file into the flat vector; its name is a prefix and the parameter's. */
static enum status read_param(const struct tensors *file, const char *prefix, const struct param *p,
                              float *flat, struct err *err) {
    char name[TENSOR_NAME_MAX + 16], want[96], have[96];
    (void)snprintf(name, sizeof name, "%s%s", prefix, p->name);
    const struct tensor *t = safetensors_find(file->list, file->count, name);
    if (t == NULL)
        return err_set(err, STATUS_INVALID, "tensor %s is missing", name);
    if (t->dtype != TENSOR_F32)
        return err_set(err, STATUS_INVALID, "tensor %s is not float32", name);
    bool same = t->dims == p->dims && t->bytes == (size_t)p->count * sizeof(float);
    for (int i = 0; same && i < p->dims; i++)
        same = t->dim[i] == p->dim[i];
    if (!same) {
        shape_text(p->dim, p->dims, want);
        shape_text(t->dim, t->dims, have);
        return err_set(err, STATUS_INVALID, "tensor %s has shape %s, the model needs %s", name,
                       have, want);
    }
    memcpy(flat + p->offset, t->data, t->bytes);
    return STATUS_OK;
}

static enum status read_params(const struct tensors *file, const char *prefix,
                               const struct model *m, float *flat, struct err *err) {
    enum status st = STATUS_OK;
    for (int i = 0; st == STATUS_OK && i < m->param_count; i++)
        st = read_param(file, prefix, &m->params[i], flat, err);
    return st;
}

enum status checkpoint_read_weights(const struct model *model, const void *bytes, size_t len,
                                    float *flat, struct err *err) {
    struct arena a;
    struct tensors file = {0};
    if (len == 0)
        return err_set(err, STATUS_INVALID, "the file is empty");
    arena_init(&a, ARENA_MAX);
    memset(flat, 0, (size_t)model->flat_count * sizeof *flat);
    enum status st = safetensors_read(&a, bytes, len, &file, err);
    if (st == STATUS_OK)
        st = read_params(&file, "", model, flat, err);
    arena_release(&a);
    return st;
}

enum status checkpoint_read_best(const struct model *model, const void *bytes, size_t len,
                                 struct best *out, struct err *err) {
    struct arena a;
    struct tensors file = {0};
    float *flat = calloc((size_t)model->vector_count + 1, sizeof *flat);
    *out = (struct best){0};
    if (flat == NULL)
        return err_set(err, STATUS_NOMEM, "no memory to read weights");
    enum status st = checkpoint_read_weights(model, bytes, len, flat, err);
    arena_init(&a, ARENA_MAX);
    if (st == STATUS_OK)
        st = safetensors_read(&a, bytes, len, &file, err);
    if (st == STATUS_OK) {
        hash_bytes(flat, (size_t)model->flat_count * sizeof *flat, &out->weights);
        out->step = strtoll(value_get_string(file.metadata, "step", "0"), NULL, 10);
        out->value = strtod(value_get_string(file.metadata, "value", "0"), NULL);
    }
    arena_release(&a);
    free(flat);
    return st;
}

/* ---- checkpoints ---- */

/* SHA-256 of the configuration's canonical JSON. */
static enum status config_digest(const struct value *config, char out[DIGEST_HEX],
                                 struct err *err) {
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    struct digest d;
    enum status st = json_dump(config, JSON_CANONICAL, &text, err);
    if (st == STATUS_OK) {
        hash_bytes(text.data, text.len, &d);
        hash_hex(&d, out);
    }
    buf_release(&text);
    return st;
}

static void set_number(struct arena *a, struct value *map, const char *key, int64_t n) {
    value_set_string(a, map, key, arena_printf(a, "%" PRId64, n));
}

static enum status make_metadata(struct arena *a, const struct trainer *t,
                                 const struct progress *progress, struct value **out,
                                 struct err *err) {
    const struct spec_trial *c = trainer_config(t);
    char digest[DIGEST_HEX], chain[DIGEST_HEX];
    enum status st = config_digest(c->root, digest, err);
    struct value *m = value_map(a);
    int64_t step = trainer_steps(t), spe = trainer_steps_per_epoch(t);
    value_set_string(a, m, "format", FORMAT_NAME);
    set_number(a, m, "step", step);
    set_number(a, m, "epoch", step / spe);
    set_number(a, m, "position", step % spe * c->training.batch);
    value_set_string(a, m, "seed", arena_printf(a, "%" PRIu64, c->seed));
    value_set_string(a, m, "config", digest);
    value_set_string(a, m, "data", data_info(trainer_data(t))->digest);
    hash_hex(&progress->trace->chain, chain);
    value_set_string(a, m, "chain", chain);
    best_set(a, &progress->best, m);
    *out = m;
    return st;
}

static enum status write_tensors(struct trainer *t, const struct progress *progress,
                                 float *const *slots, struct buf *out, struct err *err) {
    struct arena arena, *a = &arena;
    arena_init(a, ARENA_MAX);
    const struct model *m = trainer_model(t);
    int slot_count = trainer_config(t)->training.optimizer.slots;
    size_t count = 0, most = (size_t)m->param_count * (size_t)(1 + slot_count);
    struct tensor *tensors = arena_array(a, most, sizeof *tensors);
    struct value *metadata = NULL;
    const float *flat = trainer_weights(t);
    enum status st = STATUS_OK;
    TRY(trainer_status(t, err));
    if (tensors == NULL || flat == NULL) {
        st = err_set(err, STATUS_NOMEM, "write checkpoint");
        goto out;
    }
    TRY(make_metadata(a, t, progress, &metadata, err));
    for (int i = 0; i < m->param_count; i++)
        tensors[count++] = tensor_of(&m->params[i], m->params[i].name, flat);
    for (int s = 0; s < slot_count; s++)
        for (int i = 0; i < m->param_count; i++)
            tensors[count++] = tensor_of(
                &m->params[i], arena_printf(a, "slot%d/%s", s, m->params[i].name), slots[s]);
    TRY(safetensors_write(out, tensors, count, metadata, err));
out:
    arena_release(a);
    return st;
}

enum status checkpoint_write(struct trainer *t, const struct progress *progress, struct buf *out,
                             struct err *err) {
    enum status st = STATUS_OK;
    float *slots[2] = {NULL, NULL};
    for (int s = 0; s < trainer_config(t)->training.optimizer.slots; s++) {
        slots[s] = calloc((size_t)trainer_slot_count(t), sizeof(float));
        if (slots[s] == NULL) {
            st = err_set(err, STATUS_NOMEM, "no memory to gather the optimizer's state");
            goto out;
        }
        TRY(trainer_gather_slot(t, s, slots[s], err));
    }
    if (progress->trace != NULL)
        TRY(write_tensors(t, progress, slots, out, err));
out:
    for (int s = 0; s < 2; s++)
        free(slots[s]);
    return st;
}

static enum status read_about(const struct value *m, struct checkpoint_about *out,
                              struct err *err) {
    const char *format = value_get_string(m, "format", ""),
               *chain = value_get_string(m, "chain", "");
    *out = (struct checkpoint_about){.whole_trace = strcmp(format, FORMAT_V1) == 0};
    if (!out->whole_trace && strcmp(format, FORMAT_NAME) != 0)
        return err_set(err, STATUS_CORRUPT, "not a checkpoint that Trireme wrote");
    char *end = NULL;
    const char *text = value_get_string(m, "step", "");
    long long n = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || n < 0 || n > TRACE_STEPS_MAX)
        return err_set(err, STATUS_CORRUPT, "the checkpoint has no step");
    out->step = n;
    if (!out->whole_trace && hash_parse(chain, strlen(chain), &out->chain, NULL) != STATUS_OK)
        return err_set(err, STATUS_CORRUPT, "the checkpoint has no hash chain");
    return best_get(m, &out->best, err);
}

enum status checkpoint_about(const void *bytes, size_t len, struct checkpoint_about *out,
                             struct err *err) {
    struct arena a;
    struct tensors file = {0};
    arena_init(&a, ARENA_MAX);
    enum status st = safetensors_read(&a, bytes, len, &file, err);
    if (st == STATUS_OK)
        st = read_about(file.metadata, out, err);
    arena_release(&a);
    return st;
}

static enum status check_metadata(const struct trainer *t, const struct value *m, struct err *err) {
    char digest[DIGEST_HEX];
    enum status st = config_digest(trainer_config(t)->root, digest, err);
    if (st != STATUS_OK)
        return st;
    if (strcmp(value_get_string(m, "config", ""), digest) != 0)
        return err_set(err, STATUS_CONFLICT, "the checkpoint belongs to another configuration");
    if (strcmp(value_get_string(m, "data", ""), data_info(trainer_data(t))->digest) != 0)
        return err_set(err, STATUS_CONFLICT,
                       "the checkpoint was made with other data: the files have changed since; put "
                       "them back, or begin a new sweep");
    return STATUS_OK;
}

/* Format 1. Every rank reads the trace, so that all find the same fault; rank 0 keeps it. */
static enum status read_trace(const struct tensors *file, int64_t step, struct trace *keep,
                              struct err *err) {
    struct trace t;
    enum status st = trace_init(&t, 0, 0, err);
    const struct tensor *packed = safetensors_find(file->list, file->count, "trace");
    if (st != STATUS_OK)
        return st;
    if (packed == NULL || packed->dtype != TENSOR_U8)
        st = err_set(err, STATUS_CORRUPT, "the checkpoint has no trace");
    if (st == STATUS_OK)
        st = trace_append(&t, packed->data, packed->bytes, err);
    if (st == STATUS_OK && t.count != step)
        st = err_set(err, STATUS_CORRUPT, "checkpoint of step %lld has a trace of %lld steps",
                     (long long)step, (long long)t.count);
    if (st == STATUS_OK && keep != NULL) {
        struct trace old = *keep;
        *keep = t;
        t = old;
    }
    trace_release(&t);
    return st;
}

enum status checkpoint_read(struct trainer *t, const void *bytes, size_t len,
                            struct progress *progress, struct err *err) {
    enum status st = STATUS_OK;
    struct arena a;
    const struct model *m = trainer_model(t);
    struct tensors file = {0};
    struct checkpoint_about about;
    int slot_count = trainer_config(t)->training.optimizer.slots;
    float *slots[2] = {NULL, NULL}, *flat = NULL;
    arena_init(&a, ARENA_MAX);
    TRY(safetensors_read(&a, bytes, len, &file, err));
    TRY(read_about(file.metadata, &about, err));
    TRY(check_metadata(t, file.metadata, err));
    flat = calloc((size_t)m->vector_count, sizeof *flat);
    for (int s = 0; s < slot_count; s++)
        slots[s] = calloc((size_t)trainer_slot_count(t), sizeof(float));
    if (flat == NULL || (slot_count > 0 && slots[0] == NULL) ||
        (slot_count > 1 && slots[1] == NULL)) {
        st = err_set(err, STATUS_NOMEM, "no memory for a checkpoint");
        goto out;
    }
    TRY(read_params(&file, "", m, flat, err));
    for (int s = 0; s < slot_count; s++)
        TRY(read_params(&file, s == 0 ? "slot0/" : "slot1/", m, slots[s], err));
    if (about.whole_trace)
        TRY(read_trace(&file, about.step, progress->trace, err));
    else if (progress->trace != NULL)
        trace_begin_at(progress->trace, about.step, &about.chain);
    progress->best = about.best;
    trainer_set(t, flat, (const float *const *)slots, about.step);
out:
    free(flat);
    for (int s = 0; s < 2; s++)
        free(slots[s]);
    arena_release(&a);
    return st;
}
