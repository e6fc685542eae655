/* Reads a run's or a registered model's parts from the tracker; writes its papers. */
#include "serving/export/handoff.h"

#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/ulid.h"
#include "serving/export/onnx.h"
#include "wire/artifact.h"

#define CALL_MS            30000
#define ARENA_BYTES_MAX    ((size_t)512 << 20)
#define PROPERTY_BYTES_MAX ((size_t)16 << 20)

/* Asks; *out is the reply's header. */
static enum status ask(struct session *tracker, struct arena *a, struct value *request,
                       const struct value **out, struct err *err) {
    struct session_reply reply = {0};
    struct session_ask call = {.request = request, .timeout_ms = CALL_MS};
    enum status st = session_call(tracker, a, &call, &reply, err);
    if (st == STATUS_OK)
        *out = reply.header;
    session_reply_release(&reply);
    return st;
}

static enum status incomplete(const char *key, struct err *err) {
    return err_set(err, STATUS_INTERNAL, "the tracker's answer has no %s", key);
}

static enum status resolve(struct session *tracker, struct arena *a, const char *prefix,
                           const char **run, struct err *err) {
    const struct value *v = NULL;
    if (!ulid_valid(prefix, strlen(prefix), false))
        return err_set(err, STATUS_NOT_FOUND, "'%.100s' is not a run", prefix);
    struct value *request = message_request(a, "run.resolve", NULL);
    value_set_string(a, request, "prefix", prefix);
    enum status st = ask(tracker, a, request, &v, err);
    if (st != STATUS_OK)
        return st;
    *run = value_get_string(v, "resolved", NULL);
    return *run != NULL ? STATUS_OK : incomplete("resolved", err);
}

/* ---- which run ---- */

static enum status find_version(struct session *tracker, struct handoff *h, const char *what,
                                struct err *err) {
    struct arena *a = &h->arena;
    const struct value *m = NULL;
    const char *at = strrchr(what, '@');
    struct value *request = message_request(a, "model.get", NULL);
    value_set(a, request, "name",
              value_bytes(a, what, at != NULL ? (size_t)(at - what) : strlen(what)));
    if (at != NULL && at[1] != '\0' && strspn(at + 1, "0123456789") == strlen(at + 1) &&
        strlen(at + 1) < 10)
        value_set_int(a, request, "version", strtoll(at + 1, NULL, 10));
    else if (at != NULL)
        value_set_string(a, request, "alias", at + 1);
    enum status st = ask(tracker, a, request, &m, err);
    if (st != STATUS_OK)
        return st;
    m = value_get(m, "model");
    h->name = value_get_string(m, "name", NULL);
    h->version = value_get_int(m, "version", 0);
    h->run = value_get_string(m, "run", NULL);
    h->card = value_get(m, "card");
    if (h->name == NULL || h->version < 1 || h->run == NULL || h->card == NULL)
        return err_set(err, STATUS_CORRUPT, "model %.100s: its record is incomplete", what);
    return STATUS_OK;
}

/* A run where the text can be one and is; a model otherwise. */
static enum status find(struct session *tracker, struct handoff *h,
                        const struct handoff_ask *what_for, struct weights_ref *ref,
                        struct err *err) {
    const char *what = what_for->what;
    if (!what_for->to_promote && strchr(what, '@') != NULL)
        return find_version(tracker, h, what, err);
    enum status st = weights_parse(&h->arena, what, ref, err);
    if (st != STATUS_OK)
        return st;
    st = resolve(tracker, &h->arena, ref->run, &h->run, err);
    if (st != STATUS_NOT_FOUND || what_for->to_promote || ref->which != WEIGHTS_ANY)
        return st;
    st = find_version(tracker, h, what, err);
    return st == STATUS_NOT_FOUND
               ? err_set(err, STATUS_NOT_FOUND, "there is neither a run nor a model '%.100s'", what)
               : st;
}

/* ---- what the run says ---- */

