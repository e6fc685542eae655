/* Connections, watched. A descriptor of libzmq's may be closed at any time and its number be used
 * again: the guard keeps a duplicate of its own, which is the connection that was accepted. */
#include "wire/net_guard.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/log.h"
#include "wire/net_private.h"

#define DOMAINS_MAX  16
#define STATE_CLOSED 7 /* TCP_CLOSE */

struct connection {
    int theirs, ours; /* libzmq's descriptor, and our duplicate */
    size_t domain;
    uint64_t base, waiting; /* bytes: when a message was last taken; since then */
    bool heard, ended;
    char user[NET_USER_MAX]; /* "role key name"; "" until it has said something */
};

struct guard {
    pthread_mutex_t lock; /* guards what follows */
    struct connection rows[GUARD_CONNECTIONS_MAX];
    size_t count;
    const char *dirs[DOMAINS_MAX];
    uint64_t keys[DOMAINS_MAX]; /* what a directory held at the last look, as a sum */
    unsigned ticks;
    struct net_revoked revoked[GUARD_REVOKED_MAX]; /* first in, first out */
    size_t revoked_count;
};

enum status guard_new(struct guard **out, struct err *err) {
    struct guard *g = calloc(1, sizeof *g);
    if (g == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for the guard of connections");
    (void)pthread_mutex_init(&g->lock, NULL);
    *out = g;
    return STATUS_OK;
}

void guard_destroy(struct guard **guard) {
    struct guard *g = *guard;
    if (g == NULL)
        return;
    for (size_t i = 0; i < g->count; i++)
        (void)close(g->rows[i].ours);
    (void)pthread_mutex_destroy(&g->lock);
    free(g);
    *guard = NULL;
}

void guard_add_keys(struct guard *g, size_t domain, const char *allowed_dir) {
    (void)pthread_mutex_lock(&g->lock);
    g->dirs[domain] = allowed_dir;
    g->keys[domain] = net_keys_sum(allowed_dir);
    (void)pthread_mutex_unlock(&g->lock);
}

void guard_accepted(struct guard *g, size_t domain, int fd) {
    (void)pthread_mutex_lock(&g->lock);
    int ours = g->count < GUARD_CONNECTIONS_MAX ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
    if (ours < 0) {
        log_line(LOG_WARN, "connection_ended", "reason=\"%s\" connections=%zu",
                 g->count < GUARD_CONNECTIONS_MAX ? "no descriptor is left to watch it with"
                                                  : "there are too many",
                 g->count);
        (void)shutdown(fd, SHUT_RDWR);
    } else {
        g->rows[g->count++] = (struct connection){.theirs = fd, .ours = ours, .domain = domain};
    }
    (void)pthread_mutex_unlock(&g->lock);
}

/* The lock is held. */
static void forget(struct guard *g, size_t i) {
    (void)close(g->rows[i].ours);
    g->rows[i] = g->rows[--g->count];
}

void guard_closed(struct guard *g, int fd) {
    (void)pthread_mutex_lock(&g->lock);
    for (size_t i = 0; i < g->count; i++)
        if (g->rows[i].theirs == fd) {
            forget(g, i);
            break; /* the oldest: a later one of that number has just been accepted */
        }
    (void)pthread_mutex_unlock(&g->lock);
}

void guard_heard(struct guard *g, int fd, const char *user) {
    (void)pthread_mutex_lock(&g->lock);
    for (size_t i = g->count; i-- > 0;) {
        struct connection *c = &g->rows[i];
        if (c->theirs != fd)
            continue;
        c->heard = true;
        if (c->user[0] == '\0')
            (void)snprintf(c->user, sizeof c->user, "%s", user);
        break;
    }
    (void)pthread_mutex_unlock(&g->lock);
}

/* ---- looks ---- */

static void end(struct connection *c, const char *reason) {
    if (c->ended)
        return;
    c->ended = true;
    log_line(LOG_WARN, "connection_ended", "reason=\"%s\" key=\"%s\" bytes=%llu", reason,
             c->user[0] != '\0' ? c->user : "not known yet", (unsigned long long)c->waiting);
    (void)shutdown(c->ours, SHUT_RDWR);
}

/* Bytes that libzmq has read of it so far. False: the connection is no more. */
static bool bytes_read(int fd, uint64_t *out) {
    struct tcp_info info;
    socklen_t len = sizeof info;
    int unread = 0;
    memset(&info, 0, sizeof info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 || info.tcpi_state == STATE_CLOSED)
        return false;
    (void)ioctl(fd, SIOCINQ, &unread);
    uint64_t kept = unread > 0 ? (uint64_t)unread : 0;
    *out = (uint64_t)info.tcpi_bytes_received - kept;
    return true;
}

/* The lock is held. */
static void look_at_bytes(struct guard *g) {
    uint64_t all = 0, most = 0;
    struct connection *largest = NULL;
    for (size_t i = g->count; i-- > 0;) {
        struct connection *c = &g->rows[i];
        uint64_t now = 0;
        if (!bytes_read(c->ours, &now)) {
            forget(g, i);
            continue;
        }
        if (c->heard)
            c->base = now;
        c->heard = false;
        c->waiting = now > c->base ? now - c->base : 0;
        if (c->waiting > GUARD_BYTES_MAX)
            end(c, "too many bytes without the end of a message");
        all += c->ended ? 0 : c->waiting;
    }
    for (size_t i = 0; i < g->count; i++)
        if (!g->rows[i].ended && g->rows[i].waiting > most) {
            largest = &g->rows[i];
            most = largest->waiting;
        }
    if (all > GUARD_BYTES_ALL_MAX && largest != NULL)
        end(largest, "all connections together wait with too many bytes");
}

/* False: the connection has not said whose it is. */
static bool read_user(const char *user, struct net_revoked *out) {
    size_t role = strcspn(user, " ");
    *out = (struct net_revoked){.connections = 1};
    if (!net_role_find(user, role, &out->role) || strlen(user + role) < 1 + NET_KEY_TEXT)
        return false;
    const char *key = user + role + 1, *name = key + NET_KEY_TEXT;
    memcpy(out->key, key, NET_KEY_TEXT);
    (void)snprintf(out->name, sizeof out->name, "%s", *name == ' ' ? name + 1 : name);
    return true;
}

/* One row for each key. The lock is held. */
static void note_revoked(struct guard *g, const struct net_revoked *r) {
    for (size_t i = 0; i < g->revoked_count; i++)
        if (strcmp(g->revoked[i].key, r->key) == 0 && g->revoked[i].role == r->role) {
            g->revoked[i].connections++;
            return;
        }
    if (g->revoked_count < GUARD_REVOKED_MAX)
        g->revoked[g->revoked_count++] = *r;
    else
        log_line(LOG_ERROR, "revocation_not_audited", "key=\"%s\" name=\"%s\" waiting=%zu", r->key,
                 r->name, g->revoked_count);
}

bool guard_take_revoked(struct guard *g, struct net_revoked *out) {
    (void)pthread_mutex_lock(&g->lock);
    bool some = g->revoked_count > 0;
    if (some) {
        *out = g->revoked[0];
        g->revoked_count--;
        memmove(g->revoked, g->revoked + 1, g->revoked_count * sizeof *g->revoked);
    }
    (void)pthread_mutex_unlock(&g->lock);
    return some;
}

/* A connection must go whose key has not the role any more that it came in with, and one that has
 * not said whose it is. The lock is held. */
static void look_at_key(struct guard *g, struct connection *c) {
    struct net_revoked had;
    if (!read_user(c->user, &had)) {
        end(c, "keys have changed, and it has not said whose it is");
        return;
    }
    const char *role = net_keys_role(g->dirs[c->domain], had.key, NULL);
    if (c->ended || (role != NULL && strcmp(role, net_role_name(had.role)) == 0))
        return;
    end(c, "its key was taken back");
    note_revoked(g, &had);
}

/* The lock is held. */
static void look_at_keys(struct guard *g) {
    for (size_t d = 0; d < DOMAINS_MAX && g->dirs[d] != NULL; d++) {
        uint64_t sum = net_keys_sum(g->dirs[d]);
        if (sum == g->keys[d])
            continue;
        g->keys[d] = sum;
        for (size_t i = 0; i < g->count; i++)
            if (g->rows[i].domain == d)
                look_at_key(g, &g->rows[i]);
    }
}

void guard_tick(struct guard *g) {
    (void)pthread_mutex_lock(&g->lock);
    look_at_bytes(g);
    if (++g->ticks % GUARD_KEYS_EVERY == 0)
        look_at_keys(g);
    (void)pthread_mutex_unlock(&g->lock);
}
