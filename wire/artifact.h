/* Artifacts to and from the tracker: content-addressed, resumable, verified.
 *
 *     begin (path, size, SHA-256) ─▶ chunk ─▶ chunk ─▶ … ─▶ commit        put, post
 *        └── the tracker has the bytes already ────────────▶ commit        put
 *
 * Threading: as the session. */
#ifndef WIRE_ARTIFACT_H
#define WIRE_ARTIFACT_H

#include "core/buf.h"
#include "core/hash.h"
#include "wire/session.h"

/* What artifact_post cuts its bytes into without asking: the chunk of store format 1, which every
 * tracker names in its answer to artifact.begin. */
#define ARTIFACT_CHUNK ((size_t)(1 << 20) - 16)

/* Which artifact. */
struct artifact {
    const char *run, *path;   /* the path: wire/artifact_path.h */
    const struct value *meta; /* a map that is stored beside it; NULL: none. Not read by a get */
};

/* Stores the bytes, replacing what was at this path; returns when they are durable. `digest` may be
 * NULL. */
enum status artifact_put(struct session *s, const struct artifact *what, struct net_frame bytes,
                         struct digest *digest, struct err *err) MUST_USE;

/* The same without waiting: everything is posted (the session copies it). */
enum status artifact_post(struct session *s, const struct artifact *what, struct net_frame bytes,
                          struct digest *digest, struct err *err) MUST_USE;

enum status artifact_put_file(struct session *s, const struct artifact *what, const char *file,
                              struct digest *digest, struct err *err) MUST_USE;

/* Completes what run.get says of a run, whose artifacts may be too many for one reply. */
enum status artifact_list_all(struct session *s, struct arena *a, struct value *run,
                              struct err *err) MUST_USE;

/* Appends the bytes to `out` and checks their digest. NOT_FOUND when the run has no such path. */
enum status artifact_get(struct session *s, const struct artifact *what, struct buf *out,
                         struct digest *digest, struct err *err) MUST_USE;

#endif
