/* Validation against tables. The walk follows the table, not the input: its depth is the table's,
 * and a table that refers to itself is stopped at VALUE_DEPTH_MAX. */
#include "core/schema.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ulid.h"

#define PATH_MAX_BYTES 160 /* "training.optimizer.lr" in messages; longer ones are cut */
#define EXPECT_MAX     SCHEMA_WORDS_MAX
#define SHOWN_MAX      80
#define STRING_DEFAULT 256
#define WORD_MAX       63

/* A bound at or beyond these is no bound to people: it is not shown. */
#define SHOWN_WHOLE 9007199254740992.0 /* 2^53 */
#define SHOWN_REAL  1e300

struct check {
    const char *file;
    int language;
    struct err *err;
};

/* ---- nearest name ---- */

struct nearest {
    const char *word;
    size_t word_len;
    const char *best;
    size_t best_len;
    size_t distance;
};

/* Optimal string alignment distance: insert, delete, replace, swap neighbours (Damerau 1964). */
static size_t edit_distance(const char *a, size_t n, const char *b, size_t m) {
    size_t rows[3][WORD_MAX + 1];
    size_t *before = rows[0], *above = rows[1], *row = rows[2];
    for (size_t j = 0; j <= m; j++)
        above[j] = j;
    for (size_t i = 1; i <= n; i++) {
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t d = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < d)
                d = above[j] + 1;
            if (row[j - 1] + 1 < d)
                d = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < d)
                d = before[j - 2] + 1;
            row[j] = d;
        }
        size_t *oldest = before;
        before = above;
        above = row;
        row = oldest;
    }
    return above[m];
}

static void nearest_offer(struct nearest *n, const char *name, size_t len) {
    if (len == 0 || len > WORD_MAX || n->word_len == 0 || n->word_len > WORD_MAX)
        return;
    size_t d = edit_distance(n->word, n->word_len, name, len);
    if (d * 2 <= n->word_len && (n->best == NULL || d < n->distance)) {
        n->best = name;
        n->best_len = len;
        n->distance = d;
    }
}

static struct nearest nearest_start(const char *word) {
    return (struct nearest){.word = word, .word_len = strnlen(word, WORD_MAX + 1)};
}

/* Words of other programs for what has another name here; no distance of letters finds them. */
static const struct {
    const char *theirs, *ours;
} synonyms[] = {
    {"gpu", "cuda"},       {"loguniform", "log"},   {"log_uniform", "log"},
    {"uniform", "double"}, {"float", "double"},     {"real", "double"},
    {"integer", "int"},    {"randint", "int"},      {"choice", "categorical"},
    {"constant", "const"}, {"delete", "cancel"},    {"stop", "cancel"},
    {"list", "ls"},        {"continue", "resume"},  {"start", "run"},
    {"check", "preview"},  {"validate", "preview"}, {"iterations", "steps"},
    {"batches", "steps"},
};

static void offer_synonym(struct nearest *n, const char *choice, size_t len) {
    for (size_t i = 0; i < sizeof synonyms / sizeof *synonyms; i++)
        if (strcmp(synonyms[i].theirs, n->word) == 0 && strlen(synonyms[i].ours) == len &&
            memcmp(synonyms[i].ours, choice, len) == 0) {
            n->best = choice;
            n->best_len = len;
            n->distance = 0;
        }
}

const char *schema_nearest(const char *choices, const char *word, char out[64]) {
    struct nearest n = nearest_start(word);
    for (const char *c = choices; *c != '\0';) {
        size_t len = strcspn(c, "|");
        nearest_offer(&n, c, len);
        offer_synonym(&n, c, len);
        c += len + (c[len] == '|');
    }
    if (n.best == NULL)
        return NULL;
    memcpy(out, n.best, n.best_len);
    out[n.best_len] = '\0';
    return out;
}

/* ---- words for messages ---- */

const char *schema_place(const char *file, const struct value *v, char out[SCHEMA_PLACE_MAX]) {
    out[0] = '\0';
    if (file == NULL)
        return out;
    if (v == NULL || v->line == 0)
        (void)snprintf(out, SCHEMA_PLACE_MAX, "%.200s: ", file);
    else
        (void)snprintf(out, SCHEMA_PLACE_MAX, "%.200s:%u:%u: ", file, v->line, v->column);
    return out;
}

