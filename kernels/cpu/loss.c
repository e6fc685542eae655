/* Losses: one number a row, and the gradient of the sum over rows (the optimizer multiplies by
 * 1/B).
 *
 *     cross entropy   L = ln Σ e^(x_c − m) − (x_label − m), m = max;  ∂L/∂x_c = softmax_c − [c = label]
 *     MSE             L = mean_c (x_c − t_c)²;                        ∂L/∂x_c = 2 (x_c − t_c) / C
 *
 * In evaluation a row's loss is rounded to a multiple of 2^−30, so that sums of doubles below 2^22
 * are exact: how the caller cuts the data into chunks cannot show. */
#include <math.h>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/vmath.h"
#include "kernels/host/simd.h"

#define LANES 16

static double row_loss(double loss, bool training) {
    if (training || !(fabs(loss) < 0x1p22))
        return loss;
    return nearbyint(loss * 0x1p30) * 0x1p-30;
}

/* Sixteen running sums, then a fixed tree: the same for every C and vector width. */
VMATH float lane_sum(const float lane[LANES]) {
    float s[LANES];
    for (int j = 0; j < LANES; j++)
        s[j] = lane[j];
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int j = 0; j < width; j++)
            s[j] += s[j + width];
    return s[0];
}

/* e[c] = e^(x[c] − m); the sum and the first index of the largest are returned. NaN is carried by
 * the sum. */
CLONES(static, softmax_row, (const float *x, float *e, int64_t classes, float *sum, int64_t *top),
       (x, e, classes, sum, top)) {
    float max = x[0], lane[LANES] = {0};
    int64_t best = 0;
    for (int64_t c = 1; c < classes; c++)
        if (x[c] > max) {
            max = x[c];
            best = c;
        }
    int64_t c = 0;
    for (; c + LANES <= classes; c += LANES)
        for (int j = 0; j < LANES; j++) {
            e[c + j] = vexp(x[c + j] - max);
            lane[j] += e[c + j];
        }
    for (int j = 0; c + j < classes; j++) {
        e[c + j] = vexp(x[c + j] - max);
        lane[j] += e[c + j];
    }
    *sum = lane_sum(lane);
    *top = best;
}

static void cross_entropy_forward(const struct node *n, const struct pass *p) {
    int64_t classes = n->in_count;
    float *e = n->state; /* one row, where no gradient is wanted */
    for (int s = 0; s < p->shards; s++) {
        struct loss_sum sum = {0};
        for (int64_t r = s * p->shard_rows; r < (s + 1) * p->shard_rows; r++) {
            const float *x = pass_x(p) + r * classes;
            float *dx = p->training ? pass_dx(p) + r * classes : e, total;
            int64_t top, label = p->labels[r];
            softmax_row(x, dx, classes, &total, &top);
            double loss = vlog((double)total) - ((double)x[label] - (double)x[top]);
            if (!isfinite((double)total) || !isfinite((double)x[top]))
                loss = (double)NAN;
            sum.loss += row_loss(loss, p->training);
            sum.correct += top == label && isfinite((double)total);
            if (!p->training)
                continue;
            float scale = 1.0f / total;
            for (int64_t c = 0; c < classes; c++)
                dx[c] *= scale;
            dx[label] -= 1.0f;
        }
        p->losses[s] = sum;
    }
}

static enum status cross_entropy_prepare(struct device *d, struct node *n, const struct extent *e,
                                         struct err *err) {
    void *row;
    (void)d, (void)e;
    return cpu_state(n, (size_t)n->in_count * sizeof(float), &row, err);
}

static void free_state(struct device *d, struct node *n) {
    (void)d;
    cpu_free(n->state);
}

static void mse_forward(const struct node *n, const struct pass *p) {
    int64_t count = n->in_count;
    double scale = 1.0 / (double)count;
    for (int s = 0; s < p->shards; s++) {
        struct loss_sum sum = {0};
        for (int64_t r = s * p->shard_rows; r < (s + 1) * p->shard_rows; r++) {
            double loss = 0;
            for (int64_t c = 0; c < count; c++) {
                float diff = pass_x(p)[r * count + c] - p->targets[r * count + c];
                loss += (double)diff * (double)diff;
                if (p->training)
                    pass_dx(p)[r * count + c] = 2.0f * diff * (float)scale;
            }
            sum.loss += row_loss(loss * scale, p->training);
        }
        p->losses[s] = sum;
    }
}

const struct operation cpu_cross_entropy = {
    .prepare = cross_entropy_prepare,
    .release = free_state,
    .forward = cross_entropy_forward,
};
const struct operation cpu_mse = {
    .forward = mse_forward,
};
