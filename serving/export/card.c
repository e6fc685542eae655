/* A model's papers: the card. */
#include <math.h>
#include <string.h>

#include "core/bytes.h"
#include "core/version.h"
#include "serving/export/card.h"
#include "serving/export/onnx.h"

#define CARD_FORMAT 1
#define CALL_MS     30000

struct value *card_describe(struct arena *a, const struct card_file *file) {
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

/* ---- metrics of the weights ---- */

struct point {
    const char *run, *key;
    double value;
    bool found;
};

/* The value of a series at the step of the weights. */
static enum status read_point(struct session *tracker, struct handoff *h, struct point *p,
                              struct err *err) {
    struct arena *a = &h->arena;
    struct session_reply reply = {0};
    struct value *request = message_request(a, "run.metrics", NULL);
    value_set_string(a, request, "run", p->run);
    value_set_string(a, request, "key", p->key);
    value_set_int(a, request, "after_step", h->which.step - 1);
    value_set_int(a, request, "points", 2); /* the first is kept */
    p->found = false;
    enum status st = session_call(
        tracker, a, &(struct session_ask){.request = request, .timeout_ms = CALL_MS}, &reply, err);
    const struct net_message *m = &reply.message;
    if (st == STATUS_OK && value_get_int(reply.header, "count", 0) > 0 && m->frame_count >= 3 &&
        m->frames[0].len >= 8 && m->frames[2].len >= 8) {
        p->found = (int64_t)bytes_get_u64(m->frames[0].data) == h->which.step;
        p->value = bytes_get_f64(m->frames[2].data);
    }
    session_reply_release(&reply);
    return st;
}

/* The summary's metrics, or where it has none the last value of every series of rank 0. */
static struct value *last_metrics(struct arena *a, const struct value *record) {
    const struct value *said = value_at(record, "summary.metrics");
    if (said != NULL && said->kind == VALUE_MAP)
        return value_copy(a, said);
    struct value *m = value_map(a);
    const struct value *series = value_get(record, "metrics");
    for (size_t i = 0; series != NULL && series->kind == VALUE_LIST && i < series->count; i++) {
        const char *key = value_get_string(series->items[i], "key", NULL);
        const struct value *last = value_get(series->items[i], "last");
        if (key != NULL && last != NULL && last->kind == VALUE_REAL &&
            value_get_int(series->items[i], "rank", 0) == 0)
            value_set(a, m, key, value_copy(a, last));
    }
    return m;
}

/* The values of all series at the step of the weights, from the attempt that trained it. */
static enum status metrics_at(struct session *tracker, struct handoff *h, struct value *m,
                              struct err *err) {
    const struct value *r = handoff_trained_by(tracker, h), *series = value_get(r, "metrics");
    enum status st = STATUS_OK;
    for (size_t i = 0; series != NULL && i < series->count; i++) {
        struct point p = {.run = value_get_string(r, "run", h->run),
                          .key = value_get_string(series->items[i], "key", "")};
        if (value_get_int(series->items[i], "rank", 0) != 0)
            continue;
        TRY(read_point(tracker, h, &p, err));
        if (p.found && isfinite(p.value))
            value_set_real(&h->arena, m, p.key, p.value);
    }
out:
    return st;
}

static enum status read_metrics(struct session *tracker, struct handoff *h, struct value **out,
                                struct err *err) {
    struct arena *a = &h->arena;
    const struct value *summary = value_get(h->record, "summary");
    const struct value *best = value_get(summary, "best");
    const char *metric = value_get_string(best, "metric", NULL);
    enum status st = STATUS_OK;
    if (h->which.step < 0 || h->which.step == value_get_int(summary, "steps", -1)) {
        *out = last_metrics(a, h->record);
        return st;
    }
    *out = value_map(a);
    TRY(metrics_at(tracker, h, *out, err));
    if (value_get_int(best, "step", -1) == h->which.step && metric != NULL &&
        value_get(best, "value") != NULL)
        value_set(a, *out, metric, value_copy(a, value_get(best, "value")));
out:
    return st;
}

/* ---- the card ---- */

enum status card_make(struct session *tracker, struct handoff *h, const struct card_file *onnx,
                      struct value **out, struct err *err) {
    struct arena *a = &h->arena;
    const struct value *r = h->record, *data = value_at(r, "manifest.data");
    const struct value *replay = value_at(r, "summary.replay");
    struct value *card = value_map(a), *program = value_map(a), *metrics = NULL;
    enum status st;
    TRY(read_metrics(tracker, h, &metrics, err));
    value_set_int(a, card, "format", CARD_FORMAT);
    value_set_string(a, card, "run", h->run);
    set_copy(a, card, "experiment", value_get(r, "experiment"));
    set_copy(a, card, "model", value_at(r, "config.model"));
    value_set_string(a, card, "which", h->which.which);
    value_set(a, card, "step", h->which.step >= 0 ? value_int(a, h->which.step) : value_null(a));
    struct card_file weights = {
        .path = h->which.path, .len = h->weights.len, .digest = h->weights_digest};
    value_set(a, card, "weights", card_describe(a, &weights));
    value_set(a, card, "weights_digest",
              h->which.digest != NULL ? value_string(a, h->which.digest) : value_null(a));
    if (onnx != NULL)
        value_set(a, card, "onnx", card_describe(a, onnx));
    struct onnx_model m = {.model = h->model, .classify = h->classify, .wide = h->wide};
    value_set(a, card, "signature", onnx_signature(a, &m));
    set_copy(a, card, "inputs", h->inputs);
    set_copy(a, card, "outputs", h->outputs);
    set_copy(a, card, "transforms", h->transforms);
    set_copy(a, card, "classes", value_get(data, "classes"));
    if (value_get(data, "class_names") != NULL)
        set_copy(a, card, "class_names", value_get(data, "class_names"));
    value_set(a, card, "metrics", metrics);
    set_copy(a, card, "data_digest", value_get(data, "digest"));
    set_copy(a, card, "replay", replay != NULL ? replay : value_at(r, "tags.replay"));
    value_set_string(a, program, "version", TRIREME_VERSION);
    value_set_string(a, program, "build", trireme_build_id);
    value_set(a, card, "trireme", program);
    *out = card;
out:
    return st;
}
