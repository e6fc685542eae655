/* Rank 0's bytes on every rank: configurations, weights, checkpoints. */
#include "worker/group/share.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/json.h"
#include "core/output.h"
#include "core/path.h"
#include "worker/train/checkpoint.h"

struct shared {
    bool here; /* rank 0 had something, of whatever length */
    const void *bytes;
    size_t len;
    void *copy; /* to be freed; NULL on rank 0 */
};

/* Whether rank 0 has something: nothing at all is not the same as no bytes. */
static enum status share_presence(struct worker *w, bool mine, bool *here, struct err *err) {
    char flag = mine ? 1 : 0;
    void *at = &flag;
    size_t len = sizeof flag;
    enum status st = world_share(w->world, &at, &len, err);
    if (st != STATUS_OK)
        return st;
    *here = *(const char *)at != 0;
    if (at != &flag)
        free(at);
    return STATUS_OK;
}

/* `mine` is rank 0's; NULL: none, and out->here is false on every rank. */
static enum status share(struct worker *w, const struct buf *mine, struct shared *out,
                         struct err *err) {
    bool leader = world_rank(w->world) == 0;
    static const char nothing = 0;
    union {
        const void *in;
        void *shared; /* rank 0's bytes are only read */
    } at = {.in = leader && mine != NULL && mine->len > 0 ? mine->data : &nothing};
    *out = (struct shared){0};
    enum status st = share_presence(w, leader && mine != NULL, &out->here, err);
    if (st != STATUS_OK || !out->here)
        return st;
    out->len = leader ? mine->len : 0;
    st = world_share(w->world, &at.shared, &out->len, err);
    if (st == STATUS_OK && !leader)
        out->copy = at.shared;
    out->bytes = at.in;
    return st;
}

enum status worker_share_value(struct worker *w, struct arena *a, const struct value *mine,
                               struct value **out, struct err *err) {
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    struct shared all = {0};
    enum status st = STATUS_OK;
    *out = NULL;
    if (mine != NULL)
        st = json_dump(mine, JSON_COMPACT, &text, err);
    st = world_agree(w->world, st, err);
    if (st == STATUS_OK)
        st = share(w, mine != NULL ? &text : NULL, &all, err);
    if (st == STATUS_OK && all.here)
        st = world_agree(w->world, json_parse(a, all.bytes, all.len, "configuration", out, err),
                         err);
    buf_release(&text);
    free(all.copy);
    return st;
}

/* Rank 0 reads ("-": standard input), everybody parses; positions stay for messages. */
static enum status read_text(const char *file, struct buf *out, struct err *err) {
    if (strcmp(file, "-") != 0)
        return path_read(file, out, err);
    for (;;) {
        char chunk[65536];
        ssize_t n = read(STDIN_FILENO, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, errno, "read standard input");
        if (n == 0)
            return buf_status(out, "standard input", err);
        buf_add(out, chunk, (size_t)n);
    }
}

enum status worker_load_config(struct worker *w, const char *file, struct arena *a,
                               struct value **out, struct err *err) {
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    struct shared all = {0};
    enum status st = STATUS_OK;
    if (world_rank(w->world) == 0)
        st = read_text(file, &text, err);
    st = world_agree(w->world, st, err);
    if (st == STATUS_OK)
        st = share(w, &text, &all, err);
    if (st == STATUS_OK)
        st = world_agree(w->world, json_parse(a, all.bytes, all.len, file, out, err), err);
    buf_release(&text);
    free(all.copy);
    return st;
}

enum status worker_share_weights(struct worker *w, struct trainer *t, const struct buf *bytes,
                                 struct err *err) {
    struct shared all = {0};
    enum status st = share(w, bytes, &all, err);
    const struct model *m = trainer_model(t);
    if (st == STATUS_OK && all.here) {
        float *flat = calloc((size_t)m->vector_count, sizeof *flat);
        if (flat == NULL)
            world_abort(w->world, status_exit_code(STATUS_NOMEM));
        st = world_agree(w->world, checkpoint_read_weights(m, all.bytes, all.len, flat, err), err);
        if (st == STATUS_OK)
            trainer_set(t, flat, NULL, 0);
        free(flat);
    }
    free(all.copy);
    return st;
}

enum status worker_share_checkpoint(struct worker *w, struct trainer *t, struct progress *progress,
                                    const struct buf *bytes, bool *found, struct err *err) {
    struct shared all = {0};
    enum status st = share(w, bytes, &all, err);
    *found = all.here;
    if (st == STATUS_OK && all.here)
        st = world_agree(w->world, checkpoint_read(t, all.bytes, all.len, progress, err), err);
    free(all.copy);
    return st;
}

enum status worker_start_weights(struct worker *w, struct trainer *t, struct buf *bytes,
                                 bool *found, struct err *err) {
    const char *file = trainer_config(t)->training.initial_weights;
    enum status st = STATUS_OK;
    *found = false;
    if (file == NULL)
        return STATUS_OK;
    if (world_rank(w->world) == 0)
        st = path_read(file, bytes, err);
    st = world_agree(w->world, st, err);
    if (st == STATUS_OK)
        st = worker_share_weights(w, t, bytes, err);
    *found = st == STATUS_OK;
    return st == STATUS_OK ? st : err_wrap(err, st, "initial_weights %s", file);
}

enum status worker_print(const struct value *v, struct err *err) {
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    enum status st = json_dump(v, JSON_COMPACT, &text, err);
    if (st == STATUS_OK) {
        (void)printf("%s\n", buf_text(&text));
        st = output_finish(err);
    }
    buf_release(&text);
    return st;
}
