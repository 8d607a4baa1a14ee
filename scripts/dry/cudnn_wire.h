/* What the cuDNN stub in torch's process (cudnn_client.c) and the real cuDNN in its helper (cudnn_server.c) say to each other.
 *
 * A request is a Request and, for SET and for a GET of descriptors, `count` elements; each descriptor is its number. The
 * answer is a Reply and, for a GET of anything else, as many elements as its `count`, at most the `count` asked for.
 */
#ifndef CUDNN_WIRE_H
#define CUDNN_WIRE_H

#include <cudnn.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

enum { CREATE = 1, SET, GET, FINALIZE, DESTROY };

typedef struct {
    int32_t operation, attribute, type; /* of CREATE, `type` is the descriptor's */
    int32_t wants;                      /* GET: whether there is room for elements, or only their count is asked for */
    int64_t count;
    uint64_t descriptor;
} Request;

typedef struct {
    int32_t status;
    int64_t count;
    uint64_t descriptor;
} Reply;

static inline size_t element_bytes(int type) {
    switch (type) {
        case CUDNN_TYPE_HANDLE:
        case CUDNN_TYPE_INT64:
        case CUDNN_TYPE_DOUBLE:
        case CUDNN_TYPE_VOID_PTR:
        case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
        case CUDNN_TYPE_BOOLEAN:
        case CUDNN_TYPE_CHAR: return 1;
        case CUDNN_TYPE_FRACTION: return 16;
        default: return 4; /* float, int32 and all enumerations */
    }
}

/* Read or write all of it; 0 when the other side is gone. */
static inline int read_all(int file, void *data, size_t bytes) {
    for (char *at = data; bytes > 0;) {
        ssize_t got = read(file, at, bytes);
        if (got <= 0) return 0;
        at += got;
        bytes -= (size_t)got;
    }
    return 1;
}

static inline int write_all(int file, const void *data, size_t bytes) {
    for (const char *at = data; bytes > 0;) {
        ssize_t put = write(file, at, bytes);
        if (put <= 0) return 0;
        at += put;
        bytes -= (size_t)put;
    }
    return 1;
}

#endif
