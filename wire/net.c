/* ZeroMQ: sockets, messages, keys.
 *
 *     ROUTER   [identity] ([""] from a REQ socket) header frame…
 *     DEALER                                       header frame…
 *     PUB/SUB  [topic]                             header frame…
 *
 * CURVE without a ZAP handler lets anyone in who knows the server's public key. So the first CURVE
 * bind starts one thread per context that answers ZAP requests (ZeroMQ RFC 27) on
 * inproc://zeromq.zap.01: the domain is the number of the bound server, which says whose
 * allowed_dir to read. The directory is read at each handshake, so that adding a key takes effect at
 * once. The same thread watches the connections (net_guard.h): of a key that is removed they are
 * ended, as are those that send and never end a message.
 *
 *     libzmq io thread ──ZAP request──▶ REP (zap thread) ──reads──▶ allowed_dir/(one file a key)
 *     net_destroy ──────"stop"────────▶ PAIR (zap thread)
 *
 * Lifetime: sockets before their context. `zap` is guarded by the mutex; domains are only
 * added, each before the socket that names it is bound. */
#include "wire/net.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zmq.h>

#include "core/bytes.h"
#include "core/clock.h"
#include "wire/net_guard.h"
#include "wire/net_private.h"

#define LINGER_MS           500
#define RECONNECT_MS        10
#define RECONNECT_MAX_MS    500
#define HEARTBEAT_MS        2000
#define HEARTBEAT_LOST_MS   8000
#define HANDSHAKE_MS        5000
#define KEY_BYTES           32
#define DOMAINS_MAX         16
#define ALLOWED_DIR_MAX     1024
#define ZAP_FRAMES_MAX      8
#define ZAP_FRAME_BYTES_MAX 256

/* Identity or topic, delimiter, header, frames. libzmq drops a connection only far beyond our own
 * bounds, so that the sender of a message that is a little too large gets an answer. */
#define PARTS_MAX (3 + NET_FRAMES_MAX)
#define WIRE_MAX  (2 * NET_FRAME_MAX)

#define ZAP_ENDPOINT  "inproc://zeromq.zap.01"
#define STOP_ENDPOINT "inproc://trireme.zap.stop"

struct zap {
    bool running;
    pthread_t thread;
    void *requests; /* REP, the thread's own once it runs */
    void *stopped;  /* PAIR, the thread's end */
    void *stopper;  /* PAIR, ours */
    char allowed[DOMAINS_MAX][ALLOWED_DIR_MAX];
    void *monitors[DOMAINS_MAX]; /* PAIR: connections that come and go; the thread's own */
    size_t domains;
    struct guard *guard;
};

struct net {
    void *ctx;
    pthread_mutex_t lock; /* guards what follows */
    struct zap zap;
    unsigned monitors; /* made so far: part of their names */
};

struct net_socket {
    void *zmq;
    enum net_kind kind;
    void *monitor;       /* PAIR: refusals of our key; NULL where there is none to be refused */
    bool denied;         /* the server has refused our key; libzmq will not try again */
    struct guard *guard; /* a CURVE server's: is told of messages; NULL elsewhere */
    bool file;           /* ours at the path of an ipc:// endpoint */
};

/* Owned by a struct net_message. */
struct parts {
    zmq_msg_t msgs[PARTS_MAX];
    size_t count;
};

static enum status zmq_failure(struct err *err, enum status status, const char *what) {
    return err_set(err, status, "%s: %s", what, zmq_strerror(zmq_errno()));
}

/* ---- who may come in (ZAP) ---- */

struct zap_frame {
    uint8_t data[ZAP_FRAME_BYTES_MAX];
    size_t len;
};

/* Reads one whole request; returns the number of frames, 0 when it broke off. Longer frames are
 * cut: the ones that count have fixed lengths, and a cut one does not pass. */
static size_t zap_read(void *requests, struct zap_frame frames[ZAP_FRAMES_MAX]) {
    size_t count = 0;
    int more = 1;
    while (more != 0) {
        struct zap_frame spare, *f = count < ZAP_FRAMES_MAX ? &frames[count] : &spare;
        int n = zmq_recv(requests, f->data, sizeof f->data, 0);
        if (n < 0)
            return 0;
        f->len = (size_t)n;
        count++;
        size_t size = sizeof more;
        if (zmq_getsockopt(requests, ZMQ_RCVMORE, &more, &size) != 0)
            return 0;
    }
    return count;
}

