/* Pooling: a thread has one bundle of channels of one pixel, of the output in forward and of the
 * input in backward, which gathers from the windows that cover it, so that sums have an order. */
#include "kernels/cuda/bundle.cuh"
#include "kernels/cuda/limits.h"
#include "kernels/cuda/pool_kernels.h"

/* A pixel's bundle: `number` counts them, bundles innermost, then width, height and rows. */
struct pixel {
    int64_t row;
    int y, x, channel;
};

__device__ static inline struct pixel pixel_of(uint32_t number, uint32_t bundles, int width, int h,
                                               int w) {
    struct pixel p;
    p.channel = (int)(number % bundles) * width;
    number /= bundles;
    p.x = (int)(number % (uint32_t)w);
    number /= (uint32_t)w;
    p.y = (int)(number % (uint32_t)h);
    p.row = number / (uint32_t)h;
    return p;
}

__device__ static inline int64_t in_at(const struct pool_window &w, int64_t row, int y, int x) {
    return ((row * w.in_h + y) * w.in_w + x) * w.channels;
}

__device__ static inline int64_t out_at(const struct pool_window &w, int64_t row, int y, int x) {
    return ((row * w.out_h + y) * w.out_w + x) * w.channels;
}

/* The windows along one dimension that cover position `at`: first … last, none where first > last.
 */
__device__ static inline int first_window(int at, int kernel, int stride) {
    return at < kernel ? 0 : (at - kernel) / stride + 1;
}
__device__ static inline int last_window(int at, int stride, int windows) {
    return at / stride < windows ? at / stride : windows - 1;
}

template <class T, int W, class I>
static __global__ void max_forward(struct pool_call c, uint32_t count) {
    const struct pool_window w = c.window;
    const uint32_t number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= count)
        return;
    const struct pixel p = pixel_of(number, (uint32_t)(w.channels / W), W, w.out_h, w.out_w);
    const T *x = static_cast<const T *>(c.in) + p.channel +
                 in_at(w, p.row, p.y * w.stride_h, p.x * w.stride_w);
    bundle<T, W> best = load_bundle<T, W>(x);
    bundle<I, W> from = {};
    int index = 0;
    for (int a = 0; a < w.kernel_h; a++)
        for (int b = 0; b < w.kernel_w; b++, index++) {
            bundle<T, W> next = load_bundle<T, W>(x + ((int64_t)a * w.in_w + b) * w.channels);
            for (int k = 0; k < W; k++) {
                float v = load(&next.v[k]);
                if (v > load(&best.v[k]) || v != v) {
                    best.v[k] = next.v[k];
                    from.v[k] = (I)index;
                }
            }
        }
    int64_t at = out_at(w, p.row, p.y, p.x) + p.channel;
    store_bundle(static_cast<T *>(c.out) + at, best);
    store_bundle(static_cast<I *>(c.from) + at, from);
}

template <class T, int W, class I>
static __global__ void max_backward(struct pool_call c, uint32_t count) {
    const struct pool_window w = c.window;
    const uint32_t number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= count)
        return;
    const struct pixel p = pixel_of(number, (uint32_t)(w.channels / W), W, w.in_h, w.in_w);
    const int last_y = last_window(p.y, w.stride_h, w.out_h);
    const int last_x = last_window(p.x, w.stride_w, w.out_w);
    float sum[W] = {0};
    for (int i = first_window(p.y, w.kernel_h, w.stride_h); i <= last_y; i++)
        for (int j = first_window(p.x, w.kernel_w, w.stride_w); j <= last_x; j++) {
            int64_t at = out_at(w, p.row, i, j) + p.channel;
            int mine = (p.y - i * w.stride_h) * w.kernel_w + (p.x - j * w.stride_w);
            bundle<T, W> dy = load_bundle<T, W>(static_cast<const T *>(c.in) + at);
            bundle<I, W> from = load_bundle<I, W>(static_cast<const I *>(c.from) + at);
            for (int k = 0; k < W; k++)
                sum[k] += (int)from.v[k] == mine ? load(&dy.v[k]) : 0.0f;
        }
    bundle<T, W> dx;
    for (int k = 0; k < W; k++)
        store(&dx.v[k], sum[k]);
    store_bundle(static_cast<T *>(c.out) + in_at(w, p.row, p.y, p.x) + p.channel, dx);
}

template <class T, int W>
static __global__ void average_forward(struct pool_call c, uint32_t count) {
    const struct pool_window w = c.window;
    const float scale = 1.0f / (float)(w.kernel_h * w.kernel_w);
    const uint32_t number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= count)
        return;
    const struct pixel p = pixel_of(number, (uint32_t)(w.channels / W), W, w.out_h, w.out_w);
    const T *x = static_cast<const T *>(c.in) + p.channel +
                 in_at(w, p.row, p.y * w.stride_h, p.x * w.stride_w);
    float sum[W] = {0};
    for (int a = 0; a < w.kernel_h; a++)
        for (int b = 0; b < w.kernel_w; b++) {
            bundle<T, W> next = load_bundle<T, W>(x + ((int64_t)a * w.in_w + b) * w.channels);
            for (int k = 0; k < W; k++)
                sum[k] += load(&next.v[k]);
        }
    bundle<T, W> y;
    for (int k = 0; k < W; k++)
        store(&y.v[k], sum[k] * scale);
    store_bundle(static_cast<T *>(c.out) + out_at(w, p.row, p.y, p.x) + p.channel, y);
}

