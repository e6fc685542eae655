/* See lanes.h. Included by lanes.c once per instruction set, with WIDTH (floats of a vector) and
 * NAME(x) set. Vectors go by pointer: their calling convention depends on the target. */

typedef float NAME(vec) __attribute__((vector_size(4 * WIDTH)));
typedef int32_t NAME(mask) __attribute__((vector_size(4 * WIDTH))); /* −1: yes, 0: no */
typedef uint8_t NAME(bytes) __attribute__((vector_size(WIDTH)));
typedef uint16_t NAME(words) __attribute__((vector_size(2 * WIDTH)));

#define vec   NAME(vec)
#define mask  NAME(mask)
#define bytes NAME(bytes)
#define words NAME(words)

#define LANES_INLINE static inline __attribute__((always_inline))

LANES_INLINE void NAME(load)(vec *v, const float *p) {
    memcpy(v, p, sizeof *v);
}

LANES_INLINE void NAME(store)(float *p, const vec *v) {
    memcpy(p, v, sizeof *v);
}

/* *v = m ? *yes : *v */
LANES_INLINE void NAME(select)(vec *v, const mask *m, const vec *yes) {
    *v = (vec)((*m & (mask)*yes) | (~*m & (mask)*v));
}

/* ---- transpose ---- */

#if WIDTH >= 8
typedef float NAME(eight) __attribute__((vector_size(32)));
#define eight NAME(eight)

