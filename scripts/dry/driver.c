/* libcuda.so.1 of dry CUDA: the driver functions that torch calls, or looks up by name through the runtime.
 *
 * Real: virtual memory for expandable segments, pages and addresses, in the same books as cudaMalloc.
 * Not real: modules and kernels (loaded, launched, never run), access rights (granted). Sharing memory between processes,
 * multicast and green contexts are not here: they answer CUDA_ERROR_NOT_SUPPORTED.
 */
#include <cuda.h>
#include <stddef.h>

#include "books.h"
#include "card.h"
#include "host.h"

/* A call that has nothing to do. */
#define NOTHING(name, ...) \
    CUresult name(__VA_ARGS__) { return CUDA_SUCCESS; }

/* A kernel starts, and writes nothing. */
#define LAUNCH(name, ...) \
    CUresult name(__VA_ARGS__) { \
        if (host_launching != NULL) host_launching(); \
        return CUDA_SUCCESS; \
    }

static char only; /* its address stands for the context, and for any module or kernel */

/* ---- virtual memory ---- */

CUresult cuMemAddressReserve(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr wish,
                             unsigned long long flags) {
    return (CUresult)books_reserve((void **)address, bytes);
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *pages, size_t bytes, const CUmemAllocationProp *properties,
                     unsigned long long flags) {
    uint64_t made;
    int result = books_create(&made, bytes);
    if (result == BOOKS_OK) *pages = made;
    return (CUresult)result;
}

CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle pages,
                  unsigned long long flags) {
    return (CUresult)books_map((void *)address, bytes, pages);
}

CUresult cuMemUnmap(CUdeviceptr address, size_t bytes) {
    return (CUresult)books_unmap((void *)address, bytes);
}

CUresult cuMemRelease(CUmemGenericAllocationHandle pages) {
    return (CUresult)books_release(pages);
}

CUresult cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *properties,
                                       CUmemAllocationGranularity_flags flags) {
    *bytes = BOOKS_PAGE_BYTES;
    return CUDA_SUCCESS;
}

NOTHING(cuMemAddressFree, CUdeviceptr address, size_t bytes)
NOTHING(cuMemSetAccess, CUdeviceptr address, size_t bytes, const CUmemAccessDesc *access, size_t count)
NOTHING(cuMemsetD32Async, CUdeviceptr address, unsigned value, size_t count, CUstream stream)
NOTHING(cuStreamWriteValue32, CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned flags)

/* ---- device and context ---- */

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    switch (attribute) {
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = card_major(); break;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = card_minor(); break;
        case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = (int)card_number("multiProcessorCount", 0); break;
        default: *value = 0; /* no shared handles, no multicast, no fabric */
    }
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context) {
    books_open();
    *context = (CUcontext)&only;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
    *flags = 0;
    *active = books_opened();
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    return cuCtxGetCurrent(context);
}

CUresult cuGetErrorString(CUresult error, const char **text) {
    *text = error == CUDA_ERROR_OUT_OF_MEMORY ? "out of memory" : "an error of dry CUDA";
    return CUDA_SUCCESS;
}

NOTHING(cuCtxSetCurrent, CUcontext context)

/* ---- kernels compiled while the program runs ---- */

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    *module = (CUmodule)&only;
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    *function = (CUfunction)&only;
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads, size_t shared) {
    *blocks = 1;
    return CUDA_SUCCESS;
}

NOTHING(cuModuleUnload, CUmodule module)
NOTHING(cuFuncSetAttribute, CUfunction function, CUfunction_attribute attribute, int value)
NOTHING(cuFuncSetCacheConfig, CUfunction function, CUfunc_cache config)
LAUNCH(cuLaunchKernel, CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
        unsigned shared, CUstream stream, void **parameters, void **extra)
