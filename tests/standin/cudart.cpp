/* Errors, devices, memory and copies of the stand-in runtime; launches enter here.
 *
 * Memory of the device is the host's, with zones around it that nobody may write. It begins as
 * 0xff, which is NaN in every format, since a real allocation is not zeroed either. */
#include <errno.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/standin/runtime.h"

using namespace standin;

namespace {

constexpr size_t GUARD = 512, PAGE = 4096;
constexpr unsigned char GUARD_BYTE = 0xa5, FRESH_BYTE = 0xff;
constexpr size_t FRESH_MAX = (size_t)16 << 20; /* of an allocation is filled: the rest is zero */
constexpr int64_t MEMORY_DEFAULT = (int64_t)8 << 30;

std::recursive_mutex everything;
cudaError_t last_error, stuck;
int device;
size_t used;
std::unordered_map<const char *, long long> calls; /* by the address of a function's name */

/* ---- the environment ---- */

int64_t number_of(const char *name, int64_t fallback) {
    const char *text = getenv(name);
    return text && *text ? strtoll(text, nullptr, 0) : fallback;
}

struct settings {
    int gpus = (int)number_of("TRIREME_STANDIN_GPUS", 1);
    int driver = (int)number_of("TRIREME_STANDIN_DRIVER", 0);
    size_t memory = (size_t)number_of("TRIREME_STANDIN_MEMORY", MEMORY_DEFAULT);
    bool guard_always = number_of("TRIREME_STANDIN_GUARD", 0) != 0;
    order how = order::forward;
    uint64_t random = 1;
    std::string fail_function;
    int64_t fail_in = 0;
    cudaError_t fail_with = cudaSuccess;

    settings() {
        std::string text = getenv("TRIREME_STANDIN_ORDER") ? getenv("TRIREME_STANDIN_ORDER") : "";
        if (text == "reverse") {
            how = order::reverse;
        } else if (text.rfind("random:", 0) == 0) {
            how = order::random;
            random = strtoull(text.c_str() + 7, nullptr, 0);
        } else if (!text.empty() && text != "forward") {
            fprintf(stderr,
                    "stand-in: TRIREME_STANDIN_ORDER is '%s': forward, reverse or "
                    "random:SEED is meant\n",
                    text.c_str());
            abort();
        }
        const char *fail = getenv("TRIREME_STANDIN_FAIL"); /* function:nth:error */
        const char *first = fail ? strchr(fail, ':') : nullptr;
        const char *second = first ? strchr(first + 1, ':') : nullptr;
        if (second == nullptr)
            return;
        fail_function.assign(fail, first);
        fail_in = strtoll(first + 1, nullptr, 10);
        fail_with = (cudaError_t)atoi(second + 1);
    }
};

settings &set() {
    static settings s;
    return s;
}

/* Errors that no call recovers from: the context is lost. */
bool sticks(cudaError_t e) {
    return e == cudaErrorECCUncorrectable || e == cudaErrorUnsupportedPtxVersion ||
           e == cudaErrorIllegalAddress || e == cudaErrorHardwareStackError ||
           e == cudaErrorIllegalInstruction || e == cudaErrorMisalignedAddress ||
           e == cudaErrorInvalidPc || e == cudaErrorLaunchFailure || e == cudaErrorLaunchTimeout ||
           e == cudaErrorAssert || e == cudaErrorNvlinkUncorrectable;
}

/* ---- memory ---- */

struct allocation {
    size_t bytes;
    place where;
    void *base; /* of the mapping; NULL: registered memory of somebody else */
    size_t mapped;
};
std::map<uintptr_t, allocation> allocations;

const std::pair<const uintptr_t, allocation> *find(const void *p) {
    auto it = allocations.upper_bound((uintptr_t)p);
    if (it == allocations.begin())
        return nullptr;
    --it;
    return (uintptr_t)p < it->first + it->second.bytes ? &*it : nullptr;
}

void *allocate(size_t bytes, place where) {
    size_t mapped = (GUARD + bytes + GUARD + PAGE - 1) / PAGE * PAGE;
    void *base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return nullptr;
    char *p = (char *)base + GUARD;
    memset(base, GUARD_BYTE, GUARD);
    memset(p, FRESH_BYTE, std::min(bytes, FRESH_MAX));
    memset(p + bytes, GUARD_BYTE, GUARD);
    allocations[(uintptr_t)p] = {bytes, where, base, mapped};
    return p;
}

void check_guard(uintptr_t at, const allocation &a, const char *after) {
    if (a.base == nullptr)
        return;
    const unsigned char *p = (const unsigned char *)at;
    for (size_t i = 0; i < GUARD; i++) {
        bool front = p[-1 - (ptrdiff_t)i] != GUARD_BYTE, back = p[a.bytes + i] != GUARD_BYTE;
        if (!front && !back)
            continue;
        fprintf(stderr,
                "stand-in: byte %zu %s an allocation of %zu bytes was written; found after %s\n",
                i + 1, back ? "past the end of" : "before", a.bytes, after);
        abort();
    }
}

cudaError_t release(const void *p, place where, const char *after) {
    if (p == nullptr)
        return cudaSuccess;
    auto it = allocations.find((uintptr_t)p);
    if (it == allocations.end() || it->second.where != where || it->second.base == nullptr)
        return cudaErrorInvalidValue;
    check_guard(it->first, it->second, after);
    if (where == place::device)
        used -= it->second.bytes;
    munmap(it->second.base, it->second.mapped);
    allocations.erase(it);
    return cudaSuccess;
}

} // namespace

