/* The optimizer on the slices of several ranks and buckets, with clipping and batch norm: the norm leaves statistics and
 * scalars out, every element moves once, state is packed bucket after bucket, and what is not finite stops. The
 * expected values are of double arithmetic over the model's parameters, with no idea of blocks. */
#include "kernels/run/update.h"
#include "tests/unit/kernels/net.h"

#define SHARDS 4
#define BATCH  64
#define LR     0.5
#define CUT    3 /* buckets */

#define NORMED                                                                                     \
    "[{dense: {out: 60}}, batch_norm, relu, {dense: {out: 60}}, batch_norm, relu, {dense: {out: "  \
    "30}}, "

/* Statistics in the middle of a block and over the seam of two; beside the scalars, or nowhere near them. */
static const char *const nets[] = {NORMED "batch_norm, {dense: {out: 3}}, batch_norm]",
                                   NORMED "relu, {dense: {out: 50}}]"};

struct part {
    struct update *u;
    struct slice owned[CUT];
};

struct scene {
    struct net net;
    const struct model *m;
    struct spec_optimizer optimizer;
    float *w, *g;
    int64_t n, blocks;
    int ranks;
    struct part parts[3];
    double *norms; /* (blocks) */
};

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* The share of `rank` in the blocks of a bucket: neighbours, as even as they come. */
static struct slice share_of(const struct scene *s, int bucket, int rank) {
    int64_t from = s->blocks * bucket / CUT, count = s->blocks * (bucket + 1) / CUT - from;
    int64_t first = from + count * rank / s->ranks, end = from + count * (rank + 1) / s->ranks;
    int64_t begin = first * NORM_BLOCK;
    return (struct slice){begin, least(end * NORM_BLOCK, s->n) - begin};
}

/* What an element belongs to; NULL: to the padding or to the scalars. */
static const struct param *param_at(const struct model *m, int64_t i) {
    for (int p = 0; p < m->param_count; p++)
        if (i >= m->params[p].offset && i < m->params[p].offset + m->params[p].count)
            return &m->params[p];
    return NULL;
}

static bool trained(const struct param *p) {
    return p != NULL && p->kind != PARAM_STAT;
}

/* Padding is zero in every vector; the scalars are not. */
static void draw_vectors(struct scene *s) {
    for (int64_t i = 0; i < s->n; i++) {
        bool padding = i < s->m->flat_count && param_at(s->m, i) == NULL;
        s->w[i] = i < s->m->flat_count && !padding ? noise(5, i) : 0;
        s->g[i] = padding ? 0 : 20 * noise(6, i);
    }
}

static void open_scene(struct scene *s, int net, int ranks, double clip_norm) {
    struct err err = {0};
    *s =
        (struct scene){.ranks = ranks,
                       .optimizer = {.kind = OPTIMIZER_SGD, .lr = LR, .momentum = 0.5, .slots = 1}};
    net_open(&s->net, nets[net], (struct shape){1, {50}}, LOSS_CROSS_ENTROPY, SHARDS,
             BATCH / SHARDS);
    s->m = s->net.model;
    s->n = s->m->vector_count;
    s->blocks = (s->n + NORM_BLOCK - 1) / NORM_BLOCK;
    s->w = calloc((size_t)s->n, sizeof *s->w);
    s->g = calloc((size_t)s->n, sizeof *s->g);
    s->norms = calloc((size_t)s->blocks, sizeof *s->norms);
    draw_vectors(s);
    for (int r = 0; r < ranks; r++) {
        for (int b = 0; b < CUT; b++)
            s->parts[r].owned[b] = share_of(s, b, r);
        struct update_spec spec = {.optimizer = &s->optimizer,
                                   .model = s->m,
                                   .weights = s->w,
                                   .gradient = s->g,
                                   .owned = s->parts[r].owned,
                                   .bucket_count = CUT,
                                   .blocks = s->blocks,
                                   .shards = SHARDS,
                                   .batch = BATCH,
                                   .clip_norm = clip_norm};
        must(update_new(s->net.device, &spec, &s->parts[r].u, &err), &err);
    }
}

