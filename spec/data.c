/* Data: one table for each format, one key for each transform. */
#include "spec/data.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

#include "spec/tables_private.h"

#define SOURCE(member) INTO(struct spec_source, member)
#define DATA(member)   INTO(struct spec_data, member)

const char *const spec_part_names[SPEC_PARTS] = {
    [SPEC_TRAIN] = "train", [SPEC_VALIDATION] = "validation", [SPEC_TEST] = "test"};

/* ---- formats ---- */

static const struct field dim_item[] = {
    F_INT("size", 0, 1, SPEC_SAMPLE_MAX, "along one side", SINCE(2, 1, 1e9)), FIELD_END};

#define FORMAT_ROW                F_STRING("format", REQUIRED, 1, 16, "which format", SOURCE(format))
#define PATH_ROW(n, member, text) F_STRING(n, REQUIRED, 1, SPEC_PATH_MAX, text, SOURCE(member))
#define SHAPE_ROW                                                                                  \
    F_LIST("shape", 0, 1, 3, dim_item, "[C, H, W] or [F]: another view of the same features",      \
           DEFAULT("the file's own"))
#define TASK_ROW(d)                                                                                \
    F_ENUM("task", 0, "classify|regress", "what labels are", DEFAULT(d), SOURCE(task))

static const struct field idx_fields[] = {
    FORMAT_ROW, PATH_ROW("images", images, "file of the samples, plain or gzip"),
    PATH_ROW("labels", labels, "file of the labels, plain or gzip"), SHAPE_ROW, FIELD_END};
static const struct field npy_fields[] = {
    FORMAT_ROW,
    PATH_ROW("images", images, "file of the samples, plain or gzip"),
    PATH_ROW("labels", labels, "file of the labels or targets, plain or gzip"),
    TASK_ROW("classify, where labels are integers"),
    SHAPE_ROW,
    FIELD_END};
static const struct field csv_fields[] = {
    FORMAT_ROW,
    PATH_ROW("file", file, "the table, plain or gzip"),
    F_BOOL("header", 0, "the first row has the names of the columns", DEFAULT("true"),
           SOURCE(header)),
    F_INT("label", REQUIRED | OR_TEXT, 0, SPEC_WHOLE_MAX,
          "the label's column: its name, or its number from 0", SOURCE(label)),
    TASK_ROW("classify"),
    SHAPE_ROW,
    FIELD_END};

const struct spec_variant spec_formats[] = {
    {"idx", idx_fields, "MNIST's format"},
    {"csv", csv_fields, "text with commas; words become one-hot"},
    {"npy", npy_fields, "NumPy arrays"},
    {.name = NULL},
};

/* `shape` has one dimension or three. */
static enum status read_shape(const struct value *list, struct spec_place p,
                              struct spec_source *out, struct err *err) {
    if (list == NULL)
        return STATUS_OK;
    if (list->count == 2 && spec_strict(p.source))
        return spec_refuse(p.source, list, err, "%s.shape must be [C, H, W] or [F]", p.where);
    out->shape_count = (int)list->count;
    for (size_t i = 0; i < list->count; i++)
        out->shape[i] = list->items[i]->integer;
    return STATUS_OK;
}

static enum status read_part(const struct value *map, struct spec_place p, struct spec_source *out,
                             struct err *err) {
    int kind = 0;
    enum status st = spec_pick(spec_formats, map, "format", p, &kind, err);
    if (st != STATUS_OK)
        return st;
    *out = (struct spec_source){.node = map, .header = true};
    schema_read(spec_formats[kind].fields, map, out);
    return read_shape(value_get(map, "shape"), p, out, err);
}

/* ---- transforms ---- */

#define FLOAT_ROW(n, req, text) F_REAL(n, req, -FLT_MAX, FLT_MAX, text, SINCE(2, -1e300, 1e300))

const struct field spec_normalize_fields[] = {
    F_REAL("mean", REQUIRED | OR_LIST, -FLT_MAX, FLT_MAX,
           "taken off: one for all, one a channel or one a feature", SINCE(2, -1e300, 1e300),
           INTO(struct spec_transform, mean)),
    F_REAL("std", REQUIRED | OR_LIST, 1e-30, FLT_MAX, "divided by, likewise",
           SINCE(2, 1e-30, 1e300), INTO(struct spec_transform, std)),
    FIELD_END};