namespace standin {

call::call(const char *function) : lock(everything), error(stuck) {
    settings &s = set();
    calls[function]++;
    if (s.driver != 0)
        error = (cudaError_t)s.driver;
    if (s.fail_in > 0 && s.fail_function == function && --s.fail_in == 0) {
        error = s.fail_with;
        if (sticks(error))
            stuck = error;
    }
    if (error)
        last_error = error;
}

cudaError_t call::done(cudaError_t e) {
    if (e)
        last_error = e;
    if (sticks(e))
        stuck = e;
    return e;
}

order order_of_work() {
    return set().how;
}

/* SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). */
uint64_t random_word() {
    uint64_t z = set().random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

place place_of(const void *p, size_t bytes, bool *whole) {
    const auto *found = find(p);
    if (found == nullptr)
        return place::unknown;
    *whole = (uintptr_t)p + bytes <= found->first + found->second.bytes;
    return found->second.where;
}

void check_guards(const char *after) {
    if (!set().guard_always)
        return;
    for (const auto &a : allocations)
        check_guard(a.first, a.second, after);
}

} // namespace standin

STANDIN_API void standin_begin(void) {
    std::lock_guard<std::recursive_mutex> lock(everything);
    set() = settings();
    last_error = stuck = cudaSuccess;
}

STANDIN_API void standin_count(const char *function) {
    std::lock_guard<std::recursive_mutex> lock(everything);
    calls[function]++;
}

STANDIN_API long long standin_calls(const char *function) {
    std::lock_guard<std::recursive_mutex> lock(everything);
    long long sum = 0;
    for (const auto &c : calls)
        if (strcmp(c.first, function) == 0)
            sum += c.second;
    return sum;
}

/* ---- errors ---- */

STANDIN_API cudaError_t cudaGetLastError(void) {
    std::lock_guard<std::recursive_mutex> lock(everything);
    cudaError_t e = stuck ? stuck : last_error;
    last_error = cudaSuccess;
    return e;
}
STANDIN_API cudaError_t cudaPeekAtLastError(void) {
    std::lock_guard<std::recursive_mutex> lock(everything);
    return stuck ? stuck : last_error;
}

static const struct {
    cudaError_t code;
    const char *name, *text;
} ERRORS[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorIllegalState, "cudaErrorIllegalState",
     "the operation cannot be performed in the present state"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorHostMemoryAlreadyRegistered, "cudaErrorHostMemoryAlreadyRegistered",
     "part or all of the requested memory range is already mapped"},
    {cudaErrorHostMemoryNotRegistered, "cudaErrorHostMemoryNotRegistered",
     "pointer does not correspond to a registered memory region"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotPermitted, "cudaErrorNotPermitted", "operation not permitted"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not initiated in this stream"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined",
     "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
};

STANDIN_API const char *cudaGetErrorName(cudaError_t e) {
    for (const auto &row : ERRORS)
        if (row.code == e)
            return row.name;
    return "unrecognized error code";
}
STANDIN_API const char *cudaGetErrorString(cudaError_t e) {
    for (const auto &row : ERRORS)
        if (row.code == e)
            return row.text;
    return "unrecognized error code";
}

/* ---- devices ---- */

STANDIN_API cudaError_t cudaGetDeviceCount(int *count) {
    call c("cudaGetDeviceCount");
    if (c.error)
        return c.error; /* as the real one: *count is not written */
    if (set().gpus == 0) {
        *count = 0;
        return c.done(cudaErrorNoDevice);
    }
    *count = set().gpus;
    return cudaSuccess;
}
STANDIN_API cudaError_t cudaSetDevice(int index) {
    call c("cudaSetDevice");
    if (c.error)
        return c.error;
    if (index < 0 || index >= set().gpus)
        return c.done(cudaErrorInvalidDevice);
    device = index;
    return cudaSuccess;
}
STANDIN_API cudaError_t cudaInitDevice(int index, unsigned, unsigned) {
    call c("cudaInitDevice");
    if (c.error)
        return c.error;
    return c.done(index < 0 || index >= set().gpus ? cudaErrorInvalidDevice : cudaSuccess);
}
STANDIN_API cudaError_t cudaGetDevice(int *index) {
    call c("cudaGetDevice");
    if (c.error)
        return c.error;
    *index = device;
    return cudaSuccess;
}
STANDIN_API cudaError_t cudaSetDeviceFlags(unsigned) {
    call c("cudaSetDeviceFlags");
    return c.error;
}
STANDIN_API cudaError_t cudaDeviceReset(void) {
    call c("cudaDeviceReset");
    if (c.error)
        return c.error;
    force_device();
    return cudaSuccess;
}
STANDIN_API cudaError_t cudaDriverGetVersion(int *version) {
    call c("cudaDriverGetVersion");
    *version = c.error == cudaErrorInsufficientDriver ? 0 : CUDART_VERSION;
    return cudaSuccess;
}
STANDIN_API cudaError_t cudaRuntimeGetVersion(int *version) {
    call c("cudaRuntimeGetVersion");
    *version = CUDART_VERSION;
    return cudaSuccess;
}

constexpr int MULTIPROCESSORS = 132, CLOCK_KHZ = 1980000, L2_BYTES = 50 << 20;

STANDIN_API cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int index) {
    call c("cudaGetDeviceProperties");
    if (c.error)
        return c.error;
    if (index < 0 || index >= set().gpus)
        return c.done(cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "stand-in");
    p->uuid.bytes[0] = (char)(index + 1);
    p->totalGlobalMem = set().memory;
    p->sharedMemPerBlock = 48 << 10;
    p->sharedMemPerBlockOptin = 227 << 10;
    p->sharedMemPerMultiprocessor = 228 << 10;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->warpSize = 32;
    p->maxThreadsPerBlock = p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxThreadsPerMultiProcessor = 2048;
    p->maxGridSize[0] = 0x7fffffff;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->major = 9;
    p->multiProcessorCount = MULTIPROCESSORS;
    p->l2CacheSize = L2_BYTES;
    p->memoryBusWidth = 5120;
    p->pciBusID = index + 1;
    p->ECCEnabled = p->unifiedAddressing = p->canMapHostMemory = p->concurrentKernels = 1;
    p->asyncEngineCount = 3;
    return cudaSuccess;
}

