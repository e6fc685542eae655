/* The outbox. */
#include "coordinator/decide/turn.h"

#include <string.h>

enum status turn_push(const struct turn *turn, struct outgoing item, struct err *err) {
    struct outbox *out = turn->out;
    item.to = arena_strdup(out->arena, item.to);
    if (item.message == NULL || item.message->broken || item.to == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory while a message was written");
    if (out->count == out->cap) {
        size_t cap = out->cap == 0 ? 32 : out->cap * 2;
        struct outgoing *bigger = arena_array(out->arena, cap, sizeof *bigger);
        if (bigger == NULL)
            return err_set(err, STATUS_NOMEM, "out of memory while a message was written");
        if (out->count > 0)
            memcpy(bigger, out->items, out->count * sizeof *bigger);
        out->items = bigger;
        out->cap = cap;
    }
    out->items[out->count++] = item;
    return STATUS_OK;
}
