/* Layers: one row of the table for each, with its word, its keys, and the key that a bare value sets. */
#include "spec/model.h"

#include <stdio.h>
#include <string.h>

#include "spec/tables_private.h"

#define LAYER(member) INTO(struct spec_layer, member)

#define OUT_ROW(n, old, text)                                                                      \
    F_INT(n, REQUIRED, 1, SPEC_FEATURES_MAX, text, SINCE(2, 1, old), LAYER(out))
#define KERNEL_ROW(d)                                                                              \
    F_INT("kernel", OR_PAIR, 1, SPEC_KERNEL_MAX, "N or [H, W]", DEFAULT(d), SINCE(2, 1, 1024),     \
          LAYER(kernel))
#define STRIDE_ROW(d)                                                                              \
    F_INT("stride", OR_PAIR, 1, SPEC_KERNEL_MAX, "N or [H, W]", DEFAULT(d), SINCE(2, 1, 1024),     \
          LAYER(stride))
#define BIAS_ROW F_BOOL("bias", 0, "add a bias", DEFAULT("true"), LAYER(bias))

static const struct field dense_fields[] = {
    OUT_ROW("out", 1e9, "features it gives; an image is flattened first"), BIAS_ROW, FIELD_END};
static const struct field conv2d_fields[] = {
    OUT_ROW("out", 1e6, "channels it gives"),
    KERNEL_ROW("3"),
    STRIDE_ROW("1"),
    F_INT("padding", OR_PAIR, 0, SPEC_KERNEL_MAX,
          "N, [H, W], valid (none), or same: the output has the input's height and width where the "
          "stride is 1; same needs an odd kernel",
          DEFAULT("valid"), WORDS("same|valid"), SINCE(2, 0, 1024)),
    BIAS_ROW,
    FIELD_END};
static const struct field batch_norm_fields[] = {
    F_REAL("eps", 0, 1e-12, 1, "added to the variance", DEFAULT("1e-5"), SINCE(2, 0, 1),
           LAYER(eps)),
    F_REAL("momentum", 0, 0, 1, "share of the new statistics in the running ones", DEFAULT("0.1"),
           LAYER(momentum)),
    FIELD_END};
static const struct field pool_fields[] = {KERNEL_ROW("2"), STRIDE_ROW("the kernel"), FIELD_END};
static const struct field dropout_fields[] = {F_REAL("rate", REQUIRED, 0, 0.999,
                                                     "probability that an element is dropped",
                                                     SINCE(2, 0, 0.999999), LAYER(rate)),
                                              FIELD_END};
static const struct field no_fields[] = {FIELD_END};

/* {max_pool: 2} means {max_pool: {kernel: 2}}, where that is the shorthand. */
const struct spec_layer_row spec_layer_rows[LAYER_KINDS + 1] = {
    [LAYER_DENSE] = {"dense", dense_fields, "out", "weights (out, in)"},
    [LAYER_CONV2D] = {"conv2d", conv2d_fields, "out", "two-dimensional convolution"},
    [LAYER_BATCH_NORM] = {"batch_norm", batch_norm_fields, NULL,
                          "per channel or feature, with each virtual shard's own statistics"},
    [LAYER_MAX_POOL] = {"max_pool", pool_fields, "kernel", "the largest of each window"},
    [LAYER_AVG_POOL] = {"avg_pool", pool_fields, "kernel", "the mean of each window"},
    [LAYER_RELU] = {"relu", no_fields, NULL, "max(x, 0)"},
    [LAYER_GELU] = {"gelu", no_fields, NULL, "x·Φ(x), by erf"},
    [LAYER_TANH] = {"tanh", no_fields, NULL, "tanh x"},
    [LAYER_SIGMOID] = {"sigmoid", no_fields, NULL, "1/(1 + e^−x)"},
    [LAYER_DROPOUT] = {"dropout", dropout_fields, "rate", "in training only"},
    [LAYER_FLATTEN] = {"flatten", no_fields, NULL, "(C, H, W) becomes (C·H·W)"},
};
#define NAMES "dense|conv2d|batch_norm|max_pool|avg_pool|relu|gelu|tanh|sigmoid|dropout|flatten"

const char *spec_layer_name(enum layer_kind kind) {
    return (unsigned)kind < LAYER_KINDS ? spec_layer_rows[kind].name : "?";
}

static enum status find_kind(const struct value *node, const char *word, struct spec_place p,
                             enum layer_kind *out, struct err *err) {
    for (int k = 0; k < LAYER_KINDS; k++)
        if (strcmp(spec_layer_rows[k].name, word) == 0) {
            *out = (enum layer_kind)k;
            return STATUS_OK;
        }
    char near[64];
    const char *guess = schema_nearest(NAMES, word, near);
    return spec_refuse(p.source, node, err, "%s: unknown layer '%.64s'%s%s%s", p.where, word,
                       guess != NULL ? "; nearest is '" : "; it is one of " NAMES,
                       guess != NULL ? guess : "", guess != NULL ? "'" : "");
}