/* version, request id, domain, address, identity, mechanism, key → the answer of RFC 27; the role
 * travels as the user id, which libzmq hands on with each message. */
static void zap_answer(struct net *net) {
    struct zap_frame f[ZAP_FRAMES_MAX];
    size_t count = zap_read(net->zap.requests, f);
    if (count == 0)
        return;
    const char *role = NULL;
    char key[NET_KEY_TEXT + 1] = "", name[NET_KEY_NAME_MAX] = "";
    bool curve = count == 7 && f[5].len == 5 && memcmp(f[5].data, "CURVE", 5) == 0 &&
                 f[6].len == KEY_BYTES && f[2].len == 1;
    if (curve) {
        size_t domain = (size_t)(f[2].data[0] - 'a');
        char dir[ALLOWED_DIR_MAX] = "";
        (void)pthread_mutex_lock(&net->lock);
        if (domain < net->zap.domains)
            memcpy(dir, net->zap.allowed[domain], sizeof dir);
        (void)pthread_mutex_unlock(&net->lock);
        if (dir[0] != '\0' && zmq_z85_encode(key, f[6].data, KEY_BYTES) != NULL)
            role = net_keys_role(dir, key, name);
    }
    char user[NET_USER_MAX] = "";
    if (role != NULL)
        (void)snprintf(user, sizeof user, "%s %s %s", role, key, name);
    size_t id_len = count > 1 && f[1].len <= ZAP_FRAME_BYTES_MAX ? f[1].len : 0;
    const char *code = role != NULL ? "200" : "400";
    (void)zmq_send(net->zap.requests, "1.0", 3, ZMQ_SNDMORE);
    (void)zmq_send(net->zap.requests, f[1].data, id_len, ZMQ_SNDMORE);
    (void)zmq_send(net->zap.requests, code, 3, ZMQ_SNDMORE);
    (void)zmq_send(net->zap.requests, "", 0, ZMQ_SNDMORE);
    (void)zmq_send(net->zap.requests, user, strlen(user), ZMQ_SNDMORE);
    (void)zmq_send(net->zap.requests, "", 0, 0);
}

/* What came and went at one server since the last look: u16 event, u32 descriptor; its address. */
static void read_monitor(struct net *net, size_t domain) {
    struct zap *zap = &net->zap;
    uint8_t event[6], address[NET_ENDPOINT_MAX];
    (void)pthread_mutex_lock(&net->lock);
    void *monitor = zap->monitors[domain];
    (void)pthread_mutex_unlock(&net->lock);
    while (monitor != NULL && zmq_recv(monitor, event, sizeof event, ZMQ_DONTWAIT) == 6) {
        int fd = (int)bytes_get_u32(event + 2);
        unsigned what = bytes_get_u16(event);
        (void)zmq_recv(monitor, address, sizeof address, ZMQ_DONTWAIT);
        if (what == ZMQ_EVENT_ACCEPTED)
            guard_accepted(zap->guard, domain, fd);
        else if (what == ZMQ_EVENT_DISCONNECTED)
            guard_closed(zap->guard, fd);
    }
}

static void *zap_main(void *arg) {
    struct net *net = arg;
    zmq_pollitem_t items[] = {{.socket = net->zap.requests, .events = ZMQ_POLLIN},
                              {.socket = net->zap.stopped, .events = ZMQ_POLLIN}};
    int64_t last_ms = 0;
    for (;;) {
        if (zmq_poll(items, 2, GUARD_TICK_MS) < 0 && zmq_errno() != EINTR)
            break;
        if ((items[1].revents & ZMQ_POLLIN) != 0)
            break;
        if ((items[0].revents & ZMQ_POLLIN) != 0)
            zap_answer(net);
        int64_t now_ms = clock_mono_ns(&clock_system) / 1000000;
        for (size_t i = 0; i < DOMAINS_MAX; i++)
            read_monitor(net, i);
        if (now_ms - last_ms >= GUARD_TICK_MS) {
            guard_tick(net->zap.guard);
            last_ms = now_ms;
        }
    }
    (void)zmq_close(net->zap.requests);
    (void)zmq_close(net->zap.stopped);
    for (size_t i = 0; i < DOMAINS_MAX; i++)
        if (net->zap.monitors[i] != NULL)
            (void)zmq_close(net->zap.monitors[i]);
    return NULL;
}

