/* libcudnn.so.9 of dry CUDA, in torch's process: forwards cuDNN's graph API to the real cuDNN in a helper process.
 *
 * Real: heuristics, support checks, plans and their workspace bytes, for the card's property record; errors and the version.
 * Not real: execution (returns success), handles and streams. Of the old API only batch norm in training is here, the rest
 * (RNN, CTC) is not: build.py makes it answer CUDNN_STATUS_NOT_SUPPORTED.
 *
 * A helper, because the real cuDNN would find this process's stub runtime, while its own, in a process without a device,
 * plans from the record alone. It ends when this process does, however it ends: its pipe closes.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>

#include "cudnn_wire.h"

extern char **environ;

typedef struct {
    uint64_t number; /* the helper's name for it; 0: a variant pack, pointers for an execution that never is */
} Descriptor;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int to_helper = -1, from_helper = -1;

static void stop(const char *what) {
    fprintf(stderr, "dry CUDA: the cuDNN helper %s\n", what);
    abort();
}

/* This process's environment, with the library path that the helper needs instead of the stubs'. */
static char **helper_environment(const char *stubs) {
    static char path[4096];
    size_t count = 0, kept = 0;
    while (environ[count] != NULL) count++;
    char **made = calloc(count + 2, sizeof(char *));
    if (made == NULL) abort();
    for (size_t i = 0; i < count; i++)
        if (strncmp(environ[i], "LD_", 3) != 0) made[kept++] = environ[i];
    snprintf(path, sizeof path, "LD_LIBRARY_PATH=%s/helper", stubs);
    made[kept] = path;
    return made;
}

static void start_helper(void) {
    int down[2], up[2];
    char path[4096];
    const char *stubs = getenv("LATENTMETER_DRY_STUBS");
    if (stubs == NULL) stop("cannot be found: LATENTMETER_DRY_STUBS is not set");
    snprintf(path, sizeof path, "%s/cudnn_server", stubs);
    if (pipe2(down, O_CLOEXEC) != 0 || pipe2(up, O_CLOEXEC) != 0) stop("cannot be started: no pipe");
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, down[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, up[1], STDOUT_FILENO);
    char *arguments[] = {path, NULL}, **environment = helper_environment(stubs);
    pid_t pid;
    if (posix_spawn(&pid, path, &files, NULL, arguments, environment) != 0) stop("cannot be started");
    posix_spawn_file_actions_destroy(&files);
    free(environment);
    close(down[0]);
    close(up[1]);
    to_helper = down[1];
    from_helper = up[0];
}

static void send_bytes(const void *data, size_t bytes) {
    if (!write_all(to_helper, data, bytes)) stop("is gone");
}

static void receive_bytes(void *data, size_t bytes) {
    if (!read_all(from_helper, data, bytes)) stop("is gone");
}

static void send_numbers(Descriptor *const *descriptors, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        uint64_t number = descriptors[i] != NULL ? descriptors[i]->number : 0;
        send_bytes(&number, sizeof number);
    }
}

/* Ask, and take the answer with its elements. */
static Reply ask(Request request, const void *elements, void *answer) {
    Reply reply;
    pthread_mutex_lock(&lock);
    if (to_helper < 0) start_helper();
    send_bytes(&request, sizeof request);
    if (elements != NULL && request.type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        send_numbers(elements, request.count);
    else if (elements != NULL)
        send_bytes(elements, (size_t)request.count * element_bytes(request.type));
    receive_bytes(&reply, sizeof reply);
    if (answer != NULL) {
        int64_t count = reply.count < request.count ? reply.count : request.count;
        receive_bytes(answer, (size_t)count * element_bytes(request.type));
    }
    pthread_mutex_unlock(&lock);
    return reply;
}

/* ---- the graph API ---- */

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *made) {
    if (CUDNN_VERSION < 90800) { /* no plan without a device, so no convolution, rather than an invented workspace */
        static int said;
        if (!said++) fprintf(stderr, "dry CUDA: cuDNN before 9.8 plans no convolution without a GPU: it fails\n");
        return CUDNN_STATUS_NOT_SUPPORTED;
    }
    Descriptor *descriptor = calloc(1, sizeof *descriptor);
    if (descriptor == NULL) return CUDNN_STATUS_ALLOC_FAILED;
    *made = descriptor;
    if (type == CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR) return CUDNN_STATUS_SUCCESS;
    Reply reply = ask((Request){.operation = CREATE, .type = (int32_t)type}, NULL, NULL);
    descriptor->number = reply.descriptor;
    return (cudnnStatus_t)reply.status;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t given) {
    Descriptor *descriptor = given;
    if (descriptor == NULL) return CUDNN_STATUS_SUCCESS;
    Request request = {.operation = DESTROY, .descriptor = descriptor->number};
    int status = descriptor->number ? ask(request, NULL, NULL).status : CUDNN_STATUS_SUCCESS;
    free(descriptor);
    return (cudnnStatus_t)status;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t given, cudnnBackendAttributeName_t attribute,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *elements) {
    Descriptor *descriptor = given;
    if (descriptor->number == 0 || type == CUDNN_TYPE_HANDLE) return CUDNN_STATUS_SUCCESS;
    Request request = {SET, (int32_t)attribute, (int32_t)type, 0, count, descriptor->number};
    return (cudnnStatus_t)ask(request, elements, NULL).status;
}