static void expect_number(const struct field *f, const char *noun, char out[EXPECT_MAX]) {
    double shown = f->type == FIELD_INT ? SHOWN_WHOLE : SHOWN_REAL;
    if (!(f->min < f->max) || (f->min <= -shown && f->max >= shown))
        (void)snprintf(out, EXPECT_MAX, "%s", noun);
    else if (f->max >= shown)
        (void)snprintf(out, EXPECT_MAX, "%s of at least %.15g", noun, f->min);
    else if (f->min <= -shown)
        (void)snprintf(out, EXPECT_MAX, "%s of at most %.15g", noun, f->max);
    else
        (void)snprintf(out, EXPECT_MAX, "%s from %.15g to %.15g", noun, f->min, f->max);
}

/* "grid|random" → "one of grid, random". */
static void expect_choices(const char *choices, char out[EXPECT_MAX]) {
    size_t len = (size_t)snprintf(out, EXPECT_MAX, "one of ");
    for (const char *c = choices; *c != '\0' && len + 3 < EXPECT_MAX; c++) {
        if (*c == '|')
            out[len++] = ',';
        out[len++] = *c == '|' ? ' ' : *c;
    }
    out[len] = '\0';
}

static size_t string_max(const struct field *f) {
    return f->max > 0 ? (size_t)f->max : STRING_DEFAULT;
}

static size_t count_max(const struct field *f) {
    return f->max > 0 ? (size_t)f->max : SCHEMA_COUNT_DEFAULT;
}

static void expect_count(const struct field *f, const char *noun, const char *unit, size_t max,
                         char out[EXPECT_MAX]) {
    if ((double)max <= f->min)
        (void)snprintf(out, EXPECT_MAX, "%s of %zu %.*s", noun, max,
                       (int)(strlen(unit) - (max == 1)), unit);
    else if (f->min > 0)
        (void)snprintf(out, EXPECT_MAX, "%s of %.15g to %zu %s", noun, f->min, max, unit);
    else
        (void)snprintf(out, EXPECT_MAX, "%s of at most %zu %s", noun, max, unit);
}

/* " or [H, W]", " or a list of them", " or a string" */
static void expect_more(const struct field *f, char out[EXPECT_MAX]) {
    const char *more = (f->flags & OR_PAIR) != 0   ? " or two of them, [H, W]"
                       : (f->flags & OR_LIST) != 0 ? " or a list of them"
                       : (f->flags & OR_TEXT) != 0 ? " or a string"
                                                   : "";
    size_t len = strlen(out);
    (void)snprintf(out + len, EXPECT_MAX - len, "%s", more);
    if (f->type == FIELD_ENUM)
        return;
    for (const char *c = f->choices; c != NULL && *c != '\0';) {
        int n = (int)strcspn(c, "|");
        len = strlen(out);
        (void)snprintf(out + len, EXPECT_MAX - len, " or '%.*s'", n, c);
        c += n + (c[n] == '|');
    }
}

void schema_words(const struct field *f, char out[SCHEMA_WORDS_MAX]) {
    switch (f->type) {
    case FIELD_BOOL:
        (void)snprintf(out, EXPECT_MAX, "true or false");
        break;
    case FIELD_INT:
        expect_number(f, "an integer", out);
        break;
    case FIELD_REAL:
        expect_number(f, "a number", out);
        break;
    case FIELD_STRING:
        expect_count(f, "a string", "bytes", string_max(f), out);
        break;
    case FIELD_ULID:
        (void)snprintf(out, EXPECT_MAX, "an id of 26 characters");
        break;
    case FIELD_PREFIX:
        (void)snprintf(out, EXPECT_MAX, "the first 1 to 26 characters of an id");
        break;
    case FIELD_DIGEST:
        (void)snprintf(out, EXPECT_MAX, "64 hex digits");
        break;
    case FIELD_ENUM:
        expect_choices(f->choices, out);
        break;
    case FIELD_LIST:
        expect_count(f, "a list", "items", count_max(f), out);
        break;
    case FIELD_MAP:
        if (f->fields != NULL)
            (void)snprintf(out, EXPECT_MAX, "a map");
        else
            expect_count(f, "a map", "keys", count_max(f), out);
        break;
    case FIELD_ANY:
        (void)snprintf(out, EXPECT_MAX, "a value");
        break;
    }
    expect_more(f, out);
}

