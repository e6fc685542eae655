/* cuDNN's graph API (backend descriptors, plain C), as little of it as operators need:
 *
 *     dnn_graph_new ─▶ dnn_tensor … dnn_convolve, dnn_pointwise … ─▶ dnn_compile ─▶ dnn_run
 *                       shapes       operations, fused into one      an engine      pointers
 *
 * Engines: of what cuDNN's heuristics propose for this very graph, the first that
 *   - gives the same bits each time (no NONDETERMINISTIC note),
 *   - adds up the products of the operands as they are: no narrower inputs or sums than the
 *     precision says, no Winograd or FFT, so that one error bound holds for every shape; in fp32 no
 *     tensor cores, which would make tf32 of it,
 *   - is ready made, not compiled at run time: a trial starts at once, and no compiler's presence
 *     shows in the bits,
 *   - needs at most CUDA_DNN_WORKSPACE, and
 *   - is accepted for this device.
 * The proposals depend on the shapes, the library and the GPU model only, and so does the choice.
 * It is made once for a device and kept (cache.h), shared by all graphs that are the same; where
 * memory is short, that is an error and not another choice.
 *
 * A graph belongs to its device's thread. It must outlive recordings of its runs. */
#ifndef KERNELS_CUDA_DNN_H
#define KERNELS_CUDA_DNN_H

#include "kernels/cuda/cuda.h"

struct dnn_graph;

/* (N, C, H, W) in cuDNN's order of dimensions, wherever the elements lie. */
struct dnn_tensor {
    cudnnDataType_t type;
    int64_t dim[4], stride[4]; /* elements */
    int64_t alignment;         /* bytes: of every pointer that it will have */
    bool inside;               /* between two operations: it is never in memory */
};

enum dnn_direction {
    DNN_FORWARD,          /* y = x ∗ w */
    DNN_BACKWARD_WEIGHTS, /* w = what y's gradient makes of it */
    DNN_BACKWARD_DATA     /* x likewise */
};

struct dnn_window {
    int64_t stride[2], padding[2];
};

/* `what`, for messages: "a convolution of …"; it is copied. */
enum status dnn_graph_new(struct device *d, const char *what, struct dnn_graph **out,
                          struct err *err) MUST_USE;
void dnn_graph_release(struct dnn_graph *g); /* NULL is fine */

/* A tensor's number in its graph. */
int dnn_tensor(struct dnn_graph *g, const struct dnn_tensor *t);

/* Cross-correlation, sums in float. */
void dnn_convolve(struct dnn_graph *g, enum dnn_direction direction,
                  const struct dnn_window *window, int x, int w, int y);

/* y = x + b with the dimensions of b that are 1 repeated, or y = max(0, x) with b = −1. */
void dnn_pointwise(struct dnn_graph *g, cudnnPointwiseMode_t mode, int x, int b, int y);

/* UNAVAILABLE where no engine serves, with what it was and the library's last word. */
enum status dnn_compile(struct dnn_graph *g, enum precision precision, struct err *err) MUST_USE;

/* What running this graph's plan showed, on this device, to any engine: nothing yet; a row's bits
 * are the same in every place among the others; they depend on its place. After dnn_compile. */
enum dnn_proof { DNN_UNTRIED, DNN_STEADY, DNN_UNSTEADY };
enum dnn_proof dnn_proof(const struct dnn_graph *g);
void dnn_prove(struct dnn_graph *g, enum dnn_proof proof);

/* Likewise, of a graph with a relu: whether NaN comes through it, or a number in its place. */
enum dnn_nan { DNN_NAN_UNTRIED, DNN_NAN_KEPT, DNN_NAN_LOST };
enum dnn_nan dnn_nan(const struct dnn_graph *g);
void dnn_nan_found(struct dnn_graph *g, enum dnn_nan nan);

/* On the compute stream. pointers: of the tensors that are in memory, in the order in which they
 * were made. Allocates nothing on the device; what describes a set of pointers to the library is
 * kept for the next time. */
void dnn_run(struct dnn_graph *g, const void *const *pointers);

/* {engine, knobs: {type: value}, workspace}: for the manifest. */
struct value *dnn_describe(struct arena *a, const struct dnn_graph *g);

#endif
