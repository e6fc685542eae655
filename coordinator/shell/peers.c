/* Who can be reached where, and what is sent to them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/shell/shell_private.h"
#include "core/json.h"
#include "core/log.h"

/* ---- peers ---- */

static size_t peer_place(const struct shell *s, const char *group) {
    size_t lo = 0, hi = s->peer_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(s->peers[mid].group, group) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool peer_is(const struct shell *s, size_t i, const char *group) {
    return i < s->peer_count && strcmp(s->peers[i].group, group) == 0;
}

/* Forgets those whom the core no longer knows. */
static void prune_peers(struct shell *s) {
    size_t n = 0;
    for (size_t i = 0; i < s->peer_count; i++) {
        if (!coordinator_has_group(s->core, s->peers[i].group))
            continue;
        s->peers[n++] = s->peers[i];
    }
    s->peer_count = n;
}

static enum status grow_peers(struct shell *s, struct err *err) {
    size_t cap = s->peer_cap == 0 ? 64 : s->peer_cap * 2;
    struct peer *peers = realloc(s->peers, cap * sizeof *peers);
    if (peers == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for a worker group");
    s->peers = peers;
    s->peer_cap = cap;
    return STATUS_OK;
}

/* Where the group's messages come from now: a session makes a new socket after each silence. */
enum status shell_note_peer(struct shell *s, const char *group, struct net_socket *socket,
                            const struct net_peer *address, struct err *err) {
    size_t i = peer_place(s, group);
    if (!peer_is(s, i, group)) {
        if (s->peer_count == s->peer_cap && s->peer_count > 2 * coordinator_groups(s->core))
            prune_peers(s);
        if (s->peer_count == s->peer_cap) {
            enum status st = grow_peers(s, err);
            if (st != STATUS_OK)
                return st;
        }
        i = peer_place(s, group);
        memmove(&s->peers[i + 1], &s->peers[i], (s->peer_count - i) * sizeof *s->peers);
        s->peer_count++;
        (void)snprintf(s->peers[i].group, sizeof s->peers[i].group, "%s", group);
    }
    s->peers[i].address = *address;
    s->peers[i].socket = socket;
    return STATUS_OK;
}

/* ---- sending ---- */

static enum status send_value(struct net_socket *socket, const struct net_peer *to,
                              const struct value *message, struct err *err) {
    struct buf text = BUF_INIT(NET_HEADER_MAX);
    enum status st = json_dump(message, JSON_COMPACT, &text, err);
    if (st == STATUS_OK)
        st = net_send(socket, &(struct net_outgoing){.peer = to, .header = {text.data, text.len}},
                      err);
    buf_release(&text);
    return st;
}

/* A notice that does not arrive is not the group's end: its session may just be making a new
 * socket. Its next beat shows what it has missed, and silence ends its lease. `only`: NULL, or the op
 * that is sent. */
static void send_notices(struct shell *s, const char *only) {
    for (size_t i = 0; i < s->out.count; i++) {
        const struct outgoing *o = &s->out.items[i];
        if (o->kind != OUT_NOTICE ||
            (only != NULL && strcmp(value_get_string(o->message, "op", ""), only) != 0))
            continue;
        struct err err = {.text = "its address is not known yet"};
        size_t k = peer_place(s, o->to);
        enum status st = STATUS_NOT_FOUND;
        if (peer_is(s, k, o->to))
            st = send_value(s->peers[k].socket, &s->peers[k].address, o->message, &err);
        if (st != STATUS_OK)
            log_line(LOG_DEBUG, "unreached", "group=%s op=%s text=\"%s\"", o->to,
                     value_get_string(o->message, "op", ""), err.text);
    }
}

void shell_send_notices(struct shell *s) {
    send_notices(s, NULL);
}

void shell_send_exits(struct shell *s) {
    send_notices(s, "group.exit");
}

void shell_send_answers(struct shell *s) {
    for (size_t i = 0; i < s->answer_count; i++) {
        struct answer *a = &s->answers[i];
        struct err err;
        enum status st = send_value(a->socket, &a->to, a->message, &err);
        if (st != STATUS_TOO_LARGE)
            continue; /* gone: it asks again */
        const char *id = value_get_string(a->message, "id", "");
        (void)send_value(a->socket, &a->to, message_failure(&s->tick, id, &err), NULL);
    }
    s->answer_count = 0;
}
