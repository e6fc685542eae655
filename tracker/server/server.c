/* The network thread. */
#include "tracker/server/server.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/log.h"
#include "core/process.h"
#include "core/version.h"
#include "tracker/server/feed.h"
#include "tracker/server/peers.h"
#include "tracker/server/threads.h"
#include "wire/loop.h"

#define HANGUP_MS   12000 /* for the coordinator to leave, when whoever started us has gone */
#define WAIT_MS     50
#define REVOKED_MS  200 /* between two looks at keys that were taken back */
#define RECEIVE_MAX 128 /* messages in a row, then the others have their turn */

struct listener {
    struct server *server;
    struct net_socket *socket;
    size_t index;
};

struct server {
    struct net *net;
    struct loop *loop;
    struct threads *threads;
    struct feed *feed;
    struct listener listeners[SERVER_ENDPOINTS_MAX];
    size_t listener_count;
    struct peers peers;
    struct buf header;      /* of the answer that is being sent */
    size_t requests, bytes; /* under way */
    bool reading;           /* the listeners are in the loop */
    bool stopping;
    const struct clock *clock;
    struct store *store;
    const char *coordinator; /* the lock of the home's */
    int64_t wait_until_ns;   /* for it, since SIGHUP; 0: nobody hung up */
};

/* ---- answers ---- */

/* The header and, with it, frames; none for a failure. */
static enum status send_answer(struct server *s, const struct job *job, const struct value *header,
                               struct net_frames frames, struct err *err) {
    buf_clear(&s->header);
    enum status st = json_dump(header, JSON_COMPACT, &s->header, err);
    if (st == STATUS_OK)
        st = buf_status(&s->header, "the reply", err);
    if (st == STATUS_TOO_LARGE)
        return err_wrap(err, st, "ask for less at a time");
    if (st != STATUS_OK)
        return st;
    st = net_send(s->listeners[job->listener].socket,
                  &(struct net_outgoing){.peer = &job->message.peer,
                                         .header = {s->header.data, s->header.len},
                                         .frames = frames},
                  err);
    if (st == STATUS_NOT_FOUND || st == STATUS_FULL) {
        log_err(st == STATUS_FULL ? LOG_WARN : LOG_DEBUG, "answer_dropped", err);
        st = STATUS_OK;
    }
    return st;
}

static void refuse(struct server *s, struct job *job, const struct err *why) {
    struct value *failure = message_failure(&job->arena, job->request.id, why);
    struct err err;
    if (send_answer(s, job, failure, NET_NO_FRAMES, &err) != STATUS_OK)
        log_err(LOG_WARN, "answer", &err);
}

static void answer(struct server *s, struct job *job) {
    struct net_frame frames[NET_FRAMES_MAX];
    const struct store_answer *a = &job->answer;
    const char *at = job->output.data;
    for (size_t i = 0; i < a->frame_count; i++) {
        frames[i] = (struct net_frame){at, a->frame_lens[i]};
        at += a->frame_lens[i];
    }
    if (job->status == STATUS_OK)
        job->status =
            send_answer(s, job, a->header, (struct net_frames){frames, a->frame_count}, &job->err);
    if (job->status != STATUS_OK) {
        job->err.status = job->status;
        refuse(s, job, &job->err);
    }
}

static void answer_hello(struct server *s, struct job *job) {
    job_reset(job);
    struct value *r = job->answer.header;
    value_set_string(&job->arena, r, "server", "trireme-tracker");
    value_set_string(&job->arena, r, "version", TRIREME_VERSION);
    value_set_int(&job->arena, r, "format", STORE_FORMAT);
    value_set_string(&job->arena, r, "feed", feed_endpoint(s->feed));
    value_set_string(&job->arena, r, "role", net_role_name(job->message.role));
    answer(s, job);
}

/* ---- requests ---- */

static void on_readable(void *arg);

static void set_reading(struct server *s, bool reading) {
    struct err err;
    if (reading == s->reading)
        return;
    s->reading = reading;
    for (size_t i = 0; i < s->listener_count; i++) {
        struct listener *l = &s->listeners[i];
        if (!reading)
            loop_remove_socket(s->loop, l->socket);
        else if (loop_add_socket(s->loop, l->socket, on_readable, l, &err) != STATUS_OK)
            log_err(LOG_ERROR, "listen", &err);
    }
}

