/* The bounds that kernels/cpu/vmath.h states, against double libm, over a dense walk of all floats.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/vmath.h"

#define STRIDE 4099 /* of bit patterns: a million floats, every exponent */

static double ulp_of(double exact) {
    float f = fabsf((float)exact);
    return (double)nextafterf(f, INFINITY) - (double)f;
}

/* |got − exact| in units in the last place, results under 2^−126 as if they were 2^−126. */
static double ulps(float got, double exact) {
    double unit = fabs(exact) < 0x1p-126 ? 0x1p-126 : ulp_of(exact);
    return fabs((double)got - exact) / unit;
}

static void walk(float (*f)(float), double (*exact)(double), double bound, const char *name) {
    double worst = 0;
    float where = 0;
    for (uint64_t u = 0; u <= UINT32_MAX; u += STRIDE) {
        float x = bits_float((uint32_t)u);
        if (isnan(x)) {
            assert_true(isnan(f(x)));
            continue;
        }
        double want = exact((double)x), got = ulps(f(x), want);
        if (want > (double)3.4e38f) /* overflow: infinity is right */
            got = isinf(f(x)) || want < 0x1p128 ? 0 : (double)INFINITY;
        if (!(got <= worst)) {
            worst = got;
            where = x;
        }
    }
    if (!(worst <= bound))
        fail_msg("%s(%a) is off by %g ulp", name, (double)where, worst);
}

static float do_exp(float x) {
    return vexp(x);
}
static float do_tanh(float x) {
    return vtanh(x);
}
static float do_sigmoid(float x) {
    return vsigmoid(x);
}
static double exact_sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

static void test_exp(void **state) {
    (void)state;
    walk(do_exp, exp, 4, "exp");
    assert_true(vexp(0.0f) == 1.0f);
    assert_true(isinf(vexp(INFINITY)));
    assert_true(vexp(-INFINITY) == 0.0f);
    assert_true(isnan(vexp(NAN)));
}

static void test_tanh(void **state) {
    (void)state;
    walk(do_tanh, tanh, 4, "tanh");
    assert_true(vtanh(100.0f) == 1.0f);
    assert_true(vtanh(-INFINITY) == -1.0f);
}

static void test_sigmoid(void **state) {
    (void)state;
    walk(do_sigmoid, exact_sigmoid, 5, "sigmoid");
}

static void test_normal(void **state) {
    (void)state;
    for (uint64_t u = 0; u <= UINT32_MAX; u += STRIDE) {
        float x = bits_float((uint32_t)u);
        if (isnan(x))
            continue;
        double cdf = 0.5 * erfc(-(double)x / sqrt(2));
        double pdf = exp(-0.5 * (double)x * (double)x) / sqrt(2 * 3.14159265358979323846);
        if (!(fabs((double)vnormal_cdf(x) - cdf) <= 8e-6 * cdf + 1e-30))
            fail_msg("cdf(%a) is %g, not %g", (double)x, (double)vnormal_cdf(x), cdf);
        if (!(fabs((double)vnormal_pdf(x) - pdf) <= 8e-6 * pdf + 1e-30))
            fail_msg("pdf(%a) is %g, not %g", (double)x, (double)vnormal_pdf(x), pdf);
        if (fabsf(x) <= 1.0f && !(fabs((double)vnormal_cdf(x) - cdf) <= 3e-7))
            fail_msg("cdf(%a) is %g, not %g", (double)x, (double)vnormal_cdf(x), cdf);
    }
}

static void test_log(void **state) {
    (void)state;
    for (double x = 1e-300; x < 1e300; x *= 1.0009)
        if (!(fabs(vlog(x) - log(x)) <= 1e-14 * fabs(log(x)) + 1e-16))
            fail_msg("log(%a) is %.17g, not %.17g", x, vlog(x), log(x));
    assert_true(vlog(1.0) == 0.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp),    cmocka_unit_test(test_tanh), cmocka_unit_test(test_sigmoid),
        cmocka_unit_test(test_normal), cmocka_unit_test(test_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
