/* The memory of the card as this process sees it. No CUDA header: tests load it through ctypes. */
#ifndef BOOKS_H
#define BOOKS_H

#include <stdint.h>

/* Invented: what a CUDA context takes on a card. No real card's number; change it here only. */
#define BOOKS_CONTEXT_BYTES (512ull << 20)

/* The driver hands out whole pages of this size. */
#define BOOKS_PAGE_BYTES (2ull << 20)

enum { BOOKS_OK = 0, BOOKS_INVALID = 1, BOOKS_FULL = 2 }; /* CUDA's numbers, of runtime and driver alike */

/* Make this process's context, once, as the first call that needs one does. */
void books_open(void);
int books_opened(void);

uint64_t books_total(void);
uint64_t books_free_bytes(void);

/* cudaMalloc and cudaFree: an address with pages behind it. */
int books_allocate(void **address, uint64_t bytes);
int books_free(void *address);

/* cudaMallocManaged: memory of the host that counts as the card's from the start. A driver moves it when it is used, and may
 * hold more than the card; here what does not fit is an error. Freed by books_free. */
int books_manage(void **address, uint64_t bytes);
int books_is_managed(const void *address);

/* Virtual memory management: addresses and pages apart. Pages go back when they are released and nowhere mapped. */
int books_reserve(void **address, uint64_t bytes);
int books_create(uint64_t *pages, uint64_t bytes);
int books_map(void *address, uint64_t bytes, uint64_t pages);
int books_unmap(void *address, uint64_t bytes);
int books_release(uint64_t pages);

/* Whether `address` is the card's: nothing on the host lies there, and nothing can be read or written there. */
int books_is_device(const void *address);

/* An address of the card for a kernel's symbols. */
void *books_symbols(void);

#endif
