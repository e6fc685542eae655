/* Headers of messages, made from the tables and then broken.
 *
 * Promises: what the table allows is accepted and comes back the same; whatever else comes in is
 * either accepted, and then passes its schema, or refused with a status and words; a reply that
 * does not say "ok": true is never a success. */
#include <assert.h>
#include <math.h>

#include "core/json.h"
#include "tests/fuzz/fuzz.h"
#include "wire/message.h"

#define TEXT_CAP  ((size_t)1 << 16)
#define ARENA_CAP ((size_t)4 << 20)

static struct arena arena;
static char text[TEXT_CAP + 1];

static const char *const words[] = {
    "\"v\":",
    "\"id\":",
    "\"op\":",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "1e309",
    "1e-5",
    "\\u0000",
    "\\ud800",
    "\"",
    "\\",
    "[[[[[[[",
    "{\"a\":{",
    "2",
    "\"ok\":",
    "\x80",
    "\xff",
    "\"seq\":",
    "\n",
    "0.1",
    "9223372036854775808",
    "-9223372036854775808",
    "\"client\":\"c\",\"seq\":1,",
    "01ARZ3NDEKTSV4",
};
#define WORD_COUNT (sizeof words / sizeof words[0])

/* ---- valid messages, from the grammar ---- */

static struct value *random_string(struct fuzz *f, double min, double max) {
    size_t least = min > 0 ? (size_t)min : 0, most = max > 0 ? (size_t)max : 256;
    size_t len = least + fuzz_below(f, (most - least < 24 ? most - least : 24) + 1);
    char out[64];
    assert(len < sizeof out);
    for (size_t i = 0; i < len; i++)
        out[i] = (char)(' ' + fuzz_below(f, 95));
    return value_bytes(&arena, out, len);
}

static struct value *random_letters(struct fuzz *f, const char *alphabet, size_t least,
                                    size_t most) {
    char out[65];
    size_t len = least + fuzz_below(f, most - least + 1);
    for (size_t i = 0; i < len; i++)
        out[i] = alphabet[fuzz_below(f, strlen(alphabet))];
    return value_bytes(&arena, out, len);
}

static struct value *random_choice(struct fuzz *f, const char *choices) {
    size_t count = 1;
    for (const char *c = choices; *c != '\0'; c++)
        count += *c == '|';
    const char *c = choices;
    for (size_t skip = fuzz_below(f, count); skip > 0; skip--)
        c = strchr(c, '|') + 1;
    return value_bytes(&arena, c, strcspn(c, "|"));
}

static struct value *random_int(struct fuzz *f, double min, double max) {
    if (!(min < max))
        return value_int(&arena, (int64_t)fuzz_next(f));
    if (fuzz_chance(f, 3))
        return value_int(&arena, (int64_t)min);
    if (fuzz_chance(f, 3))
        return value_int(&arena, (int64_t)max);
    uint64_t span = (uint64_t)(max - min) + 1;
    return value_int(&arena, (int64_t)min + (int64_t)(fuzz_next(f) % span));
}

static struct value *random_real(struct fuzz *f, double min, double max) {
    double u = (double)(fuzz_next(f) >> 11) * 0x1p-53;
    return value_real(&arena, min < max ? min + u * (max - min) : ldexp(u, (int)fuzz_below(f, 64)));
}

static struct value *random_any(struct fuzz *f, int depth) {
    struct value *v;
    switch (fuzz_below(f, depth > 3 ? 5 : 7)) {
    case 0:
        return value_null(&arena);
    case 1:
        return value_bool(&arena, fuzz_chance(f, 2));
    case 2:
        return value_int(&arena, (int64_t)fuzz_next(f));
    case 3:
        return random_real(f, 0, 0);
    case 4:
        return random_string(f, 0, 20);
    case 5:
        v = value_list(&arena);
        for (size_t n = fuzz_below(f, 4); n > 0; n--)
            value_push(&arena, v, random_any(f, depth + 1));
        return v;
    default:
        v = value_map(&arena);
        for (size_t n = fuzz_below(f, 4); n > 0; n--)
            value_set(&arena, v, random_letters(f, "abc._", 0, 4)->string,
                      random_any(f, depth + 1));
        return v;
    }
}

static void fill(struct fuzz *f, struct value *map, const struct field *fields);

static struct value *random_value(struct fuzz *f, const struct field *field) {
    struct value *v;
    switch (field->type) {
    case FIELD_BOOL:
        return value_bool(&arena, fuzz_chance(f, 2));
    case FIELD_INT:
        return random_int(f, field->min, field->max);
    case FIELD_REAL:
        return random_real(f, field->min, field->max);
    case FIELD_STRING:
        return random_string(f, field->min, field->max);
    case FIELD_ULID:
        return random_letters(f, "0123456789ABCDEFGHJKMNPQRSTVWXYZ", 26, 26);
    case FIELD_PREFIX:
        return random_letters(f, "0123456789ABCDEFGHJKMNPQRSTVWXYZ", 1, 26);
    case FIELD_DIGEST:
        return random_letters(f, "0123456789abcdef", 64, 64);
    case FIELD_ENUM:
        return random_choice(f, field->choices);
    case FIELD_LIST:
        v = value_list(&arena);
        for (size_t n = fuzz_below(f, 4); n > 0; n--)
            value_push(&arena, v,
                       field->fields != NULL ? random_value(f, &field->fields[0])
                                             : random_any(f, 1));
        return v;
    case FIELD_MAP:
        v = value_map(&arena);
        if (field->fields != NULL)
            fill(f, v, field->fields);
        else
            for (size_t n = fuzz_below(f, 4); n > 0; n--)
                value_set(&arena, v, random_letters(f, "xyz", 1, 3)->string, random_any(f, 1));
        return v;
    case FIELD_ANY:
        return random_any(f, 0);
    }
    return NULL;
}

