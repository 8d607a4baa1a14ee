/* Memory of the host that a copy from the card fills: unknown content reads as zeros, and takes no RAM where that can be.
 *
 * Real: what was there before the copy is gone. Not real: the content, except what values.cpp knows. An offloaded model of
 * many GB so fits on a machine without its RAM; a process on a real card would hold these pages.
 */
#define _GNU_SOURCE
#include "host.h"

#include <string.h>
#include <sys/mman.h>

enum { PAGE_BYTES = 4096, WORTH_DROPPING = 64 << 10 };

HostReader host_reader;
void (*host_launching)(void);

/* Give pages back, if all are private and anonymous: MADV_FREE refuses any others, which MADV_DONTNEED would not zero. */
static int drop(char *pages, size_t bytes) {
    return madvise(pages, bytes, MADV_FREE) == 0 && madvise(pages, bytes, MADV_DONTNEED) == 0;
}

void host_zero(void *address, size_t bytes) {
    char *start = address, *end = start + bytes;
    char *first = (char *)(((uintptr_t)start + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES);
    char *last = (char *)((uintptr_t)end / PAGE_BYTES * PAGE_BYTES);
    if (bytes < WORTH_DROPPING || !drop(first, (size_t)(last - first))) {
        memset(start, 0, bytes);
        return;
    }
    memset(start, 0, (size_t)(first - start));
    memset(last, 0, (size_t)(end - last));
}

void host_give_back_zeros(void *address, size_t bytes) {
    static const char zeros[PAGE_BYTES];
    char *end = (char *)((uintptr_t)((char *)address + bytes) / PAGE_BYTES * PAGE_BYTES);
    char *start = (char *)(((uintptr_t)address + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES);
    for (char *at = start; at < end; at += PAGE_BYTES) {
        char *first = at;
        while (at < end && memcmp(at, zeros, PAGE_BYTES) == 0) at += PAGE_BYTES;
        if (at > first) drop(first, (size_t)(at - first));
    }
}

int host_receive(void *to, const void *from, size_t bytes) {
    int found = host_reader != NULL ? host_reader(to, from, bytes) : HOST_REFUSED;
    if (found == HOST_UNKNOWN) host_zero(to, bytes);
    return found != HOST_REFUSED;
}
