/* Reads a run's or a registered model's parts from the tracker; writes its papers. */
#include "serving/export/handoff.h"

#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/ulid.h"
#include "core/version.h"
#include "serving/export/onnx.h"
#include "wire/artifact.h"

#define CALL_MS         30000
#define ARENA_BYTES_MAX ((size_t)512 << 20)
#define CARD_FORMAT     1

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

enum status handoff_resolve(struct session *tracker, struct arena *a, const char *prefix,
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
static enum status find(struct session *tracker, struct handoff *h, const char *what,
                        struct err *err) {
    if (strchr(what, '@') != NULL)
        return find_version(tracker, h, what, err);
    enum status st = handoff_resolve(tracker, &h->arena, what, &h->run, err);
    if (st != STATUS_NOT_FOUND)
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

static enum status read_record(struct session *tracker, struct handoff *h, struct err *err) {
    struct arena *a = &h->arena;
    struct value *request = message_request(a, "run.get", NULL);
    struct shape shape;
    struct model *model = NULL;
    enum status st;
    value_set_string(a, request, "run", h->run);
    TRY(ask(tracker, a, request, &h->record, err));
    h->record = value_get(h->record, "run");
    if (h->record == NULL)
        return incomplete("run", err);
    const struct value *data = value_at(h->record, "manifest.data");
    const struct value *layers = value_at(h->record, "config.model");
    const struct value *loss = value_at(h->record, "config.training.loss");
    if (layers == NULL) {
        st = err_set(err, STATUS_INVALID, "its configuration has no model");
        goto out;
    }
    TRY(read_shape(value_get(data, "shape"), &shape, err));
    TRY(model_parse(a, layers, shape, NULL, &model, err));
    h->model = model;
    h->transforms = value_get(data, "transforms");
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

static enum status read_weights(struct session *tracker, struct handoff *h, struct err *err) {
    enum status st;
    buf_init(&h->weights, HANDOFF_WEIGHTS_MAX);
    TRY(artifact_get(tracker, &(struct artifact){.run = h->run, .path = HANDOFF_WEIGHTS},
                     &h->weights, &h->weights_digest, err));
    if (h->card != NULL)
        TRY(same_digest(h->card, "weights.digest", &h->weights_digest, err));
    TRY(safetensors_read(&h->arena, h->weights.data, h->weights.len, &h->tensors, err));
out:
    return st;
}

enum status handoff_load(struct session *tracker, const char *what, struct handoff *out,
                         struct err *err) {
    *out = (struct handoff){0};
    arena_init(&out->arena, ARENA_BYTES_MAX);
    enum status st = find(tracker, out, what, err);
    if (st == STATUS_OK) {
        st = read_record(tracker, out, err);
        if (st == STATUS_OK)
            st = read_weights(tracker, out, err);
        if (st != STATUS_OK)
            st = err_wrap(err, st, "run %s", out->run);
    }
    if (st != STATUS_OK)
        handoff_release(out);
    return st;
}

void handoff_release(struct handoff *h) {
    buf_release(&h->weights);
    arena_release(&h->arena);
    *h = (struct handoff){0};
}

/* ---- what is made of it ---- */

static enum status make_onnx(const struct handoff *h, struct buf *out, struct err *err) {
    char hex[DIGEST_HEX];
    struct arena a;
    arena_init(&a, (size_t)1 << 20);
    struct value *properties = value_map(&a);
    hash_hex(&h->weights_digest, hex);
    value_set_string(&a, properties, "trireme.run", h->run);
    value_set_string(&a, properties, "trireme.weights", hex);
    const struct value *data = value_at(h->record, "manifest.data.digest");
    if (data != NULL && data->kind == VALUE_STRING)
        value_set_string(&a, properties, "trireme.data", data->string);
    struct onnx_model m = {.model = h->model,
                           .tensors = h->tensors.list,
                           .tensor_count = h->tensors.count,
                           .transforms = h->transforms,
                           .classify = h->classify,
                           .properties = properties,
                           .name = "trireme"};
    enum status st = onnx_write(&m, out, err);
    arena_release(&a);
    return st == STATUS_OK ? st : err_wrap(err, st, "run %s", h->run);
}

enum status handoff_onnx(struct session *tracker, const struct handoff *h, struct buf *out,
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

/* ---- papers ---- */

struct value *handoff_describe(struct arena *a, const struct handoff_file *file) {
    char hex[DIGEST_HEX];
    struct value *m = value_map(a);
    hash_hex(&file->digest, hex);
    value_set_string(a, m, "path", file->path);
    value_set_string(a, m, "digest", hex);
    value_set_int(a, m, "size", (int64_t)file->len);
    return m;
}

static void set_copy(struct arena *a, struct value *map, const char *key, const struct value *v) {
    value_set(a, map, key, v != NULL ? value_copy(a, v) : value_null(a));
}

/* The summary's metrics, or where it has none the last value of every series. */
static struct value *metrics_of(struct arena *a, const struct value *record) {
    const struct value *said = value_at(record, "summary.metrics");
    if (said != NULL && said->kind == VALUE_MAP)
        return value_copy(a, said);
    struct value *m = value_map(a);
    const struct value *series = value_get(record, "metrics");
    for (size_t i = 0; series != NULL && series->kind == VALUE_LIST && i < series->count; i++) {
        const char *key = value_get_string(series->items[i], "key", NULL);
        const struct value *last = value_get(series->items[i], "last");
        if (key != NULL && last != NULL && last->kind == VALUE_REAL)
            value_set(a, m, key, value_copy(a, last));
    }
    return m;
}

struct value *handoff_card(struct handoff *h, const struct handoff_file *onnx) {
    struct arena *a = &h->arena;
    const struct value *r = h->record, *data = value_at(r, "manifest.data");
    const struct value *replay = value_at(r, "summary.replay");
    struct value *card = value_map(a), *program = value_map(a);
    value_set_int(a, card, "format", CARD_FORMAT);
    value_set_string(a, card, "run", h->run);
    set_copy(a, card, "experiment", value_get(r, "experiment"));
    set_copy(a, card, "model", value_at(r, "config.model"));
    struct handoff_file weights = {
        .path = HANDOFF_WEIGHTS, .len = h->weights.len, .digest = h->weights_digest};
    value_set(a, card, "weights", handoff_describe(a, &weights));
    set_copy(a, card, "weights_digest", value_at(r, "summary.weights_digest"));
    if (onnx != NULL)
        value_set(a, card, "onnx", handoff_describe(a, onnx));
    value_set(a, card, "signature", onnx_signature(a, h->model, h->classify));
    set_copy(a, card, "transforms", h->transforms);
    set_copy(a, card, "classes", value_get(data, "classes"));
    if (value_get(data, "class_names") != NULL)
        set_copy(a, card, "class_names", value_get(data, "class_names"));
    value_set(a, card, "metrics", metrics_of(a, r));
    set_copy(a, card, "data_digest", value_get(data, "digest"));
    set_copy(a, card, "replay", replay != NULL ? replay : value_at(r, "tags.replay"));
    value_set_string(a, program, "version", TRIREME_VERSION);
    value_set_string(a, program, "build", trireme_build_id);
    value_set(a, card, "trireme", program);
    return card;
}
