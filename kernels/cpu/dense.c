/* Dense: y = x·Wᵀ + b, W (out, in).
 *
 *     forward          Y (B, out) = X · Wᵀ             Wᵀ packed once a step
 *     backward data    dX (B, in) = dY · W              W packed once a step
 *     backward weights dW (out, in) = dYᵀ · X, shard by shard: a tile of 8 × 48 weights takes all
 *                      shards of the call in turn, folded by a binary counter in L1:
 *
 *                        shard:   0      1         2      3
 *                        tile:    →L0    +L0 →L1   →L0    +L0 +L1 → gradient
 */
#include <string.h>

#include "kernels/cpu/gemm.h"

struct dense {
    float *forward;  /* packed Wᵀ */
    float *backward; /* packed W; NULL where no dx is needed */
    float *x;        /* one packed panel of the group's X: (rows, GEMM_PANEL) */
    float *tiles;    /* (levels, GEMM_ROWS, GEMM_PANEL) */
    float *bias;     /* (levels + 1, out): bias gradients of shards on their way */
};

static void dense_release(struct device *d, struct node *n) {
    struct dense *s = n->state;
    (void)d;
    cpu_free(s->forward);
    cpu_free(s->backward);
    cpu_free(s->x);
    cpu_free(s->tiles);
    cpu_free(s->bias);
    cpu_free(s);
}

static enum status dense_prepare(struct device *d, struct node *n, const struct extent *e,
                                 struct err *err) {
    enum status st = STATUS_OK;
    void *p = NULL;
    struct dense *s;
    int64_t in = n->in_count, out = n->out_count, levels = cpu_log2(e->shards) + 1;
    (void)d;
    TRY(cpu_state(n, sizeof *s, &p, err));
    s = p;
    TRY(cpu_part(n, cpu_gemm_packed(in, out), sizeof(float), (void **)&s->forward, err));
    if (n->needs_dx)
        TRY(cpu_part(n, cpu_gemm_packed(out, in), sizeof(float), (void **)&s->backward, err));
    TRY(cpu_part(n, e->shards * e->shard_rows * GEMM_PANEL, sizeof(float), (void **)&s->x, err));
    TRY(cpu_part(n, levels * GEMM_ROWS * GEMM_PANEL, sizeof(float), (void **)&s->tiles, err));
    TRY(cpu_part(n, (levels + 1) * out, sizeof(float), (void **)&s->bias, err));
out:
    return st;
}

static void dense_refresh(const struct node *n, const float *weights, bool training) {
    const struct dense *s = n->state;
    const float *w = weights + n->param[0];
    int64_t in = n->in_count, out = n->out_count;
    for (int64_t j = 0; j < out; j += GEMM_PANEL)
        cpu_pack_columns(w + j * in, in, in, out - j < GEMM_PANEL ? out - j : GEMM_PANEL,
                         s->forward + j * in);
    for (int64_t j = 0; training && s->backward != NULL && j < in; j += GEMM_PANEL)
        cpu_pack_rows(w + j, in, out, in - j < GEMM_PANEL ? in - j : GEMM_PANEL,
                      s->backward + j * out);
}

static void dense_forward(const struct node *n, const struct pass *p) {
    const struct dense *s = n->state;
    const float *bias = n->param[1] >= 0 ? p->weights + n->param[1] : NULL;
    struct cpu_product product = {.a = p->x[0],
                                  .a_row = n->in_count,
                                  .b = s->forward,
                                  .m = p->rows,
                                  .n = n->out_count,
                                  .k = n->in_count,
                                  .bias = bias,
                                  .relu = n->relu,
                                  .c = p->y,
                                  .c_row = n->out_count};
    cpu_gemm_rows(&product);
}

static void bias_gradient(const struct node *n, const struct pass *p) {
    const struct dense *s = n->state;
    int64_t out = n->out_count;
    float *leaf = s->bias + (cpu_log2(p->shards) + 1) * out;
    struct cpu_tree tree = {p->fold, s->bias, out, n->param[1], p->shards};
    for (int shard = 0; shard < p->shards; shard++) {
        struct cpu_sum sum;
        cpu_column_sums(pass_dy(p) + shard * p->shard_rows * out, p->shard_rows, out, leaf);
        cpu_sum_plan(&tree, shard, &sum);
        cpu_sum_apply(&sum, leaf, out);
    }
}

/* The tile at (row, column) of dW for every shard of the call. */
static void fold_tile(const struct node *n, const struct pass *p, cpu_tile_fn *run,
                      struct cpu_tile *t, int64_t row, int64_t column) {
    const struct dense *s = n->state;
    int64_t in = n->in_count, out = n->out_count;
    const int64_t tile = GEMM_ROWS * GEMM_PANEL, place = n->param[0] + row * in + column;
    for (int r = 0; r < t->rows; r++) /* its lines arrive while the sums are made */
        for (int c = 0; c < t->columns; c += 16)
            __builtin_prefetch(p->fold->dst + place + r * in + c, 1);
    for (int shard = 0; shard < p->shards; shard++) {
        int full = __builtin_ctz(~(unsigned)shard), inner = cpu_log2(p->shards);
        bool last = shard == p->shards - 1;
        t->a = pass_dy(p) + shard * p->shard_rows * out + row;
        t->b = s->x + shard * p->shard_rows * GEMM_PANEL;
        t->adds = last ? inner : full;
        for (int i = 0; i < t->adds; i++) {
            t->add[i] = s->tiles + i * tile;
            t->add_row[i] = GEMM_PANEL;
        }
        t->c = s->tiles + t->adds * tile;
        t->c_row = GEMM_PANEL;
        if (last) {
            for (int i = 0; i < p->fold->adds; i++, t->adds++) {
                t->add[t->adds] = p->fold->add[i] + place;
                t->add_row[t->adds] = in;
            }
            t->c = p->fold->dst + place;
            t->c_row = in;
        }
        run(t);
    }
}

static void dense_backward_weights(const struct node *n, const struct pass *p) {
    const struct dense *s = n->state;
    int64_t in = n->in_count, out = n->out_count;
    cpu_tile_fn *run = cpu_gemm_tile();
    struct cpu_tile t;
    if (n->relu)
        cpu_relu_mask(p->dy, p->y, p->rows * out);
    if (n->param[1] >= 0)
        bias_gradient(n, p);
    t.a_row = 1;
    t.a_k = out;
    t.k = p->shard_rows;
    t.bias = NULL;
    t.relu = false;
    for (int64_t j = 0; j < in; j += GEMM_PANEL) {
        t.columns = in - j < GEMM_PANEL ? (int)(in - j) : GEMM_PANEL;
        cpu_pack_rows(pass_x(p) + j, in, p->rows, t.columns, s->x);
        for (int64_t i = 0; i < out; i += GEMM_ROWS) {
            t.rows = out - i < GEMM_ROWS ? (int)(out - i) : GEMM_ROWS;
            fold_tile(n, p, run, &t, i, j);
        }
    }
}

static void dense_backward_data(const struct node *n, const struct pass *p) {
    const struct dense *s = n->state;
    struct cpu_product product = {.a = p->dy,
                                  .a_row = n->out_count,
                                  .b = s->backward,
                                  .m = p->rows,
                                  .n = n->in_count,
                                  .k = n->out_count,
                                  .c = p->dx[0],
                                  .c_row = n->in_count};
    cpu_gemm_rows(&product);
}

const struct operation cpu_dense = {
    .prepare = dense_prepare,
    .release = dense_release,
    .refresh = dense_refresh,
    .forward = dense_forward,
    .backward_weights = dense_backward_weights,
    .backward_data = dense_backward_data,
};
