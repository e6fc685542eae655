/* The activations of the GPU backend: a row each, and what each does to one element. A new one is a
 * row and a struct here; its launchers (activation.cu) and its row in the table of operators
 * (activation.c) follow. C sees the list alone. */
#ifndef KERNELS_CUDA_ACTIVATIONS_H
#define KERNELS_CUDA_ACTIVATIONS_H

/* Kind, name, and what the backward pass needs: x or y. */
#define ACTIVATIONS(ROW)                                                                           \
    ROW(RELU, relu, y)                                                                             \
    ROW(GELU, gelu, x)                                                                             \
    ROW(TANH, tanh, y)                                                                             \
    ROW(SIGMOID, sigmoid, y)

#ifdef __cplusplus

/* `value` of x; `slope`: dx from what backward keeps and dy. NaN goes through all of them. Both
 * element types are computed in float. */
struct activation_relu {
    __device__ static float value(float x) {
        return x < 0.0f ? 0.0f : x;
    }
    __device__ static float slope(float y, float dy) {
        return y <= 0.0f ? 0.0f : dy;
    }
};

struct activation_gelu {
    /* Φ(x) and its density. By erfc, so that the left tail keeps its relative precision. */
    __device__ static float normal_cdf(float x) {
        return 0.5f * erfcf(x * -0.707106781f);
    }
    __device__ static float normal_pdf(float x) {
        return 0.398942280f * expf(-0.5f * (x * x));
    }
    __device__ static float value(float x) {
        return x * normal_cdf(x);
    }
    __device__ static float slope(float x, float dy) {
        return dy * (normal_cdf(x) + x * normal_pdf(x));
    }
};

struct activation_tanh {
    __device__ static float value(float x) {
        return tanhf(x);
    }
    __device__ static float slope(float y, float dy) {
        return dy * (1.0f - y * y);
    }
};

struct activation_sigmoid {
    __device__ static float value(float x) {
        float e = expf(x < 0.0f ? x : -x); /* never overflows */
        float d = 1.0f / (1.0f + e);
        return x < 0.0f ? e * d : d;
    }
    __device__ static float slope(float y, float dy) {
        return dy * (y * (1.0f - y));
    }
};

#endif

#endif
