/* Asks NVIDIA's cuDNN, without a GPU, which engines it has: the properties of an H200, as JSON, in the
 * place of a handle. For the convolutions of configs/ and some random ones, in each precision and
 * direction, an engine must pass the filters of kernels/cuda/dnn_plan.c, which is compiled in.
 *
 *     engines [random convolutions] [seed]        exit code 1 where a plain one has no engine
 *
 * Fused graphs may be missing (a kernel of ours comes after the plain one): they are counted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cudnn.h>

static cudnnBackendDescriptor_t card;

/* Where the backend names its handle, the card's properties. */
static cudnnStatus_t set_for_card(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                  cudnnBackendAttributeType_t type, int64_t count,
                                  const void *values) {
    if (name == CUDNN_ATTR_OPERATIONGRAPH_HANDLE)
        return CUDNN_STATUS_SUCCESS;
    if (name == CUDNN_ATTR_EXECUTION_PLAN_HANDLE)
        return cudnnBackendSetAttribute(d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP,
                                        CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &card);
    cudnnStatus_t st = cudnnBackendSetAttribute(d, name, type, count, values);
    if (name == CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH && st == CUDNN_STATUS_SUCCESS)
        st = cudnnBackendSetAttribute(d, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP,
                                      CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &card);
    return st;
}

#define cudnnBackendSetAttribute set_for_card
#include "kernels/cuda/dnn_plan.c"
#undef cudnnBackendSetAttribute

/* What dnn.c and dnn_plan.c use of the rest of the backend. */
bool cuda_failed(const struct device *d) {
    (void)d;
    return false;
}
bool cuda_dnn_ok(struct device *d, cudnnStatus_t code, const char *what) {
    (void)d;
    (void)what;
    return code == CUDNN_STATUS_SUCCESS;
}
enum status cuda_dnn_reserve(struct device *d, size_t bytes, struct err *err) {
    (void)d;
    (void)bytes;
    (void)err;
    return STATUS_OK;
}
void cuda_pool_trim(struct cuda_pool *pool) {
    (void)pool;
}

static const char *const h200 =
    "{\"deviceVer\":900,\"multiProcessorCount\":132,\"warpSize\":32,"
    "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":232448,"
    "\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,"
    "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"regsPerBlock\":65536,"
    "\"totalGlobalMem\":150109880320,\"smClockRateKHz\":1980000,\"l2CacheSize\":62914560,"
    "\"maxBlockSize\":[1024,1024,64],\"memClockRateKHz\":3201000,"
    "\"maxGridSize\":[2147483647,65535,65535],\"supportCoopLaunch\":1,\"pciDeviceId\":0,"
    "\"isTccDriver\":0,\"cudaDeviceId\":0,\"driverVer\":13000,\"deviceName\":\"NVIDIA H200\"}";

struct shape_of {
    int rows, c, h, w, k, kernel[2], stride, padding;
};

enum what { FUSED, FORWARD_ONLY, WEIGHTS, DATA, WHATS };
static const char *const names[WHATS] = {"fused", "forward", "weights", "data"};
static struct cuda_device device;
static int asked, fused_missing, missing;

/* As kernels/cuda/conv.c describes its data. */
static struct dnn_tensor tensor(enum precision p, int64_t n, int64_t c, int64_t h, int64_t w,
                                bool inside) {
    int64_t bytes = (int64_t)precision_bytes(p) * n * c * h * w;
    return (struct dnn_tensor){.type = p == PRECISION_BF16 && !inside ? CUDNN_DATA_BFLOAT16
                                                                      : CUDNN_DATA_FLOAT,
                               .dim = {n, c, h, w},
                               .stride = {c * h * w, 1, w * c, c},
                               .alignment = bytes % 16 == 0 ? 16 : bytes & -bytes,
                               .inside = inside};
}

static int out_of(int in, int kernel, const struct shape_of *s) {
    return (in + 2 * s->padding - kernel) / s->stride + 1;
}

