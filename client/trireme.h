/* libtrireme: records runs, parameters, metrics and artifacts of any program in a Trireme tracker.
 *
 *     trireme *t;
 *     char run[TRIREME_ID_SIZE], why[TRIREME_ERROR_SIZE];
 *     if (trireme_open(NULL, &t, why) != TRIREME_OK)
 *         errx(1, "%s", why);
 *     trireme_run_create(t, "my-experiment", NULL, run);
 *     trireme_param_real(t, run, "lr", 0.1);
 *     for (int step = 0; step < 1000; step++)
 *         trireme_metric(t, run, "loss", step, train_one_step());
 *     trireme_artifact_file(t, run, "weights.bin", "/tmp/weights.bin");
 *     trireme_finish(t, run, "completed", NULL);
 *     if (trireme_close(&t, 10000) != TRIREME_OK) …
 *
 * The functions that record (run_create, param, tag, metric, artifact, finish) never wait and lose
 * nothing: records go to a queue of 64 MiB, then to a file below the home directory, and are sent
 * again when the tracker is back: exactly once, in order, by a later process if need be. Functions
 * that wait say so.
 *
 * What is wrong by itself is refused at the call, with INVALID, and nothing else suffers: a name that is
 * empty, over 200 bytes, not UTF-8 or has control characters, a parameter that is NaN or infinite, a path
 * that leaves the run, text that is not UTF-8. The tracker may refuse more (a parameter that changes its
 * value, a run that does not exist): trireme_flush and trireme_close return the first such refusal.
 *
 * Threading: a handle belongs to one thread at a time; different handles are independent. Do not
 * use a handle after fork. Strings are UTF-8 and are copied. Link with pkg-config trireme.
 */
#ifndef TRIREME_H
#define TRIREME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TRIREME_ID_SIZE    27  /* a run's id and its NUL */
#define TRIREME_ERROR_SIZE 512 /* a message and its NUL */

/* What every function returns: 0, or why it failed. */
enum trireme_status {
    TRIREME_OK,
    TRIREME_INVALID,   /* the input is wrong; trying again will not help */
    TRIREME_NOT_FOUND, /* no such run or file */
    TRIREME_AMBIGUOUS,
    TRIREME_EXISTS,
    TRIREME_CONFLICT,  /* the state does not allow it; the parameter already has another value */
    TRIREME_CORRUPT,   /* stored bytes are damaged */
    TRIREME_TOO_NEW,   /* the tracker speaks a later version */
    TRIREME_TOO_LARGE, /* over a maximum that the message names */
    TRIREME_FULL,      /* queue and disk are full */
    TRIREME_BUSY,
    TRIREME_TIMEOUT, /* no answer in time */
    TRIREME_UNAVAILABLE,
    TRIREME_DENIED, /* not allowed */
    TRIREME_NONFINITE,
    TRIREME_CANCELLED,
    TRIREME_IO, /* the operating system refused */
    TRIREME_NOMEM,
    TRIREME_INTERNAL /* a bug; please report it */
};

typedef struct trireme trireme;

/* Where the tracker is. All zero: the tracker of $TRIREME_HOME on this machine. A remote one needs
 * an endpoint "tcp://host:port" and keys of 40 characters (`trireme keygen`). */
struct trireme_options {
    const char *home;     /* state directory; NULL: $TRIREME_HOME, ~/.local/state/trireme */
    const char *endpoint; /* NULL: the ipc endpoint below home */
    const char *server_key, *public_key, *secret_key; /* for tcp */
};

/* Makes a handle; the tracker need not be running yet. `options` may be NULL. On failure *out is NULL and
 * `why` (may be NULL) says why. DENIED: tcp without keys, a home that others may enter. */
enum trireme_status trireme_open(const struct trireme_options *options, trireme **out,
                                 char why[TRIREME_ERROR_SIZE]);

/* Waits up to timeout_ms until everything is on the tracker's disk; the rest stays on ours for the
 * next process that opens the same home. Always frees the handle and clears *t; NULL is allowed.
 * Returns the first refusal since the last flush. */
enum trireme_status trireme_close(trireme **t, int timeout_ms);

/* The message of the last function that failed on this handle; "" when none did. Valid until the
 * next call. */
const char *trireme_error(const trireme *t);

/* Starts a run in the experiment (created when missing) and writes its new id. `name` may be NULL.
 */
enum trireme_status trireme_run_create(trireme *t, const char *experiment, const char *name,
                                       char run[TRIREME_ID_SIZE]);

/* A parameter never changes its value; a tag may. */
enum trireme_status trireme_param(trireme *t, const char *run, const char *name, const char *value);
enum trireme_status trireme_param_int(trireme *t, const char *run, const char *name, int64_t value);
enum trireme_status trireme_param_real(trireme *t, const char *run, const char *name, double value);
enum trireme_status trireme_tag(trireme *t, const char *run, const char *name, const char *value);

/* One point, with the time of day. Points are sent together, at most 200 ms later if this handle is
 * used again by then. NaN and infinities are kept as they are. At most 256 names per run. */
enum trireme_status trireme_metric(trireme *t, const char *run, const char *name, int64_t step,
                                   double value);

/* Stores bytes, or a file, under `path` ("model/weights.bin") of the run, replacing what was
 * there. trireme_artifact copies and returns; trireme_artifact_file waits until the tracker has the
 * file. */
enum trireme_status trireme_artifact(trireme *t, const char *run, const char *path,
                                     const void *bytes, size_t len);
enum trireme_status trireme_artifact_file(trireme *t, const char *run, const char *path,
                                          const char *file);

/* Ends the run: `state` is "completed", "stopped", "failed" or "cancelled"; `reason` may be NULL.
 */
enum trireme_status trireme_finish(trireme *t, const char *run, const char *state,
                                   const char *reason);

/* Waits up to timeout_ms (-1: for ever) until everything is on disk. Returns the first refusal
 * since the last flush. */
enum trireme_status trireme_flush(trireme *t, int timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
