/* Functions of cuBLAS, cuBLASLt, cuSOLVER, cuSPARSE, NVRTC, CUPTI and NCCL in dry CUDA that hand something back, as torch needs it.
 *
 * Real: nothing but the order of the calls. Matrix products do nothing: their memory is torch's own workspace, which it
 * allocates before it calls. A heuristic finds one algorithm without a workspace of its own; a kernel compiles to nothing.
 * build.py adds the rest of each library: its list of what may succeed in silence stands there. Built into each library.
 *
 * The headers of cuBLAS need a package more (half precision types), so its few types stand here: handles are pointers,
 * enumerations are int.
 */
#include <cuda.h>
#include <nvrtc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CUBLAS_SUCCESS = 0, CUBLAS_ALLOC_FAILED = 3 };

/* cublasLtMatmulHeuristicResult_t */
typedef struct {
    uint64_t algorithm[8];
    size_t workspace_bytes;
    int status;
    float waves;
    int reserved[4];
} HeuristicResult;
_Static_assert(sizeof(HeuristicResult) == 96, "as in cublasLt.h");

/* ---- handles and descriptors: made, never read ---- */

static int make(void **made) {
    *made = calloc(1, 64);
    return *made != NULL ? CUBLAS_SUCCESS : CUBLAS_ALLOC_FAILED;
}

static int destroy(void *made) {
    free(made);
    return CUBLAS_SUCCESS;
}

/* ---- cuBLAS ---- */

/* A handle a call: torch keeps one for each thread, and a workspace for each handle and stream. */
int cublasCreate_v2(void **handle) {
    return make(handle);
}

int cublasDestroy_v2(void *handle) {
    return destroy(handle);
}

int cublasGetPointerMode_v2(void *handle, int *mode) {
    *mode = 0; /* scalars on the host */
    return CUBLAS_SUCCESS;
}

int cublasGetMathMode(void *handle, int *mode) {
    *mode = 0; /* default */
    return CUBLAS_SUCCESS;
}

/* ---- cuSOLVER and cuSPARSE: handles, so that the function is named that is not modelled: a work area's size, mostly ---- */

int cusolverDnCreate(void **handle) {
    return make(handle);
}

int cusolverDnDestroy(void *handle) {
    return destroy(handle);
}

int cusolverDnSetStream(void *handle, void *stream) {
    return CUBLAS_SUCCESS;
}

/* The work area of LU, in elements. NVIDIA documents no size, and the library tells none without a card: 768 bytes on an H100
 * (torch 2.11.0+cu130, 2026-11-26) for the few rows of a scheduler's system, gone before torch returns. Larger ones are an error. */
static int lu_work_area(int rows, int columns, int element_bytes, int *elements) {
    enum { MOST_ROWS = 8, BYTES = 768, NOT_SUPPORTED = 9 };
    if (rows > MOST_ROWS || columns > MOST_ROWS) return NOT_SUPPORTED;
    *elements = BYTES / element_bytes;
    return CUBLAS_SUCCESS;
}

int cusolverDnSgetrf_bufferSize(void *handle, int m, int n, void *a, int lda, int *elements) {
    return lu_work_area(m, n, 4, elements);
}

int cusolverDnDgetrf_bufferSize(void *handle, int m, int n, void *a, int lda, int *elements) {
    return lu_work_area(m, n, 8, elements);
}

int cusparseCreate(void **handle) {
    return make(handle);
}

int cusparseDestroy(void *handle) {
    return destroy(handle);
}

/* ---- cuBLASLt ---- */

size_t cublasLtGetVersion(void) {
    return 130101;
}

int cublasLtMatmulDescCreate(void **made, int compute, int scale) {
    return make(made);
}

int cublasLtMatmulDescDestroy(void *made) {
    return destroy(made);
}

int cublasLtMatrixLayoutCreate(void **made, int type, uint64_t rows, uint64_t columns, int64_t stride) {
    return make(made);
}

int cublasLtMatrixLayoutDestroy(void *made) {
    return destroy(made);
}

int cublasLtMatmulPreferenceCreate(void **made) {
    return make(made);
}

int cublasLtMatmulPreferenceDestroy(void *made) {
    return destroy(made);
}

int cublasLtMatmulAlgoGetHeuristic(void *handle, void *operation, void *a, void *b, void *c, void *d, void *preference,
                                   int wanted, HeuristicResult *results, int *found) {
    memset(results, 0, sizeof results[0]);
    *found = 1;
    return CUBLAS_SUCCESS;
}

/* ---- NVRTC: what it compiles is one empty byte ---- */

static nvrtcResult empty(char *text) {
    *text = 0;
    return NVRTC_SUCCESS;
}

static nvrtcResult one(size_t *size) {
    *size = 1;
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcVersion(int *major, int *minor) {
    *major = CUDA_VERSION / 1000;
    *minor = CUDA_VERSION % 1000 / 10;
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcCreateProgram(nvrtcProgram *program, const char *source, const char *name, int count,
                               const char *const *headers, const char *const *names) {
    static char only;
    *program = (nvrtcProgram)&only;
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetLoweredName(nvrtcProgram program, const char *expression, const char **name) {
    *name = "kernel";
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetCUBINSize(nvrtcProgram program, size_t *size) {
    return one(size);
}

nvrtcResult nvrtcGetCUBIN(nvrtcProgram program, char *text) {
    return empty(text);
}

nvrtcResult nvrtcGetPTXSize(nvrtcProgram program, size_t *size) {
    return one(size);
}

nvrtcResult nvrtcGetPTX(nvrtcProgram program, char *text) {
    return empty(text);
}

nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, size_t *size) {
    return one(size);
}

nvrtcResult nvrtcGetProgramLog(nvrtcProgram program, char *text) {
    return empty(text);
}

const char *nvrtcGetErrorString(nvrtcResult result) {
    return result == NVRTC_SUCCESS ? "NVRTC_SUCCESS" : "not modelled by dry CUDA";
}

/* ---- CUPTI and NCCL: their headers are not here; versions and messages only ---- */

int cuptiGetVersion(uint32_t *version) {
    *version = 28;
    return 0;
}

int cuptiGetResultString(int result, const char **text) {
    *text = "not modelled by dry CUDA";
    return 0;
}

int ncclGetVersion(int *version) {
    *version = 22907;
    return 0;
}

const char *ncclGetErrorString(int result) {
    return "not modelled by dry CUDA";
}

const char *ncclGetLastError(void *communicator) {
    return "not modelled by dry CUDA";
}
