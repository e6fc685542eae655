/* Earlier attempts: their checkpoints found, and what lies beside them carried over. */
#include "worker/group/resume.h"

#include <string.h>

#include "core/log.h"
#include "wire/artifact.h"
#include "worker/group/run_paths.h"

static enum status get(const struct resume *r, const char *path, struct buf *out, struct err *err) {
    link_tend(r->link);
    return artifact_get(r->link->tracker, &(struct artifact){.run = r->run, .path = path}, out,
                        NULL, err);
}

/* ---- the trace ---- */

/* One chunk, with what is held let go first. */
static enum status next_chunk(const struct resume *r, struct trace *t, struct buf *bytes,
                              struct err *err) {
    char path[TRACE_PATH_MAX];
    enum status st = STATUS_OK;
    buf_clear(bytes);
    trace_path(t, path);
    TRY(get(r, path, bytes, err));
    TRY(trace_append(t, bytes->data, bytes->len, err));
out:
    return st == STATUS_OK ? st : err_wrap(err, st, "%s", path);
}

/* Walks the chunks up to the checkpoint's step; the last one stays in `t`. With `own`, each full one is
 * stored for that run. */
static enum status walk(const struct resume *r, struct trace *t, const char *own, struct err *err) {
    enum status st = STATUS_OK;
    struct buf bytes = BUF_INIT(CHECKPOINT_BYTES_MAX);
    int64_t step = r->about.step;
    while (t->count < step) {
        char path[TRACE_PATH_MAX];
        int64_t before = t->count;
        TRY(next_chunk(r, t, &bytes, err));
        if (t->count == before || (t->count < step && t->count - t->first != TRACE_CHUNK)) {
            st = err_set(err, STATUS_CORRUPT, "the trace ends at step %lld", (long long)t->count);
            goto out;
        }
        trace_path(t, path);
        if (t->count - t->first == TRACE_CHUNK && t->count <= step) {
            if (own != NULL)
                link_post_artifact(r->link, own, path, bytes.data, bytes.len);
            (void)trace_cut(t);
        }
    }
    trace_shorten(t, step);
    if (memcmp(t->chain.bytes, r->about.chain.bytes, DIGEST_BYTES) != 0)
        st = err_set(err, STATUS_CORRUPT, "the trace is not the one that led to the checkpoint");
out:
    buf_release(&bytes);
    return st;
}

static enum status check_trace(const struct resume *r, struct err *err) {
    struct trace t;
    enum status st = trace_init(&t, 0, 0, err);
    if (st == STATUS_OK && !r->about.whole_trace)
        st = walk(r, &t, NULL, err);
    trace_release(&t);
    return st;
}

/* ---- the best weights ---- */

static enum status get_best(const struct resume *r, struct buf *bytes, struct best *out,
                            struct err *err) {
    const struct best *kept = &r->about.best;
    enum status st = STATUS_OK;
    TRY(get(r, RUN_BEST, bytes, err));
    TRY(checkpoint_read_best(r->model, bytes->data, bytes->len, out, err));
    bool same = memcmp(out->weights.bytes, kept->weights.bytes, DIGEST_BYTES) == 0;
    if (out->step == kept->step ? !same : out->step <= r->about.step)
        st = err_set(err, STATUS_CORRUPT,
                     "%s is of step %lld and not what the checkpoint says of step %lld", RUN_BEST,
                     (long long)out->step, (long long)kept->step);
out:
    return st;
}

/* Whether there are best weights to carry over. */
static bool has_best(const struct resume *r) {
    return r->needs_best && r->about.best.step > 0 && !r->about.best.unknown;
}

static enum status check_best(const struct resume *r, struct err *err) {
    struct buf bytes = BUF_INIT(CHECKPOINT_BYTES_MAX);
    struct best b;
    enum status st = has_best(r) ? get_best(r, &bytes, &b, err) : STATUS_OK;
    buf_release(&bytes);
    return st;
}

/* ---- together ---- */

/* The newest checkpoint of one attempt, with everything that it needs. */
static enum status look_at(struct resume *r, struct err *err) {
    enum status st = STATUS_OK;
    TRY(get(r, RUN_CHECKPOINT, &r->bytes, err));
    TRY(checkpoint_about(r->bytes.data, r->bytes.len, &r->about, err));
    TRY(check_trace(r, err));
    TRY(check_best(r, err));
out:
    return st;
}

bool resume_find(struct resume *r) {
    const struct value *runs = r->link->resume;
    while (runs != NULL && r->next < runs->count) {
        const struct value *v = runs->items[r->next++];
        struct err err;
        if (v->kind != VALUE_STRING)
            continue;
        r->run = v->string;
        buf_clear(&r->bytes);
        enum status st = look_at(r, &err);
        if (st == STATUS_OK)
            return true;
        if (st != STATUS_NOT_FOUND || r->bytes.len > 0)
            log_line(LOG_WARN, "checkpoint", "run=%s passed_over code=%s text=\"%s\"", r->run,
                     status_name(st), err.text);
    }
    return false;
}

void resume_carry(struct resume *r, const char *own, struct progress *progress) {
    struct buf bytes = BUF_INIT(CHECKPOINT_BYTES_MAX);
    struct err err;
    if (!r->about.whole_trace) {
        static const struct digest start = {{0}};
        trace_begin_at(progress->trace, 0, &start);
        if (walk(r, progress->trace, own, &err) != STATUS_OK)
            link_fail(r->link, "trace", &err);
    }
    if (has_best(r)) {
        if (get_best(r, &bytes, &progress->best, &err) == STATUS_OK)
            link_post_artifact(r->link, own, RUN_BEST, bytes.data, bytes.len);
        else
            link_fail(r->link, RUN_BEST, &err);
    }
    buf_release(&bytes);
}
