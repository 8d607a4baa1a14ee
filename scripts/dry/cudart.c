/* libcudart.so.13 (or .12, for a torch of CUDA 12) of dry CUDA: the runtime API that torch imports.
 *
 * Real: memory (books.c), the device's properties (card.c), copies between host buffers, what a call returns.
 * Not real: kernels do nothing, memory of the card has no content but what values.cpp follows, everything is finished at once,
 * and time is 0 ms. Occupancy is a guess from the card's limits: it sets the size of small temporary buffers only.
 * Graphs, memory pools, cudaMallocAsync, IPC and peers are not here: build.py makes them answer cudaErrorNotSupported.
 */
#define _GNU_SOURCE
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "books.h"
#include "card.h"
#include "host.h"
#include "ranges.h"

enum { DRY_DRIVER = 13000 }; /* the CUDA version that the driver gives; the runtime's is its header's */

/* A call that has nothing to do: whatever it asks for is done, in order, at once. */
#define NOTHING(name, ...) \
    cudaError_t name(__VA_ARGS__) { return cudaSuccess; }

/* A kernel starts, and writes nothing. */
#define LAUNCH(name, ...) \
    cudaError_t name(__VA_ARGS__) { \
        if (host_launching != NULL) host_launching(); \
        return cudaSuccess; \
    }

/* ---- memory ---- */

static pthread_mutex_t pinned_lock = PTHREAD_MUTEX_INITIALIZER;
static Ranges pinned;

cudaError_t cudaMalloc(void **address, size_t bytes) {
    return (cudaError_t)books_allocate(address, bytes);
}

cudaError_t cudaFree(void *address) {
    return (cudaError_t)books_free(address);
}

cudaError_t cudaMallocManaged(void **address, size_t bytes, unsigned flags) {
    return (cudaError_t)books_manage(address, bytes);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *free_bytes = books_free_bytes();
    *total = books_total();
    return cudaSuccess;
}

static void pin(void *address, size_t bytes) {
    pthread_mutex_lock(&pinned_lock);
    ranges_add(&pinned, (Range){address, bytes, NULL});
    pthread_mutex_unlock(&pinned_lock);
}

static int unpin(void *address) {
    pthread_mutex_lock(&pinned_lock);
    Range *range = ranges_find(&pinned, address);
    int known = range != NULL && range->address == address;
    if (known) ranges_remove(&pinned, range);
    pthread_mutex_unlock(&pinned_lock);
    return known;
}

static int is_pinned(const void *address) {
    pthread_mutex_lock(&pinned_lock);
    int known = ranges_find(&pinned, address) != NULL;
    pthread_mutex_unlock(&pinned_lock);
    return known;
}

cudaError_t cudaHostAlloc(void **address, size_t bytes, unsigned flags) {
    *address = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (*address == NULL) return cudaErrorMemoryAllocation;
    pin(*address, bytes);
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *address) {
    if (address != NULL && !unpin(address)) return cudaErrorInvalidValue;
    free(address);
    return cudaSuccess;
}

cudaError_t cudaHostRegister(void *address, size_t bytes, unsigned flags) {
    pin(address, bytes);
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *address) {
    return unpin(address) ? cudaSuccess : cudaErrorHostMemoryNotRegistered;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *address) {
    memset(found, 0, sizeof *found);
    if (books_is_device(address)) {
        found->type = cudaMemoryTypeDevice;
        found->devicePointer = (void *)address;
    } else if (books_is_managed(address)) {
        found->type = cudaMemoryTypeManaged;
        found->devicePointer = found->hostPointer = (void *)address;
    } else if (is_pinned(address)) {
        found->type = cudaMemoryTypeHost;
        found->devicePointer = found->hostPointer = (void *)address;
    } else {
        found->type = cudaMemoryTypeUnregistered;
        found->device = -2; /* as the runtime does: no device */
    }
    return cudaSuccess;
}