/* Checks the keys and fills the layer. `keys` may be NULL: the bare word. */
static enum status read_keys(const struct value *keys, struct spec_place p, struct spec_layer *l,
                             struct err *err) {
    const struct value none = {.kind = VALUE_MAP, .line = l->node->line, .column = l->node->column};
    const struct field *fields = spec_layer_rows[l->kind].fields;
    enum status st =
        schema_check_since(fields, keys != NULL ? keys : &none, p.source, p.where, err);
    if (st == STATUS_OK)
        schema_read(fields, keys, l);
    return st;
}

/* `padding` is a number, a pair or a word that depends on the kernel. */
static enum status read_padding(const struct value *keys, struct spec_place p, struct spec_layer *l,
                                struct err *err) {
    const struct value *v = value_get(keys, "padding");
    bool same = v != NULL && v->kind == VALUE_STRING && strcmp(v->string, "same") == 0;
    if (same && (l->kernel[0] % 2 == 0 || l->kernel[1] % 2 == 0) && spec_strict(p.source))
        return spec_refuse(p.source, v, err,
                           "%s.padding: same needs an odd kernel, not %lld by %lld; give a number",
                           p.where, (long long)l->kernel[0], (long long)l->kernel[1]);
    for (int i = 0; i < 2; i++)
        l->padding[i] = same                                   ? l->kernel[i] / 2
                        : v == NULL || v->kind == VALUE_STRING ? 0
                        : v->kind == VALUE_LIST                ? v->items[i]->integer
                                                               : v->integer;
    return STATUS_OK;
}

/* {conv2d: value}: checked and read as the key that it means. */
static enum status read_shorthand(struct value *value, struct spec_place p, struct spec_layer *l,
                                  struct err *err) {
    const char *key = spec_layer_rows[l->kind].shorthand;
    if (key == NULL)
        return spec_refuse(p.source, value, err, "%s takes %s; write just %s", p.where,
                           spec_layer_rows[l->kind].fields == no_fields ? "nothing"
                                                                        : "a map of its keys",
                           spec_layer_rows[l->kind].name);
    struct member only = {.key = key, .value = value};
    struct value map = {.kind = VALUE_MAP,
                        .line = value->line,
                        .column = value->column,
                        .count = 1,
                        .cap = 1,
                        .members = &only};
    return read_keys(&map, p, l, err);
}

static enum status read_layer(const struct value *node, int index, struct schema_source source,
                              struct spec_layer *l, struct err *err) {
    char where[64];
    struct spec_place p = {.source = source, .where = where};
    struct value *inner = NULL;
    enum status st = STATUS_OK;
    (void)snprintf(where, sizeof where, "model[%d]", index);
    *l = (struct spec_layer){.node = node};
    bool word = node->kind == VALUE_STRING;
    if (!word && (node->kind != VALUE_MAP || node->count != 1))
        return spec_refuse(source, node, err,
                           "%s must be a layer's name or {name: {…}} with one name, not %s", where,
                           spec_kind_words(node));
    TRY(find_kind(node, word ? node->string : node->members[0].key, p, &l->kind, err));
    (void)snprintf(where, sizeof where, "model[%d].%s", index, spec_layer_rows[l->kind].name);
    if (!word)
        inner = node->members[0].value;
    if (inner != NULL && inner->kind == VALUE_NULL)
        inner = NULL;
    if (inner != NULL && inner->kind != VALUE_MAP)
        TRY(read_shorthand(inner, p, l, err));
    else
        TRY(read_keys(inner, p, l, err));
    if (l->kind == LAYER_CONV2D)
        TRY(read_padding(inner, p, l, err));
    for (int i = 0; i < 2; i++) {
        l->kernel[i] = l->kernel[i] > 0 ? l->kernel[i] : 1;
        l->stride[i] = l->stride[i] > 0 ? l->stride[i] : l->kernel[i];
    }
out:
    return st;
}

enum status spec_model_read(struct arena *a, const struct value *list, struct schema_source source,
                            struct spec_model *out, struct err *err) {
    if (list == NULL || list->kind != VALUE_LIST || list->count == 0)
        return spec_refuse(source, list, err, "model must be a list of at least one layer");
    if (list->count > SPEC_LAYERS_MAX)
        return spec_refuse(source, list, err, "model has %zu layers; at most %d will do",
                           list->count, SPEC_LAYERS_MAX);
    *out = (struct spec_model){.file = source.file, .node = list, .count = (int)list->count};
    out->layers = arena_array(a, list->count, sizeof *out->layers);
    if (out->layers == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for the model");
    for (int i = 0; i < out->count; i++) {
        enum status st = read_layer(list->items[i], i, source, &out->layers[i], err);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}
