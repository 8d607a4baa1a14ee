/* The helper of dry CUDA that holds the real cuDNN, without a device: it answers the cuDNN stub of one torch process.
 *
 * Everything is real but the device: heuristics, engines and plans get the card's property record, as cuDNN's ahead-of-time
 * compilation foresees ("deviceless", cuDNN 9.8 and later). Requests come on stdin, answers go to stdout (cudnn_wire.h).
 */
#include <stdio.h>
#include <string.h>

#include "card.h"
#include "cudnn_wire.h"

#if CUDNN_VERSION < 90800 /* it has no such mode, and the stub asks for nothing */
int main(void) {
    return 1;
}
#else

typedef struct {
    cudnnBackendDescriptor_t descriptor;
    int type;
} Entry;

static Entry *entries; /* by number; 0 is no descriptor */
static uint64_t count = 1, capacity;
static cudnnBackendDescriptor_t card;
static int requests, replies;

static void receive(void *data, size_t bytes) {
    if (!read_all(requests, data, bytes)) exit(0); /* the torch process has ended */
}

static void reply_with(int status, int64_t elements, uint64_t descriptor) {
    Reply reply = {status, elements, descriptor};
    if (!write_all(replies, &reply, sizeof reply)) exit(0);
}

static int make_card(void) {
    const char *record = card_record();
    int status = cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &card);
    if (status == CUDNN_STATUS_SUCCESS)
        status = cudnnBackendSetAttribute(card, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                          (int64_t)strlen(record), record);
    return status == CUDNN_STATUS_SUCCESS ? cudnnBackendFinalize(card) : status;
}

/* A buffer of `elements`, descriptors already turned from numbers into cuDNN's own. */
static void *receive_elements(int type, int64_t elements) {
    void *data = calloc((size_t)elements + 1, element_bytes(type));
    if (data == NULL) abort();
    receive(data, (size_t)elements * element_bytes(type));
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        for (int64_t i = 0; i < elements; i++) {
            uint64_t number = ((uint64_t *)data)[i];
            ((cudnnBackendDescriptor_t *)data)[i] = number ? entries[number].descriptor : NULL;
        }
    return data;
}

static void create(Request request) {
    if (count >= capacity) {
        capacity = capacity ? 2 * capacity : 4096;
        entries = realloc(entries, capacity * sizeof *entries);
        if (entries == NULL) abort();
    }
    Entry entry = {NULL, request.type};
    int status = cudnnBackendCreateDescriptor((cudnnBackendDescriptorType_t)request.type, &entry.descriptor);
    entries[count] = entry;
    reply_with(status, 0, count++);
}

static void set(Request request) {
    void *elements = receive_elements(request.type, request.count);
    int status = cudnnBackendSetAttribute(entries[request.descriptor].descriptor,
                                          (cudnnBackendAttributeName_t)request.attribute,
                                          (cudnnBackendAttributeType_t)request.type, request.count, elements);
    free(elements);
    reply_with(status, 0, 0);
}

static void get(Request request) {
    int descriptors = request.type == CUDNN_TYPE_BACKEND_DESCRIPTOR;
    size_t bytes = element_bytes(request.type);
    void *elements = descriptors && request.wants ? receive_elements(request.type, request.count)
                                                  : calloc((size_t)request.count + 1, bytes);
    int64_t found = 0;
    int status = cudnnBackendGetAttribute(entries[request.descriptor].descriptor,
                                          (cudnnBackendAttributeName_t)request.attribute,
                                          (cudnnBackendAttributeType_t)request.type, request.count, &found,
                                          request.wants ? elements : NULL);
    reply_with(status, found, 0);
    int64_t sent = found < request.count ? found : request.count;
    if (request.wants && !descriptors && !write_all(replies, elements, (size_t)sent * bytes)) exit(0);
    free(elements);
}

/* Where a descriptor of this type takes the record of the card; 0 where it takes none. */
static int card_attribute(int type) {
    switch (type) {
        case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR: return CUDNN_ATTR_ENGINEHEUR_DEVICEPROP;
        case CUDNN_BACKEND_ENGINE_DESCRIPTOR: return CUDNN_ATTR_ENGINE_DEVICEPROP;
        case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR: return CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP;
        default: return 0;
    }
}

static void finalize(Request request) {
    Entry entry = entries[request.descriptor];
    int attribute = card_attribute(entry.type), status = CUDNN_STATUS_SUCCESS;
    if (attribute != 0)
        status = cudnnBackendSetAttribute(entry.descriptor, (cudnnBackendAttributeName_t)attribute,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &card);
    if (status == CUDNN_STATUS_SUCCESS) status = cudnnBackendFinalize(entry.descriptor);
    reply_with(status, 0, 0);
}

static void destroy(Request request) {
    int status = cudnnBackendDestroyDescriptor(entries[request.descriptor].descriptor);
    entries[request.descriptor].descriptor = NULL;
    reply_with(status, 0, 0);
}

int main(void) {
    requests = dup(STDIN_FILENO);
    replies = dup(STDOUT_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO); /* whatever the library prints is no answer */
    int status = make_card();
    if (status != CUDNN_STATUS_SUCCESS) {
        fprintf(stderr, "dry CUDA: cuDNN does not accept the card's property record (status %d)\n", status);
        return 1;
    }
    for (;;) {
        Request request;
        receive(&request, sizeof request);
        switch (request.operation) {
            case CREATE: create(request); break;
            case SET: set(request); break;
            case GET: get(request); break;
            case FINALIZE: finalize(request); break;
            case DESTROY: destroy(request); break;
            default: return 1;
        }
    }
}
#endif
