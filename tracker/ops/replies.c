/* What was answered to whom: a request that is sent again gets the first answer and changes
 * nothing.
 *
 *     'R' │ client │ 0 │ seq, be64 ──▶ document: i64 time_ns │ op │ 0 │ JSON of the reply's fields
 *
 * Written in the transaction of the change itself. Failures change nothing and are not kept: a
 * request that failed is judged anew. A client numbers its requests upwards, so that its oldest
 * reply is its first one: forgetting costs what is forgotten plus one look per client. */
#include <string.h>

#include "core/bytes.h"
#include "tracker/ops/store_impl.h"

static bool is_numbered(const struct op *op) {
    return op_text(op, "client") != NULL && value_get(op->req, "seq") != NULL;
}

static struct key reply_key(const struct op *op) {
    struct key k = key_name(KEY_REPLY, op_text(op, "client"));
    key_add_be64(&k, (uint64_t)value_get_int(op->req, "seq", 0));
    return k;
}

enum status reply_find(struct op *op, const char *name, bool *found) {
    const char *doc;
    size_t len;
    enum status st = STATUS_OK;
    *found = false;
    if (!is_numbered(op))
        return STATUS_OK;
    struct key k = reply_key(op);
    TRY(doc_get(op->txn, &k, op->a, &doc, &len, op->err));
    if (doc == NULL)
        return STATUS_OK;
    size_t name_len = len > 8 ? strnlen(doc + 8, len - 8) : 0;
    if (len < 8 + name_len + 1)
        return err_set(op->err, STATUS_CORRUPT, "a stored reply is damaged");
    if (strcmp(doc + 8, name) != 0)
        return err_set(op->err, STATUS_CONFLICT,
                       "client %s used number %lld before, for %.40s; number each request anew",
                       op_text(op, "client"), (long long)value_get_int(op->req, "seq", 0), doc + 8);
    struct value *fields = NULL;
    TRY(json_parse(op->a, doc + 8 + name_len + 1, len - 8 - name_len - 1, "stored reply", &fields,
                   op->err));
    for (size_t i = 0; i < fields->count; i++)
        value_set(op->a, op->reply, fields->members[i].key, fields->members[i].value);
    *found = true;
out:
    return st;
}

enum status reply_keep(struct op *op, const char *name) {
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

/* Deletes this client's replies from its first on, as long as they are old. *next is where to look
 * for the next client. */
static enum status forget_client(struct kv_txn *t, struct kv_cursor *c, int64_t before_ns,
                                 size_t *deleted, struct key *next, struct err *err) {
    enum status st = STATUS_OK;
    struct key client = key_of(KEY_REPLY);
    size_t name_len = strnlen((const char *)c->key.data + 1, c->key.len - 1);
    key_add(&client, (const char *)c->key.data + 1, name_len);
    key_add(&client, "", 1);
    *next = key_behind(&client);
    while (*deleted < MAINTAIN_DELETES && slice_begins(c->key, key_slice(&client))) {
        /* Parts behind the first go with it: they are few and have the same prefix. */
        if (c->value.len < 12 ||
            (int64_t)bytes_get_u64((const char *)c->value.data + 4) >= before_ns)
            break;
        struct key reply;
        size_t n;
        reply.len = 0;
        reply.over = false;
        key_add(&reply, c->key.data, c->key.len - 2);
        TRY(kv_del_prefix(t, key_slice(&reply), SIZE_MAX, &n, err));
        *deleted += n;
        TRY(kv_seek(c, key_slice(&client), err));
    }
out:
    return st;
}

static enum status forget_some(struct store *s, int64_t before_ns, struct key *from,
                               size_t *deleted, struct err *err) {
    struct kv_txn t = {0};
    struct kv_cursor c = {0};
    struct key all = key_of(KEY_REPLY);
    enum status st = STATUS_OK;
    *deleted = 0;
    TRY(kv_begin(s->meta, NULL, true, &t, err));
    TRY(kv_cursor_open(&t, &c, err));
    while (*deleted < MAINTAIN_DELETES) {
        TRY(kv_seek(&c, key_slice(from), err));
        if (!slice_begins(c.key, key_slice(&all)))
            break;
        TRY(forget_client(&t, &c, before_ns, deleted, from, err));
    }
    kv_cursor_close(&c);
    if (*deleted > 0)
        TRY(kv_commit(&t, err));
out:
    kv_cursor_close(&c);
    kv_abort(&t);
    return st;
}

enum status reply_forget(struct store *s, int64_t before_ns, struct err *err) {
    size_t deleted;
    do {
        struct key from = key_of(KEY_REPLY);
        enum status st = forget_some(s, before_ns, &from, &deleted, err);
        if (st != STATUS_OK)
            return st;
    } while (deleted >= MAINTAIN_DELETES);
    return STATUS_OK;
}
