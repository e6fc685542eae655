/* Documents in parts. */
#include "tracker/map/docs.h"

#include <string.h>

#include "core/bytes.h"

#define LENGTH_BYTES 4

static struct key part_key(const struct key *key, size_t part) {
    struct key k = *key;
    key_add_be16(&k, (uint16_t)part);
    return k;
}

/* Part 0 gives up LENGTH_BYTES for the length. */
static size_t part_count(size_t len) {
    size_t total = len + LENGTH_BYTES;
    return (total + DOC_PART - 1) / DOC_PART;
}

static enum status damaged(struct err *err) {
    return err_set(err, STATUS_CORRUPT, "a stored document has lost a part; restore a backup");
}

/* As part 0 says. */
static enum status count_parts(struct kv_bytes first, size_t *parts, struct err *err) {
    if (first.len < LENGTH_BYTES || bytes_get_u32(first.data) > DOC_BYTES_MAX)
        return damaged(err);
    *parts = part_count(bytes_get_u32(first.data));
    return STATUS_OK;
}

enum status doc_put_new(struct kv_txn *t, const struct key *key, const void *bytes, size_t len,
                        struct err *err) {
    uint8_t first[DOC_PART];
    enum status st = STATUS_OK;
    if (len > DOC_BYTES_MAX)
        return err_set(err, STATUS_TOO_LARGE,
                       "a document of %zu bytes is too large; the maximum is %zu", len,
                       DOC_BYTES_MAX);
    struct key k = part_key(key, 0);
    size_t at = len < DOC_PART - LENGTH_BYTES ? len : DOC_PART - LENGTH_BYTES;
    bytes_put_u32(first, (uint32_t)len);
    if (at > 0)
        memcpy(first + LENGTH_BYTES, bytes, at);
    TRY(kv_put(t, key_bytes(&k), (struct kv_bytes){first, at + LENGTH_BYTES}, err));
    size_t parts = part_count(len);
    for (size_t i = 1; i < parts; i++) {
        size_t n = len - at < DOC_PART ? len - at : DOC_PART;
        k = part_key(key, i);
        TRY(kv_put(t, key_bytes(&k), (struct kv_bytes){(const char *)bytes + at, n}, err));
        at += n;
    }
out:
    return st;
}

enum status doc_put(struct kv_txn *t, const struct key *key, const void *bytes, size_t len,
                    struct err *err) {
    struct kv_bytes old;
    enum status st = STATUS_OK;
    struct key k = part_key(key, 0);
    TRY(kv_get(t, key_bytes(&k), &old, err));
    size_t old_parts = 0;
    if (old.data != NULL)
        TRY(count_parts(old, &old_parts, err));
    TRY(doc_put_new(t, key, bytes, len, err));
    for (size_t i = part_count(len); i < old_parts; i++) {
        k = part_key(key, i);
        TRY(kv_del(t, key_bytes(&k), NULL, err));
    }
out:
    return st;
}

/* Puts the parts together. *doc is part 0 on entry (still valid: nothing is written meanwhile), the
 * whole document in the arena on return. */