const struct field spec_transform_fields[] = {
    [TRANSFORM_SCALE] = FLOAT_ROW("scale", 0, "multiply"),
    [TRANSFORM_SHIFT] = FLOAT_ROW("shift", 0, "add"),
    [TRANSFORM_NORMALIZE] = {.name = "normalize",
                             .type = FIELD_MAP,
                             .fields = spec_normalize_fields,
                             .choices = "fit",
                             .doc = "fit: mean and deviation of each feature of the training part; "
                                    "or {mean, std}"},
    FIELD_END};

static enum status read_transform(const struct value *t, struct spec_place p,
                                  struct spec_transform *out, struct err *err) {
    if (t->kind != VALUE_MAP || t->count != 1 ||
        schema_field(spec_transform_fields, t->members[0].key) == NULL)
        return spec_refuse(p.source, t, err,
                           "%s must be one of {scale: s}, {shift: s}, {normalize: fit}, "
                           "{normalize: {mean: m, std: s}}",
                           p.where);
    enum status st = schema_check_since(spec_transform_fields, t, p.source, p.where, err);
    if (st != STATUS_OK)
        return st;
    const struct value *v = t->members[0].value;
    *out = (struct spec_transform){
        .kind = (enum transform_kind)(schema_field(spec_transform_fields, t->members[0].key) -
                                      spec_transform_fields),
        .by = v->kind == VALUE_INT    ? (double)v->integer
              : v->kind == VALUE_REAL ? v->real
                                      : 0.0,
        .fit = v->kind == VALUE_STRING,
    };
    if (v->kind == VALUE_MAP)
        schema_read(spec_normalize_fields, v, out);
    return STATUS_OK;
}

/* ---- the section ---- */

const struct field spec_data_fields[] = {
    F_MAP("train", REQUIRED, 0, 0, "the training part: {format, …}, see Formats"),
    F_MAP("test", 0, 0, 0, "evaluated once, at the end", DEFAULT("none")),
    F_MAP("validation", 0, 0, 0, "the validation part, instead of validation_split",
          DEFAULT("none")),
    F_REAL("validation_split", 0, 0, 0.999999, "share of the training part that is held back",
           DEFAULT("0"), DATA(validation_split)),
    F_BOOL("shuffle", 0, "false keeps the file's order", DEFAULT("true"), DATA(shuffle)),
    F_STRING("dir", 0, 1, SPEC_PATH_MAX, "what relative paths start from",
             DEFAULT("the sweep file's directory")),
    F_LIST("transforms", 0, 0, SPEC_TRANSFORMS_MAX, NULL, "in this order, see Transforms",
           DEFAULT("none")),
    FIELD_END};

enum status spec_data_read(const struct value *map, struct schema_source source,
                           struct spec_data *out, struct err *err) {
    enum status st = STATUS_OK;
    char where[48];
    struct spec_place p = {.source = source, .where = where};
    *out = (struct spec_data){.file = source.file, .node = map};
    TRY(schema_check_since(spec_data_fields, map, source, "data", err));
    schema_read(spec_data_fields, map, out);
    for (int i = 0; i < SPEC_PARTS; i++) {
        const struct value *part = value_get(map, spec_part_names[i]);
        (void)snprintf(where, sizeof where, "data.%s", spec_part_names[i]);
        if (part != NULL)
            TRY(read_part(part, p, &out->part[i], err));
    }
    const struct value *list = value_get(map, "transforms");
    for (size_t i = 0; list != NULL && i < list->count; i++) {
        (void)snprintf(where, sizeof where, "data.transforms[%zu]", i);
        TRY(read_transform(list->items[i], p, &out->transforms[out->transform_count++], err));
    }
    if (out->validation_split > 0 && out->part[SPEC_VALIDATION].node != NULL)
        return spec_refuse(source, value_get(map, "validation_split"), err,
                           "data.validation_split and data.validation exclude each other");
out:
    return st;
}
