/* The memory of the card as this process sees it: addresses, pages, and who has how many.
 *
 * Real: the arithmetic that torch's caching allocator meets: whole pages, a total, an error when it is reached, free bytes.
 * Not real: memory (addresses are reserved, never backed), the context's size, fragmentation, and other processes: each has
 * the whole card, though NVML adds them up. Addresses rise and are not given twice, as the allocator's model assumes.
 */
#define _GNU_SOURCE
#include "books.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "card.h"
#include "ranges.h"
#include "running.h"

typedef struct {
    uint64_t bytes, mappings;
    int released;
} Pages;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *arena, *arena_end, *next;
static uint64_t used; /* context included */
static int opened;
static Ranges blocks, mappings, managed;

static uint64_t whole_pages(uint64_t bytes) {
    return (bytes + BOOKS_PAGE_BYTES - 1) / BOOKS_PAGE_BYTES * BOOKS_PAGE_BYTES;
}

/* Reserve the card's addresses: as many as this machine lets a process have, 64 TiB at best. */
static void reserve_arena(void) {
    uint64_t size = 1ull << 46;
    if (arena != NULL) return;
    do {
        arena = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        arena_end = arena + size;
        size /= 2;
    } while (arena == MAP_FAILED && size > 1ull << 38);
    if (arena == MAP_FAILED) {
        fprintf(stderr, "dry CUDA: this process may not reserve the addresses of a card (see ulimit -v)\n");
        exit(1);
    }
    next = (char *)whole_pages((uint64_t)arena) + BOOKS_PAGE_BYTES; /* the first page is for symbols */
}

static int take_addresses(void **address, uint64_t bytes) {
    if (bytes > (uint64_t)(arena_end - next)) return BOOKS_FULL;
    *address = next;
    next += whole_pages(bytes);
    return BOOKS_OK;
}

static void open_context(void) {
    if (opened) return;
    opened = 1;
    reserve_arena();
    used = BOOKS_CONTEXT_BYTES;
    running_publish(used);
}

static int take_pages(uint64_t bytes) {
    if (bytes > books_total() || used + whole_pages(bytes) > books_total()) return BOOKS_FULL;
    used += whole_pages(bytes);
    running_publish(used);
    return BOOKS_OK;
}

static void give_pages(uint64_t bytes) {
    used -= whole_pages(bytes);
    running_publish(used);
}

static void enter(void) {
    pthread_mutex_lock(&lock);
    open_context();
}

static int leave(int result) {
    pthread_mutex_unlock(&lock);
    return result;
}

void books_open(void) {
    enter();
    leave(BOOKS_OK);
}

int books_opened(void) {
    return opened;
}

uint64_t books_total(void) {
    return card_number("totalGlobalMem", 0);
}

uint64_t books_free_bytes(void) {
    enter();
    uint64_t bytes = used < books_total() ? books_total() - used : 0;
    leave(BOOKS_OK);
    return bytes;
}

int books_allocate(void **address, uint64_t bytes) {
    enter();
    *address = NULL;
    if (bytes == 0) return leave(BOOKS_OK);
    int result = take_pages(bytes);
    if (result != BOOKS_OK) return leave(result);
    result = take_addresses(address, bytes);
    if (result == BOOKS_OK)
        ranges_add(&blocks, (Range){*address, bytes, NULL});
    else
        give_pages(bytes);
    return leave(result);
}

int books_free(void *address) {
    enter();
    if (address == NULL) return leave(BOOKS_OK);
    Ranges *of = books_is_device(address) ? &blocks : &managed;
    Range *block = ranges_find(of, address);
    if (block == NULL || block->address != address) return leave(BOOKS_INVALID);
    give_pages(block->bytes);
    if (of == &managed) munmap(address, block->bytes);
    ranges_remove(of, block);
    return leave(BOOKS_OK);
}

int books_manage(void **address, uint64_t bytes) {
    enter();
    *address = NULL;
    int result = bytes > 0 ? take_pages(bytes) : BOOKS_INVALID;
    if (result != BOOKS_OK) return leave(result);
    void *made = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (made == MAP_FAILED) {
        give_pages(bytes);
        return leave(BOOKS_FULL);
    }
    ranges_add(&managed, (Range){made, bytes, NULL});
    *address = made;
    return leave(BOOKS_OK);
}

int books_is_managed(const void *address) {
    pthread_mutex_lock(&lock);
    int known = ranges_find(&managed, address) != NULL;
    return leave(known);
}

int books_reserve(void **address, uint64_t bytes) {
    enter();
    return leave(take_addresses(address, bytes));
}

int books_create(uint64_t *pages, uint64_t bytes) {
    enter();
    int result = take_pages(bytes);
    if (result != BOOKS_OK) return leave(result);
    Pages *made = calloc(1, sizeof(Pages));
    if (made == NULL) abort();
    made->bytes = bytes;
    *pages = (uint64_t)made;
    return leave(BOOKS_OK);
}

static void give_if_unused(Pages *pages) {
    if (!pages->released || pages->mappings > 0) return;
    give_pages(pages->bytes);
    free(pages);
}

int books_map(void *address, uint64_t bytes, uint64_t pages) {
    enter();
    if (!books_is_device(address) || ranges_find(&mappings, address) != NULL) return leave(BOOKS_INVALID);
    ((Pages *)pages)->mappings++;
    ranges_add(&mappings, (Range){address, bytes, (void *)pages});
    return leave(BOOKS_OK);
}

int books_unmap(void *address, uint64_t bytes) {
    enter();
    for (char *at = address; at < (char *)address + bytes;) {
        Range *mapping = ranges_find(&mappings, at);
        if (mapping == NULL || mapping->address != at) return leave(BOOKS_INVALID);
        Pages *pages = mapping->owner;
        at += mapping->bytes;
        ranges_remove(&mappings, mapping);
        pages->mappings--;
        give_if_unused(pages);
    }
    return leave(BOOKS_OK);
}

int books_release(uint64_t pages) {
    enter();
    ((Pages *)pages)->released = 1;
    give_if_unused((Pages *)pages);
    return leave(BOOKS_OK);
}

int books_is_device(const void *address) {
    return arena != NULL && (char *)address >= arena && (char *)address < arena_end;
}

void *books_symbols(void) {
    books_open();
    return (void *)whole_pages((uint64_t)arena);
}
