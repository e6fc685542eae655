/* Files for other runtimes: ONNX and safetensors with their papers, or a Triton version. */
#include "serving/export/export.h"

#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "core/name.h"
#include "core/path.h"
#include "serving/export/card.h"
#include "serving/export/example.h"
#include "serving/export/onnx.h"
#include "serving/export/triton.h"

#define PAPERS_BYTES_MAX ((size_t)64 << 20)
#define BYTES_MAX        HANDOFF_WEIGHTS_MAX

/* An export under way. */
struct job {
    struct session *tracker;
    struct handoff h;
    const struct export_request *request;
    const char *name;     /* of the files */
    struct buf bytes;     /* what is written: ONNX or safetensors */
    struct digest digest; /* of it */
    struct arena *a;      /* the result's */
    struct value *result;
};

static bool plain(const struct job *j) {
    return strcmp(j->request->format, "safetensors") == 0;
}

static void add_file(struct job *j, const char *path) {
    struct card_file file = {.path = path, .len = j->bytes.len, .digest = j->digest};
    const struct value *m = card_describe(j->a, &file);
    for (size_t i = 0; m != NULL && i < m->count; i++)
        value_set(j->a, j->result, m->members[i].key, m->members[i].value);
}

/* DIR/NAME`suffix`, whole; the result says under `key` where it is. */
static enum status write_json(struct job *j, const char *suffix, const struct value *v,
                              const char *key, struct err *err) {
    struct buf text = BUF_INIT(PAPERS_BYTES_MAX);
    char path[PATH_TEXT_MAX], leaf[NAME_BYTES_MAX + 32];
    enum status st;
    (void)snprintf(leaf, sizeof leaf, "%s%s", j->name, suffix);
    TRY(json_dump(v, JSON_PRETTY, &text, err));
    TRY(path_join(path, j->request->directory, leaf, err));
    TRY(path_write(path, text.data, text.len, 0644, err));
    value_set_string(j->a, j->result, key, path);
out:
    buf_release(&text);
    return st;
}

/* As it was promoted; a card of before has no word on the columns, and the run perhaps has. */
static const struct value *promoted_card(struct job *j) {
    const struct value *card = j->h.card;
    if (value_get(card, "inputs") != NULL)
        return card;
    struct value *copy = value_copy(&j->h.arena, card);
    value_set(&j->h.arena, copy, "inputs", value_copy(&j->h.arena, j->h.inputs));
    value_set(&j->h.arena, copy, "outputs", value_copy(&j->h.arena, j->h.outputs));
    return copy;
}

/* NAME.json: the model's card, as promoted or as it would be; and NAME.example.json. */
static enum status write_papers(struct job *j, const struct card_file *onnx, struct err *err) {
    struct value *made = NULL, *example = NULL;
    enum status st;
    TRY(example_make(&j->h, &example, err));
    if (j->h.card == NULL)
        TRY(card_make(j->tracker, &j->h, onnx, &made, err));
    TRY(write_json(j, ".json", made != NULL ? made : promoted_card(j), "papers", err));
    TRY(write_json(j, ".example.json", example, "example", err));
out:
    return st;
}

/* DIR/NAME.onnx or DIR/NAME.safetensors, and its papers. */
static enum status write_files(struct job *j, struct err *err) {
    char path[PATH_TEXT_MAX], leaf[NAME_BYTES_MAX + 32];
    enum status st;
    (void)snprintf(leaf, sizeof leaf, "%s.%s", j->name, j->request->format);
    TRY(path_mkdirs(j->request->directory, 0755, err));
    TRY(path_join(path, j->request->directory, leaf, err));
    TRY(path_write(path, j->bytes.data, j->bytes.len, 0644, err));
    add_file(j, path);
    struct card_file onnx = {.path = leaf, .len = j->bytes.len, .digest = j->digest};
    TRY(write_papers(j, plain(j) ? NULL : &onnx, err));
out:
    return st;
}

static enum status write_triton(struct job *j, struct err *err) {
    const char *directory = j->request->directory;
    struct onnx_model ports = {.model = j->h.model, .classify = j->h.classify, .wide = j->h.wide};
    struct value *example = NULL;
    int64_t number = 0;
    enum status st;
    TRY(example_make(&j->h, &example, err));
    struct triton_version version = {.repository = directory,
                                     .model = j->name,
                                     .version = j->h.version,
                                     .onnx = j->bytes.data,
                                     .onnx_len = j->bytes.len,
                                     .signature = onnx_signature(j->a, &ports),
                                     .inputs = j->h.inputs,
                                     .outputs = j->h.outputs,
                                     .example = example,
                                     .run = j->h.run};
    TRY(triton_publish(&version, &number, err));
    add_file(j, arena_printf(j->a, "%s/%s/%lld/model.onnx", directory, j->name, (long long)number));
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
    const struct weights *w = &j->h.which;
    j->result = value_map(j->a);
    value_set_string(j->a, j->result, "run", arena_strdup(j->a, j->h.run));
    value_set_string(j->a, j->result, "which", arena_strdup(j->a, w->which));
    value_set(j->a, j->result, "step", w->step >= 0 ? value_int(j->a, w->step) : value_null(j->a));
    if (w->note != NULL)
        value_set_string(j->a, j->result, "note", arena_strdup(j->a, w->note));
    value_set_string(j->a, j->result, "model", j->h.name);
    if (j->h.version > 0)
        value_set_int(j->a, j->result, "version", j->h.version);
    value_set_string(j->a, j->result, "format", j->request->format);
}

enum status export_files(struct session *tracker, const struct export_request *request,
                         struct arena *a, struct value **result, struct err *err) {
    struct job j = {.tracker = tracker, .request = request, .bytes = BUF_INIT(BYTES_MAX), .a = a};
    enum status st;
    TRY(handoff_load(tracker, &(struct handoff_ask){.what = request->what}, &j.h, err));
    TRY(choose_name(&j, err));
    describe_source(&j);
    if (plain(&j)) {
        TRY(handoff_weights(&j.h, &j.bytes, err));
        hash_bytes(j.bytes.data, j.bytes.len, &j.digest);
    } else {
        TRY(handoff_onnx(tracker, &j.h, &j.bytes, &j.digest, err));
    }
    if (strcmp(request->format, "triton") == 0)
        TRY(write_triton(&j, err));
    else
        TRY(write_files(&j, err));
    *result = j.result;
out:
    buf_release(&j.bytes);
    handoff_release(&j.h);
    return st;
}
