/* The session: how order survives a lost connection. The socket never reconnects by itself
 * (NET_DEALER_ONCE).
 *
 *     UP ──no answer, not even to a ping, for RESEND_MS; or the connection ended──▶ PROBING
 *     PROBING ──new socket, ping; again every probe_ms──▶ PROBING
 *     PROBING ──any answer──▶ UP, everything unanswered is sent again, from the oldest on
 *
 * So the requests that arrive on one connection are a prefix of the queue. Pings ("hello") tell a
 * server that is slow to answer a request from one that is gone: they are answered at once (by a
 * coordinator with a refusal, which will do). A connection that answers pings for STUCK_MS but
 * leaves a request unanswered is given up too.
 *
 * A post that the server cannot take for now (disk full) is kept and sent again later; so are the
 * refused posts after it, which may have been refused only because it was missing. */
#include "wire/session.h"

#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/log.h"
#include "core/ulid.h"
#include "wire/entry.h"

#define PING_ID             "ping"
#define PING_MS             500
#define PROBE_MIN_MS        100
#define PROBE_MAX_MS        1000
#define STUCK_MS            (30 * SESSION_RESEND_MS)
#define RETRY_MS            1000 /* after a refusal that may pass */
#define IN_FLIGHT_BYTES_MAX ((size_t)8 << 20)
#define RECEIVE_MAX         256 /* messages a pump takes */
#define SPOOL_LOAD_BYTES    (SESSION_QUEUE_BYTES_MAX / 2)
#define ARENA_BYTES_MAX     ((size_t)512 << 20) /* a parsed header of NET_HEADER_MAX fits */

/* A session_call that waits: lives on the caller's stack. */
struct call {
    struct arena *arena;
    struct session_reply *reply; /* may be NULL */
    bool done;
    enum status status;
    struct err err;
};

enum link_state { LINK_UP, LINK_PROBING };

struct session {
    struct net *net;
    struct session_options options;
    struct net_keys keys; /* our copies */
    char *endpoint, *spool_path;
    struct net_socket *socket;
    uint64_t generation;
    char client[ULID_TEXT];
    uint64_t seq;

    struct entry *head, **tail;
    size_t queue_bytes, post_count;    /* in memory */
    size_t unspooled;                  /* posts in memory alone */
    size_t in_flight, in_flight_bytes; /* sent and not yet answered */
    size_t retries;                    /* entries marked so */
    int64_t retry_ns;                  /* when to send them again */
    struct spool *spool;
    bool out_of_order; /* records in the spool may have another order than the queue */

    enum link_state state;
    bool heard_once;  /* on this socket */
    int64_t heard_ns; /* when the server last said anything, or was first asked */
    int64_t lost_ns;  /* since when there is no answer; 0: not lost */
    int64_t ping_ns;
    int64_t probe_ms, stuck_ms;
    uint64_t received; /* messages so far */
};

static int64_t now_ns(const struct session *s) {
    return clock_mono_ns(s->options.clock);
}

/* ---- the queue in memory ---- */

static void queue_push(struct session *s, struct entry *e) {
    e->next = NULL;
    *s->tail = e;
    s->tail = &e->next;
    s->queue_bytes += e->len;
    s->post_count += e->call == NULL;
    s->unspooled += e->call == NULL && e->place.end == 0;
}

static void unsend(struct session *s, struct entry *e) {
    if (!e->sent)
        return;
    e->sent = false;
    s->in_flight--;
    s->in_flight_bytes -= e->len;
}

static void queue_remove(struct session *s, struct entry *e) {
    struct entry **at = &s->head;
    while (*at != NULL && *at != e)
        at = &(*at)->next;
    if (*at == NULL)
        return;
    *at = e->next;
    if (s->tail == &e->next)
        s->tail = at;
    unsend(s, e);
    s->queue_bytes -= e->len;
    s->post_count -= e->call == NULL;
    s->unspooled -= e->call == NULL && e->place.end == 0;
    s->retries -= e->retry;
    free(e);
}

/* Tells the spool what is answered: everything before the oldest post that it still holds. */
static void forget_answered(struct session *s) {
    if (s->spool == NULL)
        return;
    uint64_t begin = UINT64_MAX;
    for (const struct entry *e = s->head; e != NULL; e = e->next) {
        if (e->place.end == 0)
            continue;
        begin = e->place.begin < begin ? e->place.begin : begin;
        if (!s->out_of_order)
            break;
    }
    struct err err;
    if (spool_forget(s->spool, begin, &err) != STATUS_OK)
        log_err(LOG_WARN, "spool", &err);
}