static cudaError_t copy(void *to, const void *from, size_t bytes) {
    if (books_is_device(to)) return cudaSuccess;
    if (books_is_device(from)) return host_receive(to, from, bytes) ? cudaSuccess : cudaErrorNotSupported;
    memmove(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    return copy(to, from, bytes);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    return copy(to, from, bytes);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                              enum cudaMemcpyKind kind, cudaStream_t stream) {
    cudaError_t error = cudaSuccess;
    for (size_t row = 0; row < height && error == cudaSuccess && !books_is_device(to); row++)
        error = copy((char *)to + row * to_pitch, (const char *)from + row * from_pitch, width);
    return error;
}

NOTHING(cudaMemcpyPeerAsync, void *to, int to_device, const void *from, int from_device, size_t bytes, cudaStream_t stream)
NOTHING(cudaMemcpyToSymbol, const void *symbol, const void *from, size_t bytes, size_t at, enum cudaMemcpyKind kind)
NOTHING(cudaMemset, void *address, int value, size_t bytes)
NOTHING(cudaMemsetAsync, void *address, int value, size_t bytes, cudaStream_t stream)

/* Managed memory counts as the card's wherever it is. */
#if CUDART_VERSION >= 13000
NOTHING(cudaMemPrefetchAsync, const void *address, size_t bytes, struct cudaMemLocation to, unsigned flags,
        cudaStream_t stream)
#else
NOTHING(cudaMemPrefetchAsync, const void *address, size_t bytes, int device, cudaStream_t stream)
#endif

cudaError_t cudaGetSymbolAddress(void **address, const void *symbol) {
    *address = books_symbols();
    return cudaSuccess;
}

/* ---- the device ---- */

/* What torch computes is followed from its first look at the card: values.cpp, linked to torch, so that it is loaded here. */
static void follow_torch(void) {
    if (dlopen("libtorch_cpu.so", RTLD_NOLOAD | RTLD_LAZY) == NULL || dlopen("libdry_values.so", RTLD_NOW) != NULL) return;
    fprintf(stderr, "dry CUDA: values cannot be followed: %s\n", dlerror());
    exit(1);
}

cudaError_t cudaGetDeviceCount(int *count) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, follow_torch);
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}

/* Since CUDA 12 this makes the context. */
cudaError_t cudaSetDevice(int device) {
    if (device != 0) return cudaErrorInvalidDevice;
    books_open();
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void) {
    books_open();
    return cudaSuccess;
}

static void fill_limits(struct cudaDeviceProp *p) {
    for (int i = 0; i < 3; i++) {
        p->maxThreadsDim[i] = (int)card_number("maxBlockSize", i);
        p->maxGridSize[i] = (int)card_number("maxGridSize", i);
    }
    p->warpSize = (int)card_number("warpSize", 0);
    p->maxThreadsPerBlock = (int)card_number("maxThreadsPerBlock", 0);
    p->maxThreadsPerMultiProcessor = (int)card_number("maxThreadsPerSM", 0);
    p->maxBlocksPerMultiProcessor = (int)card_number("maxCtasPerSM", 0);
    p->regsPerBlock = (int)card_number("regsPerBlock", 0);
    p->regsPerMultiprocessor = (int)card_number("maxRegistersPerSM", 0);
    p->sharedMemPerBlock = card_number("maxSharedMemoryPerBlock", 0);
    p->sharedMemPerBlockOptin = card_number("maxSharedMemoryPerBlockOptin", 0);
    p->reservedSharedMemPerBlock = card_number("reservedSharedMemoryPerBlock", 0);
    p->sharedMemPerMultiprocessor = p->sharedMemPerBlockOptin + p->reservedSharedMemPerBlock;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
    if (device != 0) return cudaErrorInvalidDevice;
    memset(p, 0, sizeof *p);
    card_name(p->name, sizeof p->name);
    card_uuid((unsigned char *)p->uuid.bytes);
    p->major = card_major();
    p->minor = card_minor();
    p->multiProcessorCount = (int)card_number("multiProcessorCount", 0);
    p->totalGlobalMem = books_total();
    p->l2CacheSize = (int)card_number("l2CacheSize", 0);
    p->cooperativeLaunch = (int)card_number("supportCoopLaunch", 0);
    fill_limits(p);
    p->totalConstMem = 65536; /* this and what follows: the same on every card that torch 2.13 runs on */
    p->textureAlignment = 512;
    p->unifiedAddressing = p->managedMemory = p->concurrentKernels = 1;
    p->pciBusID = 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    struct cudaDeviceProp p;
    cudaError_t error = cudaGetDeviceProperties(&p, device);
    if (error != cudaSuccess) return error;
    switch (attribute) {
        case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
        case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
        case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
        case cudaDevAttrWarpSize: *value = p.warpSize; break;
        case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
        case cudaDevAttrCooperativeLaunch: *value = p.cooperativeLaunch; break;
        case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
        case cudaDevAttrMaxThreadsPerMultiProcessor: *value = p.maxThreadsPerMultiProcessor; break;
        case cudaDevAttrMaxBlocksPerMultiprocessor: *value = p.maxBlocksPerMultiProcessor; break;
        case cudaDevAttrMaxBlockDimX: *value = p.maxThreadsDim[0]; break;
        case cudaDevAttrMaxBlockDimY: *value = p.maxThreadsDim[1]; break;
        case cudaDevAttrMaxBlockDimZ: *value = p.maxThreadsDim[2]; break;
        case cudaDevAttrMaxGridDimX: *value = p.maxGridSize[0]; break;
        case cudaDevAttrMaxGridDimY: *value = p.maxGridSize[1]; break;
        case cudaDevAttrMaxGridDimZ: *value = p.maxGridSize[2]; break;
        case cudaDevAttrMaxRegistersPerBlock: *value = p.regsPerBlock; break;
        case cudaDevAttrMaxRegistersPerMultiprocessor: *value = p.regsPerMultiprocessor; break;
        case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)p.sharedMemPerBlock; break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)p.sharedMemPerBlockOptin; break;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = (int)p.sharedMemPerMultiprocessor; break;
        case cudaDevAttrReservedSharedMemoryPerBlock: *value = (int)p.reservedSharedMemPerBlock; break;
        case cudaDevAttrClockRate: *value = (int)card_number("smClockRateKHz", 0); break;
        case cudaDevAttrMemoryClockRate: *value = (int)card_number("memClockRateKHz", 0); break;
        default: *value = 0; /* a feature that this card has not */
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int device) {
    snprintf(text, (size_t)size, "0000:01:00.0");
    return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int *possible, int device, int peer) {
    *possible = 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = DRY_DRIVER;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

/* ---- errors: returned by the call that fails, never later ---- */

cudaError_t cudaGetLastError(void) {
    return cudaSuccess;
}

cudaError_t cudaPeekAtLastError(void) {
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "no error";
        case cudaErrorInvalidValue: return "invalid argument";
        case cudaErrorMemoryAllocation: return "out of memory";
        case cudaErrorInvalidDevice: return "invalid device ordinal";
        case cudaErrorNoKernelImageForDevice: return "no kernel image is available for execution on the device";
        case cudaErrorNotSupported: return "not modelled by dry CUDA";
        default: return "an error of dry CUDA";
    }
}