STANDIN_API cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int index) {
    call c("cudaDeviceGetAttribute");
    if (c.error)
        return c.error;
    if (index < 0 || index >= set().gpus)
        return c.done(cudaErrorInvalidDevice);
    switch ((int)attribute) {
    case cudaDevAttrClockRate:
        *value = CLOCK_KHZ;
        break;
    case cudaDevAttrMemoryClockRate:
        *value = 2619000;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = MULTIPROCESSORS;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = 9;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = 0;
        break;
    case cudaDevAttrL2CacheSize:
        *value = L2_BYTES;
        break;
    case cudaDevAttrMaxThreadsPerBlock:
        *value = 1024;
        break;
    case cudaDevAttrWarpSize:
        *value = 32;
        break;
    case cudaDevAttrEccEnabled:
        *value = 1;
        break;
    case cudaDevAttrUnifiedAddressing:
        *value = 1;
        break;
    case cudaDevAttrComputeMode:
        *value = cudaComputeModeDefault;
        break;
    case cudaDevAttrHostRegisterSupported:
        *value = 1;
        break;
    default:
        return c.done(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

STANDIN_API cudaError_t cudaDeviceGetPCIBusId(char *text, int len, int index) {
    call c("cudaDeviceGetPCIBusId");
    if (c.error)
        return c.error;
    if (index < 0 || index >= set().gpus)
        return c.done(cudaErrorInvalidDevice);
    snprintf(text, (size_t)len, "0000:%02x:00.0", index + 1);
    return cudaSuccess;
}

/* ---- memory ---- */

STANDIN_API cudaError_t cudaMalloc(void **out, size_t bytes) {
    call c("cudaMalloc");
    if (c.error)
        return c.error;
    cudaError_t e = forbid_capture();
    if (e)
        return c.done(e);
    *out = nullptr;
    if (bytes == 0)
        return cudaSuccess;
    if (bytes > set().memory || used > set().memory - bytes)
        return c.done(cudaErrorMemoryAllocation);
    *out = allocate(bytes, place::device);
    if (*out == nullptr)
        return c.done(cudaErrorMemoryAllocation);
    used += bytes;
    return cudaSuccess;
}
STANDIN_API cudaError_t cudaFree(void *p) {
    call c("cudaFree");
    cudaError_t e = c.error ? cudaSuccess : forbid_capture();
    if (e)
        return c.done(e);
    if (!c.error)
        force_device();
    e = release(p, place::device, "cudaFree");
    return c.error ? c.error : c.done(e);
}
STANDIN_API cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned) {
    call c("cudaHostAlloc");
    if (c.error)
        return c.error;
    cudaError_t e = forbid_capture();
    if (e)
        return c.done(e);
    *out = bytes ? allocate(bytes, place::pinned) : nullptr;
    return c.done(bytes && *out == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}
STANDIN_API cudaError_t cudaMallocHost(void **out, size_t bytes) {
    return cudaHostAlloc(out, bytes, cudaHostAllocDefault);
}
STANDIN_API cudaError_t cudaFreeHost(void *p) {
    call c("cudaFreeHost");
    cudaError_t e = c.error ? cudaSuccess : forbid_capture();
    if (e)
        return c.done(e);
    if (!c.error)
        force_device();
    e = release(p, place::pinned, "cudaFreeHost");
    return c.error ? c.error : c.done(e);
}
STANDIN_API cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned) {
    call c("cudaHostRegister");
    if (c.error)
        return c.error;
    if (p == nullptr || bytes == 0)
        return c.done(cudaErrorInvalidValue);
    if (find(p))
        return c.done(cudaErrorHostMemoryAlreadyRegistered);
    allocations[(uintptr_t)p] = {bytes, place::pinned, nullptr, 0};
    return cudaSuccess;
}
STANDIN_API cudaError_t cudaHostUnregister(void *p) {
    call c("cudaHostUnregister");
    if (c.error)
        return c.error;
    auto it = allocations.find((uintptr_t)p);
    if (it == allocations.end() || it->second.base != nullptr)
        return c.done(cudaErrorHostMemoryNotRegistered);
    force_device();
    allocations.erase(it);
    return cudaSuccess;
}
STANDIN_API cudaError_t cudaHostGetDevicePointer(void **out, void *p, unsigned) {
    call c("cudaHostGetDevicePointer");
    if (c.error)
        return c.error;
    const auto *found = find(p);
    if (found == nullptr || found->second.where != place::pinned)
        return c.done(cudaErrorInvalidValue);
    *out = p;
    return cudaSuccess;
}
STANDIN_API cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *out, const void *p) {
    call c("cudaPointerGetAttributes");
    if (c.error)
        return c.error;
    const auto *found = find(p);
    memset(out, 0, sizeof *out);
    out->device = found ? device : -2;
    out->type = !found                                 ? cudaMemoryTypeUnregistered
                : found->second.where == place::device ? cudaMemoryTypeDevice
                                                       : cudaMemoryTypeHost;
    if (found)
        out->devicePointer = const_cast<void *>(p);
    if (!found || found->second.where == place::pinned)
        out->hostPointer = const_cast<void *>(p);
    return cudaSuccess;
}
STANDIN_API cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
    call c("cudaMemGetInfo");
    if (c.error)
        return c.error;
    *total = set().memory;
    *free = used < set().memory ? set().memory - used : 0;
    return cudaSuccess;
}