template <class T, int W>
static __global__ void average_backward(struct pool_call c, uint32_t count) {
    const struct pool_window w = c.window;
    const float scale = 1.0f / (float)(w.kernel_h * w.kernel_w);
    const uint32_t number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= count)
        return;
    const struct pixel p = pixel_of(number, (uint32_t)(w.channels / W), W, w.in_h, w.in_w);
    const int last_y = last_window(p.y, w.stride_h, w.out_h);
    const int last_x = last_window(p.x, w.stride_w, w.out_w);
    float sum[W] = {0};
    for (int i = first_window(p.y, w.kernel_h, w.stride_h); i <= last_y; i++)
        for (int j = first_window(p.x, w.kernel_w, w.stride_w); j <= last_x; j++) {
            int64_t at = out_at(w, p.row, i, j) + p.channel;
            bundle<T, W> dy = load_bundle<T, W>(static_cast<const T *>(c.in) + at);
            for (int k = 0; k < W; k++)
                sum[k] += load(&dy.v[k]) * scale;
        }
    bundle<T, W> dx;
    for (int k = 0; k < W; k++)
        store(&dx.v[k], sum[k]);
    store_bundle(static_cast<T *>(c.out) + in_at(w, p.row, p.y, p.x) + p.channel, dx);
}

/* ---- launchers ---- */

/* The kernel for each type and width of bundle. */
typedef struct family<void(struct pool_call, uint32_t)> pool_family;
#define FAMILY(kernel)                                                                             \
    { kernel<float, 1>, kernel<float, 4>, kernel<__nv_bfloat16, 1>, kernel<__nv_bfloat16, 8> }
#define FAMILY_BY(kernel, index)                                                                   \
    {                                                                                              \
        kernel<float, 1, index>, kernel<float, 4, index>, kernel<__nv_bfloat16, 1, index>,         \
            kernel<__nv_bfloat16, 8, index>                                                        \
    }

enum way { FORWARD, BACKWARD };

/* As many rows in a launch as can be numbered in 31 bits: divisions are dear in 64. */
static void launch(cudaStream_t stream, const struct pool_call *c, enum way way, int64_t from_bytes,
                   const pool_family &family) {
    const struct pool_window *w = &c->window;
    const int64_t small = (int64_t)w->out_h * w->out_w * w->channels;
    const int64_t large = (int64_t)w->in_h * w->in_w * w->channels;
    const int64_t in = way == FORWARD ? large : small, out = way == FORWARD ? small : large;
    const int64_t element = c->bf16 ? 2 : 4;
    const int64_t bundles = out / bundle_width(c->bf16, w->channels), most = INT32_MAX / bundles;
    for (int64_t row = 0; row < c->rows; row += most) {
        struct pool_call part = *c;
        part.rows = c->rows - row < most ? c->rows - row : most;
        part.in = static_cast<const char *>(c->in) + row * in * element;
        part.out = static_cast<char *>(c->out) + row * out * element;
        if (from_bytes > 0)
            part.from = static_cast<char *>(c->from) + row * small * from_bytes;
        uint32_t count = (uint32_t)(part.rows * bundles);
        LAUNCH(family.pick(c->bf16, w->channels), (count + BLOCK - 1) / BLOCK, BLOCK, stream)
        (part, count);
    }
}

static bool narrow(const struct pool_window *w) {
    return w->kernel_h * w->kernel_w <= POOL_NARROW;
}

void pool_max(cudaStream_t stream, const struct pool_call *c) {
    if (narrow(&c->window))
        launch(stream, c, FORWARD, 1, FAMILY_BY(max_forward, uint8_t));
    else
        launch(stream, c, FORWARD, 2, FAMILY_BY(max_forward, uint16_t));
}

void pool_max_backward(cudaStream_t stream, const struct pool_call *c) {
    if (narrow(&c->window))
        launch(stream, c, BACKWARD, 1, FAMILY_BY(max_backward, uint8_t));
    else
        launch(stream, c, BACKWARD, 2, FAMILY_BY(max_backward, uint16_t));
}

void pool_average(cudaStream_t stream, const struct pool_call *c) {
    launch(stream, c, FORWARD, 0, FAMILY(average_forward));
}

void pool_average_backward(cudaStream_t stream, const struct pool_call *c) {
    launch(stream, c, BACKWARD, 0, FAMILY(average_backward));
}