static void close_scene(struct scene *s) {
    for (int r = 0; r < s->ranks; r++)
        update_destroy(&s->parts[r].u);
    free(s->w), free(s->g), free(s->norms);
    net_close(&s->net);
}

/* A step of all ranks, as the trainer does it. Returns the flags of all together. */
static uint32_t step(struct scene *s, int64_t number, bool clipped) {
    const struct device_update *table = s->net.device->backend->update;
    struct step_terms terms = {.step = number, .scale = 1.0f / BATCH};
    uint32_t flags = 0;
    for (int kind = 0; kind < 2; kind++)
        optimizer_rates(&s->optimizer, kind == 0 ? PARAM_WEIGHT : PARAM_PLAIN, number, LR,
                        &terms.rates[kind]);
    for (int r = 0; clipped && r < s->ranks; r++) {
        const double *packed = NULL;
        for (int b = 0; b < CUT; b++)
            packed = update_norms(s->parts[r].u, b);
        for (int b = 0; b < CUT; b++)
            for (int64_t at = 0; at < s->parts[r].owned[b].count; at += NORM_BLOCK)
                s->norms[(s->parts[r].owned[b].begin + at) / NORM_BLOCK] = *packed++;
    }
    for (int r = 0; r < s->ranks; r++) {
        table->begin_step(s->net.device, &terms);
        if (clipped)
            update_clip(s->parts[r].u, s->norms);
        update_apply(s->parts[r].u, 0, 1);
        update_apply(s->parts[r].u, 1, CUT - 1);
        flags |= *table->flags(s->net.device);
    }
    return flags;
}

static double norm_of(const struct scene *s, int64_t from, int64_t to) {
    double sum = 0;
    for (int64_t i = from; i < least(to, s->n); i++)
        if (trained(param_at(s->m, i)))
            sum += (double)s->g[i] * (double)s->g[i];
    return sum;
}

static void close_to(double have, double want, const char *what, int64_t i) {
    if (!(fabs(have - want) <= 2e-6 * (1 + fabs(want))))
        fail_msg("%s %lld is %.9g, not %.9g", what, (long long)i, have, want);
}

/* Two steps with the same gradient: the second one shows that the first one's state was kept. */
static void check_elements(const struct scene *s, const float *before, double scale) {
    for (int64_t i = 0; i < s->n; i++) {
        const struct param *p = param_at(s->m, i);
        double g = (double)s->g[i], w = (double)before[i];
        if (trained(p))
            w -= LR * g * scale + LR * (g * scale * 1.5);
        else if (p != NULL)
            for (int k = 0; k < 2; k++)
                w += (double)p->momentum * (g / SHARDS - w);
        close_to((double)s->w[i], w, "element", i);
    }
}

static void check_slots(struct scene *s, double scale) {
    for (int r = 0; r < s->ranks; r++) {
        const float *packed = update_slot(s->parts[r].u, 0);
        for (int b = 0; b < CUT; b++) {
            struct slice own = s->parts[r].owned[b];
            for (int64_t i = 0; i < own.count; i++)
                if (trained(param_at(s->m, own.begin + i)))
                    close_to((double)packed[i], (double)s->g[own.begin + i] * scale * 1.5, "slot",
                             own.begin + i);
            packed += (own.count + NORM_BLOCK - 1) / NORM_BLOCK * NORM_BLOCK;
        }
    }
}