static void zap_close_sockets(struct zap *zap) {
    void **all[] = {&zap->requests, &zap->stopped, &zap->stopper};
    for (size_t i = 0; i < 3; i++) {
        if (*all[i] != NULL)
            (void)zmq_close(*all[i]);
        *all[i] = NULL;
    }
}

/* The lock is held. Signals are for the loop's thread: this one blocks them all. */
static enum status zap_start(struct net *net, struct err *err) {
    struct zap *zap = &net->zap;
    if (zap->guard == NULL) {
        enum status made = guard_new(&zap->guard, err);
        if (made != STATUS_OK)
            return made;
    }
    zap->requests = zmq_socket(net->ctx, ZMQ_REP);
    zap->stopped = zmq_socket(net->ctx, ZMQ_PAIR);
    zap->stopper = zmq_socket(net->ctx, ZMQ_PAIR);
    int no = 0;
    if (zap->requests == NULL || zap->stopped == NULL || zap->stopper == NULL ||
        zmq_setsockopt(zap->requests, ZMQ_LINGER, &no, sizeof no) != 0 ||
        zmq_bind(zap->requests, ZAP_ENDPOINT) != 0 || zmq_bind(zap->stopped, STOP_ENDPOINT) != 0 ||
        zmq_connect(zap->stopper, STOP_ENDPOINT) != 0) {
        enum status st = zmq_failure(err, STATUS_IO, "start the thread that checks public keys");
        zap_close_sockets(zap);
        return st;
    }
    sigset_t all, old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &old);
    int rc = pthread_create(&zap->thread, NULL, zap_main, net);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        zap_close_sockets(zap);
        return err_errno(err, rc, "start the thread that checks public keys");
    }
    zap->running = true;
    return STATUS_OK;
}

static enum status zap_add_domain(struct net *net, const char *allowed_dir, char name[2],
                                  struct err *err) {
    enum status st = STATUS_OK;
    struct zap *zap = &net->zap;
    size_t len = strlen(allowed_dir);
    (void)pthread_mutex_lock(&net->lock);
    if (len == 0 || len >= ALLOWED_DIR_MAX || zap->domains == DOMAINS_MAX)
        st = err_set(err, STATUS_TOO_LARGE,
                     "too many servers in one process, or a directory's name is too long: %s",
                     allowed_dir);
    else if (!zap->running)
        st = zap_start(net, err);
    if (st == STATUS_OK) {
        memcpy(zap->allowed[zap->domains], allowed_dir, len + 1);
        name[0] = (char)('a' + zap->domains);
        name[1] = '\0';
        guard_add_keys(zap->guard, zap->domains, zap->allowed[zap->domains]);
        zap->domains++;
    }
    (void)pthread_mutex_unlock(&net->lock);
    return st;
}

/* ---- context ---- */

