/* What the stand-ins of the CUDA libraries share with each other and with kernels built for the
 * host. C and C++. libcudart.so.13 of this folder exports all of it. */
#ifndef TESTS_STANDIN_STANDIN_H
#define TESTS_STANDIN_STANDIN_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Reads the environment again (README.md) and forgets errors: for a test that changes it. */
void standin_begin(void);

/* How often a function of the stand-ins was called since the program began: "cudaMalloc". Those of
 * the runtime are counted, and those of the libraries that call standin_count. */
long long standin_calls(const char *function);
void standin_count(const char *function); /* a literal */

/* Queues `run(arg)` on a stream (0: the legacy stream), as a kernel would be: it is run when the
 * stream is forced, or put into the graph that the stream is captured into, and then run at every
 * launch of the graph. `destroy(arg)`, which may be NULL, is called once, when nothing can run it
 * any more. `what` is for messages, and must stay. An error sticks as after a launch
 * (cudaGetLastError) and is returned too; `arg` is destroyed then. */
cudaError_t standin_queue(cudaStream_t stream, const char *what, void (*run)(void *arg), void *arg,
                          void (*destroy)(void *arg));

/* The same for a kernel: `thread(args)` is called once for each thread of each block, with
 * threadIdx and the like set. */
cudaError_t standin_launch(cudaStream_t stream, const char *kernel, const unsigned grid[3],
                           const unsigned block[3], void (*thread)(void *args), void *args,
                           void (*destroy)(void *args));

/* Ends the program when `p`, an argument of the kernel, is memory that no device reaches: neither
 * NULL nor the device's nor pinned. */
void standin_check_pointer(const char *kernel, const void *p);

/* __syncthreads. */
void standin_barrier(const char *file, int line);

/* All 32 lanes of the calling thread's warp bring 64 bits each and see all 32 of them, until their
 * next exchange. Lanes must come from the same place of the source. */
const unsigned long long *standin_exchange(unsigned mask, unsigned long long mine, const char *file,
                                           int line);

/* Ends the program with a message that names kernel, block and thread. */
void standin_trap(const char *what, const char *file, int line);

#ifdef __cplusplus
}
#endif

#endif