static enum status gather(struct kv_txn *t, const struct key *key, struct arena *a,
                          struct kv_bytes *doc, struct err *err) {
    if (doc->len < LENGTH_BYTES)
        return damaged(err);
    size_t total = bytes_get_u32(doc->data), at = doc->len - LENGTH_BYTES;
    if (total > DOC_BYTES_MAX || at > total)
        return damaged(err);
    char *out = arena_take(a, total + 1);
    if (out == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory while a document was read");
    memcpy(out, (const char *)doc->data + LENGTH_BYTES, at);
    for (size_t i = 1; at < total; i++) {
        struct key k = part_key(key, i);
        struct kv_bytes part;
        enum status st = kv_get(t, key_bytes(&k), &part, err);
        if (st != STATUS_OK)
            return st;
        if (part.data == NULL || part.len == 0 || part.len > total - at)
            return damaged(err);
        memcpy(out + at, part.data, part.len);
        at += part.len;
    }
    out[total] = '\0';
    *doc = (struct kv_bytes){out, total};
    return STATUS_OK;
}

enum status doc_get(struct kv_txn *t, const struct key *key, struct arena *a, struct kv_bytes *out,
                    struct err *err) {
    struct key k = part_key(key, 0);
    enum status st = kv_get(t, key_bytes(&k), out, err);
    if (st != STATUS_OK || out->data == NULL)
        return st;
    return gather(t, key, a, out, err);
}

enum status doc_del(struct kv_txn *t, const struct key *key, bool *found, struct err *err) {
    struct key k = part_key(key, 0);
    struct kv_bytes first;
    enum status st = STATUS_OK;
    TRY(kv_get(t, key_bytes(&k), &first, err));
    if (found != NULL)
        *found = first.data != NULL;
    if (first.data == NULL)
        return STATUS_OK;
    size_t parts = 0;
    TRY(count_parts(first, &parts, err));
    for (size_t i = 0; i < parts; i++) {
        k = part_key(key, i);
        TRY(kv_del(t, key_bytes(&k), NULL, err));
    }
out:
    return st;
}

enum status doc_put_value(struct kv_txn *t, const struct key *key, const struct value *v,
                          struct err *err) {
    struct buf text = BUF_INIT(DOC_BYTES_MAX);
    enum status st = STATUS_OK;
    TRY(json_dump(v, JSON_COMPACT, &text, err));
    TRY(doc_put(t, key, buf_text(&text), text.len, err));
out:
    buf_release(&text);
    return st;
}

static enum status parse(struct arena *a, struct kv_bytes text, struct value **out,
                         struct err *err) {
    enum status st = json_parse(a, text.data, text.len, "stored document", out, err);
    if (st == STATUS_INVALID)
        st = err_set(err, STATUS_CORRUPT, "a stored document is not JSON; restore a backup");
    return st;
}

enum status doc_get_value(struct kv_txn *t, const struct key *key, struct arena *a,
                          struct value **out, struct err *err) {
    struct kv_bytes text;
    *out = NULL;
    enum status st = doc_get(t, key, a, &text, err);
    if (st != STATUS_OK || text.data == NULL)
        return st;
    return parse(a, text, out, err);
}

enum status doc_merge(struct kv_txn *t, const struct key *key, struct arena *a,
                      const struct value *from, struct err *err) {
    struct value *doc = NULL;
    enum status st = doc_get_value(t, key, a, &doc, err);
    if (st != STATUS_OK)
        return st;
    if (doc == NULL || doc->kind != VALUE_MAP)
        doc = value_map(a);
    for (size_t i = 0; i < from->count; i++)
        value_set(a, doc, from->members[i].key, from->members[i].value);
    return doc_put_value(t, key, doc, err);
}

/* ---- visiting ---- */

enum status doc_scan_open(struct kv_txn *t, const struct key *prefix, bool backwards,
                          struct doc_scan *scan, struct err *err) {
    scan->txn = t;
    scan->prefix = scan->from = *prefix;
    scan->backwards = backwards;
    scan->started = false;
    return kv_cursor_open(t, &scan->cursor, err);
}

void doc_scan_from(struct doc_scan *scan, const struct key *from) {
    scan->from = *from;
}

void doc_scan_close(struct doc_scan *scan) {
    kv_cursor_close(&scan->cursor);
}

static enum status step(struct doc_scan *s, struct err *err) {
    if (s->started)
        return s->backwards ? kv_prev(&s->cursor, err) : kv_next(&s->cursor, err);
    s->started = true;
    if (!s->backwards)
        return kv_seek(&s->cursor, key_bytes(&s->from), err);
    struct key after = key_after(&s->prefix);
    return kv_seek_before(&s->cursor, key_bytes(&after), err);
}

static bool is_first_part(struct kv_bytes key) {
    const uint8_t *end = (const uint8_t *)key.data + key.len;
    return key.len > 2 && end[-1] == 0 && end[-2] == 0;
}

enum status doc_scan_next(struct doc_scan *s, struct arena *a, struct err *err) {
    enum status st = STATUS_OK;
    s->name = NULL;
    s->value = NULL;
    do {
        TRY(step(s, err));
        if (!kv_begins(s->cursor.key, key_bytes(&s->prefix)))
            return STATUS_OK;
    } while (!is_first_part(s->cursor.key));

    struct key key;
    key.len = 0;
    key.over = false;
    key_add(&key, s->cursor.key.data, s->cursor.key.len - 2);
    if (key.len < s->prefix.len)
        return damaged(err);
    struct kv_bytes text = s->cursor.value;
    TRY(gather(s->txn, &key, a, &text, err));
    TRY(parse(a, text, &s->value, err));
    s->name_len = key.len - s->prefix.len;
    s->name = arena_copy(a, key.bytes + s->prefix.len, s->name_len);
    if (s->name == NULL)
        st = err_set(err, STATUS_NOMEM, "out of memory while documents were read");
out:
    return st;
}
