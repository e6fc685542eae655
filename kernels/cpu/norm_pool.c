/* Batch norm, relu and max pool in one pass over the activations, forward and backward: between a
 * convolution and the next one, memory is the price.
 *
 *     forward   x (H, W, C) ──▶ y, chosen, from (H/k, W/k, C)
 *     backward  S and Q need only the chosen x;  dx = a·(g − S/n − (x − μ)·Q'),
 *               g = dy where x was chosen and passed the relu, 0 elsewhere */
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/simd.h"

typedef uint8_t lanes_u8 __attribute__((vector_size(16)));

LANES_INLINE void pool_lanes(const float *x, const struct grid *g, const float *scale,
                             const float *shift, bool relu, float *y, float *chosen,
                             uint8_t *from) {
    lanes a, b, v, z, best, winner;
    lanes_mask at = {0}, more;
    int32_t index = 0;
    lanes_load(&a, scale);
    lanes_load(&b, shift);
    lanes_load(&winner, x);
    best = winner * a + b;
    for (int64_t i = 0; i < g->kernel_h; i++)
        for (int64_t j = 0; j < g->kernel_w; j++, index++) {
            lanes_load(&v, x + (i * g->in_w + j) * g->channels);
            z = v * a + b;
            more = (lanes_mask)(z > best) | (lanes_mask)(z != z);
            lanes_select(&best, &more, &z);
            lanes_select(&winner, &more, &v);
            at = (more & index) | (~more & at);
        }
    if (relu) {
        const lanes zero = {0};
        more = (lanes_mask)(best < zero);
        lanes_select(&best, &more, &zero);
    }
    lanes_store(y, &best);
    lanes_store(chosen, &winner);
    lanes_u8 narrow = __builtin_convertvector(at, lanes_u8);
    memcpy(from, &narrow, sizeof narrow);
}

/* The same for one channel, behind the last whole lane. */
LANES_INLINE void pool_one(const float *x, const struct grid *g, float a, float b, bool relu,
                           float *y, float *chosen, uint8_t *from) {
    float winner = x[0], best = winner * a + b;
    int32_t index = 0, at = 0;
    for (int64_t i = 0; i < g->kernel_h; i++)
        for (int64_t j = 0; j < g->kernel_w; j++, index++) {
            float v = x[(i * g->in_w + j) * g->channels], z = v * a + b;
            if (z > best || z != z) {
                best = z;
                winner = v;
                at = index;
            }
        }
    *y = relu && best < 0.0f ? 0.0f : best;
    *chosen = winner;
    *from = (uint8_t)at;
}

CLONES(, norm_pool_forward,
       (const float *x, const struct grid *g, const struct channel_stats *st, bool relu, float *y,
        float *chosen, uint8_t *from),
       (x, g, st, relu, y, chosen, from)) {
    for (int64_t i = 0; i < g->out_h; i++)
        for (int64_t j = 0; j < g->out_w; j++) {
            const float *corner = x + (i * g->kernel_h * g->in_w + j * g->kernel_w) * g->channels;
            int64_t c = 0;
            for (; c + LANES <= g->channels; c += LANES)
                pool_lanes(corner + c, g, st->scale + c, st->shift + c, relu, y + c, chosen + c,
                           from + c);
            for (; c < g->channels; c++)
                pool_one(corner + c, g, st->scale[c], st->shift[c], relu, y + c, chosen + c,
                         from + c);
            y += g->channels;
            chosen += g->channels;
            from += g->channels;
        }
}

/* One pixel's dx; `dy` NULL where no window covers it. */
LANES_INLINE void pixel(const float *x, const float *dy, const uint8_t *from, int32_t index,
                        int64_t channels, const struct channel_stats *st, bool relu, float *dx) {
    int64_t c = 0;
    for (; c + LANES <= channels; c += LANES) {
        const lanes zero = {0};
        lanes v, a, b, m, s, q, g = zero, in;
        lanes_load(&v, x + c);
        lanes_load(&a, st->scale + c);
        lanes_load(&m, st->mean + c);
        lanes_load(&s, st->s + c);
        lanes_load(&q, st->q + c);
        if (dy) {
            lanes_u8 narrow;
            memcpy(&narrow, from + c, sizeof narrow);
            lanes_load(&in, dy + c);
            lanes_load(&b, st->shift + c);
            lanes_mask pass = (lanes_mask)(__builtin_convertvector(narrow, lanes_mask) == index);
            if (relu)
                pass &= ~(lanes_mask)(v * a + b <= zero);
            lanes_select(&g, &pass, &in);
        }
        g = a * ((g - s) - (v - m) * q);
        lanes_store(dx + c, &g);
    }
    for (; c < channels; c++) {
        float v = x[c], a = st->scale[c];
        bool pass = dy && from[c] == index && !(relu && v * a + st->shift[c] <= 0.0f);
        float g = pass ? dy[c] : 0.0f;
        dx[c] = a * ((g - st->s[c]) - (v - st->mean[c]) * st->q[c]);
    }
}

CLONES(, norm_pool_data,
       (const float *x, const float *dy, const uint8_t *from, const struct grid *g,
        const struct channel_stats *st, bool relu, float *dx),
       (x, dy, from, g, st, relu, dx)) {
    int64_t c = g->channels, covered_h = g->out_h * g->kernel_h, covered_w = g->out_w * g->kernel_w;
    for (int64_t i = 0; i < g->in_h; i++) {
        int64_t row = i * g->in_w, window = i / g->kernel_h * g->out_w;
        int64_t index = i % g->kernel_h * g->kernel_w, j = 0;
        for (; i < covered_h && j < covered_w; window++)
            for (int64_t b = 0; b < g->kernel_w; b++, j++)
                pixel(x + (row + j) * c, dy + window * c, from + window * c, (int32_t)(index + b),
                      c, st, relu, dx + (row + j) * c);
        for (; j < g->in_w; j++)
            pixel(x + (row + j) * c, NULL, NULL, 0, c, st, relu, dx + (row + j) * c);
    }
}