enum status net_new(struct net **out, struct err *err) {
    struct net *net = calloc(1, sizeof *net);
    if (net == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for a ZeroMQ context");
    net->ctx = zmq_ctx_new();
    if (net->ctx == NULL) {
        free(net);
        return zmq_failure(err, STATUS_NOMEM, "create a ZeroMQ context");
    }
    (void)pthread_mutex_init(&net->lock, NULL);
    *out = net;
    return STATUS_OK;
}

void net_destroy(struct net **net) {
    struct net *n = *net;
    if (n == NULL)
        return;
    if (n->zap.running) {
        while (zmq_send(n->zap.stopper, "stop", 4, 0) < 0 && zmq_errno() == EINTR)
            ;
        (void)pthread_join(n->zap.thread, NULL);
        (void)zmq_close(n->zap.stopper);
    }
    guard_destroy(&n->zap.guard);
    while (zmq_ctx_term(n->ctx) != 0 && zmq_errno() == EINTR)
        ;
    (void)pthread_mutex_destroy(&n->lock);
    free(n);
    *net = NULL;
}

bool net_take_revoked(struct net *net, struct net_revoked *out) {
    (void)pthread_mutex_lock(&net->lock);
    struct guard *g = net->zap.guard; /* once it is there it stays */
    (void)pthread_mutex_unlock(&net->lock);
    return g != NULL && guard_take_revoked(g, out);
}

/* ---- sockets ---- */

static bool set_int(void *zmq, int option, int v) {
    return zmq_setsockopt(zmq, option, &v, sizeof v) == 0;
}

static bool set_bounds(void *zmq, enum net_kind kind, enum net_transport transport) {
    int64_t wire_max = (int64_t)WIRE_MAX;
    bool ok = zmq_setsockopt(zmq, ZMQ_MAXMSGSIZE, &wire_max, sizeof wire_max) == 0 &&
              set_int(zmq, ZMQ_SNDHWM, NET_QUEUE_MAX) && set_int(zmq, ZMQ_RCVHWM, NET_QUEUE_MAX) &&
              set_int(zmq, ZMQ_LINGER, LINGER_MS) && set_int(zmq, ZMQ_IMMEDIATE, 0) &&
              set_int(zmq, ZMQ_RECONNECT_IVL, kind == NET_DEALER_ONCE ? -1 : RECONNECT_MS) &&
              set_int(zmq, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS) &&
              set_int(zmq, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS);
    if (kind == NET_ROUTER)
        ok = ok && set_int(zmq, ZMQ_ROUTER_MANDATORY, 1);
    if (transport == TRANSPORT_TCP)
        ok = ok && set_int(zmq, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS) &&
             set_int(zmq, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_LOST_MS) &&
             set_int(zmq, ZMQ_TCP_KEEPALIVE, 1);
    return ok;
}

static bool is_key(const char *key) {
    return key != NULL && strlen(key) == NET_KEY_TEXT;
}

/* What open_socket was asked for. */
struct opening {
    enum net_kind kind;
    bool bind;
    struct net_place place;
    enum net_transport transport;
};

static enum status check_keys(const struct opening *o, struct err *err) {
    const struct net_keys *keys = o->place.keys;
    const char *endpoint = o->place.endpoint;
    if (keys == NULL || !is_key(keys->public_key) || !is_key(keys->secret_key))
        return err_set(err, STATUS_DENIED,
                       "%s: tcp needs a pair of CURVE keys; make one with `trireme keygen`",
                       endpoint);
    if (o->bind && keys->allowed_dir == NULL)
        return err_set(
            err, STATUS_DENIED,
            "%s: tcp needs a directory of the public keys that are allowed in (--allowed)",
            endpoint);
    if (!o->bind && !is_key(keys->server_key))
        return err_set(err, STATUS_DENIED,
                       "%s: tcp needs the server's public key (`trireme keygen` on its machine)",
                       endpoint);
    if (zmq_has("curve") == 0)
        return err_set(err, STATUS_UNAVAILABLE,
                       "%s: this libzmq was built without CURVE; use ipc:// or another libzmq",
                       endpoint);
    return o->bind ? net_keys_check_dir(keys->allowed_dir, err) : STATUS_OK;
}

static enum status set_keys(struct net *net, void *zmq, const struct opening *o, char domain[2],
                            struct err *err) {
    const struct net_keys *keys = o->place.keys;
    enum status st = check_keys(o, err);
    if (st == STATUS_OK && o->bind)
        st = zap_add_domain(net, keys->allowed_dir, domain, err);
    if (st != STATUS_OK)
        return st;
    bool ok = zmq_setsockopt(zmq, ZMQ_CURVE_PUBLICKEY, keys->public_key, NET_KEY_TEXT + 1) == 0 &&
              zmq_setsockopt(zmq, ZMQ_CURVE_SECRETKEY, keys->secret_key, NET_KEY_TEXT + 1) == 0;
    if (o->bind)
        ok = ok && set_int(zmq, ZMQ_CURVE_SERVER, 1) &&
             zmq_setsockopt(zmq, ZMQ_ZAP_DOMAIN, domain, 1) == 0;
    else
        ok =
            ok && zmq_setsockopt(zmq, ZMQ_CURVE_SERVERKEY, keys->server_key, NET_KEY_TEXT + 1) == 0;
    return ok ? STATUS_OK
              : err_set(err, STATUS_INVALID, "%s: a CURVE key is not 40 characters of Z85",
                        o->place.endpoint);
}

/* A server that does not know our key ends the connection for good, and libzmq would go on queueing
 * for nobody. This socket is told of it. */
static enum status watch_refusal(struct net *net, struct net_socket *s, struct err *err) {
    char name[64];
    (void)pthread_mutex_lock(&net->lock);
    (void)snprintf(name, sizeof name, "inproc://trireme.monitor.%u", net->monitors++);
    (void)pthread_mutex_unlock(&net->lock);
    s->monitor = zmq_socket(net->ctx, ZMQ_PAIR);
    if (s->monitor == NULL ||
        zmq_socket_monitor(s->zmq, name, ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) != 0 ||
        !set_int(s->monitor, ZMQ_LINGER, 0) || zmq_connect(s->monitor, name) != 0)
        return zmq_failure(err, STATUS_IO, "watch a connection");
    return STATUS_OK;
}

/* The thread that checks keys is told of this server's connections. */
static enum status watch_peers(struct net *net, struct net_socket *s, size_t domain,
                               struct err *err) {
    char name[64];
    void *monitor = zmq_socket(net->ctx, ZMQ_PAIR);
    (void)snprintf(name, sizeof name, "inproc://trireme.peers.%zu", domain);
    if (monitor == NULL ||
        zmq_socket_monitor(s->zmq, name, ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED) != 0 ||
        !set_int(monitor, ZMQ_LINGER, 0) || !set_int(monitor, ZMQ_RCVHWM, 0) ||
        zmq_connect(monitor, name) != 0) {
        enum status st = zmq_failure(err, STATUS_IO, "watch connections");
        if (monitor != NULL)
            (void)zmq_close(monitor);
        return st;
    }
    (void)pthread_mutex_lock(&net->lock);
    net->zap.monitors[domain] = monitor;
    s->guard = net->zap.guard;
    (void)pthread_mutex_unlock(&net->lock);
    return STATUS_OK;
}

/* Whether we have been refused since the last look. */
static bool refused_now(struct net_socket *s) {
    uint8_t event[16];
    if (s->monitor == NULL || s->denied ||
        zmq_recv(s->monitor, event, sizeof event, ZMQ_DONTWAIT) < 0)
        return false;
    (void)zmq_recv(s->monitor, event, sizeof event, ZMQ_DONTWAIT); /* the address */
    s->denied = true;
    return true;
}

static enum status refusal(struct err *err) {
    return err_set(err, STATUS_DENIED,
                   "the server does not know our public key; ask its administrator to allow it");
}

static int zmq_type(enum net_kind kind) {
    switch (kind) {
    case NET_ROUTER:
        return ZMQ_ROUTER;
    case NET_DEALER:
    case NET_DEALER_ONCE:
        return ZMQ_DEALER;
    case NET_PUB:
        return ZMQ_PUB;
    case NET_SUB:
        return ZMQ_SUB;
    }
    return -1;
}

static enum status attach(void *zmq, const struct opening *o, struct err *err) {
    const char *endpoint = o->place.endpoint;
    enum status st = STATUS_OK;
    if (o->transport == TRANSPORT_IPC)
        TRY(net_endpoint_check_ipc(endpoint, o->bind, err));
    if ((o->bind ? zmq_bind(zmq, endpoint) : zmq_connect(zmq, endpoint)) != 0) {
        int e = zmq_errno();
        st = e == EADDRINUSE ? STATUS_BUSY : e == EINVAL ? STATUS_INVALID : STATUS_IO;
        return err_set(err, st, "%s %s: %s", o->bind ? "bind" : "connect", endpoint,
                       zmq_strerror(e));
    }
    const char *path = endpoint + strlen("ipc://");
    if (o->bind && o->transport == TRANSPORT_IPC && chmod(path, 0600) != 0)
        return err_errno(err, errno, "chmod %s", path);
out:
    return st;
}

static enum status open_socket(struct net *net, struct opening o, struct net_socket **out,
                               struct err *err) {
    const char *endpoint = o.place.endpoint;
    struct net_socket *s = NULL;
    char domain[2] = "";
    enum status st = STATUS_OK;
    TRY(net_endpoint_transport(endpoint, &o.transport, err));
    s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for a socket");
    s->kind = o.kind;
    s->zmq = zmq_socket(net->ctx, zmq_type(o.kind));
    if (s->zmq == NULL) {
        st = zmq_failure(err, STATUS_FULL, endpoint);
        goto out;
    }
    if (!set_bounds(s->zmq, o.kind, o.transport)) {
        st = zmq_failure(err, STATUS_INTERNAL, endpoint);
        goto out;
    }
    if (o.transport == TRANSPORT_TCP)
        TRY(set_keys(net, s->zmq, &o, domain, err));
    if (o.transport == TRANSPORT_TCP)
        TRY(o.bind ? watch_peers(net, s, (size_t)(domain[0] - 'a'), err)
                   : watch_refusal(net, s, err));
    TRY(attach(s->zmq, &o, err));
    s->file = o.bind && o.transport == TRANSPORT_IPC;
    *out = s;
    s = NULL;
out:
    net_close(&s);
    return st;
}

enum status net_bind(struct net *net, enum net_kind kind, struct net_place place,
                     struct net_socket **out, struct err *err) {
    return open_socket(net, (struct opening){.kind = kind, .bind = true, .place = place}, out, err);
}

enum status net_connect(struct net *net, enum net_kind kind, struct net_place place,
                        struct net_socket **out, struct err *err) {
    return open_socket(net, (struct opening){.kind = kind, .place = place}, out, err);
}

/* libzmq leaves the file of an ipc:// endpoint where it is. It goes while we still listen: what lies at
 * the path afterwards may be a successor's. */
static void remove_file(struct net_socket *s) {
    char endpoint[NET_ENDPOINT_MAX];
    if (s->file && net_endpoint(s, endpoint, NULL) == STATUS_OK)
        (void)unlink(endpoint + strlen("ipc://"));
}

void net_close(struct net_socket **socket) {
    if (*socket == NULL)
        return;
    remove_file(*socket);
    if ((*socket)->monitor != NULL) {
        (void)zmq_socket_monitor((*socket)->zmq, NULL, 0);
        (void)zmq_close((*socket)->monitor);
    }
    if ((*socket)->guard != NULL)
        (void)zmq_socket_monitor((*socket)->zmq, NULL, 0);
    if ((*socket)->zmq != NULL)
        (void)zmq_close((*socket)->zmq);
    free(*socket);
    *socket = NULL;
}

enum status net_endpoint(struct net_socket *s, char out[NET_ENDPOINT_MAX], struct err *err) {
    size_t size = NET_ENDPOINT_MAX;
    if (zmq_getsockopt(s->zmq, ZMQ_LAST_ENDPOINT, out, &size) != 0)
        return zmq_failure(err, STATUS_INTERNAL, "ask for the endpoint");
    return STATUS_OK;
}

enum status net_subscribe(struct net_socket *s, const char *prefix, struct err *err) {
    if (s->kind != NET_SUB || zmq_setsockopt(s->zmq, ZMQ_SUBSCRIBE, prefix, strlen(prefix)) != 0)
        return err_set(err, STATUS_INVALID, "subscribe to '%s': only on a SUB socket", prefix);
    return STATUS_OK;
}

/* ---- sending ---- */

static enum status send_failure(int errnum, struct err *err) {
    if (errnum == EAGAIN)
        return err_set(err, STATUS_FULL, "the queue to the peer is full (%d messages); try again",
                       NET_QUEUE_MAX);
    if (errnum == EHOSTUNREACH)
        return err_set(err, STATUS_NOT_FOUND, "the peer is gone");
    return err_set(err, STATUS_IO, "send: %s", zmq_strerror(errnum));
}

static enum status check_send(const struct net_socket *s, const struct net_outgoing *m,
                              struct err *err) {
    if ((s->kind == NET_ROUTER) != (m->peer != NULL) ||
        (s->kind == NET_PUB) != (m->topic != NULL) || s->kind == NET_SUB)
        return err_set(err, STATUS_INTERNAL, "send: a peer is for ROUTER, a topic for PUB");
    if (m->peer != NULL && (m->peer->len == 0 || m->peer->len > NET_IDENTITY_MAX))
        return err_set(err, STATUS_NOT_FOUND, "the peer has no address to answer to");
    if (m->header.len > NET_HEADER_MAX)
        return err_set(err, STATUS_TOO_LARGE, "a header of %zu bytes; the maximum is %zu",
                       m->header.len, NET_HEADER_MAX);
    if (m->frames.count > NET_FRAMES_MAX)
        return err_set(err, STATUS_TOO_LARGE, "%zu frames; the maximum is %d", m->frames.count,
                       NET_FRAMES_MAX);
    for (size_t i = 0; i < m->frames.count; i++)
        if (m->frames.items[i].len > NET_FRAME_MAX)
            return err_set(err, STATUS_TOO_LARGE, "frame %zu has %zu bytes; the maximum is %zu", i,
                           m->frames.items[i].len, NET_FRAME_MAX);
    return STATUS_OK;
}

/* Identity, delimiter, topic, header, frames: those that this message has. */
static size_t list_parts(const struct net_outgoing *m, struct net_frame parts[PARTS_MAX]) {
    size_t count = 0;
    if (m->peer != NULL)
        parts[count++] = (struct net_frame){m->peer->id, m->peer->len};
    if (m->peer != NULL && m->peer->delimiter)
        parts[count++] = (struct net_frame){"", 0};
    if (m->topic != NULL)
        parts[count++] = (struct net_frame){m->topic, strlen(m->topic)};
    parts[count++] = m->header;
    for (size_t i = 0; i < m->frames.count; i++)
        parts[count++] = m->frames.items[i];
    return count;
}

enum status net_send(struct net_socket *s, const struct net_outgoing *m, struct err *err) {
    enum status st = check_send(s, m, err);
    if (st != STATUS_OK)
        return st;
    if (s->denied || refused_now(s))
        return refusal(err);
    struct net_frame parts[PARTS_MAX];
    size_t count = list_parts(m, parts);