/* ---- copies ---- */

/* Which memory the two ends lie in; an error where the ends contradict `kind`, or a range leaves
 * its allocation. */
static cudaError_t ends_of(const void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                           place *to, place *from) {
    bool whole_dst = true, whole_src = true;
    *to = place_of(dst, bytes, &whole_dst);
    *from = place_of(src, bytes, &whole_src);
    bool to_device = *to == place::device, from_device = *from == place::device;
    if (!whole_dst || !whole_src)
        return cudaErrorInvalidValue;
    switch (kind) {
    case cudaMemcpyHostToHost:
        return to_device || from_device ? cudaErrorInvalidValue : cudaSuccess;
    case cudaMemcpyHostToDevice:
        return to_device && !from_device ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyDeviceToHost:
        return !to_device && from_device ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyDeviceToDevice:
        return to_device && from_device ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyDefault:
        return cudaSuccess;
    }
    return cudaErrorInvalidMemcpyDirection;
}

static cudaError_t copy(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                        cudaStream_t s, bool waits) {
    place to, from;
    cudaError_t e = ends_of(dst, src, bytes, kind, &to, &from);
    if (e || bytes == 0)
        return e;
    bool pageable = to == place::unknown || from == place::unknown;
    if (pageable && capturing(s))
        return cudaErrorStreamCaptureUnsupported;
    if (from ==
        place::unknown) { /* staged: what the caller does to src afterwards changes nothing */
        auto kept =
            std::make_shared<std::vector<char>>((const char *)src, (const char *)src + bytes);
        e = submit(s, {"copy of pageable memory", [=] { memcpy(dst, kept->data(), bytes); }});
        waits = waits && to != place::device; /* may still be under way on return */
    } else {
        e = submit(s, {"copy", [=] { memmove(dst, src, bytes); }});
    }
    if (!e && (waits || to == place::unknown))
        force(s);
    return e;
}

