/* Max and average pooling on (B, H, W, C): channels go side by side in lanes, windows in order.
 * Where several elements of a window are the largest, the first one takes the gradient; NaN wins.
 */
#include <string.h>

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/ops.h"
#include "kernels/host/simd.h"

struct max_pool {
    uint16_t *from; /* (rows, out): which element of the window */
};

static struct cpu_window window_of(const struct node *n) {
    const struct layer *l = n->layer;
    return (struct cpu_window){.channels = n->in.dim[0],
                               .in_h = n->in.dim[1],
                               .in_w = n->in.dim[2],
                               .out_h = n->out.dim[1],
                               .out_w = n->out.dim[2],
                               .kernel_h = l->kernel[0],
                               .kernel_w = l->kernel[1],
                               .stride_h = l->stride[0],
                               .stride_w = l->stride[1]};
}

/* dx must be zero; windows may overlap, so gradients are added, in the order of windows. */
CLONES(static, max_sample_backward,
       (const float *dy, const struct cpu_window *w, const uint16_t *from, float *dx),
       (dy, w, from, dx)) {
    for (int64_t i = 0; i < w->out_h; i++)
        for (int64_t j = 0; j < w->out_w; j++, dy += w->channels, from += w->channels) {
            float *corner = dx + (i * w->stride_h * w->in_w + j * w->stride_w) * w->channels;
            int32_t index = 0;
            for (int64_t a = 0; a < w->kernel_h; a++)
                for (int64_t b = 0; b < w->kernel_w; b++, index++) {
                    float *to = corner + (a * w->in_w + b) * w->channels;
                    for (int64_t c = 0; c < w->channels; c++)
                        to[c] += from[c] == index ? dy[c] : 0.0f;
                }
        }
}

CLONES(static, average_sample, (const float *x, const struct cpu_window *w, float *y), (x, w, y)) {
    float scale = 1.0f / (float)(w->kernel_h * w->kernel_w);
    for (int64_t i = 0; i < w->out_h; i++)
        for (int64_t j = 0; j < w->out_w; j++, y += w->channels) {
            const float *corner = x + (i * w->stride_h * w->in_w + j * w->stride_w) * w->channels;
            for (int64_t c = 0; c < w->channels; c++)
                y[c] = 0.0f;
            for (int64_t a = 0; a < w->kernel_h; a++)
                for (int64_t b = 0; b < w->kernel_w; b++)
                    for (int64_t c = 0; c < w->channels; c++)
                        y[c] += corner[(a * w->in_w + b) * w->channels + c];
            for (int64_t c = 0; c < w->channels; c++)
                y[c] *= scale;
        }
}

CLONES(static, average_sample_backward, (const float *dy, const struct cpu_window *w, float *dx),
       (dy, w, dx)) {
    float scale = 1.0f / (float)(w->kernel_h * w->kernel_w);
    for (int64_t i = 0; i < w->out_h; i++)
        for (int64_t j = 0; j < w->out_w; j++, dy += w->channels) {
            float *corner = dx + (i * w->stride_h * w->in_w + j * w->stride_w) * w->channels;
            for (int64_t a = 0; a < w->kernel_h; a++)
                for (int64_t b = 0; b < w->kernel_w; b++)
                    for (int64_t c = 0; c < w->channels; c++)
                        corner[(a * w->in_w + b) * w->channels + c] += dy[c] * scale;
        }
}

static enum status max_pool_prepare(struct device *d, struct node *n, const struct extent *e,
                                    struct err *err) {
    enum status st = STATUS_OK;
    void *p = NULL;
    (void)d;
    TRY(cpu_state(n, sizeof(struct max_pool), &p, err));
    struct max_pool *s = p;
    TRY(cpu_part(n, e->shards * e->shard_rows * n->out_count, sizeof *s->from, (void **)&s->from,
                 err));
out:
    return st;
}

static void max_pool_release(struct device *d, struct node *n) {
    struct max_pool *s = n->state;
    (void)d;
    cpu_free(s->from);
    cpu_free(s);
}

static void max_pool_forward(const struct node *n, const struct pass *p) {
    const struct max_pool *s = n->state;
    struct cpu_window w = window_of(n);
    for (int64_t r = 0; r < p->rows; r++)
        cpu_max_sample(pass_x(p) + r * n->in_count, &w, pass_y(p) + r * n->out_count,
                       s->from + r * n->out_count);
}

static void max_pool_backward(const struct node *n, const struct pass *p) {
    const struct max_pool *s = n->state;
    struct cpu_window w = window_of(n);
    for (int64_t r = 0; r < p->rows; r++) {
        float *dx = pass_dx(p) + r * n->in_count;
        memset(dx, 0, (size_t)n->in_count * sizeof *dx);
        max_sample_backward(pass_dy(p) + r * n->out_count, &w, s->from + r * n->out_count, dx);
    }
}

static void avg_pool_forward(const struct node *n, const struct pass *p) {
    struct cpu_window w = window_of(n);
    for (int64_t r = 0; r < p->rows; r++)
        average_sample(pass_x(p) + r * n->in_count, &w, pass_y(p) + r * n->out_count);
}

static void avg_pool_backward(const struct node *n, const struct pass *p) {
    struct cpu_window w = window_of(n);
    for (int64_t r = 0; r < p->rows; r++) {
        float *dx = pass_dx(p) + r * n->in_count;
        memset(dx, 0, (size_t)n->in_count * sizeof *dx);
        average_sample_backward(pass_dy(p) + r * n->out_count, &w, dx);
    }
}

const struct operation cpu_max_pool = {
    .prepare = max_pool_prepare,
    .release = max_pool_release,
    .forward = max_pool_forward,
    .backward_data = max_pool_backward,
};
const struct operation cpu_avg_pool = {
    .forward = avg_pool_forward,
    .backward_data = avg_pool_backward,
};