/* A ULID's first character is at most 7: it holds three bits. */
static void mend_ulid(struct value *v, enum field_type type) {
    if ((type == FIELD_ULID || type == FIELD_PREFIX) && v->string[0] > '7') {
        char *copy = arena_strdup(&arena, v->string);
        assert(copy != NULL);
        copy[0] = '0';
        v->string = copy;
    }
}

static void fill(struct fuzz *f, struct value *map, const struct field *fields) {
    for (const struct field *field = fields; field != NULL && field->name != NULL; field++) {
        if ((field->flags & REQUIRED) == 0 && fuzz_chance(f, 2))
            continue;
        struct value *v = (field->flags & NULLABLE) != 0 && fuzz_chance(f, 4)
                              ? value_null(&arena)
                              : random_value(f, field);
        if (v->kind == VALUE_STRING)
            mend_ulid(v, field->type);
        value_set(&arena, map, field->name, v);
    }
}

static const struct message_type *random_type(struct fuzz *f) {
    size_t count = 0;
    for (const struct message_type *t = message_next(NULL); t != NULL; t = message_next(t))
        count++;
    const struct message_type *type = message_next(NULL);
    for (size_t n = fuzz_below(f, count); n > 0; n--)
        type = message_next(type);
    return type;
}

static struct value *random_request(struct fuzz *f, const struct message_type *type) {
    struct value *m = message_request(&arena, type->op, "id-1");
    if (fuzz_chance(f, 2)) {
        value_set_string(&arena, m, "client", "c1");
        value_set_int(&arena, m, "seq", 1 + (int64_t)(fuzz_next(f) >> 12));
    }
    fill(f, m, type->request);
    return m;
}

/* ---- promises ---- */

static size_t dump(struct fuzz *f, const struct value *v) {
    struct buf out = BUF_INIT(TEXT_CAP);
    struct err err;
    enum status st = json_dump(v, JSON_COMPACT, &out, &err);
    FUZZ_CHECK(f, st == STATUS_OK);
    size_t len = out.len;
    memcpy(text, out.data, len);
    buf_release(&out);
    f->input = text;
    f->input_len = len;
    return len;
}

static void check_parse(struct fuzz *f, size_t len, const struct value *want,
                        const struct message_type *want_type) {
    struct message in;
    struct err err = {.status = STATUS_OK};
    f->input = text;
    f->input_len = len;
    enum status st = message_parse(&arena, text, len, &in, &err);
    const struct message_type *type = in.type;
    struct value *v = in.header;
    FUZZ_CHECK(f, strnlen(in.id, sizeof in.id) <= MESSAGE_ID_MAX);
    if (want != NULL) {
        if (st != STATUS_OK)
            fprintf(stderr, "%s\n", err.text);
        FUZZ_CHECK(f, st == STATUS_OK && type == want_type && value_equal(v, want));
    }
    if (st == STATUS_OK) {
        FUZZ_CHECK(f, type != NULL && v != NULL && v->kind == VALUE_MAP);
        FUZZ_CHECK(f, strcmp(value_get_string(v, "op", ""), type->op) == 0);
    } else {
        FUZZ_CHECK(f, st == err.status && err.text[0] != '\0');
        FUZZ_CHECK(f, st == STATUS_INVALID || st == STATUS_TOO_NEW || st == STATUS_TOO_LARGE);
    }
}

static void check_reply(struct fuzz *f, size_t len) {
    struct value *v = NULL;
    struct err err = {.status = STATUS_OK};
    f->input = text;
    f->input_len = len;
    enum status st = message_parse_reply(&arena, text, len, &v, &err);
    if (st == STATUS_OK)
        FUZZ_CHECK(f, value_get_bool(v, "ok", false));
    else
        FUZZ_CHECK(f, st == err.status);
}

/* ---- rounds ---- */

static void round_of_message(struct fuzz *f) {
    const struct message_type *type = random_type(f);
    struct value *m = random_request(f, type);
    size_t len = dump(f, m);
    check_parse(f, len, m, type);

    /* One field replaced by anything. */
    struct member *victim = &m->members[fuzz_below(f, m->count)];
    victim->value = random_any(f, 0);
    check_parse(f, dump(f, m), NULL, NULL);

    for (int i = 0; i < 4; i++) {
        len = fuzz_mutate(f, text, len, TEXT_CAP, words, WORD_COUNT);
        check_parse(f, len, NULL, NULL);
    }
}

static void round_of_reply(struct fuzz *f) {
    struct err why = {.status = STATUS_OK}, err;
    const struct message_type *type = random_type(f);
    struct value *m = message_reply(&arena, "id-1");
    fill(f, m, type->reply);
    dump(f, m);
    enum status st = message_check_reply(&arena, type, m, &err);
    FUZZ_CHECK(f, st == STATUS_OK);
    if (fuzz_chance(f, 2)) {
        (void)(err_set(&why, (enum status)fuzz_below(f, STATUS_COUNT), "because") == STATUS_OK);
        m = message_failure(&arena, "id-1", &why);
    }
    size_t len = dump(f, m);
    for (int i = 0; i < 4; i++) {
        check_reply(f, len);
        len = fuzz_mutate(f, text, len, TEXT_CAP, words, WORD_COUNT);
    }
}

int main(void) {
    struct fuzz f = fuzz_start("fuzz_message");
    arena_init(&arena, ARENA_CAP);
    while (fuzz_go_on(&f)) {
        arena_clear(&arena);
        if (fuzz_chance(&f, 4))
            round_of_reply(&f);
        else
            round_of_message(&f);
    }
    arena_release(&arena);
    return fuzz_end(&f);
}