/* What is there instead: short values as they are, long ones by kind and size. */
static void shown(const struct value *v, char out[SHOWN_MAX]) {
    switch (v->kind) {
    case VALUE_NULL:
        (void)snprintf(out, SHOWN_MAX, "null");
        break;
    case VALUE_BOOL:
        (void)snprintf(out, SHOWN_MAX, "%s", v->boolean ? "true" : "false");
        break;
    case VALUE_INT:
        (void)snprintf(out, SHOWN_MAX, "%lld", (long long)v->integer);
        break;
    case VALUE_REAL:
        (void)snprintf(out, SHOWN_MAX, "%.15g", v->real);
        break;
    case VALUE_STRING:
        if (v->count <= 40)
            (void)snprintf(out, SHOWN_MAX, "'%s'", v->string);
        else
            (void)snprintf(out, SHOWN_MAX, "a string of %zu bytes", v->count);
        break;
    case VALUE_LIST:
        (void)snprintf(out, SHOWN_MAX, "a list of %zu items", v->count);
        break;
    case VALUE_MAP:
        (void)snprintf(out, SHOWN_MAX, "a map of %zu keys", v->count);
        break;
    }
}

/* The field with the bounds of the language that the tree is written in. */
static struct field in_force(const struct check *c, const struct field *f) {
    struct field then = *f;
    if (c->language != SCHEMA_NEWEST && c->language < f->since) {
        then.min = f->old_min;
        then.max = f->old_max;
    }
    return then;
}

static enum status refuse(const struct check *c, const struct field *f, const struct value *v,
                          const char *path) {
    char place[SCHEMA_PLACE_MAX], want[EXPECT_MAX], have[SHOWN_MAX], near[64];
    struct field then = in_force(c, f);
    schema_words(&then, want);
    shown(v, have);
    const char *guess = f->choices != NULL && v->kind == VALUE_STRING
                            ? schema_nearest(f->choices, v->string, near)
                            : NULL;
    return err_set(c->err, STATUS_INVALID, "%s%s must be %s, not %s%s%s%s",
                   schema_place(c->file, v, place), path[0] != '\0' ? path : "the value", want,
                   have, guess != NULL ? "; nearest is '" : "", guess != NULL ? guess : "",
                   guess != NULL ? "'" : "");
}

/* ---- checks ---- */

static bool in_bounds(const struct field *f, double v) {
    return !(f->min < f->max) || (v >= f->min && v <= f->max);
}

static bool is_choice(const char *choices, const char *word, size_t word_len) {
    for (const char *c = choices; *c != '\0';) {
        size_t len = strcspn(c, "|");
        if (len == word_len && memcmp(c, word, len) == 0)
            return true;
        c += len + (c[len] == '|');
    }
    return false;
}

static bool is_digest(const struct value *v) {
    return v->count == 64 && strspn(v->string, "0123456789abcdefABCDEF") == 64;
}

/* Whether one value, without what is inside it, is what the field asks for. */
static bool fits_alone(const struct field *f, const struct value *v) {
    bool text = v->kind == VALUE_STRING;
    if (text && ((f->flags & OR_TEXT) != 0 ||
                 (f->choices != NULL && is_choice(f->choices, v->string, v->count))))
        return true;
    switch (f->type) {
    case FIELD_BOOL:
        return v->kind == VALUE_BOOL;
    case FIELD_INT:
        return v->kind == VALUE_INT && in_bounds(f, (double)v->integer);
    case FIELD_REAL:
        return (v->kind == VALUE_INT && in_bounds(f, (double)v->integer)) ||
               (v->kind == VALUE_REAL && isfinite(v->real) && in_bounds(f, v->real));
    case FIELD_STRING:
        return text && v->count <= string_max(f) && (double)v->count >= f->min;
    case FIELD_ULID:
        return text && ulid_valid(v->string, v->count, true);
    case FIELD_PREFIX:
        return text && ulid_valid(v->string, v->count, false);
    case FIELD_DIGEST:
        return text && is_digest(v);
    case FIELD_ENUM:
        return text && is_choice(f->choices, v->string, v->count);
    case FIELD_LIST:
        return v->kind == VALUE_LIST && v->count <= count_max(f) && (double)v->count >= f->min;
    case FIELD_MAP:
        return v->kind == VALUE_MAP && v->count <= count_max(f) && (double)v->count >= f->min;
    case FIELD_ANY:
        return true;
    }
    return false;
}

