#include "serving/export/export.h"

#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "core/path.h"
#include "serving/export/onnx.h"
#include "serving/export/triton.h"

#define PAPERS_BYTES_MAX ((size_t)64 << 20)

static void describe_file(struct arena *a, struct value *result, const char *path,
                          const struct digest *digest, size_t len) {
    char hex[DIGEST_HEX];
    hash_hex(digest, hex);
    value_set_string(a, result, "path", path);
    value_set_string(a, result, "digest", hex);
    value_set_int(a, result, "size", (int64_t)len);
}

/* NAME.json: the model's card, as promoted or as it would be. */
static enum status write_papers(struct handoff *h, const char *directory, const char *name,
                                const struct digest *onnx, const char *file, size_t onnx_len,
                                char path[PATH_TEXT_MAX], struct err *err) {
    struct buf text = BUF_INIT(PAPERS_BYTES_MAX);
    char leaf[160];
    const struct value *card = h->card;
    enum status st;
    if (card == NULL)
        card = handoff_card(h, onnx, file, onnx_len);
    (void)snprintf(leaf, sizeof leaf, "%s.json", name);
    TRY(json_dump(card, JSON_PRETTY, &text, err));
    TRY(path_join(path, directory, leaf, err));
    TRY(path_write(path, text.data, text.len, 0644, err));
out:
    buf_release(&text);
    return st;
}

/* DIR/NAME.onnx or DIR/NAME.safetensors, and DIR/NAME.json. */
static enum status write_files(struct handoff *h, const struct export_request *request,
                               const char *name, const struct buf *onnx, struct digest *digest,
                               struct arena *a, struct value *result, struct err *err) {
    char path[PATH_TEXT_MAX], papers[PATH_TEXT_MAX], leaf[160];
    const struct buf *bytes = onnx != NULL ? onnx : &h->weights;
    enum status st;
    (void)snprintf(leaf, sizeof leaf, "%s.%s", name, request->format);
    TRY(path_mkdirs(request->directory, 0755, err));
    TRY(path_join(path, request->directory, leaf, err));
    TRY(path_write(path, bytes->data, bytes->len, 0644, err));
    TRY(write_papers(h, request->directory, name, onnx != NULL ? digest : NULL, leaf, bytes->len,
                     papers, err));
    describe_file(a, result, path, digest, bytes->len);
    value_set_string(a, result, "papers", papers);
out:
    return st;
}

static enum status write_triton(struct handoff *h, const struct export_request *request,
                                const char *name, const struct buf *onnx,
                                const struct digest *digest, struct arena *a, struct value *result,
                                struct err *err) {
    char path[PATH_TEXT_MAX];
    struct triton_version version = {.repository = request->directory,
                                     .model = name,
                                     .version = h->version,
                                     .onnx = onnx->data,
                                     .onnx_len = onnx->len,
                                     .signature = onnx_signature(a, h->model, h->classify),
                                     .run = h->run};
    int64_t number = 0;
    enum status st;
    TRY(triton_publish(&version, &number, err));
    int n = snprintf(path, sizeof path, "%s/%s/%lld/model.onnx", request->directory, name,
                     (long long)number);
    describe_file(a, result, n < PATH_TEXT_MAX ? path : request->directory, digest, onnx->len);
    value_set_int(a, result, "version", number);
out:
    return st;
}

enum status export_files(struct session *tracker, const struct export_request *request,
                         struct arena *a, struct value **result, struct err *err) {
    struct handoff h = {0};
    struct buf onnx = BUF_INIT(ONNX_BYTES_MAX);
    struct digest digest;
    bool plain = strcmp(request->format, "safetensors") == 0;
    enum status st;
    TRY(handoff_load(tracker, request->what, &h, err));
    const char *name = request->name != NULL ? request->name : h.name != NULL ? h.name : "model";
    if (!triton_name_valid(name)) {
        st =
            err_set(err, STATUS_INVALID,
                    "'%.100s' cannot name a file; choose letters, digits, _ . - with --name", name);
        goto out;
    }
    struct value *r = value_map(a);
    value_set_string(a, r, "run", h.run);
    value_set_string(a, r, "model", h.name);
    if (h.version > 0)
        value_set_int(a, r, "version", h.version);
    value_set_string(a, r, "format", request->format);
    digest = h.weights_digest;
    if (!plain)
        TRY(handoff_onnx(tracker, &h, &onnx, &digest, err));
    if (strcmp(request->format, "triton") == 0)
        TRY(write_triton(&h, request, name, &onnx, &digest, a, r, err));
    else
        TRY(write_files(&h, request, name, plain ? NULL : &onnx, &digest, a, r, err));
    *result = r;
out:
    buf_release(&onnx);
    handoff_release(&h);
    return st;
}
