/* The audit chain: who changed which model, and how.
 *
 *     'u' │ number, be64 ──▶ document: {sequence, time_ns, actor, action, subject, details,
 *                                       previous, digest}
 *     'H'                ──▶ u64 number of the last record │ its digest
 *
 *     record 1 ◀──previous── record 2 ◀──previous── record 3 ◀── 'H'
 *
 * Each change and its record are one transaction. A record's digest is the SHA-256 of its canonical
 * JSON without the digest itself; `previous` in it is the digest before: whoever changes one record
 * must change all later ones and the head. */
#ifndef TRACKER_OPS_AUDIT_H
#define TRACKER_OPS_AUDIT_H

#include "tracker/ops/op.h"

struct audit_entry {
    const char *action, *subject; /* "promote", the model */
    struct value *details;
};

/* Who did it is the request's "actor". `digest_out` is the new head. */
enum status audit_append(struct op *op, const struct audit_entry *entry,
                         char digest_out[DIGEST_HEX]) MUST_USE;

/* SHA-256 of canonical JSON. */
enum status audit_digest(struct op *op, const struct value *record, struct digest *out) MUST_USE;

#endif
