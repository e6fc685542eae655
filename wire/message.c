/* Headers of messages: built, parsed and checked against the tables. */

#include <string.h>

#include "core/json.h"
#include "core/utf8.h"
#include "wire/message_private.h"

#define CLIENT_MAX 64

/* The fields that every request may carry; the tables have only the op's own fields. */
static const struct field common[] = {
    {.name = "v", .type = FIELD_INT, .flags = REQUIRED, .min = 1, .max = 1e9},
    {.name = "op", .type = FIELD_STRING, .flags = REQUIRED, .min = 1, .max = 64},
    {.name = "id", .type = FIELD_STRING, .min = 1, .max = MESSAGE_ID_MAX},
    {.name = "client", .type = FIELD_STRING, .min = 1, .max = CLIENT_MAX},
    {.name = "seq", .type = FIELD_INT, .min = 1, .max = 9007199254740992.0},
    FIELD_END,
};

static const struct field reply_common[] = {
    {.name = "id", .type = FIELD_STRING, .flags = REQUIRED, .max = MESSAGE_ID_MAX},
    {.name = "ok", .type = FIELD_BOOL, .flags = REQUIRED},
    FIELD_END,
};

const struct message_type *message_table(enum message_server server) {
    static const struct message_type *const tables[SERVER_COUNT] = {
        [SERVER_TRACKER] = message_tracker,
        [SERVER_COORDINATOR] = message_coordinator,
        [SERVER_GROUP] = message_group,
        [SERVER_FEED] = message_feed,
    };
    return tables[server];
}

const struct message_type *message_next(const struct message_type *t) {
    enum message_server server = t != NULL ? t->server : SERVER_TRACKER;
    t = t != NULL ? t + 1 : message_table(server);
    while (t->op == NULL) {
        if (server == SERVER_GROUP)
            return NULL;
        t = message_table(++server);
    }
    return t;
}

const struct message_type *message_find(const char *op) {
    for (const struct message_type *t = message_next(NULL); t != NULL; t = message_next(t))
        if (strcmp(t->op, op) == 0)
            return t;
    return NULL;
}

enum status message_allows(const struct message_type *type, enum net_role role, struct err *err) {
    if ((type->roles & MESSAGE_ROLE(role)) != 0)
        return STATUS_OK;
    struct buf who = BUF_INIT(128);
    for (unsigned i = 0; i < NET_ROLES; i++)
        if ((type->roles & MESSAGE_ROLE(i)) != 0)
            buf_addf(&who, "%s%s", who.len > 0 ? " or " : "", net_role_name((enum net_role)i));
    enum status st =
        err_set(err, STATUS_DENIED,
                "%s needs the role %s, and your key has the role %s; ask the administrator for "
                "another key",
                type->op, buf_text(&who), net_role_name(role));
    buf_release(&who);
    return st;
}

static const struct field *fields_of(const struct field *fields) {
    return fields != NULL ? fields : message_none;
}

static bool in_table(const struct field *fields, const char *name) {
    for (const struct field *f = fields; f->name != NULL; f++)
        if (strcmp(f->name, name) == 0)
            return true;
    return false;
}

/* A map taken apart; the nodes are shared. */
struct halves {
    struct value named, rest;
};