    /* Only the first part can be refused. A peer that goes away in the middle makes libzmq drop the
     * rest, for which it must still be given the rest: hence no early return after the first. */
    int lost = 0;
    for (size_t i = 0; i < count; i++) {
        int flags = ZMQ_DONTWAIT | (i + 1 < count ? ZMQ_SNDMORE : 0);
        int rc;
        do {
            rc = zmq_send(s->zmq, parts[i].data, parts[i].len, flags);
        } while (rc < 0 && zmq_errno() == EINTR);
        if (rc < 0 && i == 0)
            return send_failure(zmq_errno(), err);
        if (rc < 0 && lost == 0)
            lost = zmq_errno();
    }
    return lost == 0 ? STATUS_OK : send_failure(lost, err);
}

/* ---- receiving ---- */

static void parts_close(struct parts *p) {
    for (size_t i = 0; i < p->count; i++)
        (void)zmq_msg_close(&p->msgs[i]);
    p->count = 0;
}

/* Takes all parts of the next message; those beyond PARTS_MAX are dropped and *over is set. */
static enum status take_parts(void *zmq, struct parts *p, bool *over, struct err *err) {
    bool more = true;
    while (more) {
        zmq_msg_t msg;
        (void)zmq_msg_init(&msg);
        if (zmq_msg_recv(&msg, zmq, ZMQ_DONTWAIT) < 0) {
            if (zmq_errno() == EINTR)
                continue;
            enum status st =
                zmq_errno() == EAGAIN ? STATUS_OK : zmq_failure(err, STATUS_IO, "receive");
            if (p->count > 0)
                *over = true; /* should not happen: messages arrive whole or not at all */
            return st;
        }
        more = zmq_msg_more(&msg) != 0;
        if (p->count < PARTS_MAX) {
            p->msgs[p->count++] = msg;
        } else {
            *over = true;
            (void)zmq_msg_close(&msg);
        }
    }
    return STATUS_OK;
}

static struct net_frame part_frame(struct parts *p, size_t i) {
    return (struct net_frame){zmq_msg_data(&p->msgs[i]), zmq_msg_size(&p->msgs[i])};
}

static enum net_role part_role(struct parts *p, size_t i) {
    const char *user = zmq_msg_gets(&p->msgs[i], "User-Id");
    enum net_role role = NET_VIEWER;
    if (user == NULL)
        return NET_ADMIN; /* ipc, whose directory is ours alone */
    (void)net_role_find(user, strcspn(user, " "), &role);
    return role;
}

/* Names the parts. INVALID when they are not a message, with the peer where there is one. */
static enum status name_parts(enum net_kind kind, struct parts *p, bool over,
                              struct net_message *out, struct err *err) {
    size_t at = 0;
    if (kind == NET_ROUTER) {
        struct net_frame id = part_frame(p, at++);
        if (id.len > NET_IDENTITY_MAX)
            return err_set(err, STATUS_INVALID,
                           "a peer chose an identity of %zu bytes; leave the choice to libzmq",
                           id.len);
        memcpy(out->peer.id, id.data, id.len);
        out->peer.len = id.len;
        if (at < p->count && zmq_msg_size(&p->msgs[at]) == 0 && zmq_msg_more(&p->msgs[at]) != 0) {
            out->peer.delimiter = true;
            at++;
        }
    } else if (kind == NET_SUB) {
        out->topic = part_frame(p, at++);
    }
    if (at >= p->count)
        return err_set(err, STATUS_INVALID,
                       "the message has no header; frame 1 must be a JSON object");
    if (over || p->count - at - 1 > NET_FRAMES_MAX)
        return err_set(err, STATUS_INVALID, "the message has more than %d frames", NET_FRAMES_MAX);
    out->role = part_role(p, at);
    out->header = part_frame(p, at++);
    if (out->header.len > NET_HEADER_MAX)
        return err_set(err, STATUS_INVALID, "a header of %zu bytes; the maximum is %zu",
                       out->header.len, NET_HEADER_MAX);
    for (; at < p->count; at++) {
        struct net_frame f = part_frame(p, at);
        if (f.len > NET_FRAME_MAX)
            return err_set(err, STATUS_INVALID, "a frame of %zu bytes; the maximum is %zu", f.len,
                           NET_FRAME_MAX);
        out->frames[out->frame_count++] = f;
    }
    return STATUS_OK;
}

/* That a whole message came. The identity, in front of it, is libzmq's own part. */
static void tell_guard(struct net_socket *s, struct parts *p) {
    zmq_msg_t *last = &p->msgs[p->count - 1];
    const char *user = s->guard != NULL ? zmq_msg_gets(last, "User-Id") : NULL;
    if (user != NULL)
        guard_heard(s->guard, zmq_msg_get(last, ZMQ_SRCFD), user);
}

enum status net_receive(struct net_socket *s, struct net_message *out, bool *got, struct err *err) {
    *got = false;
    memset(out, 0, sizeof *out);
    if (refused_now(s))
        return refusal(err);
    struct parts *p = calloc(1, sizeof *p);
    if (p == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for a message");
    bool over = false;
    enum status st = take_parts(s->zmq, p, &over, err);
    out->parts = p;
    if (st == STATUS_OK && p->count > 0) {
        tell_guard(s, p);
        st = name_parts(s->kind, p, over, out, err);
        *got = st == STATUS_OK;
    }
    if (!*got) {
        struct net_peer peer = out->peer;
        net_message_release(out);
        out->peer = peer;
    }
    return st;
}

void net_message_release(struct net_message *message) {
    if (message->parts != NULL) {
        parts_close(message->parts);
        free(message->parts);
    }
    memset(message, 0, sizeof *message);
}

/* ---- waiting ---- */

enum status net_poll(struct net_poll_item *items, size_t count, int timeout_ms, struct err *err) {
    zmq_pollitem_t z[2 * NET_POLL_MAX];
    size_t owner[2 * NET_POLL_MAX], n = 0;
    if (count > NET_POLL_MAX)
        return err_set(err, STATUS_TOO_LARGE, "poll of %zu items; the maximum is %d", count,
                       NET_POLL_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct net_socket *s = items[i].socket;
        items[i].readable = false;
        owner[n] = i;
        z[n++] = (zmq_pollitem_t){.socket = s != NULL ? s->zmq : NULL,
                                  .fd = items[i].fd,
                                  .events = ZMQ_POLLIN | ZMQ_POLLERR};
        if (s == NULL || s->monitor == NULL || s->denied)
            continue;
        owner[n] = i;
        z[n++] = (zmq_pollitem_t){.socket = s->monitor, .events = ZMQ_POLLIN};
    }
    if (zmq_poll(z, (int)n, timeout_ms) < 0)
        return zmq_errno() == EINTR ? STATUS_OK : zmq_failure(err, STATUS_IO, "poll");
    for (size_t i = 0; i < n; i++)
        if (z[i].revents != 0)
            items[owner[i]].readable = true;
    return STATUS_OK;
}

enum status net_wait(struct net_socket *s, int timeout_ms, bool *readable, struct err *err) {
    struct net_poll_item item = {.socket = s};
    enum status st = net_poll(&item, 1, timeout_ms, err);
    *readable = st == STATUS_OK && item.readable;
    return st;
}

enum status net_keygen(char public_key[NET_KEY_TEXT + 1], char secret_key[NET_KEY_TEXT + 1],
                       struct err *err) {
    if (zmq_curve_keypair(public_key, secret_key) != 0)
        return zmq_failure(err, STATUS_UNAVAILABLE, "make a pair of CURVE keys");
    return STATUS_OK;
}