/* ---- the spool ---- */

/* Appends the posts that are only in memory to the file. */
static enum status mirror(struct session *s, struct err *err) {
    for (struct entry *e = s->head; e != NULL && s->unspooled > 0; e = e->next) {
        if (e->call != NULL || e->place.end != 0)
            continue;
        enum status st = spool_append(s->spool, e->record, e->len, &e->place, err);
        if (st != STATUS_OK)
            return st;
        spool_skip(s->spool);
        s->unspooled--;
    }
    return STATUS_OK;
}

/* Brings the oldest unread records into memory while there is room. */
static enum status load(struct session *s, struct err *err) {
    enum status st = STATUS_OK;
    while (s->spool != NULL && spool_unread(s->spool) > 0 && s->queue_bytes < SPOOL_LOAD_BYTES) {
        size_t len = 0;
        st = spool_next(s->spool, &len, err);
        if (st != STATUS_OK || len == 0)
            return st;
        struct entry *e = entry_new(len);
        if (e == NULL)
            return err_set(err, STATUS_NOMEM, "out of memory for a request of %zu bytes", len);
        st = spool_read(s->spool, e->record, len, &e->place, err);
        if (st == STATUS_OK && !entry_valid(e))
            st = err_set(err, STATUS_CORRUPT,
                         "spool %s contains something that is not a request; move it away",
                         s->options.spool);
        if (st != STATUS_OK) {
            free(e);
            return st;
        }
        queue_push(s, e);
    }
    return st;
}

/* ---- the connection ---- */

static enum status reconnect(struct session *s, struct err *err) {
    struct net_socket *fresh = NULL;
    enum status st = net_connect(s->net, NET_DEALER_ONCE,
                                 (struct net_place){s->endpoint, s->options.keys}, &fresh, err);
    if (st != STATUS_OK)
        return st;
    net_close(&s->socket);
    s->socket = fresh;
    s->generation++;
    s->heard_once = false;
    for (struct entry *e = s->head; e != NULL && s->in_flight > 0; e = e->next)
        unsend(s, e);
    return STATUS_OK;
}

static enum status ping(struct session *s) {
    static const char text[] = "{\"v\":1,\"id\":\"" PING_ID "\",\"op\":\"hello\"}";
    s->ping_ns = now_ns(s);
    return net_send(s->socket, &(struct net_outgoing){.header = {text, sizeof text - 1}}, NULL);
}

static enum status probe(struct session *s, struct err *err) {
    if (s->state == LINK_UP) {
        s->state = LINK_PROBING;
        s->probe_ms = PROBE_MIN_MS;
    } else if (s->probe_ms < PROBE_MAX_MS) {
        s->probe_ms = s->probe_ms * 2 < PROBE_MAX_MS ? s->probe_ms * 2 : PROBE_MAX_MS;
    }
    if (s->lost_ns == 0)
        s->lost_ns = s->heard_ns;
    enum status st = reconnect(s, err);
    s->ping_ns = now_ns(s);
    if (st == STATUS_OK)
        (void)ping(s);
    return st;
}

static void heard(struct session *s) {
    s->heard_ns = now_ns(s);
    s->heard_once = true;
    s->lost_ns = 0;
    s->state = LINK_UP;
}

/* Sends what may be sent, oldest first. */
static enum status send_more(struct session *s, struct err *err) {
    int64_t now = now_ns(s);
    if (s->state != LINK_UP || (s->retries > 0 && now < s->retry_ns))
        return STATUS_OK;
    for (struct entry *e = s->head; e != NULL && s->in_flight < SESSION_IN_FLIGHT_MAX;
         e = e->next) {
        if (e->sent)
            continue;
        if (s->in_flight > 0 && s->in_flight_bytes + e->len > IN_FLIGHT_BYTES_MAX)
            break;
        struct net_outgoing m = {.peer = NULL};
        struct net_frame frames[NET_FRAMES_MAX];
        entry_parts(e, &m.header, frames, &m.frames.count);
        m.frames.items = frames;
        enum status st = net_send(s->socket, &m, err);
        if (st == STATUS_FULL || st == STATUS_NOT_FOUND || st == STATUS_IO)
            return probe(s, err); /* so few never fill a queue: the connection has ended */
        if (st != STATUS_OK)
            return st;
        if (s->in_flight == 0)
            s->heard_ns = s->ping_ns = now;
        e->sent = true;
        e->sent_ns = now;
        s->in_flight++;
        s->in_flight_bytes += e->len;
        if (e->retry) {
            e->retry = false;
            s->retries--;
        }
    }
    return STATUS_OK;
}

