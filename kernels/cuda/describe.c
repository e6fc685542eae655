/* What the manifest says of a GPU, and what it could reach. */
#include <stdio.h>

#include "kernels/cuda/cuda.h"

/* Floating-point operations of one multiprocessor in one clock, dense, with float32 accumulation.
 * NVIDIA's white papers: A100 (GA100), GA102, Ada, H100, Blackwell; checked against the data
 * sheets: rate = number of multiprocessors · clock · these. GeForce cards do half of it on tensor
 * cores. */
static const struct {
    int major, minor;
    double flops[3]; /* by enum precision */
} rates[] = {
    {8, 0, {128, 1024, 2048}},  /* A100: 108 at 1.41 GHz: 19.5, 156, 312 TFLOP/s */
    {8, 6, {256, 512, 1024}},   /* A40: 84 at 1.74 GHz: 37, 75, 150 */
    {8, 9, {256, 512, 1024}},   /* L40S: 142 at 2.52 GHz: 92, 183, 366 */
    {9, 0, {256, 2048, 4096}},  /* H100, H200: 132 at 1.83 GHz: 62, 495, 989 */
    {10, 0, {256, 4096, 8192}}, /* B200: 148 at 1.85 GHz: 70, 1121, 2243 */
    {10, 3, {256, 4096, 8192}}, /* B300 */
    {12, 0, {256, 512, 1024}},  /* RTX PRO 6000: 188 at 2.6 GHz: 125, 250, 500 */
};

/* At the highest clock that the card reports; 0 for a card that is not in the table. */
double cuda_peak_flops(struct device *d, enum precision precision) {
    const struct cuda_device *c = cuda_of(d);
    int khz = 0;
    if (cudaDeviceGetAttribute(&khz, cudaDevAttrClockRate, c->index) != cudaSuccess)
        return 0;
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        if (rates[i].major == c->properties.major && rates[i].minor == c->properties.minor)
            return rates[i].flops[precision] * c->properties.multiProcessorCount * khz * 1e3;
    return 0;
}

/* 130100: "13.1.0"; cuBLAS and cuDNN since 9 count the same way. */
static const char *library_text(size_t version, char out[32]) {
    (void)snprintf(out, 32, "%zu.%zu.%zu", version / 10000, version / 100 % 100, version % 100);
    return out;
}

struct value *cuda_describe(struct arena *a, const struct device *d) {
    const struct cuda_device *c = (const struct cuda_device *)d;
    struct value *out = value_map(a);
    int driver = 0, runtime = 0;
    char text[32], version[16];
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    value_set_string(a, out, "device", "cuda");
    value_set_string(a, out, "gpu", c->properties.name);
    (void)snprintf(text, sizeof text, "sm_%d%d", c->properties.major, c->properties.minor);
    value_set_string(a, out, "isa", text);
    (void)snprintf(text, sizeof text, "%04x:%02x:%02x", (unsigned)c->properties.pciDomainID,
                   (unsigned)c->properties.pciBusID, (unsigned)c->properties.pciDeviceID);
    value_set_string(a, out, "bus", text); /* tells the cards of a machine apart */
    value_set_int(a, out, "sms", c->properties.multiProcessorCount);
    cuda_version_text(runtime, version);
    value_set_string(a, out, "cuda", version);
    cuda_version_text(driver, version);
    value_set_string(a, out, "driver", version);
    value_set_string(a, out, "cublas", library_text(cublasLtGetVersion(), text));
    value_set_string(a, out, "cudnn", library_text(cudnnGetVersion(), text));
    value_set_int(a, out, "memory", (int64_t)c->properties.totalGlobalMem);
    return out;
}
