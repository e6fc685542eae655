/* exp, log, tanh, sigmoid and the normal distribution, in float operations that the compiler can
 * put into lanes: no call, no branch, no contraction, so the same bits in every copy of a loop.
 *
 * Bounds against double libm, over all floats (tests/unit/kernels/test_vmath.c):
 *     exp 4 ulp (results under 2^−126 are absolute 2^−126) · tanh 4 ulp · sigmoid 5 ulp ·
 *     normal_cdf, normal_pdf 8e−6 relative + 1e−30 (3e−7 absolute for |x| ≤ 1) ·
 *     log (double) 1e−14 relative
 * Polynomials are Chebyshev fits of our own (exp: the Taylor series). */
#ifndef KERNELS_CPU_VMATH_H
#define KERNELS_CPU_VMATH_H

#include <stdint.h>
#include <string.h>

#define VMATH static inline __attribute__((always_inline))

VMATH float bits_float(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

VMATH uint32_t float_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* e^x = 2^n · e^r, |r| ≤ ln 2 / 2; ln 2 in two parts (Cody & Waite 1980). n is read from the low
 * bits of a float near 1.5·2^23; 2^n in two factors, because n reaches 128. NaN stays NaN. */
VMATH float vexp(float x) {
    const float shift = 12582912.0f;
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    float t = x * 1.44269504f + shift;
    float n = t - shift;
    float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
    float p = 1.98412698e-4f;
    p = p * r + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    int32_t k = (int32_t)(float_bits(t) - float_bits(shift));
    int32_t half = k >> 1;
    float a = bits_float((uint32_t)(half + 127) << 23);
    float b = bits_float((uint32_t)(k - half + 127) << 23);
    return p * a * b;
}

VMATH float vsigmoid(float x) {
    float e = vexp(x < 0.0f ? x : -x);
    float d = 1.0f / (1.0f + e);
    return x < 0.0f ? e * d : d;
}

VMATH float vtanh(float x) {
    float a = x < 0.0f ? -x : x, z = x * x;
    float e = vexp(-2.0f * a);
    float far = (1.0f - e) / (1.0f + e);
    float p = 0.00227269f;
    p = p * z - 0.00832639f;
    p = p * z + 0.02176363f;
    p = p * z - 0.05395862f;
    p = p * z + 0.13333301f;
    p = p * z - 0.33333333f;
    float near = x + x * (z * p);
    far = x < 0.0f ? -far : far;
    return z < 0.375f ? near : far;
}

/* Φ(x). Near 0: ½ + ½·erf(x/√2) with erf(z) = z·P(z²); beyond: the tail ½·e^(−z²)·t·Q(t) with
 * t = 1/(1 + z/2), from either side, so that the left tail keeps its relative precision. */
VMATH float vnormal_cdf(float x) {
    float a = x < 0.0f ? -x : x;
    float z = a * 0.707106781f, s = z * z;
    float p = -9.67358215e-6f;
    p = p * s + 1.12682511e-4f;
    p = p * s - 8.48439619e-4f;
    p = p * s + 5.22105339e-3f;
    p = p * s - 2.68654383e-2f;
    p = p * s + 1.12837826e-1f;
    p = p * s - 3.76126385e-1f;
    p = p * s + 1.12837917f;
    float near = 0.5f * (z * p);
    float zc = z > 10.5f ? 10.5f : z; /* beyond, e^(−z²) is 0 */
    float t = 1.0f / (1.0f + 0.5f * zc);
    float q = 0.09388451f;
    q = q * t - 0.22753273f;
    q = q * t + 0.08417476f;
    q = q * t + 0.05975347f;
    q = q * t + 0.17930986f;
    q = q * t + 0.24683408f;
    q = q * t + 0.28205654f;
    q = q * t + 0.2820975f;
    float tail = 0.5f * vexp(-0.5f * (a * a)) * (t * q);
    float right = z < 1.0f ? 0.5f + near : 1.0f - tail;
    float left = z < 1.0f ? 0.5f - near : tail;
    return x < 0.0f ? left : right;
}

VMATH float vnormal_pdf(float x) {
    return 0.398942280f * vexp(-0.5f * (x * x));
}

/* ln x for positive normal x: m·2^e with m in [√½, √2), 2·artanh((m − 1)/(m + 1)). */
VMATH double vlog(double x) {
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    int64_t e = (int64_t)(u >> 52) - 1023;
    u = (u & UINT64_C(0xfffffffffffff)) | UINT64_C(0x3ff0000000000000);
    double m;
    memcpy(&m, &u, sizeof m);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        e++;
    }
    double s = (m - 1.0) / (m + 1.0), z = s * s, p = 0.0;
    for (int k = 21; k >= 1; k -= 2)
        p = p * z + 1.0 / k;
    return 2.0 * s * p + (double)e * 0.6931471805599453;
}

#endif