/* Puts the members of `map` that `fields` names on one side and the rest on the other. */
static enum status split(struct arena *a, const struct value *map, const struct field *fields,
                         struct halves *out, struct err *err) {
    struct value *named = &out->named, *rest = &out->rest;
    *named = *map;
    *rest = *map;
    named->members = arena_array(a, map->count, sizeof *map->members);
    rest->members = arena_array(a, map->count, sizeof *map->members);
    if (named->members == NULL || rest->members == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory while a message was checked");
    named->count = rest->count = 0;
    for (size_t i = 0; i < map->count; i++) {
        struct value *side = in_table(fields, map->members[i].key) ? named : rest;
        side->members[side->count++] = map->members[i];
    }
    named->cap = rest->cap = map->count;
    return STATUS_OK;
}

static enum status parse_map(struct arena *a, const void *header, size_t len, struct value **out,
                             struct err *err) {
    if (len == 0)
        return err_set(err, STATUS_INVALID,
                       "the message header is empty; it must be a JSON object");
    enum status st = json_parse(a, header, len, "message header", out, err);
    if (st != STATUS_OK)
        return st;
    if ((*out)->kind != VALUE_MAP)
        return err_set(err, STATUS_INVALID, "the message header must be a JSON object, not %s",
                       value_kind_name((*out)->kind));
    return STATUS_OK;
}

static void keep_id(const struct value *header, char id[MESSAGE_ID_MAX + 1]) {
    const struct value *v = value_get(header, "id");
    if (v != NULL && v->kind == VALUE_STRING && v->count <= MESSAGE_ID_MAX)
        memcpy(id, v->string, v->count + 1);
}

/* The version comes first: in a later one even the common fields may look different. */
static enum status check_version(const struct value *header, struct err *err) {
    const struct value *v = value_get(header, "v");
    if (v == NULL || v->kind != VALUE_INT || v->integer < 1)
        return err_set(err, STATUS_INVALID, "v must be %d, the version of the wire", WIRE_VERSION);
    if (v->integer > WIRE_VERSION)
        return err_set(
            err, STATUS_TOO_NEW,
            "the message has wire version %lld, but this program speaks %d; use a newer program",
            (long long)v->integer, WIRE_VERSION);
    return STATUS_OK;
}

static enum status unknown_op(const char *op, struct err *err) {
    struct buf names = BUF_INIT(8192);
    for (const struct message_type *t = message_next(NULL); t != NULL; t = message_next(t))
        buf_addf(&names, "%s%s", names.len > 0 ? "|" : "", t->op);
    char near[64];
    const char *guess = schema_nearest(buf_text(&names), op, near);
    enum status st = err_set(err, STATUS_INVALID, "unknown op '%s'%s%s%s", op,
                             guess != NULL ? "; the nearest known op is '" : "",
                             guess != NULL ? guess : "", guess != NULL ? "'" : "");
    buf_release(&names);
    return st;
}

enum status message_parse(struct arena *a, const void *header, size_t len, struct message *out,
                          struct err *err) {
    struct value *map = NULL;
    struct halves halves;
    enum status st = STATUS_OK;
    *out = (struct message){.type = NULL};
    TRY(parse_map(a, header, len, &map, err));
    keep_id(map, out->id);
    TRY(check_version(map, err));
    TRY(split(a, map, common, &halves, err));
    TRY(schema_check(common, &halves.named, NULL, "", err));

    const char *op = value_get_string(map, "op", "");
    const struct message_type *found = message_find(op);
    if (found == NULL)
        return unknown_op(op, err);
    if (out->id[0] == '\0' && found->server != SERVER_GROUP)
        return err_set(err, STATUS_INVALID,
                       "%s: id is missing; give each request an id, its reply carries it", op);
    if ((value_get(map, "client") == NULL) != (value_get(map, "seq") == NULL))
        return err_set(err, STATUS_INVALID, "%s: client and seq must be given together", op);
    st = schema_check(fields_of(found->request), &halves.rest, NULL, "", err);
    if (st != STATUS_OK)
        return err_wrap(err, st, "%s", op);
    out->type = found;
    out->header = map;
out:
    return st;
}

enum status message_check_name(const char *name, size_t bytes_max, const char *what,
                               struct err *err) {
    size_t len = name != NULL ? strlen(name) : 0;
    if (len == 0 || len > bytes_max)
        return err_set(err, STATUS_INVALID, "%s must have 1 to %zu bytes, not %zu", what, bytes_max,
                       len);
    size_t good = utf8_printable(name, len);
    if (good == len)
        return STATUS_OK;
    const char *why = utf8_length(name + good, len - good) == 0 ? "is not UTF-8 there"
                                                                : "has a control character there";
    return err_set(err, STATUS_INVALID, "%s '%.*s…' %s (byte %zu)", what,
                   (int)(good < 60 ? good : 60), name, why, good + 1);
}

enum status message_check(struct arena *a, const struct message_type *type,
                          const struct value *request, struct err *err) {
    struct halves halves;
    enum status st = split(a, request, common, &halves, err);
    if (st == STATUS_OK)
        st = schema_check(fields_of(type->request), &halves.rest, NULL, "", err);
    return st == STATUS_OK ? st : err_wrap(err, st, "%s", type->op);
}

struct value *message_request(struct arena *a, const char *op, const char *id) {
    struct value *m = value_map(a);
    value_set_int(a, m, "v", WIRE_VERSION);
    value_set_string(a, m, "op", op);
    value_set_string(a, m, "id", id);
    return m;
}

struct value *message_revoked(struct arena *a, const char *actor, const struct net_revoked *r) {
    struct value *m = message_request(a, "audit.revoked", NULL);
    value_set_string(a, m, "actor", actor);
    value_set_string(a, m, "key", r->key);
    value_set_string(a, m, "name", r->name);
    value_set_string(a, m, "role", net_role_name(r->role));
    value_set_int(a, m, "connections", r->connections);
    return m;
}

struct value *message_reply(struct arena *a, const char *id) {
    struct value *m = value_map(a);
    value_set_string(a, m, "id", id != NULL ? id : "");
    value_set_bool(a, m, "ok", true);
    return m;
}

struct value *message_failure(struct arena *a, const char *id, const struct err *err) {
    enum status code = err != NULL && err->status != STATUS_OK ? err->status : STATUS_INTERNAL;
    struct value *e = value_map(a);
    value_set_string(a, e, "code", status_name(code));
    value_set_string(a, e, "message", err != NULL ? err->text : "");
    struct value *m = value_map(a);
    value_set_string(a, m, "id", id != NULL ? id : "");
    value_set_bool(a, m, "ok", false);
    return value_set(a, m, "error", e);
}

enum status message_parse_reply(struct arena *a, const void *header, size_t len, struct value **out,
                                struct err *err) {
    struct value *map = NULL;
    enum status st = parse_map(a, header, len, &map, err);
    if (st != STATUS_OK)
        return st;
    const struct value *ok = value_get(map, "ok");
    if (ok == NULL || ok->kind != VALUE_BOOL)
        return err_set(err, STATUS_INVALID, "the reply has no 'ok'; this is not a Trireme server");
    if (!ok->boolean) {
        const struct value *e = value_get(map, "error");
        if (e == NULL)
            return err_set(err, STATUS_INTERNAL, "the server gave no reason");
        st = status_from_name(value_get_string(e, "code", "internal"));
        if (st == STATUS_OK)
            st = STATUS_INTERNAL;
        return err_set(err, st, "%s", value_get_string(e, "message", "the server gave no reason"));
    }
    *out = map;
    return STATUS_OK;
}

enum status message_check_reply(struct arena *a, const struct message_type *type,
                                const struct value *reply, struct err *err) {
    struct halves halves;
    enum status st = STATUS_OK;
    if (reply == NULL || reply->broken)
        return err_set(err, STATUS_NOMEM, "out of memory while a reply was built");
    if (reply->kind != VALUE_MAP)
        return err_set(err, STATUS_INVALID, "a reply must be a map");
    TRY(split(a, reply, reply_common, &halves, err));
    TRY(schema_check(reply_common, &halves.named, NULL, "", err));
    st = schema_check(fields_of(type->reply), &halves.rest, NULL, "", err);
    if (st != STATUS_OK)
        st = err_wrap(err, st, "reply to %s", type->op);
out:
    return st;
}