static enum status check_timers(struct session *s, struct err *err) {
    int64_t now = now_ns(s);
    if (s->state == LINK_PROBING)
        return now - s->ping_ns >= s->probe_ms * NS_PER_MS ? probe(s, err) : STATUS_OK;
    if (s->in_flight == 0)
        return STATUS_OK;
    int64_t silence_ms = (now - s->heard_ns) / NS_PER_MS;
    if (silence_ms >= SESSION_RESEND_MS || (!s->heard_once && silence_ms >= PING_MS))
        return probe(s, err);
    const struct entry *oldest = s->head;
    while (oldest != NULL && !oldest->sent)
        oldest = oldest->next;
    if (oldest != NULL && (now - oldest->sent_ns) / NS_PER_MS >= s->stuck_ms) {
        s->stuck_ms = s->stuck_ms < INT64_MAX / 4 ? s->stuck_ms * 2 : s->stuck_ms;
        return probe(s, err);
    }
    bool due = silence_ms >= PING_MS && now - s->ping_ns >= PING_MS * NS_PER_MS;
    if (due && ping(s) != STATUS_OK)
        return probe(s, err);
    return STATUS_OK;
}

/* When the server has been silent for long, what is waiting should survive this process. */
static void save_when_lost(struct session *s) {
    struct err err;
    if (s->spool != NULL && session_lost(s) && mirror(s, &err) != STATUS_OK)
        log_err(LOG_WARN, "spool", &err);
}

/* ---- answers ---- */

static struct entry *find_sent(const struct session *s, const char *id) {
    size_t seen = 0;
    for (struct entry *e = s->head; e != NULL && seen < s->in_flight; e = e->next) {
        seen += e->sent;
        if (e->sent && strcmp(entry_id(e), id) == 0)
            return e;
    }
    return NULL;
}

/* Refusals that may pass without anybody changing the request. */
static bool is_passing(enum status st) {
    return st == STATUS_FULL || st == STATUS_BUSY || st == STATUS_UNAVAILABLE ||
           st == STATUS_NOMEM || st == STATUS_TIMEOUT || st == STATUS_IO;
}

/* A refused post stays when the reason may pass, or when one before it stays. */
static bool keep_refused(struct session *s, struct entry *e, enum status st) {
    bool keep = is_passing(st);
    for (const struct entry *b = s->head; b != e && !keep; b = b->next)
        keep = b->retry;
    if (!keep)
        return false;
    unsend(s, e);
    e->retry = true;
    s->retries++;
    s->retry_ns = now_ns(s) + RETRY_MS * NS_PER_MS;
    return true;
}

/* What the server said to one request. */
struct answer {
    enum status status;
    struct err why;              /* where it refused */
    struct value *reply;         /* where it did not; in `arena` */
    struct net_message *message; /* where `reply` came from; its frames */
    struct arena *arena;
};

static void answer_call(struct session *s, struct entry *e, struct answer *answer) {
    struct call *call = e->call;
    queue_remove(s, e);
    call->done = true;
    call->status = answer->status;
    if (answer->status != STATUS_OK) {
        call->err = answer->why;
        return;
    }
    if (call->reply == NULL)
        return;
    call->reply->header = value_copy(call->arena, answer->reply);
    if (call->reply->header == NULL || call->reply->header->broken) {
        call->status = err_set(&call->err, STATUS_NOMEM, "out of memory for a reply");
        return;
    }
    call->reply->message = *answer->message; /* the frames change hands */
    *answer->message = (struct net_message){0};
}

static struct entry_name next_name(struct session *s) {
    return (struct entry_name){s->client, ++s->seq};
}

static void tell_answer(struct session *s, const struct value *request, enum status st,
                        const struct value *reply, const struct err *why) {
    if (s->options.on_answer != NULL)
        s->options.on_answer(s->options.arg, request, st, reply, st == STATUS_OK ? NULL : why);
    else if (st != STATUS_OK)
        log_err(LOG_WARN, "refused", why);
}

