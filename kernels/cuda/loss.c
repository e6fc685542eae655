/* Losses: a number for each shard, and the gradient of the sum over rows, as kernels/cpu/loss.c.
 *
 *     cross entropy   L = ln Σ e^(x_c − m) − (x_label − m), m = max;  ∂L/∂x_c = softmax_c − [c = label]
 *     MSE             L = mean_c (x_c − t_c)²;                        ∂L/∂x_c = 2 (x_c − t_c) / C
 *
 * Nobody on the host sees the labels of a step: one that is out of range makes the loss NaN. */
#include <stdlib.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/loss_kernels.h"

struct loss {
    bool bf16;
    struct loss_sum *row_sums; /* (shards · shard_rows), device memory */
};

static void release(struct device *d, struct node *n) {
    struct loss *s = n->state;
    d->backend->memory->release(d, s->row_sums);
    free(s);
}

static enum status prepare(struct device *d, struct node *n, const struct extent *e,
                           struct err *err) {
    enum status st = STATUS_OK;
    size_t rows = (size_t)e->shards * (size_t)e->shard_rows;
    void *state = NULL, *sums = NULL;
    (void)d;
    TRY(cuda_state_new(n, sizeof(struct loss), &state, err));
    struct loss *s = state;
    s->bf16 = e->precision == PRECISION_BF16;
    TRY(cuda_part(n, rows * sizeof *s->row_sums, &sums, err));
    s->row_sums = sums;
out:
    return st;
}

static struct loss_call call_of(const struct node *n, const struct pass *p) {
    const struct loss *s = n->state;
    return (struct loss_call){
        .x = p->x[0],
        .dx = p->training ? p->dx[0] : NULL,
        .bf16 = s->bf16,
        .labels = p->labels,
        .targets = p->targets,
        .shards = p->shards,
        .shard_rows = p->shard_rows,
        .width = n->in_count,
        .row_sums = s->row_sums,
        .losses = p->losses,
    };
}

static void cross_entropy_forward(const struct node *n, const struct pass *p) {
    struct loss_call call = call_of(n, p);
    if (cuda_failed(n->device))
        return;
    loss_cross_entropy(&call, cuda_stream(n->device));
    cuda_launched(n->device, "cross entropy: launch");
}

static void mse_forward(const struct node *n, const struct pass *p) {
    struct loss_call call = call_of(n, p);
    if (cuda_failed(n->device))
        return;
    loss_mse(&call, cuda_stream(n->device));
    cuda_launched(n->device, "mse: launch");
}

const struct operation cuda_cross_entropy = {
    .prepare = prepare,
    .release = release,
    .forward = cross_entropy_forward,
};
const struct operation cuda_mse = {
    .prepare = prepare,
    .release = release,
    .forward = mse_forward,
};
