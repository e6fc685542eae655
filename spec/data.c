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
static const struct field column_item[] = {
    F_INT("column", OR_TEXT, 0, SPEC_COLUMNS_MAX, "a column: its name, or its number from 0"),
    FIELD_END};

/* Of data.train alone: the other parts are read with the training file's columns. */
#define EXCLUDE_ROW                                                                                \
    F_LIST("exclude", 0, 1, SPEC_COLUMNS_MAX, column_item,                                         \
           "of data.train: columns that are left out, by name or number", DEFAULT("none"),         \
           SOURCE(exclude))
#define COLUMNS_ROW                                                                                \
    F_LIST("columns", 0, 1, SPEC_COLUMNS_MAX, column_item,                                         \
           "of data.train: the only columns that are used, besides the label", DEFAULT("all"),     \
           SOURCE(columns))
#define TYPES_ROW                                                                                  \
    F_MAP("types", 0, 1, SPEC_COLUMNS_MAX,                                                         \
          "of data.train: {column: number | words}, where it is not to be inferred",               \
          DEFAULT("inferred by the many"), SOURCE(types))
#define MISSING_ROW                                                                                \
    F_REAL("missing", 0, -1e30, 1e30,                                                              \
           "of data.train: what becomes of a cell without a value; a number takes its place",      \
           WORDS("error|mean|drop"), DEFAULT("error"), SOURCE(missing))

static const struct field csv_fields[] = {
    FORMAT_ROW,
    PATH_ROW("file", file, "the table, plain or gzip"),
    F_BOOL("header", 0, "the first row has the names of the columns", DEFAULT("true"),
           SOURCE(header)),
    F_INT("label", REQUIRED | OR_TEXT, 0, SPEC_WHOLE_MAX,
          "the label's column: its name, or its number from 0", SOURCE(label)),
    TASK_ROW("classify"),
    SHAPE_ROW,
    EXCLUDE_ROW,
    COLUMNS_ROW,
    TYPES_ROW,
    MISSING_ROW,
    F_STRING("separator", 0, 1, 1,
             "between two cells; where it is missing that of data.train, and there a comma",
             WORDS("tab"), SOURCE(separator)),
    F_STRING("decimal", 0, 1, 1,
             "the decimal sign, '.' or ','; where it is missing that of data.train, and there '.'",
             SOURCE(decimal)),
    FIELD_END};

const struct spec_variant spec_formats[] = {
    {"idx", idx_fields, "MNIST's format"},
    {"csv", csv_fields, "a table as text; words become one-hot"},
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

/* {column: number | words} */
static enum status check_types(const struct spec_source *s, struct spec_place p, struct err *err) {
    for (size_t i = 0; s->types != NULL && i < s->types->count; i++) {
        const struct value *v = s->types->members[i].value;
        bool text = v->kind == VALUE_STRING;
        if (!text || (strcmp(v->string, "number") != 0 && strcmp(v->string, "words") != 0))
            return spec_refuse(p.source, v, err,
                               "%s.types.%.40s must be number or words, not %.40s", p.where,
                               s->types->members[i].key, text ? v->string : spec_kind_words(v));
    }
    return STATUS_OK;
}

/* `separator` and `decimal` become the parts' bytes; what they must agree on. */
static enum status check_signs(struct spec_source *s, struct spec_place p, struct err *err) {
    const struct value *at = value_get(s->node, "separator");
    s->between = s->separator == NULL ? '\0' : s->separator[1] != '\0' ? '\t' : s->separator[0];
    s->point = s->decimal == NULL ? '\0' : s->decimal[0];
    if (s->point != '\0' && s->point != '.' && s->point != ',')
        return spec_refuse(p.source, value_get(s->node, "decimal"), err,
                           "%s.decimal must be '.' or ',', not '%s'", p.where, s->decimal);
    if (s->between != '\0' && strchr("\"\r\n+-.eE0123456789", s->between) != NULL)
        return spec_refuse(p.source, at, err,
                           "%s.separator cannot be '%s': cells may have that sign themselves",
                           p.where, s->separator);
    return STATUS_OK;
}

/* Keys of version 3: a sweep that is older has none, and would read its table without them. */
static enum status check_table(struct spec_source *s, bool train, struct spec_place p,
                               struct err *err) {
    static const char *const all[] = {"exclude", "columns",   "types",
                                      "missing", "separator", "decimal"};
    enum { OF_TRAIN = 4 };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const struct value *v = value_get(s->node, all[i]);
        if (v != NULL && s->language < 3)
            return spec_refuse(p.source, v, err, "%s.%s needs version 3 of the language", p.where,
                               all[i]);
        if (v != NULL && !train && i < OF_TRAIN)
            return spec_refuse(p.source, v, err,
                               "%s.%s: this part is read with the columns of data.train; give it "
                               "there",
                               p.where, all[i]);
    }
    if (s->exclude != NULL && s->columns != NULL)
        return spec_refuse(p.source, s->columns, err,
                           "%s.columns and %s.exclude exclude each other", p.where, p.where);
    enum status st = check_types(s, p, err);
    return st == STATUS_OK ? check_signs(s, p, err) : st;
}

static enum status read_part(const struct value *map, bool train, struct spec_place p,
                             struct spec_source *out, struct err *err) {
    int kind = 0;
    enum status st = spec_pick(spec_formats, map, "format", p, &kind, err);
    if (st != STATUS_OK)
        return st;
    int language = p.source.language == SCHEMA_NEWEST ? SPEC_LANGUAGE : p.source.language;
    *out = (struct spec_source){
        .node = map, .sweep = p.source.file, .language = language, .header = true};
    schema_read(spec_formats[kind].fields, map, out);
    st = read_shape(value_get(map, "shape"), p, out, err);
    if (st == STATUS_OK && spec_formats[kind].fields == csv_fields)
        st = check_table(out, train, p, err);
    return st;
}

/* The other parts' signs are the training file's where they give none. */
static enum status settle_signs(struct spec_data *d, struct schema_source source, struct err *err) {
    const struct spec_source *train = &d->part[SPEC_TRAIN];
    for (int i = 0; i < SPEC_PARTS; i++) {
        struct spec_source *s = &d->part[i];
        if (s->between == '\0')
            s->between = train->between != '\0' ? train->between : ',';
        if (s->point == '\0')
            s->point = train->point != '\0' ? train->point : '.';
        if (s->node != NULL && s->point == s->between)
            return spec_refuse(source, s->node, err,
                               "data.%s: the decimal sign and the separator are both '%c'; with "
                               "decimal: \",\" give separator: \";\", or what it is",
                               spec_part_names[i], s->point);
    }
    return STATUS_OK;
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
            TRY(read_part(part, i == SPEC_TRAIN, p, &out->part[i], err));
    }
    TRY(settle_signs(out, source, err));
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
