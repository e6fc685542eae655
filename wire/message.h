/* The wire: every message that Trireme's processes exchange, described once, in one table for each
 * server (message_tracker.c, message_coordinator.c, message_group.c, message_feed.c).
 *
 * A request:  {"v":1,"id":"c1-42","op":"run.metrics",…fields of the op…}   [+ frames]
 * A reply:    {"id":"c1-42","ok":true,…fields…}                             [+ frames]
 * A failure:  {"id":"c1-42","ok":false,"error":{"code":"not_found","message":"…"}}
 * A notice (server to group, unasked): {"v":1,"op":"trial.assign",…}
 *
 * Common optional fields of a request: "client" (string ≤ 64) and "seq" (integer > 0): together
 * they name the request forever; a resend is answered with the stored reply, not applied twice.
 *
 * docs/WIRE.md is written from these tables (`make docs`); a unit test compares them. */
#ifndef WIRE_MESSAGE_H
#define WIRE_MESSAGE_H

#include "core/buf.h"
#include "core/schema.h"
#include "core/value.h"
#include "wire/net.h"

#define WIRE_VERSION 1

enum message_server { SERVER_TRACKER, SERVER_COORDINATOR, SERVER_GROUP, SERVER_FEED };
#define SERVER_COUNT 4

#define MESSAGE_ROLE(role) (1u << (role))

struct message_type {
    const char *op;              /* NULL ends the table */
    enum message_server server;  /* who answers it; GROUP and FEED: who gets it, or publishes it */
    bool writes;                 /* changes durable state: (client, seq) is honoured */
    unsigned roles;              /* who may send it: a set of MESSAGE_ROLE(role) */
    const struct field *request; /* NULL: no fields of its own */
    const struct field *reply;   /* likewise */
    const char *frames;          /* what the request's further frames hold; NULL: none */
    const char *reply_frames;
    const char *doc;
};

/* The messages of one server, ended by a row without an op. Those of SERVER_FEED are what the feed
 * publishes: `request` holds the fields after v, topic, sequence and op. */
const struct message_type *message_table(enum message_server server);

/* Every request and notice, one after the other: NULL begins, and NULL comes back at the end. */
const struct message_type *message_next(const struct message_type *t);

/* Among the requests and notices; NULL when unknown. */
const struct message_type *message_find(const char *op);

/* DENIED where a peer of this role may not send it; the text says who may. Some rights depend on the
 * run as well (docs/WIRE.md, "Roles"): those the tracker checks where it has the run. */
enum status message_allows(const struct message_type *type, enum net_role role,
                           struct err *err) MUST_USE;

#define MESSAGE_ID_MAX 64

/* A request or a notice that came in. */
struct message {
    const struct message_type *type;
    struct value *header; /* the whole map, checked */
    char id[MESSAGE_ID_MAX + 1];
};

/* Parses and validates a header that came in: JSON, version, op known, fields by the schema. On
 * failure out->id still holds the id when one could be read ("" otherwise), so that the server can
 * answer. TOO_NEW for a later "v"; INVALID for the rest. */
enum status message_parse(struct arena *a, const void *header, size_t len, struct message *out,
                          struct err *err) MUST_USE;

/* What is known of a request before it is sent: INVALID where the table of its op would refuse it. */
enum status message_check(struct arena *a, const struct message_type *type,
                          const struct value *request, struct err *err) MUST_USE;

/* Whether this can be a name: 1 to bytes_max bytes of UTF-8 without control characters (core/utf8.h).
 * `what` begins the message: "the name of a metric". */
enum status message_check_name(const char *name, size_t bytes_max, const char *what,
                               struct err *err) MUST_USE;

/* {"v":1,"op":op,"id":id}: the caller sets the rest. `id` NULL for a notice. */
struct value *message_request(struct arena *a, const char *op, const char *id);

/* audit.revoked, by the server `actor`. */
struct value *message_revoked(struct arena *a, const char *actor, const struct net_revoked *r);

/* {"id":id,"ok":true} and {"id":id,"ok":false,"error":{…}}. */
struct value *message_reply(struct arena *a, const char *id);
struct value *message_failure(struct arena *a, const char *id, const struct err *err);

/* Parses a reply; a failure comes back as its status and message. */
enum status message_parse_reply(struct arena *a, const void *header, size_t len, struct value **out,
                                struct err *err) MUST_USE;

/* Whether a successful reply is what the table promises: for tests of servers, in any language. */
enum status message_check_reply(struct arena *a, const struct message_type *type,
                                const struct value *reply, struct err *err) MUST_USE;

/* Appends docs/WIRE.md, whole: the introduction, the statuses, every message, the feed. */
void message_write_reference(struct buf *out);

#endif
