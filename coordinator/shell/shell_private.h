/* The shell's inside. Files use each other in this direction only:
 *
 *     shell.c ──▶ requests.c ──▶ stop.c ──▶ tick.c ──▶ peers.c
 *                                               └────▶ store.c
 *     shell.c ──▶ spools.c
 */
#ifndef COORDINATOR_SHELL_SHELL_PRIVATE_H
#define COORDINATOR_SHELL_SHELL_PRIVATE_H

#include "coordinator/shell/launcher.h"
#include "coordinator/shell/shell.h"
#include "wire/loop.h"
#include "wire/session.h"

/* Where a group can be reached: the identity of its last message. */
struct peer {
    char group[ULID_TEXT];
    struct net_socket *socket;
    struct net_peer address;
};

struct answer {
    struct net_socket *socket;
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
    struct net *net;
    struct session *spool; /* of the spool that is being delivered; NULL: none */
    int64_t spool_look_ns; /* when to look for one */

    struct arena tick; /* everything between two waits */
    struct outbox out;
    struct answer answers[SHELL_BATCH_MAX];
    size_t answer_count;

    struct peer *peers; /* sorted by group */
    size_t peer_count, peer_cap;

    int64_t launch_after_ns; /* orphans of an earlier coordinator come back first */
    bool stopping, dismissed;
    int64_t stop_at_ns; /* when waiting for groups to leave their trials, then to end, is over */
    struct err fatal;   /* the first error that ends the program */
};

/* The core's state, now, with this tick's outbox. */
static inline struct turn shell_turn(struct shell *s) {
    return (struct turn){.c = s->core,
                         .now = {.wall_ns = clock_wall_ns(s->options.clock),
                                 .mono_ns = clock_mono_ns(s->options.clock)},
                         .out = &s->out};
}

/* ---- peers.c: who can be reached where ---- */

/* Where the group's messages come from now. NOMEM. */
enum status shell_note_peer(struct shell *s, const char *group, struct net_socket *socket,
                            const struct net_peer *address, struct err *err) MUST_USE;
void shell_send_notices(struct shell *s);
void shell_send_exits(struct shell *s); /* of the notices, only group.exit */
void shell_send_answers(struct shell *s);

/* ---- store.c: the tracker ---- */

/* Posts the outbox's tracker part; with events, waits until all is durable. */
enum status shell_store_outbox(struct shell *s, struct err *err) MUST_USE;
/* Keys that were taken back, for the audit log. */
enum status shell_post_revoked(struct shell *s, struct err *err) MUST_USE;
/* All active sweeps. */
enum status shell_restore_all(struct shell *s, struct err *err) MUST_USE;
/* One sweep that is not in memory (finished, paused); NOT_FOUND when there is none. */
enum status shell_restore_one(struct shell *s, const char *sweep, struct err *err) MUST_USE;
void shell_on_tracker_answer(void *arg, const struct value *request, enum status st,
                             const struct value *reply, const struct err *err);

/* ---- tick.c: from requests to answers ---- */

void shell_give_up(struct shell *s, const struct err *err); /* the program ends with this error */
void shell_begin_tick(struct shell *s);
void shell_add_answer(struct shell *s, struct net_socket *socket, const struct net_peer *to,
                      struct value *message);
/* Stores what the outbox holds, then tells: answers, notices. */
enum status shell_flush(struct shell *s, struct err *err) MUST_USE;
/* The core's step, the flush, and a look at what to launch. */
void shell_end_tick(struct shell *s);

/* ---- stop.c: trials are left, groups end, the loop ends ---- */

void shell_begin_stop(struct shell *s, const char *reason);
void shell_go_on_stopping(struct shell *s);
/* To all groups, where events cannot be stored any more. */
void shell_say_goodbye(struct shell *s);

/* ---- spools.c: what groups could not tell the tracker ---- */

void shell_deliver(struct shell *s);             /* a bit of it, without waiting */
void shell_deliver_all(struct shell *s, int ms); /* at the end: what can be sent in that time */

/* ---- requests.c ---- */

/* All that has arrived at a socket, up to SHELL_BATCH_MAX requests a tick. */
void shell_take_all(struct shell *s, struct net_socket *socket);

#endif
