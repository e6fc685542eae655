/* Reading a series: all of it, or as many points as a plot has room for.
 *
 *     0 │ 1 … w │ w+1 … 2w │ … │ N−1     the matching points, numbered, in stretches of w
 *     ●    ● ●      ● ●          ●       kept: first, last, least and greatest of each stretch
 *
 * There are at most (points − 2) / 2 stretches. A chunk that is inside one stretch as a whole takes
 * part with what its header says, and is unpacked only if one of its points is kept. Chunks that
 * cross a border are unpacked. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "tracker/series/series.h"

/* A point that may still be packed in its chunk. */
struct candidate {
    bool set, packed;
    uint64_t number;
    double value;
    uint32_t chunk, at;
    int64_t step, time_ns;
    uint64_t bits;
};

struct thinning {
    struct kv_txn *txn;
    const struct series *series;
    int64_t after_step;
    uint64_t matching, width; /* width: points of a stretch; 0: there are none */
    uint64_t stretch;         /* the one being filled */
    struct candidate first, min, max;
    struct buf steps, times, values;
    struct points *work, *winner; /* winner: the chunk that was last unpacked for a candidate */
    uint32_t winner_chunk;
    bool winner_there;
};

static void emit(struct thinning *th, int64_t step, int64_t time_ns, uint64_t bits) {
    buf_add_u64(&th->steps, (uint64_t)step);
    buf_add_u64(&th->times, (uint64_t)time_ns);
    buf_add_u64(&th->values, bits);
}

static enum status emit_candidate(struct thinning *th, const struct candidate *c, struct err *err) {
    if (!c->packed) {
        emit(th, c->step, c->time_ns, c->bits);
        return STATUS_OK;
    }
    if (!th->winner_there || th->winner_chunk != c->chunk) {
        enum status st = series_chunk(th->txn, th->series, c->chunk, th->winner, err);
        if (st != STATUS_OK)
            return st;
        th->winner_there = true;
        th->winner_chunk = c->chunk;
    }
    emit(th, th->winner->step[c->at], th->winner->time_ns[c->at], th->winner->bits[c->at]);
    return STATUS_OK;
}

/* Ends the stretch: least and greatest in the order of their numbers, or its first of many NaN. */
static enum status close_stretch(struct thinning *th, struct err *err) {
    const struct candidate *a = &th->min, *b = &th->max;
    enum status st = STATUS_OK;
    if (!th->first.set)
        return STATUS_OK;
    if (!a->set) {
        TRY(emit_candidate(th, &th->first, err));
    } else if (a->number == b->number) {
        TRY(emit_candidate(th, a, err));
    } else {
        TRY(emit_candidate(th, a->number < b->number ? a : b, err));
        TRY(emit_candidate(th, a->number < b->number ? b : a, err));
    }
    th->first.set = th->min.set = th->max.set = false;
out:
    return st;
}

static uint64_t stretch_of(const struct thinning *th, uint64_t number) {
    return (number - 1) / th->width;
}

static void offer(struct thinning *th, const struct candidate *c) {
    if (!th->first.set)
        th->first = *c;
    if (isnan(c->value))
        return;
    if (!th->min.set || c->value < th->min.value)
        th->min = *c;
    if (!th->max.set || c->value > th->max.value)
        th->max = *c;
}

static enum status enter_stretch(struct thinning *th, uint64_t stretch, struct err *err) {
    enum status st = STATUS_OK;
    if (stretch != th->stretch)
        st = close_stretch(th, err);
    th->stretch = stretch;
    return st;
}

/* Point `i` of `work`, the number-th that matches. */
static enum status take_point(struct thinning *th, uint64_t number, size_t i, struct err *err) {
    const struct points *p = th->work;
    struct candidate c = {.set = true,
                          .number = number,
                          .step = p->step[i],
                          .time_ns = p->time_ns[i],
                          .bits = p->bits[i]};
    bool is_last = number == th->matching - 1;
    enum status st = STATUS_OK;
    memcpy(&c.value, &c.bits, sizeof c.bits);
    if (is_last)
        TRY(close_stretch(th, err));
    if (number == 0 || is_last) {
        emit(th, c.step, c.time_ns, c.bits);
    } else if (th->width > 0) {
        TRY(enter_stretch(th, stretch_of(th, number), err));
        offer(th, &c);
    }
out:
    return st;
}

/* Whether a chunk of n points, all matching, numbered from `number`, is inside one stretch. */
static bool is_inside(const struct thinning *th, uint64_t number, size_t n) {
    return number > 0 && number + n < th->matching && th->width > 0 &&
           stretch_of(th, number) == stretch_of(th, number + n - 1);
}

