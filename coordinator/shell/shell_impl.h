/* Private to shell*.c. */
#ifndef COORDINATOR_SHELL_SHELL_IMPL_H
#define COORDINATOR_SHELL_SHELL_IMPL_H

#include "coordinator/shell/launcher.h"
#include "coordinator/shell/shell.h"
#include "wire/loop.h"
#include "wire/session.h"

/* Where a group can be reached: the identity of its last message. */
struct peer {
    char group[ULID_TEXT];
    struct net_peer address;
};

struct answer {
    struct net_peer to;
    struct value *message;
};

struct shell {
    struct shell_options options;
    struct net_socket *sockets[SHELL_ENDPOINTS_MAX];
    size_t socket_count;
    struct loop *loop;
    struct session *tracker;
    struct coordinator *core;
    struct launcher *launcher;

    struct arena tick; /* everything between two waits */
    struct outbox out;
    struct answer answers[SHELL_BATCH_MAX];
    struct net_socket *answer_socket[SHELL_BATCH_MAX];
    size_t answer_count;

    struct peer *peers; /* sorted by group */
    struct net_socket **peer_socket;
    size_t peer_count, peer_cap;

    int64_t launch_after_ns; /* orphans of an earlier coordinator come back first */
    bool stopping, dismissed;
    int64_t stop_at_ns; /* when waiting for groups to leave their trials, then to end, is over */
    struct err fatal;   /* the first error that ends the program */
};

struct moment shell_now(const struct shell *s);

/* ---- shell_peers.c ---- */

/* Where the group's messages come from now. NOMEM. */
enum status note_peer(struct shell *s, const char *group, struct net_socket *socket,
                      const struct net_peer *address, struct err *err) MUST_USE;
void send_notices(struct shell *s);
void send_answers(struct shell *s);

/* ---- shell_store.c: the tracker ---- */

/* Posts the outbox's tracker part; with events, waits until all is durable. */
enum status store_outbox(struct shell *s, struct err *err) MUST_USE;
/* All active sweeps. */
enum status restore_all(struct shell *s, struct err *err) MUST_USE;
/* One sweep that is not in memory (finished, paused); NOT_FOUND when there is none. */
enum status restore_one(struct shell *s, const char *sweep, struct err *err) MUST_USE;
void on_tracker_answer(void *arg, const struct value *request, enum status st,
                       const struct value *reply, const struct err *err);

#endif
