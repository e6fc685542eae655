/* The `hyperparameters` of a sweep file: one table for each type of range, and conditions. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "spec/space.h"
#include "spec/sweep_private.h"

#define NAME_MAX_BYTES 64
#define VALS_MAX       1000
#define GRID_COUNT_MAX 1e6

#define TYPE_ROW F_STRING("type", REQUIRED, 1, 32, "which kind of range")
#define WHEN_ROW                                                                                   \
    F_MAP("when", 0, 1, 1, "{name: value}: counts only where that one has this value",             \
          DEFAULT("always"))
#define COUNT_ROW(d)                                                                               \
    F_INT("count", 0, 1, GRID_COUNT_MAX, "points along this axis of a grid", DEFAULT(d))
#define WHOLE_ROW(n, text) F_INT(n, REQUIRED, -SPEC_WHOLE_MAX / 2, SPEC_WHOLE_MAX / 2, text)
#define REAL_ROW(n, text)  F_REAL(n, REQUIRED, -SPEC_REAL_MAX, SPEC_REAL_MAX, text)

static const struct field const_fields[] = {
    TYPE_ROW, F_ANY("val", REQUIRED, "the value; `name: value` is the same"), WHEN_ROW, FIELD_END};
static const struct field int_fields[] = {TYPE_ROW,
                                          WHOLE_ROW("minval", "smallest"),
                                          WHOLE_ROW("maxval", "largest"),
                                          COUNT_ROW("every integer"),
                                          WHEN_ROW,
                                          FIELD_END};
static const struct field double_fields[] = {TYPE_ROW,
                                             REAL_ROW("minval", "smallest"),
                                             REAL_ROW("maxval", "largest"),
                                             COUNT_ROW("a grid needs it"),
                                             WHEN_ROW,
                                             FIELD_END};
static const struct field log_fields[] = {
    TYPE_ROW,
    REAL_ROW("minval", "smallest, greater than 0: a value, never an exponent"),
    REAL_ROW("maxval", "largest"),
    COUNT_ROW("a grid needs it"),
    WHEN_ROW,
    FIELD_END};
static const struct field categorical_fields[] = {
    TYPE_ROW, F_LIST("vals", REQUIRED, 1, VALS_MAX, NULL, "plain values, each once"), WHEN_ROW,
    FIELD_END};

#define TYPES "const|int|double|log|categorical"
const struct spec_variant spec_types[] = {
    [SPACE_CONST] = {"const", const_fields, "one value"},
    [SPACE_INT] = {"int", int_fields, "integers, evenly"},
    [SPACE_DOUBLE] = {"double", double_fields, "real numbers, evenly"},
    [SPACE_LOG] = {"log", log_fields, "real numbers, evenly in the logarithm"},
    [SPACE_CATEGORICAL] = {"categorical", categorical_fields, "one of a list"},
    {.name = NULL},
};

static bool is_scalar(const struct value *v) {
    return v->kind != VALUE_LIST && v->kind != VALUE_MAP;
}

static bool good_name(const char *name) {
    size_t len = strlen(name);
    if (len == 0 || len > NAME_MAX_BYTES || (name[0] >= '0' && name[0] <= '9'))
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == len;
}

/* Determined writes log ranges as exponents of `base`. Here the right spelling can be computed. */
static enum status refuse_base(const struct sweep *s, const struct value *v, const char *where,
                               struct err *err) {
    double base = value_get_real(v, "base", 10.0);
    double lo = pow(base, value_get_real(v, "minval", 0.0));
    double hi = pow(base, value_get_real(v, "maxval", 0.0));
    return spec_refuse(s->source, value_get(v, "base"), err,
                       "%s: log takes values, not exponents of a base; write "
                       "{type: log, minval: %.6g, maxval: %.6g}",
                       where, lo, hi);
}

