/* What a GPU's libraries answer, in words: what was wrong, where, and what to do. */
#include "kernels/cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>

#define KERNEL_LOG "the kernel log (dmesg) says more under Xid, nvidia-smi whether the card lives"

static const struct {
    cudaError_t code;
    const char *words;
} rows[] = {
    {cudaErrorMemoryAllocation,
     "out of memory: take a smaller batch, or fewer ranks on one GPU (nvidia-smi shows who holds "
     "the rest)"},
    {cudaErrorECCUncorrectable, "the GPU's memory lost bits that ECC cannot restore; " KERNEL_LOG},
    {cudaErrorNvlinkUncorrectable, "NVLink lost bits that cannot be restored; " KERNEL_LOG},
    {cudaErrorContained, "the GPU contained a memory error; " KERNEL_LOG},
    {cudaErrorIllegalAddress, "a kernel reached outside its memory; " KERNEL_LOG},
    {cudaErrorMisalignedAddress, "a kernel's address was not aligned; " KERNEL_LOG},
    {cudaErrorIllegalInstruction, "a kernel met an illegal instruction; " KERNEL_LOG},
    {cudaErrorHardwareStackError, "a kernel's stack was damaged; " KERNEL_LOG},
    {cudaErrorInvalidPc, "a kernel lost its way; " KERNEL_LOG},
    {cudaErrorLaunchFailure, "a kernel failed while it ran; " KERNEL_LOG},
    {cudaErrorLaunchTimeout, "a kernel ran longer than the display's watchdog allows: use a GPU "
                             "without a display"},
    {cudaErrorDevicesUnavailable, "the GPU is busy, in exclusive mode, or lost: see nvidia-smi; "
                                  "`nvidia-smi -c 0` lets several processes in"},
    {cudaErrorDeviceAlreadyInUse, "another process holds the GPU in exclusive mode: `nvidia-smi -c "
                                  "0` lets several in"},
    {cudaErrorNoDevice, "the driver answers but shows no GPU: see nvidia-smi, "
                        "CUDA_VISIBLE_DEVICES and the permissions of /dev/nvidia*"},
    {cudaErrorInitializationError, "the driver could not be initialised: see nvidia-smi and the "
                                   "permissions of /dev/nvidia*"},
    {cudaErrorSystemNotReady, "the system is not ready: on machines with NVSwitch, "
                              "nvidia-fabricmanager must run"},
    {cudaErrorSystemDriverMismatch, "the kernel's driver and the driver's library are of different "
                                    "versions: restart the machine after an update"},
    {cudaErrorCompatNotSupportedOnDevice, "forward compatibility does not serve this GPU: install "
                                          "a driver of version 580 or later"},
    {cudaErrorMpsConnectionFailed, "the MPS server does not answer: start it, or unset "
                                   "CUDA_MPS_PIPE_DIRECTORY"},
    {cudaErrorMpsMaxClientsReached, "MPS serves no more clients: fewer ranks on one GPU"},
    {cudaErrorNotPermitted, "not permitted"},
    {cudaErrorUnknown, "the GPU does not answer; " KERNEL_LOG},
};

static const char *words_of(cudaError_t code) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].code == code)
            return rows[i].words;
    return cudaGetErrorString(code);
}

static bool stick(struct device *d, enum status status, const char *what, const char *words,
                  const char *name) {
    struct cuda_device *c = cuda_of(d);
    c->failed = err_set(&c->err, status, "GPU %d (%s): %s: %s (%s)", c->index, c->properties.name,
                        what, words, name);
    return false;
}

bool cuda_failed(const struct device *d) {
    return ((const struct cuda_device *)d)->failed != STATUS_OK;
}

bool cuda_ok(struct device *d, cudaError_t code, const char *what) {
    if (cuda_failed(d))
        return false;
    if (code == cudaSuccess)
        return true;
    return stick(d, code == cudaErrorMemoryAllocation ? STATUS_NOMEM : STATUS_UNAVAILABLE, what,
                 words_of(code), cudaGetErrorName(code));
}

bool cuda_blas_ok(struct device *d, cublasStatus_t code, const char *what) {
    if (cuda_failed(d))
        return false;
    if (code == CUBLAS_STATUS_SUCCESS)
        return true;
    return stick(d, code == CUBLAS_STATUS_ALLOC_FAILED ? STATUS_NOMEM : STATUS_UNAVAILABLE, what,
                 "cuBLAS refuses", cublasLtGetStatusName(code));
}

bool cuda_dnn_ok(struct device *d, cudnnStatus_t code, const char *what) {
    if (cuda_failed(d))
        return false;
    if (code == CUDNN_STATUS_SUCCESS)
        return true;
    bool memory = code == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ||
                  code == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    return stick(d, memory ? STATUS_NOMEM : STATUS_UNAVAILABLE, what, "cuDNN refuses",
                 cudnnGetErrorString(code));
}

/* An event that was asked too early leaves "not ready" behind: no error. */
void cuda_launched(struct device *d, const char *what) {
    cudaError_t code = cudaGetLastError();
    if (code != cudaErrorNotReady)
        (void)cuda_ok(d, code, what);
}

void cuda_version_text(int version, char out[16]) {
    if (version > 0)
        (void)snprintf(out, 16, "%d.%d", version / 1000, version % 1000 / 10);
    else
        (void)snprintf(out, 16, "none");
}

enum status cuda_absent(cudaError_t code, struct err *err) {
    int driver = 0, runtime = 0;
    char driver_text[16], runtime_text[16];
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    (void)cudaDriverGetVersion(&driver); /* 0: no driver */
    (void)cudaRuntimeGetVersion(&runtime);
    (void)cudaGetLastError();
    cuda_version_text(driver, driver_text);
    cuda_version_text(runtime, runtime_text);
    if (driver == 0)
        return err_set(err, STATUS_UNAVAILABLE,
                       "looked for an NVIDIA driver that serves CUDA %s and found none: install "
                       "version 580 or later (nvidia-smi shows it)",
                       runtime_text);
    if (code == cudaErrorInsufficientDriver)
        return err_set(err, STATUS_UNAVAILABLE,
                       "looked for an NVIDIA driver that serves CUDA %s and found one for CUDA %s: "
                       "install version 580 or later (nvidia-smi shows it)",
                       runtime_text, driver_text);
    return err_set(err, STATUS_UNAVAILABLE,
                   "looked for a GPU; the driver (CUDA %s) answers %s: %s "
                   "(CUDA_VISIBLE_DEVICES is %s%s)",
                   driver_text, cudaGetErrorName(code), words_of(code),
                   visible ? "set to " : "not set", visible ? visible : "");
}