/* Between the two bounds the sockets stay as they are, so that they do not flutter. */
static void check_load(struct server *s) {
    if (s->requests >= SERVER_REQUESTS_MAX || s->bytes >= SERVER_REQUEST_BYTES_MAX || s->stopping)
        set_reading(s, false);
    else if (s->requests < SERVER_REQUESTS_MAX / 2 && s->bytes < SERVER_REQUEST_BYTES_MAX / 2)
        set_reading(s, true);
    if (s->stopping && s->requests == 0)
        loop_stop(s->loop);
}

static enum status check_role(const struct job *job, struct err *err) {
    const struct message_type *type = job->request.type;
    if (type->server != SERVER_TRACKER)
        return err_set(err, STATUS_INVALID, "%s is not for the tracker; send it to the coordinator",
                       type->op);
    return message_allows(type, job->message.role, err);
}

static size_t charge(const struct job *job) {
    size_t bytes = sizeof *job + job->message.header.len + job->arena.bytes_used;
    for (size_t i = 0; i < job->message.frame_count; i++)
        bytes += job->message.frames[i].len;
    return bytes;
}

/* Takes the job over. */
static void accept_job(struct server *s, struct job *job) {
    bool now = true;
    struct err err;
    enum status st = message_parse(&job->arena, job->message.header.data, job->message.header.len,
                                   &job->request, &err);
    if (st == STATUS_OK)
        st = check_role(job, &err);
    if (st == STATUS_OK && job->request.type == message_find("hello")) {
        answer_hello(s, job);
        job_destroy(&job);
        return;
    }
    if (st == STATUS_OK)
        st = peers_enter(&s->peers, job, &now, &err);
    if (st != STATUS_OK) {
        log_err(LOG_DEBUG, "refused", &err);
        refuse(s, job, &err);
        job_destroy(&job);
        return;
    }
    job->bytes = charge(job);
    s->requests++;
    s->bytes += job->bytes;
    if (now)
        threads_submit(s->threads, job);
}

/* One message; false when there is none. */
static bool receive(struct server *s, const struct listener *l) {
    struct err err;
    bool got = false;
    struct job *job = job_new();
    if (job == NULL) {
        log_line(LOG_ERROR, "receive", "code=nomem");
        return false;
    }
    job->listener = l->index;
    enum status st = net_receive(l->socket, &job->message, &got, &err);
    if (st == STATUS_OK && got) {
        accept_job(s, job);
        return true;
    }
    if (st != STATUS_OK)
        log_err(LOG_DEBUG, "receive", &err);
    if (st == STATUS_INVALID && job->message.peer.len > 0)
        refuse(s, job, &err);
    job_destroy(&job);
    return st == STATUS_INVALID;
}

static void on_readable(void *arg) {
    struct listener *l = arg;
    for (int i = 0; i < RECEIVE_MAX && l->server->reading; i++) {
        if (!receive(l->server, l))
            break;
        check_load(l->server);
    }
}

/* ---- keys that were taken back ---- */

static void audit_revoked(struct server *s, const struct net_revoked *r) {
    struct job *job = job_new();
    if (job == NULL) {
        log_line(LOG_ERROR, "revocation_not_audited", "key=\"%s\" code=nomem", r->key);
        return;
    }
    struct value *m = message_revoked(&job->arena, "trireme-tracker", r);
    job->own = true;
    job->message.role = NET_ADMIN;
    job->request = (struct message){.type = message_find("audit.revoked"), .id = "", .header = m};
    s->requests++;
    threads_submit(s->threads, job);
}

static void on_revoked(void *arg) {
    struct server *s = arg;
    struct net_revoked r;
    while (net_take_revoked(s->net, &r))
        audit_revoked(s, &r);
}

static void own_done(const struct job *job) {
    if (job->status != STATUS_OK)
        log_err(LOG_ERROR, "revocation_not_audited", &job->err);
}

/* ---- the end ---- */

static void stop(struct server *s) {
    log_line(LOG_INFO, "stopping", "requests=%zu", s->requests);
    store_leaving(s->store);
    s->stopping = true;
    threads_refuse_reads(s->threads);
    check_load(s);
}

/* ---- what the threads have done ---- */

