/* What the files of the stand-in runtime share.
 *
 *     cudart.cpp    errors, devices, memory, copies
 *     streams.cpp   streams, events, capture, graphs: when work is done
 *     block.cpp     how the work of a kernel is done, thread by thread
 *
 * One lock around everything; work runs on the thread that forces it. */
#ifndef TESTS_STANDIN_RUNTIME_H
#define TESTS_STANDIN_RUNTIME_H

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <mutex>

#include "tests/standin/standin.h"

#define STANDIN_API extern "C" __attribute__((visibility("default")))

namespace standin {

/* ---- errors: cudart.cpp ---- */

/* Held by every call of the runtime. `error` is not 0 when the call must fail at once: the error is
 * injected, or an earlier one sticks. */
struct call {
    std::unique_lock<std::recursive_mutex> lock;
    cudaError_t error;
    explicit call(const char *function);
    cudaError_t done(cudaError_t e); /* remembers e for cudaGetLastError; returns it */
};

/* The order in which threads, blocks and free nodes of a graph go. */
enum class order { forward, reverse, random };
order order_of_work();
uint64_t random_word(); /* of TRIREME_STANDIN_ORDER's seed */

/* ---- memory: cudart.cpp ---- */

enum class place { unknown, device, pinned };
/* Where `bytes` at p lie; `whole`: whether all of them are in that one allocation. */
place place_of(const void *p, size_t bytes, bool *whole);
void check_guards(const char *after); /* of every allocation; ends the program */

/* ---- work: streams.cpp ---- */

struct work {
    const char *what;
    std::function<void()> run;
};

/* Queues on a stream, or into the graph it is captured into. */
cudaError_t submit(cudaStream_t s, work w);
bool capturing(cudaStream_t s);
/* An error where a call that is unsafe in a capture comes in the midst of one; spoils it. */
cudaError_t forbid_capture();
/* Does what is queued on the stream, and what that waits for. */
void force(cudaStream_t s);
void force_device();
bool inside_work(); /* called from within a host function */

/* ---- kernels: block.cpp ---- */

void run_grid(const char *kernel, dim3 grid, dim3 block, void (*thread)(void *), void *args);

} // namespace standin

#endif
