/* The driver functions that torch looks up by name: virtual memory for expandable segments, and the current context.
 *
 * Real: pages and addresses, in the same books as cudaMalloc. Not real: access rights (granted), sharing between processes,
 * multicast and green contexts (each answers that it is not supported).
 */
#include "virtual_memory.h"

#include <cuda.h>
#include <stddef.h>
#include <string.h>

#include "books.h"

static CUresult address_reserve(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr wish,
                                unsigned long long flags) {
    return (CUresult)books_reserve((void **)address, bytes);
}

static CUresult create(CUmemGenericAllocationHandle *pages, size_t bytes, const CUmemAllocationProp *properties,
                       unsigned long long flags) {
    uint64_t made;
    int result = books_create(&made, bytes);
    if (result == BOOKS_OK) *pages = made;
    return (CUresult)result;
}

static CUresult map(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle pages,
                    unsigned long long flags) {
    return (CUresult)books_map((void *)address, bytes, pages);
}

static CUresult unmap(CUdeviceptr address, size_t bytes) {
    return (CUresult)books_unmap((void *)address, bytes);
}

static CUresult release(CUmemGenericAllocationHandle pages) {
    return (CUresult)books_release(pages);
}

static CUresult granularity(size_t *bytes, const CUmemAllocationProp *properties, CUmemAllocationGranularity_flags flags) {
    *bytes = BOOKS_PAGE_BYTES;
    return CUDA_SUCCESS;
}

static CUresult attribute(int *value, CUdevice_attribute which, CUdevice device) {
    *value = 0; /* no shared handles, no multicast, no fabric */
    return CUDA_SUCCESS;
}

static CUresult current_context(CUcontext *context) {
    static char only;
    books_open();
    *context = (CUcontext)&only;
    return CUDA_SUCCESS;
}

static CUresult device(CUdevice *found, int ordinal) {
    *found = ordinal;
    return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

static CUresult error_string(CUresult error, const char **text) {
    *text = error == CUDA_ERROR_OUT_OF_MEMORY ? "out of memory" : "an error of dry CUDA";
    return CUDA_SUCCESS;
}

static CUresult done(void) {
    return CUDA_SUCCESS;
}

static CUresult not_modelled(void) {
    return CUDA_ERROR_NOT_SUPPORTED;
}

void *virtual_memory_function(const char *name) {
    static const struct {
        const char *name;
        void *function;
    } known[] = {
        {"cuMemAddressReserve", address_reserve},
        {"cuMemAddressFree", done},
        {"cuMemCreate", create},
        {"cuMemMap", map},
        {"cuMemSetAccess", done},
        {"cuMemUnmap", unmap},
        {"cuMemRelease", release},
        {"cuMemGetAllocationGranularity", granularity},
        {"cuMemsetD32Async", done},
        {"cuStreamWriteValue32", done},
        {"cuDeviceGet", device},
        {"cuDeviceGetAttribute", attribute},
        {"cuCtxGetCurrent", current_context},
        {"cuCtxSetCurrent", done},
        {"cuGetErrorString", error_string},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i].name, name) == 0) return known[i].function;
    return not_modelled;
}