static void on_done(void *arg) {
    struct server *s = arg;
    struct job_queue done, ready;
    struct job *job;
    job_queue_init(&done);
    job_queue_init(&ready);
    threads_take(s->threads, &done);
    while ((job = job_pop(&done)) != NULL) {
        if (job->own) {
            own_done(job);
        } else {
            answer(s, job);
            for (size_t i = 0; i < job->answer.delta_count; i++)
                feed_publish(s->feed, &job->answer.deltas[i]);
            peers_leave(&s->peers, job, &ready);
        }
        s->requests--;
        s->bytes -= job->bytes;
        job_destroy(&job);
    }
    while ((job = job_pop(&ready)) != NULL)
        threads_submit(s->threads, job);
    if (!s->stopping && store_is_lost(s->store))
        stop(s);
    check_load(s);
}

static void on_signal(void *arg) {
    stop(arg);
}

static void on_wait(void *arg) {
    struct server *s = arg;
    bool late = clock_mono_ns(s->clock) > s->wait_until_ns;
    if (!s->stopping && (late || process_lock_holder(s->coordinator) == 0))
        on_signal(s);
}

static void on_hangup(void *arg) {
    struct server *s = arg;
    struct err err;
    if (s->wait_until_ns != 0 || s->stopping)
        return;
    log_line(LOG_INFO, "hangup", "waits_for=%s", s->coordinator != NULL ? s->coordinator : "none");
    store_leaving(s->store);
    s->wait_until_ns = clock_mono_ns(s->clock) + HANGUP_MS * NS_PER_MS;
    if (s->coordinator == NULL || loop_add_timer(s->loop, WAIT_MS, on_wait, s, &err) != STATUS_OK)
        on_signal(s);
}

/* ---- from outside ---- */

static enum status listen_at(struct server *s, struct net *net, const char *endpoint,
                             const struct net_keys *keys, struct err *err) {
    struct listener *l = &s->listeners[s->listener_count];
    char bound[NET_ENDPOINT_MAX];
    enum status st = STATUS_OK;
    TRY(net_bind(net, NET_ROUTER, (struct net_place){endpoint, keys}, &l->socket, err));
    l->server = s;
    l->index = s->listener_count++;
    TRY(net_endpoint(l->socket, bound, err));
    log_line(LOG_INFO, "listening", "endpoint=%s", bound);
out:
    return st;
}

enum status server_new(struct net *net, struct store *store, const struct server_options *options,
                       struct server **out, struct err *err) {
    enum status st = STATUS_OK;
    struct server *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for the server");
    buf_init(&s->header, NET_HEADER_MAX);
    s->net = net;
    s->clock = options->clock;
    s->store = store;
    s->coordinator = options->coordinator;
    TRY(loop_new(options->clock, &s->loop, err));
    TRY(loop_add_signal(s->loop, SIGTERM, on_signal, s, err));
    TRY(loop_add_signal(s->loop, SIGINT, on_signal, s, err));
    TRY(loop_add_signal(s->loop, SIGHUP, on_hangup, s, err));
    for (size_t i = 0; i < options->endpoint_count; i++)
        TRY(listen_at(s, net, options->endpoints[i], options->keys, err));
    TRY(feed_new(net, options->feed, options->keys, &s->feed, err));
    log_line(LOG_INFO, "publishing", "endpoint=%s", feed_endpoint(s->feed));
    TRY(threads_new(store, &s->threads, err));
    TRY(loop_add_fd(s->loop, threads_fd(s->threads), on_done, s, err));
    if (options->keys != NULL)
        TRY(loop_add_timer(s->loop, REVOKED_MS, on_revoked, s, err));
    set_reading(s, true);
    *out = s;
    return STATUS_OK;
out:
    server_destroy(&s);
    return st;
}

void server_destroy(struct server **server) {
    struct server *s = *server;
    if (s == NULL)
        return;
    threads_destroy(&s->threads);
    peers_release(&s->peers);
    for (size_t i = 0; i < s->listener_count; i++)
        net_close(&s->listeners[i].socket);
    feed_destroy(&s->feed);
    loop_destroy(&s->loop);
    buf_release(&s->header);
    free(s);
    *server = NULL;
}

enum status server_run(struct server *s, struct err *err) {
    enum status st = loop_run(s->loop, err);
    if (st == STATUS_OK && store_is_lost(s->store))
        st = err_set(
            err, STATUS_IO,
            "a header page of the store could not be written; nothing that was acknowledged "
            "is lost: look after the disk, and start the tracker again");
    return st;
}