const char *cudaGetErrorName(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "cudaSuccess";
        case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
        case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
        case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
        case cudaErrorNoKernelImageForDevice: return "cudaErrorNoKernelImageForDevice";
        case cudaErrorNotSupported: return "cudaErrorNotSupported";
        default: return "cudaErrorUnknown";
    }
}

/* ---- streams and events: names, and nothing behind them ---- */

/* A new handle, unlike all others and never NULL. */
static void *new_handle(void) {
    static uintptr_t last = 0x1000;
    return (void *)__atomic_add_fetch(&last, 16, __ATOMIC_RELAXED);
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    *stream = new_handle();
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    return cudaStreamCreate(stream);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
    return cudaStreamCreate(stream);
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority) {
    *priority = 0;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    *status = cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

#if CUDART_VERSION >= 13000
#define CAPTURED_EDGES const cudaGraphEdgeData **edges,
#else
#define CAPTURED_EDGES /* CUDA 12 names nodes only */
#endif
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status, unsigned long long *id,
                                     cudaGraph_t *graph, const cudaGraphNode_t **nodes, CAPTURED_EDGES size_t *count) {
    *status = cudaStreamCaptureStatusNone;
    if (id != NULL) *id = 0;
    if (graph != NULL) *graph = NULL;
    if (count != NULL) *count = 0;
    return cudaSuccess;
}

cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void *data, unsigned flags) {
    callback(stream, cudaSuccess, data);
    return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
    function(data);
    return cudaSuccess;
}

NOTHING(cudaStreamDestroy, cudaStream_t stream)
NOTHING(cudaStreamQuery, cudaStream_t stream)
NOTHING(cudaStreamSynchronize, cudaStream_t stream)
NOTHING(cudaStreamWaitEvent, cudaStream_t stream, cudaEvent_t event, unsigned flags)
NOTHING(cudaThreadExchangeStreamCaptureMode, enum cudaStreamCaptureMode *mode)

cudaError_t cudaEventCreate(cudaEvent_t *event) {
    *event = new_handle();
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    return cudaEventCreate(event);
}

/* No time passes here: 0 is no measured time, and the harness shows none. */
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
    *milliseconds = 0;
    return cudaSuccess;
}

NOTHING(cudaEventDestroy, cudaEvent_t event)
NOTHING(cudaEventQuery, cudaEvent_t event)
NOTHING(cudaEventRecord, cudaEvent_t event, cudaStream_t stream)
NOTHING(cudaEventRecordWithFlags, cudaEvent_t event, cudaStream_t stream, unsigned flags)
NOTHING(cudaEventSynchronize, cudaEvent_t event)
NOTHING(cudaProfilerStart, void)
NOTHING(cudaProfilerStop, void)

/* ---- kernels: registered, asked about, launched, never run ---- */

static char loaded; /* its address stands for any module, library or kernel */

/* The code that torch's kernels have for this card: the newest of its major number that is no newer than the card; 0 for none.
 * CUB asks for it and knows no other, so that it fails on an RTX 4090 (8.9) that names 89 where torch has 86. */
