/* What one input may change and where its effects go. */
#ifndef COORDINATOR_DECIDE_TURN_H
#define COORDINATOR_DECIDE_TURN_H

#include "coordinator/state/options.h"
#include "core/value.h"

struct coordinator;

enum outgoing_kind {
    OUT_CREATE, /* to the tracker, before the events: sweep.create */
    OUT_EVENT,  /* to the sweep's log under `sequence` */
    OUT_POST,   /* to the tracker, behind the events */
    OUT_NOTICE, /* to a group, when all of the above is durable */
};

struct outgoing {
    enum outgoing_kind kind;
    const char *to; /* EVENT: the sweep; NOTICE: the group */
    int64_t sequence;
    struct value *message;
};

struct outbox {
    struct arena *arena; /* where messages are built: a tick's */
    struct outgoing *items;
    size_t count, cap;
};

/* Every input of the core is handled in a turn: whose state, at what moment, with which outbox. */
struct turn {
    struct coordinator *c;
    struct moment now;
    struct outbox *out;
};

/* Puts a message into the outbox; `to` is copied. NOMEM, also for a broken message. */
enum status turn_push(const struct turn *turn, struct outgoing item, struct err *err) MUST_USE;

#endif
