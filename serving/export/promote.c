/* A run's model becomes a version of a registered model. */
#include <stdio.h>
#include <string.h>

#include "core/name.h"
#include "serving/export/card.h"
#include "serving/export/export.h"
#include "serving/export/onnx.h"
#include "wire/artifact.h"

#define CALL_MS 30000

/* A version promoted earlier keeps its file: other bytes are stored under another name. */
static const char *place_for(struct handoff *h, const struct digest *digest) {
    const struct value *list = value_get(h->record, "artifacts");
    char hex[DIGEST_HEX];
    hash_hex(digest, hex);
    for (size_t i = 0; list != NULL && list->kind == VALUE_LIST && i < list->count; i++)
        if (strcmp(value_get_string(list->items[i], "path", ""), HANDOFF_ONNX) == 0 &&
            strcmp(value_get_string(list->items[i], "digest", ""), hex) != 0)
            return arena_printf(&h->arena, "model-%.12s.onnx", hex);
    return HANDOFF_ONNX;
}

/* "NAME@alias" as asked for. */
struct target {
    const char *text, *alias; /* alias NULL: none */
    size_t name_len;
};

static enum status parse_target(const char *text, struct target *out, struct err *err) {
    const char *at = strchr(text, '@');
    size_t len = at != NULL ? (size_t)(at - text) : strlen(text);
    const char *alias = at != NULL ? at + 1 : NULL;
    enum status st;
    TRY(name_check("model's name", text, len, err));
    if (alias != NULL)
        TRY(name_check("alias", alias, strlen(alias), err));
    if (alias != NULL && strspn(alias, "0123456789") == strlen(alias))
        return err_set(err, STATUS_INVALID,
                       "alias '%.100s' reads as a version number; choose a word", alias);
    *out = (struct target){.text = text, .alias = alias, .name_len = len};
out:
    return st;
}

static struct value *promotion(struct handoff *h, const struct promote_request *request,
                               const struct target *target, struct value *card) {
    struct arena *a = &h->arena;
    struct value *m = message_request(a, "model.promote", NULL);
    value_set(a, m, "name", value_bytes(a, target->text, target->name_len));
    value_set_string(a, m, "run", h->run);
    value_set_string(a, m, "alias", target->alias);
    value_set_string(a, m, "actor", request->actor);
    value_set_string(a, m, "comment", request->comment);
    value_set(a, m, "card", card);
    return m;
}

/* What the command prints; `answer` is the tracker's. */
static struct value *result_of(struct arena *a, const struct handoff *h,
                               const struct target *target, const struct value *card,
                               const struct value *answer) {
    struct value *r = value_map(a);
    value_set_string(a, r, "run", h->run);
    value_set_string(a, r, "name", value_get_string(answer, "name", NULL));
    value_set_int(a, r, "version", value_get_int(answer, "version", 0));
    value_set_string(a, r, "alias", target->alias);
    value_set_string(a, r, "audit", value_get_string(answer, "audit", NULL));
    value_set_string(a, r, "which", h->which.which);
    value_set(a, r, "step", value_copy(a, value_get(card, "step")));
    value_set_string(a, r, "note", h->which.note);
    value_set(a, r, "weights_digest", value_copy(a, value_get(card, "weights_digest")));
    value_set(a, r, "file_digest", value_copy(a, value_at(card, "weights.digest")));
    value_set(a, r, "onnx_digest", value_copy(a, value_at(card, "onnx.digest")));
    return r;
}

enum status promote_run(struct session *tracker, const struct promote_request *request,
                        struct arena *a, struct value **result, struct err *err) {
    struct handoff h = {0};
    struct buf onnx = BUF_INIT(ONNX_BYTES_MAX);
    struct digest stored;
    struct card_file file = {.path = HANDOFF_ONNX};
    struct target target = {.text = NULL};
    struct session_reply reply = {0};
    struct value *card = NULL;
    enum status st;
    TRY(parse_target(request->name, &target, err));
    TRY(handoff_load(tracker, &(struct handoff_ask){.what = request->run, .to_promote = true}, &h,
                     err));
    TRY(handoff_onnx(tracker, &h, &onnx, &file.digest, err));
    file.path = place_for(&h, &file.digest);
    file.len = onnx.len;
    struct value *meta = value_map(&h.arena);
    value_set_string(&h.arena, meta, "kind", "onnx");
    TRY(artifact_put(tracker, &(struct artifact){.run = h.run, .path = file.path, .meta = meta},
                     (struct net_frame){onnx.data, onnx.len}, &stored, err));
    TRY(card_make(tracker, &h, &file, &card, err));
    struct session_ask ask = {.request = promotion(&h, request, &target, card),
                              .timeout_ms = CALL_MS};
    TRY(session_call(tracker, a, &ask, &reply, err));
    *result = result_of(a, &h, &target, card, reply.header);
out:
    session_reply_release(&reply);
    buf_release(&onnx);
    handoff_release(&h);
    return st;
}