/* dst[j][i] = src[i][j] for 8 × 8: neighbours, pairs, halves. */
LANES_INLINE void NAME(transpose_eight)(const float *src, int64_t ld, float *dst, int64_t ld_dst) {
    eight r[8], t[8];
    for (int i = 0; i < 8; i++)
        memcpy(&r[i], src + i * ld, sizeof r[i]);
    for (int i = 0; i < 8; i += 2) {
        t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] =
                __builtin_shufflevector(t[i + j], t[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            r[i + 2 * j + 1] =
                __builtin_shufflevector(t[i + j], t[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; i++) {
        t[i] = __builtin_shufflevector(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        t[i + 4] = __builtin_shufflevector(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    for (int i = 0; i < 8; i++)
        memcpy(dst + i * ld_dst, &t[i], sizeof t[i]);
}
#undef eight
#endif

static void NAME(cpu_transpose)(const float *src, int64_t ld, int64_t rows, int64_t columns,
                                float *dst, int64_t ld_dst) {
    for (int64_t i = 0; i < rows; i += 8)
        for (int64_t j = 0; j < columns; j += 8) {
#if WIDTH >= 8
            if (i + 8 <= rows && j + 8 <= columns) {
                NAME(transpose_eight)(src + i * ld + j, ld, dst + j * ld_dst + i, ld_dst);
                continue;
            }
#endif
            for (int64_t a = i; a < rows && a < i + 8; a++)
                for (int64_t b = j; b < columns && b < j + 8; b++)
                    dst[b * ld_dst + a] = src[a * ld + b];
        }
}

/* ---- max pool ---- */

LANES_INLINE void NAME(max_lanes)(const float *x, const struct cpu_window *w, float *y,
                                  uint16_t *from) {
    vec best, v;
    mask at = {0}, more;
    int32_t index = 0;
    NAME(load)(&best, x);
    for (int64_t i = 0; i < w->kernel_h; i++)
        for (int64_t j = 0; j < w->kernel_w; j++, index++) {
            NAME(load)(&v, x + (i * w->in_w + j) * w->channels);
            more = (mask)(v > best) | (mask)(v != v);
            NAME(select)(&best, &more, &v);
            at = (more & index) | (~more & at);
        }
    NAME(store)(y, &best);
    words narrow = __builtin_convertvector(at, words);
    memcpy(from, &narrow, sizeof narrow);
}

static void NAME(cpu_max_sample)(const float *x, const struct cpu_window *w, float *y,
                                 uint16_t *from) {
    for (int64_t i = 0; i < w->out_h; i++)
        for (int64_t j = 0; j < w->out_w; j++, y += w->channels, from += w->channels) {
            const float *corner = x + (i * w->stride_h * w->in_w + j * w->stride_w) * w->channels;
            int64_t c = 0;
            for (; c + WIDTH <= w->channels; c += WIDTH)
                NAME(max_lanes)(corner + c, w, y + c, from + c);
            for (; c < w->channels; c++)
                max_one(corner + c, w, y + c, from + c);
        }
}

/* ---- batch norm, relu, max pool ---- */

LANES_INLINE void NAME(pool_lanes)(const float *x, const struct cpu_window *w, const float *scale,
                                   const float *shift, bool relu, float *y, float *chosen,
                                   uint8_t *from) {
    vec a, b, v, z, best, winner;
    mask at = {0}, more;
    int32_t index = 0;
    NAME(load)(&a, scale);
    NAME(load)(&b, shift);
    NAME(load)(&winner, x);
    best = winner * a + b;
    for (int64_t i = 0; i < w->kernel_h; i++)
        for (int64_t j = 0; j < w->kernel_w; j++, index++) {
            NAME(load)(&v, x + (i * w->in_w + j) * w->channels);
            z = v * a + b;
            more = (mask)(z > best) | (mask)(z != z);
            NAME(select)(&best, &more, &z);
            NAME(select)(&winner, &more, &v);
            at = (more & index) | (~more & at);
        }
    if (relu) {
        const vec zero = {0};
        more = (mask)(best < zero);
        NAME(select)(&best, &more, &zero);
        more = (mask)(best <= zero);
        at |= more & NOBODY;
    }
    NAME(store)(y, &best);
    NAME(store)(chosen, &winner);
    bytes narrow = __builtin_convertvector(at, bytes);
    memcpy(from, &narrow, sizeof narrow);
}

static void NAME(cpu_norm_pool_forward)(const float *x, const struct cpu_window *w,
                                        const struct cpu_channel_stats *st, bool relu, float *y,
                                        float *chosen, uint8_t *from) {
    for (int64_t i = 0; i < w->out_h; i++)
        for (int64_t j = 0; j < w->out_w; j++) {
            const float *corner = x + (i * w->kernel_h * w->in_w + j * w->kernel_w) * w->channels;
            int64_t c = 0;
            for (; c + WIDTH <= w->channels; c += WIDTH)
                NAME(pool_lanes)
            (corner + c, w, st->scale + c, st->shift + c, relu, y + c, chosen + c, from + c);
            for (; c < w->channels; c++)
                pool_one(corner + c, w, st->scale[c], st->shift[c], relu, y + c, chosen + c,
                         from + c);
            y += w->channels;
            chosen += w->channels;
            from += w->channels;
        }
}

/* One pixel's dx; `dy` NULL where no window covers it. */
LANES_INLINE void NAME(pixel)(const float *x, const float *dy, const uint8_t *from, int32_t index,
                              int64_t channels, const struct cpu_channel_stats *st, float *dx) {
    int64_t c = 0;
    for (; c + WIDTH <= channels; c += WIDTH) {
        vec v, a, k0, k1, g = {0}, in;
        NAME(load)(&v, x + c);
        NAME(load)(&a, st->scale + c);
        NAME(load)(&k0, st->k0 + c);
        NAME(load)(&k1, st->k1 + c);
        if (dy != NULL) {
            bytes narrow;
            memcpy(&narrow, from + c, sizeof narrow);
            NAME(load)(&in, dy + c);
            mask pass = (mask)(__builtin_convertvector(narrow, mask) == index);
            NAME(select)(&g, &pass, &in);
        }
        g = a * g + (k0 - v * k1);
        NAME(store)(dx + c, &g);
    }
    for (; c < channels; c++) {
        float g = dy && from[c] == index ? dy[c] : 0.0f;
        dx[c] = st->scale[c] * g + (st->k0[c] - x[c] * st->k1[c]);
    }
}

static void NAME(cpu_norm_pool_data)(const float *x, const float *dy, const uint8_t *from,
                                     const struct cpu_window *w, const struct cpu_channel_stats *st,
                                     float *dx) {
    int64_t c = w->channels, covered_h = w->out_h * w->kernel_h, covered_w = w->out_w * w->kernel_w;
    for (int64_t i = 0; i < w->in_h; i++) {
        int64_t row = i * w->in_w, window = i / w->kernel_h * w->out_w;
        int64_t index = i % w->kernel_h * w->kernel_w, j = 0;
        for (; i < covered_h && j < covered_w; window++)
            for (int64_t b = 0; b < w->kernel_w; b++, j++) {
                const float *in = dy + window * c;
                const uint8_t *who = from + window * c;
                int64_t at = (row + j) * c;
                NAME(pixel)(x + at, in, who, (int32_t)(index + b), c, st, dx + at);
            }
        for (; j < w->in_w; j++)
            NAME(pixel)(x + (row + j) * c, NULL, NULL, 0, c, st, dx + (row + j) * c);
    }
}

#undef vec
#undef mask
#undef bytes
#undef words
#undef LANES_INLINE
#undef NAME
#undef WIDTH