static enum status read_shape(const struct value *list, struct shape *out, struct err *err) {
    bool good = list != NULL && list->kind == VALUE_LIST && (list->count == 1 || list->count == 3);
    *out = (struct shape){.rank = good ? (int)list->count : 0};
    for (int i = 0; i < out->rank; i++) {
        good &= list->items[i]->kind == VALUE_INT && list->items[i]->integer > 0;
        out->dim[i] = good ? list->items[i]->integer : 1;
    }
    return good ? STATUS_OK
                : err_set(err, STATUS_INVALID, "its manifest does not give the shape of the data");
}

/* Somebody to ask for records. */
struct asker {
    struct session *tracker;
    struct arena *a;
};

static enum status read_run(void *arg, const char *run, const struct value **record,
                            struct err *err) {
    const struct asker *by = arg;
    struct value *request = message_request(by->a, "run.get", NULL);
    const struct value *reply;
    value_set_string(by->a, request, "run", run);
    enum status st = ask(by->tracker, by->a, request, &reply, err);
    if (st != STATUS_OK)
        return st;
    struct value *found = value_get(reply, "run");
    *record = found;
    return found != NULL ? artifact_list_all(by->tracker, by->a, found, err)
                         : incomplete("run", err);
}

/* Which of the run's weights; those of a step may be those of an attempt before. */
static enum status choose_weights(struct asker *by, const struct weights_ref *ref,
                                  struct handoff *h, struct err *err) {
    struct weights_among among = {.record = h->record, .get = read_run, .arg = by};
    enum status st = weights_find(&h->arena, ref, &among, &h->which, err);
    h->record = among.record;
    h->run = value_get_string(h->record, "run", h->run);
    return st;
}

/* What a run's manifest does not say is "unknown", in so many letters. */
static const struct value *known(struct handoff *h, const char *path) {
    const struct value *v = value_at(h->record, path);
    return v != NULL && v->kind != VALUE_NULL ? v : value_string(&h->arena, "unknown");
}

static enum status read_record(struct handoff *h, struct err *err) {
    struct shape shape;
    struct model *model = NULL;
    enum status st;
    const struct value *data = value_at(h->record, "manifest.data");
    const struct value *layers = value_at(h->record, "config.model");
    const struct value *loss = value_at(h->record, "config.training.loss");
    if (layers == NULL) {
        st = err_set(err, STATUS_INVALID, "its configuration has no model");
        goto out;
    }
    TRY(read_shape(value_get(data, "shape"), &shape, err));
    TRY(model_parse(&h->arena, layers, shape, NULL, &model, err));
    h->model = model;
    h->transforms = value_get(data, "transforms");
    /* Before version 3 of the language, training itself rounded raw values to float32. */
    h->wide = value_get_int(value_get(h->record, "config"), "language", 1) >= 3 &&
              onnx_needs_double(model, h->transforms);
    h->inputs = known(h, "manifest.data.inputs");
    h->outputs = known(h, "manifest.data.outputs");
    h->classify =
        loss == NULL || loss->kind != VALUE_STRING || strcmp(loss->string, "cross_entropy") == 0;
out:
    return st;
}

static enum status same_digest(const struct value *card, const char *path,
                               const struct digest *digest, struct err *err) {
    char hex[DIGEST_HEX];
    const struct value *promoted = value_at(card, path);
    hash_hex(digest, hex);
    if (promoted != NULL && promoted->kind == VALUE_STRING && strcmp(promoted->string, hex) == 0)
        return STATUS_OK;
    return err_set(
        err, STATUS_CONFLICT,
        "the artifact behind %s is no longer the one that was promoted (it has digest %s)", path,
        hex);
}

/* The card of a registered version names its weights; cards of before named none but the last. */
static struct weights promoted_weights(const struct handoff *h) {
    const char *path = value_get_string(value_get(h->card, "weights"), "path", WEIGHTS_LAST_PATH);
    const char *which = value_get_string(h->card, "which", "last");
    return (struct weights){.path = path,
                            .which = which,
                            .step = value_get_int(h->card, "step", -1),
                            .digest = value_get_string(h->card, "weights_digest", NULL),
                            .checkpoint = strcmp(which, "step") == 0};
}