STANDIN_API cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes,
                                        cudaMemcpyKind kind, cudaStream_t s) {
    call c("cudaMemcpyAsync");
    if (c.error)
        return c.error;
    return c.done(copy(dst, src, bytes, kind, s, false));
}
STANDIN_API cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind) {
    call c("cudaMemcpy");
    if (c.error)
        return c.error;
    cudaError_t e = forbid_capture();
    if (e)
        return c.done(e);
    return c.done(copy(dst, src, bytes, kind, nullptr, kind != cudaMemcpyDeviceToDevice));
}

STANDIN_API cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s) {
    call c("cudaMemsetAsync");
    if (c.error)
        return c.error;
    bool whole = true;
    if (bytes && (place_of(p, bytes, &whole) == place::unknown || !whole))
        return c.done(cudaErrorInvalidValue);
    return c.done(submit(s, {"memset", [=] { memset(p, value, bytes); }}));
}
STANDIN_API cudaError_t cudaMemset(void *p, int value, size_t bytes) {
    return cudaMemsetAsync(p, value, bytes, nullptr);
}

/* ---- launches ---- */

STANDIN_API cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute, int) {
    call c("cudaFuncSetAttribute");
    return c.error;
}

STANDIN_API cudaError_t standin_queue(cudaStream_t s, const char *what, void (*run)(void *arg),
                                      void *arg, void (*destroy)(void *arg)) {
    call c("standin_queue");
    std::shared_ptr<void> kept(arg, [destroy](void *p) {
        if (destroy)
            destroy(p);
    });
    if (c.error)
        return c.error;
    return c.done(submit(s, {what, [=] { run(kept.get()); }}));
}

STANDIN_API cudaError_t standin_launch(cudaStream_t s, const char *kernel, const unsigned grid[3],
                                       const unsigned block[3], void (*thread)(void *args),
                                       void *args, void (*destroy)(void *args)) {
    call c("cudaLaunchKernel");
    std::shared_ptr<void> kept(args, destroy);
    if (c.error)
        return c.error;
    bool fits = grid[0] >= 1 && grid[0] <= 0x7fffffff && grid[1] >= 1 && grid[1] <= 65535 &&
                grid[2] >= 1 && grid[2] <= 65535 && block[0] >= 1 && block[1] >= 1 &&
                block[2] >= 1 && block[2] <= 64 && (uint64_t)block[0] * block[1] * block[2] <= 1024;
    if (!fits)
        return c.done(cudaErrorInvalidConfiguration);
    dim3 g(grid[0], grid[1], grid[2]), b(block[0], block[1], block[2]);
    return c.done(submit(s, {kernel, [=] { run_grid(kernel, g, b, thread, kept.get()); }}));
}

STANDIN_API void standin_check_pointer(const char *kernel, const void *p) {
    std::lock_guard<std::recursive_mutex> lock(everything);
    if (p == nullptr || find(p))
        return;
    auto it = allocations.upper_bound((uintptr_t)p);
    if (it != allocations.begin()) { /* one past the end is a fair bound of a range */
        --it;
        if ((uintptr_t)p == it->first + it->second.bytes)
            return;
    }
    fprintf(stderr, "stand-in: kernel %s is given %p, which a device cannot reach\n", kernel, p);
    abort();
}
