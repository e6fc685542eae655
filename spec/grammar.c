/* Refusals with a place, and tables that are picked by a word. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "spec/tables_private.h"

enum status spec_refuse(struct schema_source source, const struct value *at, struct err *err,
                        const char *format, ...) {
    char place[SCHEMA_PLACE_MAX], text[ERR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return err_set(err, STATUS_INVALID, "%s%s", schema_place(source.file, at, place), text);
}

const char *spec_kind_words(const struct value *v) {
    static const char *const words[] = {
        [VALUE_NULL] = "null",     [VALUE_BOOL] = "a boolean",  [VALUE_INT] = "an integer",
        [VALUE_REAL] = "a number", [VALUE_STRING] = "a string", [VALUE_LIST] = "a list",
        [VALUE_MAP] = "a map",
    };
    return words[v->kind];
}

#define NAMES_MAX 256

/* "sgd|adam|adamw", "sgd, adam, adamw" */
static void join_names(const struct spec_variant *rows, const char *between, char out[NAMES_MAX]) {
    size_t len = 0;
    out[0] = '\0';
    for (const struct spec_variant *r = rows; r->name != NULL && len < NAMES_MAX; r++)
        len +=
            (size_t)snprintf(out + len, NAMES_MAX - len, "%s%s", r == rows ? "" : between, r->name);
}

enum status spec_pick(const struct spec_variant *rows, const struct value *map, const char *key,
                      struct spec_place p, int *out, struct err *err) {
    char names[NAMES_MAX], choices[NAMES_MAX], near[64];
    const struct value *v = value_get(map, key);
    join_names(rows, ", ", names);
    if (map->kind != VALUE_MAP)
        return spec_refuse(p.source, map, err, "%s must be a map, not %s", p.where,
                           spec_kind_words(map));
    if (v == NULL)
        return spec_refuse(p.source, map, err, "%s.%s is missing; it is one of %s", p.where, key,
                           names);
    if (v->kind != VALUE_STRING)
        return spec_refuse(p.source, v, err, "%s.%s must be one of %s, not %s", p.where, key, names,
                           spec_kind_words(v));
    for (int i = 0; rows[i].name != NULL; i++)
        if (strcmp(rows[i].name, v->string) == 0) {
            *out = i;
            return schema_check_since(rows[i].fields, map, p.source, p.where, err);
        }
    join_names(rows, "|", choices);
    const char *guess = schema_nearest(choices, v->string, near);
    return spec_refuse(p.source, v, err, "%s.%s must be one of %s, not '%.64s'%s%s", p.where, key,
                       names, v->string, guess != NULL ? "; nearest is " : "",
                       guess != NULL ? guess : "");
}