static enum status take_whole(struct thinning *th, uint32_t chunk, const struct chunk_info *info,
                              uint64_t number, struct err *err) {
    struct candidate c = {
        .set = true, .packed = true, .chunk = chunk, .number = number, .value = (double)NAN};
    enum status st = enter_stretch(th, stretch_of(th, number), err);
    if (st != STATUS_OK)
        return st;
    if (!th->first.set)
        th->first = c;
    if (info->min_at == CHUNK_NONE)
        return STATUS_OK;
    c.at = info->min_at;
    c.number = number + c.at;
    c.value = info->min;
    offer(th, &c);
    c.at = info->max_at;
    c.number = number + c.at;
    c.value = info->max;
    offer(th, &c);
    return STATUS_OK;
}

typedef enum status chunk_fn(struct thinning *th, uint32_t chunk, const struct chunk_info *info,
                             uint64_t *number, struct err *err);

/* INT64_MIN means "all": no step is less. */
static bool is_match(const struct thinning *th, int64_t step) {
    return step > th->after_step || th->after_step == INT64_MIN;
}

static enum status each_chunk(struct thinning *th, chunk_fn *fn, uint64_t *number,
                              struct err *err) {
    struct chunk_info info;
    enum status st = STATUS_OK;
    *number = 0;
    for (uint32_t i = 0; i < th->series->chunks; i++) {
        TRY(series_chunk_info(th->txn, th->series, i, &info, err));
        if (is_match(th, info.step_max))
            TRY(fn(th, i, &info, number, err));
    }
out:
    return st;
}

static enum status count_chunk(struct thinning *th, uint32_t chunk, const struct chunk_info *info,
                               uint64_t *number, struct err *err) {
    enum status st = STATUS_OK;
    if (is_match(th, info->step_min)) {
        *number += info->count;
        return STATUS_OK;
    }
    TRY(series_chunk(th->txn, th->series, chunk, th->work, err));
    for (size_t i = 0; i < th->work->count; i++)
        *number += is_match(th, th->work->step[i]);
out:
    return st;
}

static enum status thin_chunk(struct thinning *th, uint32_t chunk, const struct chunk_info *info,
                              uint64_t *number, struct err *err) {
    enum status st = STATUS_OK;
    if (is_match(th, info->step_min) && is_inside(th, *number, info->count)) {
        TRY(take_whole(th, chunk, info, *number, err));
        *number += info->count;
        return STATUS_OK;
    }
    TRY(series_chunk(th->txn, th->series, chunk, th->work, err));
    const struct points *p = th->work;
    for (size_t i = 0; i < th->work->count; i++)
        if (is_match(th, p->step[i]))
            TRY(take_point(th, (*number)++, i, err));
out:
    return st;
}

static enum status copy_chunk(struct thinning *th, uint32_t chunk, const struct chunk_info *info,
                              uint64_t *number, struct err *err) {
    enum status st = STATUS_OK;
    (void)info;
    TRY(series_chunk(th->txn, th->series, chunk, th->work, err));
    const struct points *p = th->work;
    for (size_t i = 0; i < th->work->count; i++)
        if (is_match(th, p->step[i]))
            emit(th, p->step[i], p->time_ns[i], p->bits[i]);
    *number += th->work->count;
out:
    return st;
}

/* One point asked for: the last. Otherwise the first, the last and the stretches between. */
static enum status collect(struct thinning *th, size_t points, struct err *err) {
    uint64_t number;
    enum status st = STATUS_OK;
    TRY(each_chunk(th, count_chunk, &th->matching, err));
    if (th->matching <= points)
        return each_chunk(th, copy_chunk, &number, err);
    uint64_t stretches = points > 2 ? (points - 2) / 2 : 0;
    if (stretches > 0)
        th->width = (th->matching - 2 + stretches - 1) / stretches;
    TRY(each_chunk(th, thin_chunk, &number, err));
out:
    return st;
}

enum status series_read(struct kv_txn *t, const struct series *s, struct series_query query,
                        struct buf *out, struct err *err) {
    struct thinning th = {.txn = t, .series = s, .after_step = query.after_step};
    size_t points = query.points, bound = (points + 2) * 8;
    enum status st = STATUS_OK;
    buf_init(&th.steps, bound);
    buf_init(&th.times, bound);
    buf_init(&th.values, bound);
    struct points *work = malloc(2 * sizeof *work);
    if (work == NULL)
        TRY(err_set(err, STATUS_NOMEM, "out of memory while a metric was read"));
    th.work = work;
    th.winner = work + 1;
    TRY(collect(&th, points, err));
    TRY(buf_status(&th.steps, "the points of a metric", err));
    TRY(buf_status(&th.times, "the points of a metric", err));
    TRY(buf_status(&th.values, "the points of a metric", err));
    size_t skip = points == 1 && th.steps.len > 8 ? 8 : 0;
    if (th.steps.len > skip) {
        buf_add(out, th.steps.data + skip, th.steps.len - skip);
        buf_add(out, th.times.data + skip, th.times.len - skip);
        buf_add(out, th.values.data + skip, th.values.len - skip);
    }
    TRY(buf_status(out, "the points of a metric", err));
out:
    buf_release(&th.steps);
    buf_release(&th.times);
    buf_release(&th.values);
    free(work);
    return st;
}