/* clip_norm, and by what the mean gradient is scaled with it. */
static void run_scene(int net, int ranks, double clip_norm, float *same, double *norm) {
    struct scene s;
    open_scene(&s, net, ranks, clip_norm);
    size_t bytes = (size_t)s.n * sizeof(float);
    float *before = malloc(bytes);
    memcpy(before, s.w, bytes);
    *norm = sqrt(norm_of(&s, 0, s.n)) / BATCH;
    double share = clip_norm > 0 && clip_norm < *norm ? clip_norm / (*norm + 1e-6) : 1;
    for (int64_t k = 1; k <= 2; k++)
        assert_int_equal(step(&s, k, clip_norm > 0), 0);
    for (int64_t b = 0; clip_norm > 0 && b < s.blocks; b++)
        close_to(s.norms[b], norm_of(&s, b * NORM_BLOCK, (b + 1) * NORM_BLOCK), "block", b);
    for (int r = 0; clip_norm > 0 && r < ranks; r++)
        close_to(update_norm(s.parts[r].u), *norm, "norm of rank", r);
    check_elements(&s, before, share / BATCH);
    check_slots(&s, share / BATCH);
    if (ranks == 1)
        memcpy(same, s.w, bytes);
    assert_memory_equal(s.w, same, bytes);
    free(before);
    close_scene(&s);
}

static void test_ranks_and_buckets(void **state) {
    (void)state;
    static float same[1 << 15];
    for (int net = 0; net < 2; net++) {
        double norm = 0;
        for (int ranks = 1; ranks <= 3; ranks++)
            run_scene(net, ranks, 0, same, &norm);
        assert_true(norm > 1);
        double clips[] = {norm / 3, norm * 2};
        for (size_t i = 0; i < 2; i++)
            for (int ranks = 1; ranks <= 3; ranks++)
                run_scene(net, ranks, clips[i], same, &norm);
    }
}

/* Whether a block holds anything but gradient. */
static bool is_mixed(const struct scene *s, int64_t block) {
    for (int64_t i = block * NORM_BLOCK; i < least((block + 1) * NORM_BLOCK, s->n); i++)
        if (i >= s->m->flat_count || (param_at(s->m, i) != NULL && !trained(param_at(s->m, i))))
            return true;
    return false;
}

/* What is not mixed takes the short way, and there is enough of both. */
static void test_mixed(void **state) {
    (void)state;
    for (int net = 0; net < 2; net++) {
        struct scene s;
        open_scene(&s, net, 2, 1);
        int64_t mixed = 0;
        assert_true(s.blocks > 2 * CUT && s.n < 1 << 15);
        for (int r = 0; r < s.ranks; r++) {
            const struct part *p = &s.parts[r];
            int64_t k = 0;
            for (int b = 0; b < CUT; b++)
                for (int64_t at = 0; at < p->owned[b].count; at += NORM_BLOCK, k++) {
                    bool want = is_mixed(&s, (p->owned[b].begin + at) / NORM_BLOCK);
                    assert_int_equal(p->u->mixed[k], want);
                    mixed += want;
                }
            assert_int_equal(k, p->u->owned_blocks);
        }
        assert_true(mixed >= 3 && s.blocks - mixed >= 3);
        close_scene(&s);
    }
}

/* A loss, a gradient, a norm that is not finite: said, and nothing that belongs to it has moved. */
static void test_not_finite(void **state) {
    (void)state;
    struct scene s;
    open_scene(&s, 0, 2, 1.0);
    size_t bytes = (size_t)s.n * sizeof(float);
    float *before = malloc(bytes);
    memcpy(before, s.w, bytes);
    s.g[7] = INFINITY;
    assert_int_equal(step(&s, 1, true), OUTCOME_NONFINITE);
    assert_memory_equal(s.w, before, bytes);
    s.g[7] = 1;
    assert_int_equal(step(&s, 1, true), 0);
    assert_true(s.w[7] != before[7]);
    close_scene(&s);
    open_scene(&s, 0, 2, 0);
    s.g[s.m->flat_count + SCALAR_LOSS] = NAN;
    assert_int_equal(step(&s, 1, false), OUTCOME_NONFINITE);
    struct slice last = s.parts[1].owned[CUT - 1];
    assert_true(last.begin + last.count == s.n && last.count > SCALARS);
    assert_memory_equal(s.w + last.begin, before + last.begin, (size_t)last.count * sizeof(float));
    assert_true(s.w[7] != before[7]);
    free(before);
    close_scene(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mixed),
        cmocka_unit_test(test_ranks_and_buckets),
        cmocka_unit_test(test_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
