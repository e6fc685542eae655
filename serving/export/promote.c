#include <stdio.h>
#include <string.h>

#include "serving/export/export.h"
#include "serving/export/onnx.h"
#include "wire/artifact.h"

#define CALL_MS 30000

/* A version that was promoted earlier keeps its file: other bytes go under another name. */
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

static enum status check_state(const struct handoff *h, struct err *err) {
    const char *state = value_get_string(h->record, "state", "unknown");
    if (strcmp(state, "completed") == 0 || strcmp(state, "stopped") == 0)
        return STATUS_OK;
    return err_set(err, STATUS_CONFLICT,
                   "run %s is %s; only a completed or stopped run can be promoted", h->run, state);
}

static enum status send_promote(struct session *tracker, struct handoff *h,
                                const struct promote_request *request, struct value *card,
                                struct arena *a, struct value **result, struct err *err) {
    const char *at = strrchr(request->name, '@');
    size_t len = at != NULL ? (size_t)(at - request->name) : strlen(request->name);
    struct value *m = message_request(&h->arena, "model.promote", NULL), *r = value_map(a);
    struct session_reply reply = {0};
    if (len == 0 || (at != NULL && at[1] == '\0'))
        return err_set(err, STATUS_INVALID, "'%.100s' must be NAME or NAME@alias", request->name);
    if (at != NULL && strspn(at + 1, "0123456789") == strlen(at + 1))
        return err_set(err, STATUS_INVALID,
                       "alias '%.100s' would be taken for a version number; choose a word", at + 1);
    value_set(&h->arena, m, "name", value_bytes(&h->arena, request->name, len));
    value_set_string(&h->arena, m, "run", h->run);
    value_set_string(&h->arena, m, "alias", at != NULL ? at + 1 : NULL);
    value_set_string(&h->arena, m, "actor", request->actor);
    value_set_string(&h->arena, m, "comment", request->comment);
    value_set(&h->arena, m, "card", card);
    enum status st = session_call(
        tracker, a, &(struct session_ask){.request = m, .timeout_ms = CALL_MS}, &reply, err);
    if (st != STATUS_OK)
        return st;
    value_set_string(a, r, "run", h->run);
    value_set_string(a, r, "name", value_get_string(reply.header, "name", NULL));
    value_set_int(a, r, "version", value_get_int(reply.header, "version", 0));
    value_set_string(a, r, "alias", at != NULL ? at + 1 : NULL);
    value_set_string(a, r, "audit", value_get_string(reply.header, "audit", NULL));
    value_set(a, r, "weights_digest", value_copy(a, value_get(card, "weights_digest")));
    value_set(a, r, "file_digest", value_copy(a, value_at(card, "weights.digest")));
    value_set(a, r, "onnx_digest", value_copy(a, value_at(card, "onnx.digest")));
    session_reply_release(&reply);
    *result = r;
    return STATUS_OK;
}

enum status promote_run(struct session *tracker, const struct promote_request *request,
                        struct arena *a, struct value **result, struct err *err) {
    struct handoff h = {0};
    struct buf onnx = BUF_INIT(ONNX_BYTES_MAX);
    struct digest digest, stored;
    const char *run = NULL;
    enum status st;
    TRY(handoff_resolve(tracker, a, request->run, &run, err));
    TRY(handoff_load(tracker, run, &h, err));
    TRY(check_state(&h, err));
    TRY(handoff_onnx(tracker, &h, &onnx, &digest, err));
    const char *path = place_for(&h, &digest);
    struct value *meta = value_map(&h.arena);
    value_set_string(&h.arena, meta, "kind", "onnx");
    TRY(artifact_put(tracker, &(struct artifact){.run = h.run, .path = path, .meta = meta},
                     (struct net_frame){onnx.data, onnx.len}, &stored, err));
    struct value *card = handoff_card(&h, &digest, path, onnx.len);
    TRY(send_promote(tracker, &h, request, card, a, result, err));
out:
    buf_release(&onnx);
    handoff_release(&h);
    return st;
}