static void ask(const struct shape_of *s, enum precision p, enum what what) {
    struct err err = {0};
    struct dnn_graph *g = NULL;
    struct dnn_window window = {.stride = {s->stride, s->stride},
                                .padding = {s->padding, s->padding}};
    int oh = out_of(s->h, s->kernel[0], s), ow = out_of(s->w, s->kernel[1], s);
    struct dnn_tensor x = tensor(p, s->rows, s->c, s->h, s->w, false);
    struct dnn_tensor y = tensor(p, s->rows, s->k, oh, ow, false), inside = y, w = x, bias = x;
    inside.inside = true;
    inside.type = CUDNN_DATA_FLOAT;
    int64_t area = (int64_t)s->kernel[0] * s->kernel[1];
    w = (struct dnn_tensor){.type = x.type,
                            .dim = {s->k, s->c, s->kernel[0], s->kernel[1]},
                            .stride = {area * s->c, 1, (int64_t)s->kernel[1] * s->c, s->c},
                            .alignment = 16};
    bias = (struct dnn_tensor){
        .type = x.type, .dim = {1, s->k, 1, 1}, .stride = {s->k, 1, s->k, s->k}, .alignment = 16};
    if (dnn_graph_new(&device.base, names[what], &g, &err) != STATUS_OK)
        exit(2);
    int xi = dnn_tensor(g, &x), wi = dnn_tensor(g, &w);
    int yi = dnn_tensor(g, what == FUSED ? &inside : &y);
    dnn_convolve(g,
                 what == WEIGHTS ? DNN_BACKWARD_WEIGHTS
                 : what == DATA  ? DNN_BACKWARD_DATA
                                 : DNN_FORWARD,
                 &window, xi, wi, yi);
    if (what == FUSED) {
        int bi = dnn_tensor(g, &bias), sum = dnn_tensor(g, &inside);
        dnn_pointwise(g, CUDNN_POINTWISE_ADD, yi, bi, sum);
        dnn_pointwise(g, CUDNN_POINTWISE_RELU_FWD, sum, -1, dnn_tensor(g, &y));
    }
    asked++;
    if (dnn_compile(g, p, &err) != STATUS_OK) {
        *(what == FUSED ? &fused_missing : &missing) += 1;
        printf(
            "%s of (%d, %d, %d, %d) by %d filters of %d x %d, stride %d, padding %d, in %s: %s\n",
            names[what], s->rows, s->c, s->h, s->w, s->k, s->kernel[0], s->kernel[1], s->stride,
            s->padding, precision_name(p), err.text);
    }
    dnn_graph_release(g);
}

static void ask_all(const struct shape_of *s) {
    for (enum precision p = PRECISION_FP32; p <= PRECISION_BF16; p++)
        for (enum what what = FUSED; what < WHATS; what++)
            ask(s, p, what);
}

static bool take_card(void) {
    return cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &card) ==
               CUDNN_STATUS_SUCCESS &&
           cudnnBackendSetAttribute(card, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                    CUDNN_TYPE_CHAR, (int64_t)strlen(h200),
                                    h200) == CUDNN_STATUS_SUCCESS &&
           cudnnBackendFinalize(card) == CUDNN_STATUS_SUCCESS;
}

int main(int argc, char **argv) {
    /* configs/fashion-cnn.yaml, a shard of 32 and of 8 rows, and one row for itself. */
    static const int rows[] = {32, 8, 1};
    int random = argc > 1 ? atoi(argv[1]) : 100;
    unsigned seed = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
    if (!take_card()) {
        printf("cuDNN %zu takes no device properties: nothing was asked\n", cudnnGetVersion());
        return 1;
    }
    for (int i = 0; i < 3; i++) {
        ask_all(&(struct shape_of){rows[i], 1, 28, 28, 32, {3, 3}, 1, 1});
        ask_all(&(struct shape_of){rows[i], 32, 14, 14, 64, {3, 3}, 1, 1});
    }
    for (int i = 0; i < random; i++) {
        struct shape_of s = {.rows = 1 + rand_r(&seed) % 9,
                             .c = 1 + rand_r(&seed) % 20,
                             .h = 5 + rand_r(&seed) % 9,
                             .w = 5 + rand_r(&seed) % 9,
                             .k = 1 + rand_r(&seed) % 33,
                             .stride = 1 + rand_r(&seed) % 2,
                             .padding = rand_r(&seed) % 2};
        s.kernel[0] = 1 + rand_r(&seed) % 4;
        s.kernel[1] = 1 + rand_r(&seed) % 4;
        ask_all(&s);
    }
    printf("cuDNN %zu: %d graphs asked, %d fused ones and %d plain ones without an engine\n",
           cudnnGetVersion(), asked, fused_missing, missing);
    return missing > 0;
}