static enum status check_range(const struct sweep *s, const struct hyperparameter *p,
                               const struct value *v, const char *where, struct err *err) {
    const struct value *at = value_get(v, "minval");
    if (p->kind == SPACE_LOG && !(p->minval > 0))
        return spec_refuse(s->source, at, err,
                           "%s: log needs minval > 0, not %.15g (values, never exponents)", where,
                           p->minval);
    if (p->minval > p->maxval)
        return spec_refuse(s->source, at, err, "%s: minval %.15g is greater than maxval %.15g",
                           where, p->minval, p->maxval);
    return STATUS_OK;
}

/* 1 and 1.0: two trials of one point, which nothing tells apart. */
static bool same_number(const struct value *a, const struct value *b) {
    if (a->kind == VALUE_INT && b->kind == VALUE_REAL)
        return (double)a->integer == b->real;
    return a->kind == VALUE_REAL && b->kind == VALUE_INT && a->real == (double)b->integer;
}

/* What other programs call it; NULL: nothing that is known. */
static const char *type_by_another_name(const char *type) {
    static const char *const known[][2] = {
        {"loguniform", "log"}, {"log_uniform", "log"},    {"uniform", "double"},
        {"float", "double"},   {"real", "double"},        {"integer", "int"},
        {"randint", "int"},    {"choice", "categorical"}, {"values", "categorical"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i][0], type) == 0)
            return known[i][1];
    return NULL;
}

static enum status check_vals(const struct sweep *s, const struct value *vals, const char *where,
                              struct err *err) {
    for (size_t i = 0; i < vals->count; i++) {
        if (!is_scalar(vals->items[i]))
            return spec_refuse(s->source, vals->items[i], err,
                               "%s.vals[%zu] must be a plain value, not a %s", where, i,
                               value_kind_name(vals->items[i]->kind));
        for (size_t k = 0; k < i; k++)
            if (value_equal(vals->items[i], vals->items[k]) ||
                (s->source.language > 2 && same_number(vals->items[i], vals->items[k])))
                return spec_refuse(s->source, vals->items[i], err,
                                   "%s.vals[%zu] is there twice: it equals vals[%zu]", where, i, k);
    }
    return STATUS_OK;
}

static enum status parse_range(const struct sweep *s, const struct value *v, const char *where,
                               struct hyperparameter *p, struct err *err) {
    enum status st = STATUS_OK;
    const char *type = value_get_string(v, "type", NULL);
    int row = 0;
    while (type != NULL && spec_types[row].name != NULL && strcmp(spec_types[row].name, type) != 0)
        row++;
    if (type == NULL || spec_types[row].name == NULL) {
        char near[64];
        const char *guess = type != NULL ? type_by_another_name(type) : NULL;
        if (guess == NULL && type != NULL)
            guess = schema_nearest(TYPES, type, near);
        const struct value *at = value_get(v, "type");
        return spec_refuse(s->source, at != NULL ? at : v, err, "%s.type must be one of %s%s%s",
                           where, TYPES, guess != NULL ? "; nearest is " : "",
                           guess != NULL ? guess : "");
    }
    p->kind = (enum space_kind)row;
    if (p->kind == SPACE_LOG && value_get(v, "base") != NULL)
        return refuse_base(s, v, where, err);
    TRY(schema_check_since(spec_types[row].fields, v, s->source, where, err));
    p->count = value_get_int(v, "count", 0);
    p->minval = value_get_real(v, "minval", 0.0);
    p->maxval = value_get_real(v, "maxval", 0.0);
    p->vals = value_get(v, p->kind == SPACE_CONST ? "val" : "vals");
    if (p->kind == SPACE_CATEGORICAL)
        TRY(check_vals(s, p->vals, where, err));
    if (p->kind == SPACE_CONST && !is_scalar(p->vals))
        return spec_refuse(s->source, p->vals, err, "%s.val must be a plain value", where);
    if (p->kind != SPACE_CONST && p->kind != SPACE_CATEGORICAL)
        TRY(check_range(s, p, v, where, err));
    const struct value *when = value_get(v, "when");
    if (when != NULL) {
        p->when_name = when->members[0].key;
        p->when_value = when->members[0].value;
    }
out:
    return st;
}