/* The first value that is not what the field asks for: the node itself or, where a list of such
 * values will do, one of its items. NULL: all is well. */
static const struct value *misfit(const struct check *c, const struct field *f,
                                  const struct value *v) {
    struct field then = in_force(c, f);
    bool list = (f->flags & (OR_PAIR | OR_LIST)) != 0 && v->kind == VALUE_LIST;
    if (!list)
        return fits_alone(&then, v) ? NULL : v;
    if (v->count == 0 || ((f->flags & OR_PAIR) != 0 && v->count != 2))
        return v;
    then.choices = NULL; /* a word is for the whole, not for an item */
    for (size_t i = 0; i < v->count; i++)
        if (!fits_alone(&then, v->items[i]))
            return v->items[i];
    return NULL;
}

static enum status check_map(const struct check *c, const struct field *fields,
                             const struct value *map, const char *where, int depth);

static enum status check_value(const struct check *c, const struct field *f, const struct value *v,
                               const char *path, int depth) {
    if (v->kind == VALUE_NULL && (f->flags & NULLABLE) != 0)
        return STATUS_OK;
    const struct value *wrong = misfit(c, f, v);
    if (wrong != NULL)
        return refuse(c, f, wrong, path);
    if (f->fields == NULL || v->kind == VALUE_STRING)
        return STATUS_OK;
    if (depth >= VALUE_DEPTH_MAX)
        return err_set(c->err, STATUS_TOO_LARGE, "%s is nested deeper than %d levels", path,
                       VALUE_DEPTH_MAX);
    if (f->type == FIELD_MAP)
        return check_map(c, f->fields, v, path, depth + 1);
    if (f->type != FIELD_LIST)
        return STATUS_OK;
    for (size_t i = 0; i < v->count; i++) {
        char item[PATH_MAX_BYTES];
        (void)snprintf(item, sizeof item, "%.120s[%zu]", path, i);
        enum status st = check_value(c, &f->fields[0], v->items[i], item, depth + 1);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

const struct field *schema_field(const struct field *fields, const char *name) {
    for (const struct field *f = fields; f->name != NULL; f++)
        if (strcmp(f->name, name) == 0)
            return f;
    return NULL;
}

static enum status refuse_key(const struct check *c, const struct field *fields,
                              const struct member *m, const char *where) {
    struct nearest n = nearest_start(m->key);
    for (const struct field *f = fields; f->name != NULL; f++)
        nearest_offer(&n, f->name, strlen(f->name));
    char place[SCHEMA_PLACE_MAX];
    const struct value at = {.line = m->line, .column = m->column};
    return err_set(c->err, STATUS_INVALID, "%sunknown key '%.64s'%s%s%s%s%s",
                   schema_place(c->file, m->line > 0 ? &at : m->value, place), m->key,
                   where[0] != '\0' ? " in " : "", where,
                   n.best != NULL ? "; nearest known key is '" : "", n.best != NULL ? n.best : "",
                   n.best != NULL ? "'" : "");
}

static enum status check_map(const struct check *c, const struct field *fields,
                             const struct value *map, const char *where, int depth) {
    const char *dot = where[0] != '\0' ? "." : "";
    for (size_t i = 0; i < map->count; i++) {
        const struct member *m = &map->members[i];
        const struct field *f = schema_field(fields, m->key);
        if (f == NULL)
            return refuse_key(c, fields, m, where);
        char path[PATH_MAX_BYTES];
        (void)snprintf(path, sizeof path, "%.110s%s%.40s", where, dot, f->name);
        enum status st = check_value(c, f, m->value, path, depth);
        if (st != STATUS_OK)
            return st;
    }
    for (const struct field *f = fields; f->name != NULL; f++) {
        if ((f->flags & REQUIRED) == 0 || value_get(map, f->name) != NULL)
            continue;
        char place[SCHEMA_PLACE_MAX];
        return err_set(c->err, STATUS_INVALID, "%s%s%s%s is missing%s%s%s",
                       schema_place(c->file, map, place), where, dot, f->name,
                       f->doc != NULL ? " (" : "", f->doc != NULL ? f->doc : "",
                       f->doc != NULL ? ")" : "");
    }
    return STATUS_OK;
}

enum status schema_check(const struct field *fields, const struct value *map, const char *file,
                         const char *where, struct err *err) {
    return schema_check_since(fields, map, (struct schema_source){.file = file}, where, err);
}

enum status schema_check_since(const struct field *fields, const struct value *map,
                               struct schema_source source, const char *where, struct err *err) {
    struct check c = {.file = source.file, .language = source.language, .err = err};
    static const struct field root = {.name = "", .type = FIELD_MAP};
    if (map == NULL || map->broken)
        return err_set(err, STATUS_NOMEM, "out of memory while a value was built");
    if (map->kind != VALUE_MAP)
        return refuse(&c, &root, map, where[0] != '\0' ? where : "the root");
    return check_map(&c, fields, map, where, 0);
}

/* ---- structs ---- */

/* The position in "a|b|c" of the value or the default; 0 where it is none of them. */
static unsigned choice_of(const struct field *f, const struct value *v) {
    const char *word = v != NULL ? v->string : f->fallback != NULL ? f->fallback : "";
    unsigned i = 0;
    for (const char *c = f->choices; c != NULL && *c != '\0'; i++) {
        size_t len = strcspn(c, "|");
        if (strlen(word) == len && memcmp(c, word, len) == 0)
            return i;
        c += len + (c[len] == '|');
    }
    return 0;
}

static double number_of(const struct value *v, const char **text) {
    if (v != NULL)
        return v->kind == VALUE_INT ? (double)v->integer : v->kind == VALUE_REAL ? v->real : 0.0;
    if (*text == NULL)
        return 0.0;
    char *end;
    *text += strcspn(*text, "+-.0123456789");
    double d = strtod(*text, &end);
    *text = end;
    return d;
}

static int64_t integer_of(const struct value *v, const char *text) {
    if (v != NULL)
        return v->kind == VALUE_INT ? v->integer : 0;
    return text != NULL ? strtoll(text, NULL, 10) : 0;
}

/* Numbers of a list, or of a default such as "[0.9, 0.999]". */
static void read_reals(const struct field *f, const struct value *v, double *out) {
    const char *text = f->fallback;
    for (size_t i = 0; i < (size_t)f->max; i++)
        out[i] = number_of(v != NULL ? v->items[i] : NULL, &text);
}

static void read_field(const struct field *f, const struct value *v, void *to) {
    const char *text = f->fallback;
    switch (f->store) {
    case STORE_NOTHING:
        break;
    case STORE_BOOL:
        *(bool *)to = f->type == FIELD_ENUM ? choice_of(f, v) != 0
                      : v != NULL           ? v->boolean
                                            : text != NULL && strcmp(text, "true") == 0;
        break;
    case STORE_COUNT:
        *(int *)to = (int)integer_of(v, text);
        break;
    case STORE_INT:
        *(int64_t *)to = integer_of(v, text);
        break;
    case STORE_PAIR:
        for (int i = 0; i < 2; i++)
            ((int64_t *)to)[i] =
                integer_of(v != NULL && v->kind == VALUE_LIST ? v->items[i] : v, text);
        break;
    case STORE_REAL:
        *(double *)to = number_of(v, &text);
        break;
    case STORE_REALS:
        read_reals(f, v, to);
        break;
    case STORE_FLOAT:
        *(float *)to = (float)number_of(v, &text);
        break;
    case STORE_TEXT:
        *(const char **)to = v != NULL ? v->string : text;
        break;
    case STORE_ENUM:
        *(unsigned *)to = choice_of(f, v);
        break;
    case STORE_NODE:
        *(const struct value **)to = v;
        break;
    }
}

void schema_read(const struct field *fields, const struct value *map, void *out) {
    for (const struct field *f = fields; f->name != NULL; f++) {
        const struct value *v = value_get(map, f->name);
        if (v != NULL && v->kind == VALUE_NULL && f->store != STORE_NODE)
            v = NULL; /* null: as if the key were missing */
        read_field(f, v, (char *)out + f->offset);
    }
}
