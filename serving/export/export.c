/* Files for other runtimes: ONNX and safetensors with their papers, or a Triton version. */
#include "serving/export/export.h"

#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "core/name.h"
#include "core/path.h"
#include "serving/export/onnx.h"
#include "serving/export/triton.h"

#define PAPERS_BYTES_MAX ((size_t)64 << 20)

/* An export under way. */
struct job {
    struct handoff h;
    const struct export_request *request;
    const char *name;     /* of the files */
    struct buf onnx;      /* empty for safetensors */
    struct digest digest; /* of what is written */
    struct arena *a;      /* the result's */
    struct value *result;
};

static void add_file(struct job *j, const char *path, size_t len) {
    struct handoff_file file = {.path = path, .len = len, .digest = j->digest};
    const struct value *m = handoff_describe(j->a, &file);
    for (size_t i = 0; m != NULL && i < m->count; i++)
        value_set(j->a, j->result, m->members[i].key, m->members[i].value);
}

/* NAME.json: the model's card, as promoted or as it would be. `onnx` NULL: there is none. */
static enum status write_papers(struct job *j, const struct handoff_file *onnx, struct err *err) {
    struct buf text = BUF_INIT(PAPERS_BYTES_MAX);
    char path[PATH_TEXT_MAX], leaf[NAME_BYTES_MAX + 32];
    const struct value *card = j->h.card != NULL ? j->h.card : handoff_card(&j->h, onnx);
    enum status st;
    (void)snprintf(leaf, sizeof leaf, "%s.json", j->name);
    TRY(json_dump(card, JSON_PRETTY, &text, err));
    TRY(path_join(path, j->request->directory, leaf, err));
    TRY(path_write(path, text.data, text.len, 0644, err));
    value_set_string(j->a, j->result, "papers", path);
out:
    buf_release(&text);
    return st;
}

/* DIR/NAME.onnx or DIR/NAME.safetensors, and DIR/NAME.json. */
static enum status write_files(struct job *j, struct err *err) {
    char path[PATH_TEXT_MAX], leaf[NAME_BYTES_MAX + 32];
    bool plain = j->onnx.len == 0;
    const struct buf *bytes = plain ? &j->h.weights : &j->onnx;
    enum status st;
    (void)snprintf(leaf, sizeof leaf, "%s.%s", j->name, j->request->format);
    TRY(path_mkdirs(j->request->directory, 0755, err));
    TRY(path_join(path, j->request->directory, leaf, err));
    TRY(path_write(path, bytes->data, bytes->len, 0644, err));
    add_file(j, path, bytes->len);
    struct handoff_file onnx = {.path = leaf, .len = bytes->len, .digest = j->digest};
    TRY(write_papers(j, plain ? NULL : &onnx, err));
out:
    return st;
}

static enum status write_triton(struct job *j, struct err *err) {
    const char *directory = j->request->directory;
    struct triton_version version = {.repository = directory,
                                     .model = j->name,
                                     .version = j->h.version,
                                     .onnx = j->onnx.data,
                                     .onnx_len = j->onnx.len,
                                     .signature = onnx_signature(j->a, j->h.model, j->h.classify),
                                     .run = j->h.run};
    int64_t number = 0;
    enum status st;
    TRY(triton_publish(&version, &number, err));
    add_file(j, arena_printf(j->a, "%s/%s/%lld/model.onnx", directory, j->name, (long long)number),
             j->onnx.len);
    value_set_int(j->a, j->result, "version", number);
out:
    return st;
}

static enum status choose_name(struct job *j, struct err *err) {
    const char *asked = j->request->name;
    j->name = asked != NULL ? asked : j->h.name != NULL ? j->h.name : "model";
    enum status st = name_check("name", j->name, strlen(j->name), err);
    return st == STATUS_OK ? st
           : asked != NULL ? err_wrap(err, st, "--name cannot name a file")
                           : err_wrap(err, st, "the model cannot name a file; use --name");
}

static void describe_source(struct job *j) {
    j->result = value_map(j->a);
    value_set_string(j->a, j->result, "run", j->h.run);
    value_set_string(j->a, j->result, "model", j->h.name);
    if (j->h.version > 0)
        value_set_int(j->a, j->result, "version", j->h.version);
    value_set_string(j->a, j->result, "format", j->request->format);
}

enum status export_files(struct session *tracker, const struct export_request *request,
                         struct arena *a, struct value **result, struct err *err) {
    struct job j = {.request = request, .onnx = BUF_INIT(ONNX_BYTES_MAX), .a = a};
    enum status st;
    TRY(handoff_load(tracker, request->what, &j.h, err));
    TRY(choose_name(&j, err));
    describe_source(&j);
    j.digest = j.h.weights_digest;
    if (strcmp(request->format, "safetensors") != 0)
        TRY(handoff_onnx(tracker, &j.h, &j.onnx, &j.digest, err));
    if (strcmp(request->format, "triton") == 0)
        TRY(write_triton(&j, err));
    else
        TRY(write_files(&j, err));
    *result = j.result;
out:
    buf_release(&j.onnx);
    handoff_release(&j.h);
    return st;
}