static enum status parse_param(const struct sweep *s, const struct member *m,
                               struct hyperparameter *p, struct err *err) {
    char where[96];
    (void)snprintf(where, sizeof where, "hyperparameters.%.70s", m->key);
    *p = (struct hyperparameter){.name = m->key, .when_index = -1, .at = m->value};
    if (!good_name(m->key))
        return spec_refuse(
            s->source, m->value, err,
            "%s: a name is 1 to %d letters, digits, '_' or '-', the first not a digit", where,
            NAME_MAX_BYTES);
    if (m->value->kind == VALUE_MAP)
        return parse_range(s, m->value, where, p, err);
    if (!is_scalar(m->value))
        return spec_refuse(s->source, m->value, err,
                           "%s must be a value or a range like {type: double, minval: 0.0, "
                           "maxval: 1.0}; for a list write {type: categorical, vals: […]}",
                           where);
    p->kind = SPACE_CONST;
    p->vals = m->value;
    return STATUS_OK;
}

/* ---- conditionals ---- */

static bool can_be(const struct hyperparameter *p, const struct value *v) {
    if (p->kind == SPACE_CONST)
        return value_equal(p->vals, v);
    if (p->kind == SPACE_INT)
        return v->kind == VALUE_INT && (double)v->integer >= p->minval &&
               (double)v->integer <= p->maxval;
    for (size_t i = 0; p->kind == SPACE_CATEGORICAL && i < p->vals->count; i++)
        if (value_equal(p->vals->items[i], v))
            return true;
    return false;
}

static enum status link_when(struct sweep *s, int i, struct err *err) {
    struct hyperparameter *p = &s->params[i];
    for (int k = 0; k < s->param_count; k++)
        if (k != i && strcmp(s->params[k].name, p->when_name) == 0)
            p->when_index = k;
    const struct value *when = value_get(p->at, "when");
    if (p->when_index < 0)
        return spec_refuse(s->source, when, err,
                           "hyperparameters.%s.when names '%.64s', which is not another "
                           "hyperparameter",
                           p->name, p->when_name);
    const struct hyperparameter *on = &s->params[p->when_index];
    if (on->kind == SPACE_DOUBLE || on->kind == SPACE_LOG)
        return spec_refuse(s->source, when, err,
                           "hyperparameters.%s.when: %s is a real range; a condition needs "
                           "categorical, int or const",
                           p->name, on->name);
    if (!can_be(on, p->when_value))
        return spec_refuse(s->source, when, err,
                           "hyperparameters.%s.when can never be true: %s does not take that "
                           "value",
                           p->name, on->name);
    return STATUS_OK;
}

/* Parents before children; what is left over goes round in a circle. */
static enum status put_in_order(struct sweep *s, struct err *err) {
    bool placed[SWEEP_PARAMS_MAX] = {false};
    int n = 0;
    for (bool moved = true; moved && n < s->param_count;) {
        moved = false;
        for (int i = 0; i < s->param_count; i++) {
            int on = s->params[i].when_index;
            if (placed[i] || (on >= 0 && !placed[on]))
                continue;
            placed[i] = moved = true;
            s->order[n++] = i;
        }
    }
    for (int i = 0; i < s->param_count; i++)
        if (!placed[i])
            return spec_refuse(s->source, s->params[i].at, err,
                               "hyperparameters.%s depends on itself through `when`",
                               s->params[i].name);
    return STATUS_OK;
}

enum status sweep_parse_params(struct sweep *s, struct err *err) {
    enum status st = STATUS_OK;
    const struct value *map = value_get(s->root, "hyperparameters");
    for (size_t i = 0; map != NULL && i < map->count; i++) {
        const struct member *m = &map->members[i];
        for (size_t k = 0; k < i; k++)
            if (strcmp(map->members[k].key, m->key) == 0)
                return spec_refuse(s->source, m->value, err, "hyperparameters.%.64s is there twice",
                                   m->key);
        TRY(parse_param(s, m, &s->params[s->param_count], err));
        s->param_count++;
    }
    for (int i = 0; i < s->param_count; i++)
        if (s->params[i].when_name != NULL)
            TRY(link_when(s, i, err));
    TRY(put_in_order(s, err));
out:
    return st;
}