/* Descriptors are filled where they are: the caller made them. Everything else is copied back. */
cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const given, cudnnBackendAttributeName_t attribute,
                                       cudnnBackendAttributeType_t type, int64_t room, int64_t *count, void *elements) {
    Descriptor *descriptor = given;
    if (descriptor->number == 0) return CUDNN_STATUS_SUCCESS;
    int fill = type == CUDNN_TYPE_BACKEND_DESCRIPTOR;
    Request request = {GET, (int32_t)attribute, (int32_t)type, elements != NULL, room, descriptor->number};
    Reply reply = ask(request, fill ? elements : NULL, fill ? NULL : elements);
    if (count != NULL) *count = reply.count;
    return (cudnnStatus_t)reply.status;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t given) {
    Descriptor *descriptor = given;
    if (descriptor->number == 0) return CUDNN_STATUS_SUCCESS;
    return (cudnnStatus_t)ask((Request){.operation = FINALIZE, .descriptor = descriptor->number}, NULL, NULL).status;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
    return CUDNN_STATUS_SUCCESS;
}

/* ---- the library ---- */

/* The header's: it is of the package that the helper loads. */
size_t cudnnGetVersion(void) {
    return CUDNN_VERSION;
}

cudnnStatus_t cudnnGetProperty(libraryPropertyType part, int *value) {
    *value = part == MAJOR_VERSION ? CUDNN_MAJOR : part == MINOR_VERSION ? CUDNN_MINOR : CUDNN_PATCHLEVEL;
    return CUDNN_STATUS_SUCCESS;
}

size_t cudnnGetCudartVersion(void) {
    return CUDART_VERSION;
}

const char *cudnnGetErrorString(cudnnStatus_t status) {
    return status == CUDNN_STATUS_SUCCESS ? "CUDNN_STATUS_SUCCESS" : "an error of cuDNN in dry CUDA";
}

void cudnnGetLastErrorString(char *text, size_t size) {
    if (size > 0) text[0] = 0;
}

/* A handle a call, as the library gives; nothing is behind it. */
cudnnStatus_t cudnnCreate(cudnnHandle_t *handle) {
    *handle = calloc(1, 64);
    return *handle != NULL ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_ALLOC_FAILED;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
    free(handle);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t *stream) {
    *stream = NULL;
    return CUDNN_STATUS_SUCCESS;
}

/* ---- the old API: batch norm in training, as torch calls it where tensors are not channels-last ----
 *
 * cudnnBatchNormalizationForwardTraining, which serves these modes too, takes neither workspace nor reserve space: the sizes
 * are 0. Only the persistent kernel of channels-last takes some, how many is not known without a device.
 */

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *made) {
    *made = calloc(1, 64);
    return *made != NULL ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_ALLOC_FAILED;
}

cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t made) {
    free(made);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t made, cudnnDataType_t type, int count, const int sizes[],
                                         const int strides[]) {
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t batch_norm_bytes(cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops, const char *of, size_t *bytes) {
    *bytes = 0;
    if (mode != CUDNN_BATCHNORM_SPATIAL_PERSISTENT && ops == CUDNN_BATCHNORM_OPS_BN) return CUDNN_STATUS_SUCCESS;
    fprintf(stderr, "dry CUDA: the %s of a persistent batch norm is not modelled: it answers an error\n", of);
    return CUDNN_STATUS_NOT_SUPPORTED;
}

cudnnStatus_t cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops, const cudnnTensorDescriptor_t x,
    const cudnnTensorDescriptor_t z, const cudnnTensorDescriptor_t y, const cudnnTensorDescriptor_t scale,
    const cudnnActivationDescriptor_t activation, size_t *bytes) {
    return batch_norm_bytes(mode, ops, "forward workspace", bytes);
}

cudnnStatus_t cudnnGetBatchNormalizationTrainingExReserveSpaceSize(cudnnHandle_t handle, cudnnBatchNormMode_t mode,
                                                                   cudnnBatchNormOps_t ops,
                                                                   const cudnnActivationDescriptor_t activation,
                                                                   const cudnnTensorDescriptor_t x, size_t *bytes) {
    return batch_norm_bytes(mode, ops, "reserve space", bytes);
}

cudnnStatus_t cudnnGetBatchNormalizationBackwardExWorkspaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops, const cudnnTensorDescriptor_t x,
    const cudnnTensorDescriptor_t y, const cudnnTensorDescriptor_t dy, const cudnnTensorDescriptor_t dz,
    const cudnnTensorDescriptor_t dx, const cudnnTensorDescriptor_t scale, const cudnnActivationDescriptor_t activation,
    size_t *bytes) {
    return batch_norm_bytes(mode, ops, "backward workspace", bytes);
}