/* A run that goes on has a best of which its summary does not know yet: the file says its step. */
static void learn_step(struct handoff *h) {
    const char *step = value_get_string(h->tensors.metadata, "step", NULL);
    if (h->which.step < 0 && step != NULL && strspn(step, "0123456789") == strlen(step))
        h->which.step = strtoll(step, NULL, 10);
}

/* Of a kept checkpoint nobody wrote the digest of its weights down: it is that of the flat vector. What
 * the model does not find there is told by whoever needs it. */
static enum status make_digest(struct handoff *h, struct err *err) {
    const struct model *m = h->model;
    struct digest d;
    char hex[DIGEST_HEX];
    if (h->which.digest != NULL)
        return STATUS_OK;
    float *flat = calloc((size_t)m->flat_count + 1, sizeof *flat);
    if (flat == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for the weights");
    bool whole = true;
    for (int i = 0; i < m->param_count && whole; i++) {
        const struct param *p = &m->params[i];
        const struct tensor *t = safetensors_find(h->tensors.list, h->tensors.count, p->name);
        whole = t != NULL && t->dtype == TENSOR_F32 && t->bytes == (size_t)p->count * sizeof *flat;
        if (whole)
            memcpy(flat + p->offset, t->data, t->bytes);
    }
    hash_bytes(flat, (size_t)m->flat_count * sizeof *flat, &d);
    free(flat);
    hash_hex(&d, hex);
    h->which.digest = whole ? arena_strdup(&h->arena, hex) : NULL;
    return STATUS_OK;
}

static enum status read_weights(struct session *tracker, struct handoff *h, struct err *err) {
    enum status st;
    buf_init(&h->weights, HANDOFF_WEIGHTS_MAX);
    TRY(artifact_get(tracker, &(struct artifact){.run = h->run, .path = h->which.path}, &h->weights,
                     &h->weights_digest, err));
    if (h->card != NULL)
        TRY(same_digest(h->card, "weights.digest", &h->weights_digest, err));
    TRY(safetensors_read(&h->arena, h->weights.data, h->weights.len, &h->tensors, err));
    learn_step(h);
    TRY(make_digest(h, err));
out:
    return st;
}

static enum status check_state(const struct handoff *h, struct err *err) {
    const char *state = value_get_string(h->record, "state", "unknown");
    if (strcmp(state, "completed") == 0 || strcmp(state, "stopped") == 0)
        return STATUS_OK;
    return err_set(err, STATUS_CONFLICT,
                   "it is %s; only a completed or stopped run can be promoted", state);
}

static enum status load(struct session *tracker, const struct handoff_ask *what,
                        const struct weights_ref *ref, struct handoff *h, struct err *err) {
    struct asker by = {.tracker = tracker, .a = &h->arena};
    enum status st;
    TRY(read_run(&by, h->run, &h->record, err));
    if (what->to_promote)
        TRY(check_state(h, err));
    if (h->card != NULL)
        h->which = promoted_weights(h);
    else
        TRY(choose_weights(&by, ref, h, err));
    if (what->to_promote)
        TRY(check_state(h, err)); /* of the attempt that has them */
    TRY(read_record(h, err));
    TRY(read_weights(tracker, h, err));
out:
    return st;
}

enum status handoff_load(struct session *tracker, const struct handoff_ask *what,
                         struct handoff *out, struct err *err) {
    struct weights_ref ref = {.which = WEIGHTS_ANY};
    *out = (struct handoff){0};
    arena_init(&out->arena, ARENA_BYTES_MAX);
    enum status st = find(tracker, out, what, &ref, err);
    if (st == STATUS_OK) {
        st = load(tracker, what, &ref, out, err);
        if (st != STATUS_OK)
            st = err_wrap(err, st, "run %s", out->run);
    }
    if (st != STATUS_OK)
        handoff_release(out);
    return st;
}

const struct value *handoff_trained_by(struct session *tracker, struct handoff *h) {
    struct asker by = {.tracker = tracker, .a = &h->arena};
    struct weights_among among = {.record = h->record, .get = read_run, .arg = &by};
    return weights_trained_by(&among, h->which.step);
}

void handoff_release(struct handoff *h) {
    buf_release(&h->weights);
    arena_release(&h->arena);
    *h = (struct handoff){0};
}

/* ---- what is made of it ---- */

/* A property whose text is JSON. */
static enum status set_json(struct arena *a, struct value *map, const char *key,
                            const struct value *v, struct err *err) {
    struct buf text = BUF_INIT(PROPERTY_BYTES_MAX);
    enum status st = json_dump(v, JSON_COMPACT, &text, err);
    if (st == STATUS_OK)
        value_set_string(a, map, key, buf_text(&text));
    buf_release(&text);
    return st;
}

static enum status make_onnx(struct handoff *h, struct buf *out, struct err *err) {
    char hex[DIGEST_HEX];
    struct arena *a = &h->arena;
    struct value *properties = value_map(a);
    enum status st;
    hash_hex(&h->weights_digest, hex);
    value_set_string(a, properties, "trireme.run", h->run);
    value_set_string(a, properties, "trireme.weights", hex);
    value_set_string(a, properties, "trireme.which", h->which.which);
    if (h->which.step >= 0)
        value_set_string(a, properties, "trireme.step",
                         arena_printf(a, "%lld", (long long)h->which.step));
    const struct value *data = value_at(h->record, "manifest.data.digest");
    if (data != NULL && data->kind == VALUE_STRING)
        value_set_string(a, properties, "trireme.data", data->string);
    TRY(set_json(a, properties, "trireme.inputs", h->inputs, err));
    TRY(set_json(a, properties, "trireme.outputs", h->outputs, err));
    struct onnx_model m = {.model = h->model,
                           .tensors = h->tensors.list,
                           .tensor_count = h->tensors.count,
                           .transforms = h->transforms,
                           .classify = h->classify,
                           .wide = h->wide,
                           .properties = properties,
                           .name = "trireme"};
    TRY(onnx_write(&m, out, err));
out:
    return st == STATUS_OK ? st : err_wrap(err, st, "run %s", h->run);
}

enum status handoff_onnx(struct session *tracker, struct handoff *h, struct buf *out,
                         struct digest *digest, struct err *err) {
    enum status st;
    const struct value *path = value_at(h->card, "onnx.path");
    if (h->card != NULL && path != NULL && path->kind == VALUE_STRING) {
        TRY(artifact_get(tracker, &(struct artifact){.run = h->run, .path = path->string}, out,
                         digest, err));
        TRY(same_digest(h->card, "onnx.digest", digest, err));
    } else {
        TRY(make_onnx(h, out, err));
        hash_bytes(out->data, out->len, digest);
    }
out:
    return st;
}

enum status handoff_weights(const struct handoff *h, struct buf *out, struct err *err) {
    enum status st = STATUS_OK;
    struct arena a;
    arena_init(&a, ARENA_BYTES_MAX);
    if (!h->which.checkpoint) {
        buf_add(out, h->weights.data, h->weights.len);
        goto out;
    }
    struct tensor *list = arena_array(&a, (size_t)h->model->param_count + 1, sizeof *list);
    struct value *metadata = value_map(&a);
    if (list == NULL) {
        st = err_set(err, STATUS_NOMEM, "out of memory");
        goto out;
    }
    for (int i = 0; i < h->model->param_count; i++) {
        const char *name = h->model->params[i].name;
        const struct tensor *t = safetensors_find(h->tensors.list, h->tensors.count, name);
        if (t == NULL) {
            st = err_set(err, STATUS_INVALID, "run %s: the checkpoint has no tensor %s", h->run,
                         name);
            goto out;
        }
        list[i] = *t;
    }
    value_set_string(&a, metadata, "run", h->run);
    value_set_string(&a, metadata, "step", arena_printf(&a, "%lld", (long long)h->which.step));
    TRY(safetensors_write(out, list, (size_t)h->model->param_count, metadata, err));
out:
    arena_release(&a);
    return st == STATUS_OK ? buf_status(out, "weights", err) : st;
}
