/* Requests as records: built, checked, taken apart. */
#include "wire/entry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/json.h"
#include "wire/message.h"

/* The outermost map of a request; what hangs below it is shared. */
#define ARENA_BYTES_MAX ((size_t)64 << 20)

enum {
    RECORD_HEADER_LEN = SPOOL_PREFIX_BYTES,
    RECORD_FRAMES = RECORD_HEADER_LEN + 4,
    RECORD_FRAME_LENS = RECORD_FRAMES + 4,
};

const char *entry_id(const struct entry *e) {
    size_t frames = bytes_get_u32(e->record + RECORD_FRAMES);
    return (const char *)e->record + RECORD_FRAME_LENS + 4 * frames;
}

void entry_parts(const struct entry *e, struct net_frame *header,
                 struct net_frame frames[NET_FRAMES_MAX], size_t *count) {
    const char *p = entry_id(e) + ENTRY_ID_BYTES;
    *count = bytes_get_u32(e->record + RECORD_FRAMES);
    *header = (struct net_frame){p, bytes_get_u32(e->record + RECORD_HEADER_LEN)};
    p += header->len;
    for (size_t i = 0; i < *count; i++) {
        frames[i] = (struct net_frame){p, bytes_get_u32(e->record + RECORD_FRAME_LENS + 4 * i)};
        p += frames[i].len;
    }
}

bool entry_valid(const struct entry *e) {
    size_t need = RECORD_FRAME_LENS + ENTRY_ID_BYTES;
    if (e->len < need)
        return false;
    size_t frames = bytes_get_u32(e->record + RECORD_FRAMES);
    if (frames > NET_FRAMES_MAX || e->len < need + 4 * frames)
        return false;
    need += 4 * frames + bytes_get_u32(e->record + RECORD_HEADER_LEN);
    for (size_t i = 0; i < frames; i++)
        need += bytes_get_u32(e->record + RECORD_FRAME_LENS + 4 * i);
    return need == e->len && entry_id(e)[ENTRY_ID_BYTES - 1] == '\0';
}

struct entry *entry_new(size_t len) {
    struct entry *e = malloc(sizeof *e + len);
    if (e != NULL)
        *e = (struct entry){.len = len};
    return e;
}

/* A shallow copy of the request with id, client and seq, as text. */
static enum status dump_request(struct entry_name name, const struct value *request, const char *id,
                                struct buf *out, struct err *err) {
    if (request == NULL || request->broken || request->kind != VALUE_MAP)
        return err_set(err, STATUS_NOMEM, "out of memory while a request was built");
    const char *op = value_get_string(request, "op", "");
    const struct message_type *type = message_find(op);
    if (type == NULL)
        return err_set(err, STATUS_INVALID, "unknown op '%s'; docs/WIRE.md lists them", op);
    struct arena a;
    arena_init(&a, ARENA_BYTES_MAX);
    struct value *m = value_map(&a);
    for (size_t i = 0; i < request->count; i++) {
        const struct member *f = &request->members[i];
        if (strcmp(f->key, "id") != 0 && strcmp(f->key, "client") != 0 &&
            strcmp(f->key, "seq") != 0)
            m = value_append(&a, m, f->key, strlen(f->key), f->value);
    }
    enum status st = m == NULL || m->broken
                         ? err_set(err, STATUS_NOMEM, "out of memory while a request was built")
                         : message_check(&a, type, m, err);
    if (st != STATUS_OK) {
        arena_release(&a);
        return st;
    }
    value_set_string(&a, m, "id", id);
    if (type->writes) {
        value_set_string(&a, m, "client", name.client);
        value_set_int(&a, m, "seq", (int64_t)name.seq);
    }
    st = json_dump(m, JSON_COMPACT, out, err);
    if (st == STATUS_OK)
        st = buf_status(out, op, err);
    arena_release(&a);
    return st;
}

static enum status check_frames(struct net_frames frames, struct err *err) {
    if (frames.count > NET_FRAMES_MAX)
        return err_set(err, STATUS_TOO_LARGE, "%zu frames; the maximum is %d", frames.count,
                       NET_FRAMES_MAX);
    for (size_t i = 0; i < frames.count; i++)
        if (frames.items[i].len > NET_FRAME_MAX)
            return err_set(err, STATUS_TOO_LARGE, "frame %zu has %zu bytes; the maximum is %zu", i,
                           frames.items[i].len, NET_FRAME_MAX);
    return STATUS_OK;
}

enum status entry_build(struct entry_name name, const struct value *request,
                        struct net_frames frames, struct entry **out, struct err *err) {
    struct buf header = BUF_INIT(NET_HEADER_MAX);
    char id[ENTRY_ID_BYTES] = {0};
    size_t count = frames.count;
    enum status st = STATUS_OK;
    TRY(check_frames(frames, err));
    (void)snprintf(id, sizeof id, "%s-%llu", name.client, (unsigned long long)name.seq);
    TRY(dump_request(name, request, id, &header, err));
    size_t len = RECORD_FRAME_LENS + 4 * count + ENTRY_ID_BYTES + header.len;
    for (size_t i = 0; i < count; i++)
        len += frames.items[i].len;
    struct entry *e = entry_new(len);
    if (e == NULL) {
        st = err_set(err, STATUS_NOMEM, "out of memory for a request of %zu bytes", len);
        goto out;
    }
    bytes_put_u32(e->record + RECORD_HEADER_LEN, (uint32_t)header.len);
    bytes_put_u32(e->record + RECORD_FRAMES, (uint32_t)count);
    uint8_t *p = e->record + RECORD_FRAME_LENS;
    for (size_t i = 0; i < count; i++, p += 4)
        bytes_put_u32(p, (uint32_t)frames.items[i].len);
    memcpy(p, id, ENTRY_ID_BYTES);
    p += ENTRY_ID_BYTES;
    memcpy(p, header.data, header.len);
    p += header.len;
    for (size_t i = 0; i < count; i++) {
        if (frames.items[i].len > 0)
            memcpy(p, frames.items[i].data, frames.items[i].len);
        p += frames.items[i].len;
    }
    *out = e;
out:
    buf_release(&header);
    return st;
}

size_t entry_items(const struct value *request) {
    const struct value *series = value_get(request, "series");
    bool is_log = strcmp(value_get_string(request, "op", ""), "run.log") == 0;
    return is_log && series != NULL && series->kind == VALUE_LIST ? series->count : 0;
}

enum status entry_split(const struct entry *e, const struct value *request, size_t item,
                        struct entry_name name, struct entry **out, struct err *err) {
    const struct value *series = value_get(request, "series");
    struct net_frame header, frames[NET_FRAMES_MAX];
    size_t count, before = 0;
    struct arena a;
    arena_init(&a, ARENA_BYTES_MAX);
    entry_parts(e, &header, frames, &count);
    for (size_t i = 0; i < item; i++)
        before += (size_t)value_get_int(series->items[i], "count", 0) * 8;
    size_t len = (size_t)value_get_int(series->items[item], "count", 0) * 8;
    for (size_t i = 0; i < count; i++) {
        bool whole = before <= frames[i].len && len <= frames[i].len - before;
        frames[i] = (struct net_frame){(const uint8_t *)frames[i].data + (whole ? before : 0),
                                       whole ? len : 0};
    }
    struct value *one = value_copy(&a, request), *list = value_list(&a);
    value_push(&a, list, value_copy(&a, series->items[item]));
    value_set(&a, one, "series", list);
    enum status st = entry_build(name, one, (struct net_frames){frames, count}, out, err);
    arena_release(&a);
    return st;
}
