/* The points of one metric, fetched and joined. */
#include "client/cli/curve.h"

#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"

void curve_release(struct curve *c) {
    free(c->steps);
    free(c->times);
    free(c->values);
    *c = (struct curve){.count = 0};
}

static enum status make(struct curve *c, size_t count, struct err *err) {
    *c = (struct curve){.count = count};
    c->steps = calloc(count + 1, sizeof *c->steps);
    c->times = calloc(count + 1, sizeof *c->times);
    c->values = calloc(count + 1, sizeof *c->values);
    if (c->steps != NULL && c->times != NULL && c->values != NULL)
        return STATUS_OK;
    curve_release(c);
    return err_set(err, STATUS_NOMEM, "out of memory for %zu points", count);
}

static void copy_point(struct curve *to, size_t i, const struct curve *from, size_t k) {
    to->steps[i] = from->steps[k];
    to->times[i] = from->times[k];
    to->values[i] = from->values[k];
}

/* Takes both, and leaves their union in *into. */
static enum status join(struct curve *into, struct curve *later, struct err *err) {
    struct curve both;
    size_t i = 0, k = 0, n = 0;
    enum status st = make(&both, into->count + later->count, err);
    if (st != STATUS_OK)
        return st;
    while (i < into->count || k < later->count) {
        bool old = k == later->count || (i < into->count && into->steps[i] < later->steps[k]);
        if (old) {
            copy_point(&both, n++, into, i++);
            continue;
        }
        while (i < into->count && into->steps[i] == later->steps[k])
            i++;
        copy_point(&both, n++, later, k++);
    }
    both.count = n;
    curve_release(into);
    curve_release(later);
    *into = both;
    return STATUS_OK;
}

/* ---- from the tracker ---- */

/* One reply's columns behind what is there. */
static enum status append(struct curve *c, const struct session_reply *reply, struct err *err) {
    const struct net_message *m = &reply->message;
    size_t count = (size_t)value_get_int(reply->header, "count", 0);
    if (count == 0)
        return STATUS_OK;
    if (m->frame_count < 3 || m->frames[0].len < count * 8 || m->frames[1].len < count * 8 ||
        m->frames[2].len < count * 8)
        return err_set(err, STATUS_CORRUPT,
                       "the tracker sent %zu columns, too short for %zu points", m->frame_count,
                       count);
    struct curve grown;
    enum status st = make(&grown, c->count + count, err);
    if (st != STATUS_OK)
        return st;
    for (size_t i = 0; i < c->count; i++)
        copy_point(&grown, i, c, i);
    for (size_t i = 0; i < count; i++) {
        grown.steps[c->count + i] =
            (int64_t)bytes_get_u64((const uint8_t *)m->frames[0].data + 8 * i);
        grown.times[c->count + i] =
            (int64_t)bytes_get_u64((const uint8_t *)m->frames[1].data + 8 * i);
        grown.values[c->count + i] = bytes_get_f64((const uint8_t *)m->frames[2].data + 8 * i);
    }
    curve_release(c);
    *c = grown;
    return STATUS_OK;
}

/* A tracker's answer has at most a million points: what is left is asked for, as long as it comes. */
static enum status fetch_run(struct cli *cli, const struct curve_ask *ask, const char *run,
                             struct curve *out, struct err *err) {
    enum status st = STATUS_OK;
    struct arena a;
    struct session_reply reply = {.header = NULL};
    bool more = true;
    arena_init(&a, CLI_ARENA_BYTES);
    *out = (struct curve){.count = 0};
    while (more) {
        size_t before = out->count;
        arena_clear(&a);
        struct value *request = message_request(&a, "run.metrics", NULL);
        value_set_string(&a, request, "run", run);
        value_set_string(&a, request, "key", ask->key);
        value_set_int(&a, request, "rank", ask->rank);
        if (ask->points > 0)
            value_set_int(&a, request, "points", ask->points);
        if (before > 0)
            value_set_int(&a, request, "after_step", out->steps[before - 1]);
        TRY(cli_ask_frames(cli, &a, request, &reply, err));
        TRY(append(out, &reply, err));
        more = ask->points == 0 && out->count > before &&
               (int64_t)out->count < value_get_int(reply.header, "total", 0);
        session_reply_release(&reply);
    }
out:
    session_reply_release(&reply);
    arena_release(&a);
    if (st != STATUS_OK)
        curve_release(out);
    return st;
}

enum status curve_fetch(struct cli *cli, const struct curve_ask *ask, struct curve *out,
                        struct err *err) {
    enum status st = STATUS_OK;
    struct curve_ask each = *ask;
    struct curve one = {.count = 0};
    size_t missing = 0;
    *out = (struct curve){.count = 0};
    if (ask->points > 0) /* together no more than asked for */
        each.points = ask->points / (int64_t)ask->of->count;
    if (ask->points > 0 && each.points == 0)
        each.points = 1;
    for (size_t i = 0; i < ask->of->count; i++) {
        const char *run = value_get_string(ask->of->runs[i], "run", "");
        st = fetch_run(cli, &each, run, &one, err);
        if (st == STATUS_NOT_FOUND && ++missing < ask->of->count) {
            st = STATUS_OK;
            continue;
        }
        if (st != STATUS_OK)
            goto out;
        TRY(join(out, &one, err));
    }
out:
    curve_release(&one);
    if (st != STATUS_OK)
        curve_release(out);
    return st;
}