static int code_for_card(void) {
    static const int compiled[] = {TORCH_ARCHITECTURES};
    int card = card_major() * 10 + card_minor(), newest = 0;
    for (size_t i = 0; i < sizeof compiled / sizeof *compiled; i++)
        if (compiled[i] / 10 == card / 10 && compiled[i] <= card && compiled[i] > newest) newest = compiled[i];
    return newest;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *found, const void *kernel) {
    memset(found, 0, sizeof *found);
    if (code_for_card() == 0) return cudaErrorNoKernelImageForDevice;
    found->numRegs = 32;
    found->maxThreadsPerBlock = (int)card_number("maxThreadsPerBlock", 0);
    found->maxDynamicSharedSizeBytes = (int)card_number("maxSharedMemoryPerBlockOptin", 0);
    found->binaryVersion = found->ptxVersion = code_for_card();
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *kernel, int threads, size_t shared) {
    int most = (int)card_number("maxCtasPerSM", 0);
    int fit = threads > 0 ? (int)card_number("maxThreadsPerSM", 0) / threads : 1;
    *blocks = fit < 1 ? 1 : fit > most ? most : fit;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *kernel, int threads,
                                                                   size_t shared, unsigned flags) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, kernel, threads, shared);
}

#if CUDART_VERSION >= 12080 /* before, torch loads modules through the driver */
cudaError_t cudaLibraryLoadData(cudaLibrary_t *library, const void *code, enum cudaJitOption *options, void **values,
                                unsigned count, enum cudaLibraryOption *library_options, void **library_values,
                                unsigned library_count) {
    *library = (cudaLibrary_t)&loaded;
    return cudaSuccess;
}

cudaError_t cudaLibraryGetKernel(cudaKernel_t *kernel, cudaLibrary_t library, const char *name) {
    *kernel = (cudaKernel_t)&loaded;
    return cudaSuccess;
}

NOTHING(cudaLibraryUnload, cudaLibrary_t library)
#endif
NOTHING(cudaFuncSetAttribute, const void *kernel, enum cudaFuncAttribute attribute, int value)
NOTHING(cudaKernelSetAttributeForDevice, cudaKernel_t kernel, enum cudaFuncAttribute attribute, int value, int device)
LAUNCH(cudaLaunchKernel, const void *kernel, dim3 grid, dim3 block, void **args, size_t shared, cudaStream_t stream)
LAUNCH(cudaLaunchKernelExC, const cudaLaunchConfig_t *config, const void *kernel, void **args)
LAUNCH(cudaLaunchCooperativeKernel, const void *kernel, dim3 grid, dim3 block, void **args, size_t shared,
        cudaStream_t stream)

/* What nvcc's generated code calls: no header declares it. */

LAUNCH(__cudaLaunchKernel, cudaKernel_t kernel, dim3 grid, dim3 block, void **args, size_t shared, cudaStream_t stream)

cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function) {
    *kernel = (cudaKernel_t)&loaded;
    return cudaSuccess;
}

typedef struct {
    dim3 grid, block;
    size_t shared;
    void *stream;
} LaunchConfiguration;

static __thread LaunchConfiguration pushed;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void *stream) {
    pushed = (LaunchConfiguration){grid, block, shared, stream};
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
    *grid = pushed.grid;
    *block = pushed.block;
    *shared = pushed.shared;
    *(void **)stream = pushed.stream;
    return cudaSuccess;
}

void **__cudaRegisterFatBinary(void *binary) {
    static void *handle = &loaded;
    return &handle;
}

void __cudaRegisterFatBinaryEnd(void **handle) {}
void __cudaUnregisterFatBinary(void **handle) {}
void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name, int limit, void *thread_id,
                            void *block_id, void *block, void *grid, int *warp) {}
void __cudaRegisterVar(void **handle, char *host, char *device, const char *name, int outside, size_t bytes, int constant,
                       int global) {}
char __cudaInitModule(void **handle) {
    return 1;
}

/* ---- the driver, as torch reaches for it: by name, and most of it for expandable segments ---- */

static cudaError_t not_modelled(void) {
    return cudaErrorNotSupported; /* the driver's number for it, too */
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version,
                                             unsigned long long flags, enum cudaDriverEntryPointQueryResult *result) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    *function = driver != NULL ? dlsym(driver, name) : NULL;
    if (*function == NULL) *function = not_modelled;
    if (result != NULL) *result = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}

#if CUDART_VERSION < 13000 /* what torch of CUDA 12 calls */
cudaError_t cudaGetDriverEntryPoint(const char *name, void **function, unsigned long long flags,
                                    enum cudaDriverEntryPointQueryResult *result) {
    return cudaGetDriverEntryPointByVersion(name, function, CUDART_VERSION, flags, result);
}
#endif