/* One bad part must not take the good ones with it: each is sent again by itself, in the place of the
 * whole. False where the request has no parts. */
static bool split_refused(struct session *s, struct entry *e, const struct value *request) {
    size_t items = request != NULL ? entry_items(request) : 0;
    struct entry *last = e;
    if (items < 2)
        return false;
    for (size_t i = 0; i < items; i++) {
        struct entry *part = NULL;
        struct err err;
        enum status st = entry_split(e, request, i, next_name(s), &part, &err);
        if (st != STATUS_OK) {
            tell_answer(s, request, st, NULL, &err);
            continue;
        }
        part->next = last->next;
        last->next = part;
        if (s->tail == &last->next)
            s->tail = &part->next;
        last = part;
        s->queue_bytes += part->len;
        s->post_count++;
        s->unspooled++;
    }
    s->out_of_order = true;
    return true;
}

static void answer_post(struct session *s, struct entry *e, const struct answer *answer) {
    enum status st = answer->status;
    if (st != STATUS_OK && keep_refused(s, e, st))
        return;
    struct value *request = NULL;
    if (s->options.on_answer != NULL || st != STATUS_OK) {
        struct net_frame header, frames[NET_FRAMES_MAX];
        size_t count;
        entry_parts(e, &header, frames, &count);
        if (json_parse(answer->arena, header.data, header.len, "request", &request, NULL) !=
            STATUS_OK)
            request = NULL;
    }
    bool parted = st != STATUS_OK && split_refused(s, e, request);
    bool spooled = e->place.end != 0;
    queue_remove(s, e);
    if (spooled)
        forget_answered(s);
    if (!parted)
        tell_answer(s, request, st, answer->reply, &answer->why);
}

static void take_answer(struct session *s, struct arena *a, const struct value *map,
                        struct net_message *message) {
    const char *id = value_get_string(map, "id", "");
    struct entry *e = find_sent(s, id);
    if (e == NULL)
        return; /* a ping's, or of a call that gave up */
    struct answer answer = {.message = message, .arena = a};
    answer.status = message_parse_reply(a, message->header.data, message->header.len, &answer.reply,
                                        &answer.why);
    s->stuck_ms = STUCK_MS;
    if (e->call != NULL)
        answer_call(s, e, &answer);
    else
        answer_post(s, e, &answer);
}

static void take_notice(struct session *s, struct arena *a, const struct net_message *message) {
    struct message notice;
    struct err err;
    if (message_parse(a, message->header.data, message->header.len, &notice, &err) != STATUS_OK)
        log_err(LOG_WARN, "notice", &err);
    else if (s->options.on_notice != NULL)
        s->options.on_notice(s->options.arg, notice.type, notice.header);
}

static void take_message(struct session *s, struct net_message *message) {
    struct arena a; /* of its own: a callback may pump again */
    arena_init(&a, ARENA_BYTES_MAX);
    struct value *map = NULL;
    struct err err;
    heard(s);
    s->received++;
    if (json_parse(&a, message->header.data, message->header.len, "reply", &map, &err) != STATUS_OK)
        log_err(LOG_WARN, "reply", &err);
    else if (value_get(map, "ok") != NULL)
        take_answer(s, &a, map, message);
    else
        take_notice(s, &a, message);
    arena_release(&a);
}

static enum status receive(struct session *s, struct err *err) {
    for (int i = 0; i < RECEIVE_MAX; i++) {
        struct net_message message = {0};
        bool got = false;
        enum status st = net_receive(s->socket, &message, &got, err);
        if (st == STATUS_OK && got)
            take_message(s, &message);
        net_message_release(&message);
        if (st != STATUS_OK && st != STATUS_INVALID)
            return st;
        if (st == STATUS_OK && !got)
            return STATUS_OK;
    }
    return STATUS_OK;
}

enum status session_pump(struct session *s, struct err *err) {
    enum status st = STATUS_OK;
    TRY(receive(s, err));
    TRY(check_timers(s, err));
    save_when_lost(s);
    TRY(load(s, err));
    TRY(send_more(s, err));
out:
    return st;
}

/* ---- opening and closing ---- */

