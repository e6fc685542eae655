/* Artifacts to and from the tracker: content-addressed, resumable, verified. */
#ifndef WIRE_ARTIFACT_H
#define WIRE_ARTIFACT_H

#include "core/buf.h"
#include "core/hash.h"
#include "wire/session.h"

/* What artifact_post cuts its bytes into without asking: the chunk of store format 1, which every
 * tracker says in its answer to artifact.begin. */
#define ARTIFACT_CHUNK ((size_t)(1 << 20) - 16)

/* Stores bytes as `path` of the run, replacing what stood there; returns when they are durable. */
enum status artifact_put(struct session *s, const char *run, const char *path, const void *bytes,
                         size_t len, const struct value *meta, struct digest *digest,
                         struct err *err) MUST_USE;

/* The same without waiting: everything is posted (the session copies it). */
enum status artifact_post(struct session *s, const char *run, const char *path, const void *bytes,
                          size_t len, const struct value *meta, struct digest *digest,
                          struct err *err) MUST_USE;

enum status artifact_put_file(struct session *s, const char *run, const char *path,
                              const char *file, struct digest *digest, struct err *err) MUST_USE;

/* Appends the bytes to `out` and checks their digest. NOT_FOUND when the run has no such path. */
enum status artifact_get(struct session *s, const char *run, const char *path, struct buf *out,
                         struct digest *digest, struct err *err) MUST_USE;

#endif
