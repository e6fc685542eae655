/* Products by cuBLASLt, batched over shards, with one algorithm for each shape, chosen once:
 *
 *     for s in 0 … batch − 1:   D_s (m, n) = op(A_s) · op(B_s)   (+ bias per column) (relu)
 *
 * All matrices are row-major. An entry of a batch has the shape of ONE shard whatever the number of
 * shards, and the algorithm is chosen for that shape alone, without split-K: its bits depend on its
 * own operands only. (cuBLASLt: same bits for the same algorithm, library and GPU model.) */
#ifndef KERNELS_CUDA_MATMUL_H
#define KERNELS_CUDA_MATMUL_H

#include "kernels/cuda/cuda.h"

struct matmul_spec {
    int64_t m, n, k;
    bool transpose_a;                     /* A is stored (k, m), else (m, k) */
    bool transpose_b;                     /* B is stored (n, k), else (k, n) */
    int64_t a_stride, b_stride, d_stride; /* elements between entries; 0: the same for all */
    int batch_max;                        /* of one call; it does not enter the choice */
    enum precision precision;             /* of A and B; TF32: float32 operands, tensor cores */
    bool d_float;                         /* D is float32 even in bf16 (weight gradients) */
    bool bias, relu;                      /* bias: (n) float32, in bf16 bfloat16 */
};

struct matmul;

/* Chosen once for a device and kept (cache.h): the same spec gives the same product again, shared
 * by all that asked for it. UNAVAILABLE where the library has no algorithm, with the shape; what is
 * not aligned to 16 bytes falls back to a kernel of our own, in float32 sums of the operands as they
 * are. A fused relu is checked with NaN, and taken apart where it makes numbers of it; that waits. */
enum status matmul_new(struct device *d, const struct matmul_spec *spec, struct matmul **out,
                       struct err *err) MUST_USE;
void matmul_release(struct matmul *m); /* NULL is fine */

/* On the compute stream; batch ≤ batch_max. Allocates nothing. */
void matmul_run(struct matmul *m, int batch, const void *a, const void *b, void *out,
                const void *bias);

/* Whether a whole batch gives each entry the bits that it has alone: on random numbers, in memory
 * taken for it. Waits the first time; not while something is recorded. False also where memory is
 * short, which is not remembered. */
bool matmul_self_check(struct matmul *m);

/* {m, n, k, algorithm, tile, stages, …}: for the manifest, the same for any batch; algorithm is
 * "plain" for our own kernel; relu_apart where the library's relu loses NaN. */
struct value *matmul_describe(struct arena *a, const struct matmul *m);

#endif
