/* Replies, kept and forgotten. A client numbers its requests upwards, so that its oldest reply is
 * its first one: forgetting costs what is forgotten plus one look per client. */
#include "tracker/ops/replies.h"

#include <string.h>

#include "core/bytes.h"

#define DELETES_MAX 4096 /* entries a transaction, so that others get their turn */

static bool is_numbered(const struct op *op) {
    return op_text(op, "client") != NULL && value_get(op->req, "seq") != NULL;
}

static struct key reply_key(const struct op *op) {
    struct key k = key_name(KEY_REPLY, op_text(op, "client"));
    key_add_be64(&k, (uint64_t)value_get_int(op->req, "seq", 0));
    return k;
}

enum status replies_find(struct op *op, const char *name, bool *found) {
    struct kv_bytes doc;
    enum status st = STATUS_OK;
    *found = false;
    if (!is_numbered(op))
        return STATUS_OK;
    struct key k = reply_key(op);
    TRY(doc_get(op->txn, &k, op->a, &doc, op->err));
    if (doc.data == NULL)
        return STATUS_OK;
    const char *used = (const char *)doc.data + 8;
    size_t name_len = doc.len > 8 ? strnlen(used, doc.len - 8) : 0;
    if (doc.len < 8 + name_len + 1)
        return err_set(op->err, STATUS_CORRUPT, "a stored reply is damaged; restore a backup");
    if (strcmp(used, name) != 0)
        return err_set(op->err, STATUS_CONFLICT,
                       "client %s has used number %lld before, for %.40s; give each request a new "
                       "number",
                       op_text(op, "client"), (long long)value_get_int(op->req, "seq", 0), used);
    struct value *fields = NULL;
    TRY(json_parse(op->a, used + name_len + 1, doc.len - 8 - name_len - 1, "stored reply", &fields,
                   op->err));
    for (size_t i = 0; i < fields->count; i++)
        value_set(op->a, op->reply, fields->members[i].key, fields->members[i].value);
    *found = true;
out:
    return st;
}

enum status replies_keep(struct op *op, const char *name) {
    struct buf doc = BUF_INIT(DOC_BYTES_MAX);
    enum status st = STATUS_OK;
    if (!is_numbered(op))
        return STATUS_OK;
    struct value *fields = value_map(op->a);
    for (size_t i = 0; i < op->reply->count; i++) {
        const struct member *m = &op->reply->members[i];
        if (strcmp(m->key, "id") != 0 && strcmp(m->key, "ok") != 0)
            value_set(op->a, fields, m->key, m->value);
    }
    struct key k = reply_key(op);
    buf_add_u64(&doc, (uint64_t)op_now(op));
    buf_add(&doc, name, strlen(name) + 1);
    TRY(json_dump(fields, JSON_COMPACT, &doc, op->err));
    TRY(buf_status(&doc, "a reply", op->err));
    TRY(doc_put(op->txn, &k, doc.data, doc.len, op->err));
out:
    buf_release(&doc);
    return st;
}

/* A pass over the replies, from `from` on. */
struct forgetting {
    int64_t before_ns;
    struct kv_txn txn;
    struct kv_cursor at;
    struct key from;
    size_t deleted;
};

/* Deletes this client's replies from its first on, as long as they are old, and moves `from` to the
 * next client. */
static enum status forget_client(struct forgetting *f, struct err *err) {
    enum status st = STATUS_OK;
    struct kv_cursor *c = &f->at;
    struct key client = key_of(KEY_REPLY);
    size_t name_len = strnlen((const char *)c->key.data + 1, c->key.len - 1);
    key_add(&client, (const char *)c->key.data + 1, name_len);
    key_add(&client, "", 1);
    f->from = key_after(&client);
    while (f->deleted < DELETES_MAX && kv_begins(c->key, key_bytes(&client))) {
        /* Parts after the first go with it: they are few and have the same prefix. */
        if (c->value.len < 12 ||
            (int64_t)bytes_get_u64((const char *)c->value.data + 4) >= f->before_ns)
            break;
        struct key reply;
        size_t n;
        reply.len = 0;
        reply.over = false;
        key_add(&reply, c->key.data, c->key.len - 2);
        TRY(kv_del_prefix(&f->txn, key_bytes(&reply), SIZE_MAX, &n, err));
        f->deleted += n;
        TRY(kv_seek(c, key_bytes(&client), err));
    }
out:
    return st;
}

static enum status forget_some(struct store *s, struct forgetting *f, struct err *err) {
    struct key all = key_of(KEY_REPLY);
    enum status st = STATUS_OK;
    TRY(kv_begin(s->meta, NULL, true, &f->txn, err));
    TRY(kv_cursor_open(&f->txn, &f->at, err));
    while (f->deleted < DELETES_MAX) {
        TRY(kv_seek(&f->at, key_bytes(&f->from), err));
        if (!kv_begins(f->at.key, key_bytes(&all)))
            break;
        TRY(forget_client(f, err));
    }
    kv_cursor_close(&f->at);
    if (f->deleted > 0)
        TRY(kv_commit(&f->txn, err));
out:
    kv_cursor_close(&f->at);
    kv_abort(&f->txn);
    return st;
}

enum status replies_forget(struct store *s, int64_t before_ns, struct err *err) {
    for (;;) {
        struct forgetting f = {.before_ns = before_ns, .from = key_of(KEY_REPLY)};
        enum status st = forget_some(s, &f, err);
        if (st != STATUS_OK || f.deleted < DELETES_MAX)
            return st;
    }
}