/* The caller's strings may go once session_open has returned. */
static enum status copy_options(struct session *s, const struct session_options *o,
                                struct err *err) {
    const struct net_keys none = {0}, *k = o->keys != NULL ? o->keys : &none;
    const struct {
        const char *from;
        const char **to;
    } keys[] = {{k->public_key, &s->keys.public_key},
                {k->secret_key, &s->keys.secret_key},
                {k->server_key, &s->keys.server_key}};
    bool ok = true;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (keys[i].from != NULL)
            ok = (*keys[i].to = strdup(keys[i].from)) != NULL && ok;
    s->endpoint = strdup(o->endpoint);
    s->spool_path = strdup(o->spool != NULL ? o->spool : "");
    if (!ok || s->endpoint == NULL || s->spool_path == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for a session");
    s->options.keys = o->keys != NULL ? &s->keys : NULL;
    s->options.endpoint = s->endpoint;
    s->options.spool = s->spool_path;
    if (s->options.clock == NULL)
        s->options.clock = &clock_system;
    return STATUS_OK;
}

static void release(struct session *s) {
    union {
        const char *in;
        char *out; /* our copies, const only in struct net_keys */
    } keys[] = {{s->keys.public_key}, {s->keys.secret_key}, {s->keys.server_key}};
    spool_close(&s->spool);
    net_close(&s->socket);
    while (s->head != NULL)
        queue_remove(s, s->head);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        free(keys[i].out);
    free(s->endpoint);
    free(s->spool_path);
    free(s);
}

enum status session_open(struct net *net, const struct session_options *options,
                         struct session **out, struct err *err) {
    enum status st = STATUS_OK;
    struct session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for a session");
    s->net = net;
    s->options = *options;
    s->tail = &s->head;
    s->stuck_ms = STUCK_MS;
    TRY(copy_options(s, options, err));
    TRY(ulid_new(s->client, err));
    if (options->spool != NULL)
        TRY(spool_open(options->spool, SESSION_SPOOL_BYTES_MAX, &s->spool, err));
    TRY(reconnect(s, err));
    s->heard_ns = s->ping_ns = now_ns(s);
    TRY(load(s, err));
    *out = s;
    return STATUS_OK;
out:
    release(s);
    return st;
}

enum status session_close(struct session **session, int timeout_ms, struct err *err) {
    struct session *s = *session;
    if (s == NULL)
        return STATUS_OK;
    enum status st = STATUS_OK;
    if (session_pending(s) > 0)
        st = session_flush(s, timeout_ms, err);
    if (st != STATUS_OK && s->spool != NULL)
        st = mirror(s, err); /* safe there: the next session sends it */
    if (st != STATUS_OK)
        st = err_wrap(err, st, "%zu requests to %s are lost", session_pending(s), s->endpoint);
    release(s);
    *session = NULL;
    return st;
}

void session_reply_release(struct session_reply *reply) {
    net_message_release(&reply->message);
    reply->header = NULL;
}

/* ---- posting ---- */

static bool over(const struct session *s, size_t len) {
    return s->post_count > 0 && s->queue_bytes + len > SESSION_QUEUE_BYTES_MAX;
}

enum status session_post(struct session *s, const struct value *request, struct net_frames frames,
                         struct err *err) {
    struct entry *e = NULL;
    enum status st = entry_build(next_name(s), request, frames, &e, err);
    if (st != STATUS_OK)
        return st;
    bool full = over(s, e->len);
    bool behind = s->spool != NULL && spool_unread(s->spool) > 0;
    if (s->spool == NULL && full) {
        st = err_set(
            err, STATUS_FULL,
            "%zu bytes are waiting for %s, which does not answer; name a spool file to hold more",
            s->queue_bytes, s->endpoint);
        goto out;
    }
    if (full || behind || (s->spool != NULL && session_lost(s))) {
        st = mirror(s, err);
        if (st == STATUS_OK)
            st = spool_append(s->spool, e->record, e->len, &e->place, err);
        if (st != STATUS_OK && (full || behind)) {
            st = err_wrap(err, STATUS_FULL, "queue and spool");
            goto out;
        }
        if (full || behind) /* it is read back when its turn comes */
            goto out;
        if (st == STATUS_OK)
            spool_skip(s->spool);
        st = STATUS_OK; /* memory has room, though the disk has none */
    }
    queue_push(s, e);
    return STATUS_OK;
out:
    free(e);
    return st;
}

/* ---- waiting ---- */

static int64_t until(int64_t at_ns, int64_t now) {
    return at_ns <= now ? 0 : (at_ns - now + NS_PER_MS - 1) / NS_PER_MS;
}

/* Milliseconds until a pump has something to do by itself. */
static int64_t next_due_ms(const struct session *s) {
    int64_t now = now_ns(s), due = 1000;
    if (s->state == LINK_PROBING)
        due = until(s->ping_ns + s->probe_ms * NS_PER_MS, now);
    else if (s->in_flight > 0)
        due =
            until((s->heard_ns > s->ping_ns ? s->heard_ns : s->ping_ns) + PING_MS * NS_PER_MS, now);
    if (s->retries > 0 && s->state == LINK_UP) {
        int64_t retry = until(s->retry_ns, now);
        due = retry < due ? retry : due;
    }
    return due;
}

enum status session_wait(struct session *s, int timeout_ms, struct err *err) {
    int64_t end = timeout_ms < 0 ? INT64_MAX : now_ns(s) + timeout_ms * NS_PER_MS;
    uint64_t before = s->received;
    enum status st = session_pump(s, err);
    while (st == STATUS_OK && s->received == before) {
        int64_t due = next_due_ms(s), left = until(end, now_ns(s));
        if (left == 0)
            break;
        if (due > left)
            due = left;
        bool readable = false;
        st = net_wait(s->socket, (int)due, &readable, err);
        if (st == STATUS_OK)
            st = session_pump(s, err);
    }
    return st;
}

/* session_wait, but at most until `end` (INT64_MAX: forever). */
static enum status wait_until(struct session *s, int64_t end, struct err *err) {
    int64_t left = end == INT64_MAX ? 1000 : until(end, now_ns(s));
    return session_wait(s, left < 1000 ? (int)left : 1000, err);
}

static enum status timed_out(const struct session *s, int timeout_ms, const char *what,
                             struct err *err) {
    return err_set(err, STATUS_TIMEOUT, "%s: no answer from %s within %d ms%s", what, s->endpoint,
                   timeout_ms, session_lost(s) ? "; is the server running?" : "");
}

enum status session_flush(struct session *s, int timeout_ms, struct err *err) {
    int64_t end = timeout_ms < 0 ? INT64_MAX : now_ns(s) + timeout_ms * NS_PER_MS;
    enum status st = session_pump(s, err);
    while (st == STATUS_OK && session_pending(s) > 0) {
        if (now_ns(s) >= end)
            return timed_out(s, timeout_ms, "flush", err);
        st = wait_until(s, end, err);
    }
    return st;
}

enum status session_call(struct session *s, struct arena *a, const struct session_ask *ask,
                         struct session_reply *reply, struct err *err) {
    struct call call = {.arena = a, .reply = reply};
    struct entry *e = NULL;
    int timeout_ms = ask->timeout_ms;
    const char *op = value_get_string(ask->request, "op", "request");
    int64_t end = timeout_ms < 0 ? INT64_MAX : now_ns(s) + timeout_ms * NS_PER_MS;
    enum status st = session_pump(s, err);
    /* Posts that are still on disk come first. */
    while (st == STATUS_OK && s->spool != NULL && spool_unread(s->spool) > 0) {
        if (now_ns(s) >= end)
            return timed_out(s, timeout_ms, op, err);
        st = wait_until(s, end, err);
    }
    if (st == STATUS_OK)
        st = entry_build(next_name(s), ask->request, ask->frames, &e, err);
    if (st != STATUS_OK)
        return st;
    if (reply != NULL)
        *reply = (struct session_reply){0};
    e->call = &call;
    queue_push(s, e);
    st = session_pump(s, err);
    while (st == STATUS_OK && !call.done) {
        if (now_ns(s) >= end) {
            st = timed_out(s, timeout_ms, op, err);
            break;
        }
        st = wait_until(s, end, err);
    }
    if (!call.done) {
        queue_remove(s, e);
        return st;
    }
    if (call.status != STATUS_OK && err != NULL)
        *err = call.err;
    return call.status;
}

/* ---- what others ask ---- */

bool session_lost(const struct session *s) {
    int64_t since = s->lost_ns != 0 ? s->lost_ns : s->in_flight > 0 ? s->heard_ns : 0;
    return since != 0 && now_ns(s) - since >= SESSION_RESEND_MS * NS_PER_MS;
}

size_t session_pending(const struct session *s) {
    return s->post_count + (s->spool != NULL ? (size_t)spool_unread(s->spool) : 0);
}

uint64_t session_generation(const struct session *s) {
    return s->generation;
}

const struct clock *session_clock(const struct session *s) {
    return s->options.clock;
}
