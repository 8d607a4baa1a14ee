/* A list of address ranges. A process has at most some thousands of them, so looking through all is fast enough. */
#ifndef RANGES_H
#define RANGES_H

#include <stdint.h>
#include <stdlib.h>

typedef struct {
    char *address;
    uint64_t bytes;
    void *owner; /* what the range belongs to, if to anything */
} Range;

typedef struct {
    Range *items;
    size_t count, capacity;
} Ranges;

static inline void ranges_add(Ranges *ranges, Range range) {
    if (ranges->count == ranges->capacity) {
        ranges->capacity = ranges->capacity ? 2 * ranges->capacity : 256;
        ranges->items = realloc(ranges->items, ranges->capacity * sizeof(Range));
        if (ranges->items == NULL) abort();
    }
    ranges->items[ranges->count++] = range;
}

/* The range that holds `address`, or NULL. */
static inline Range *ranges_find(Ranges *ranges, const void *address) {
    for (size_t i = 0; i < ranges->count; i++) {
        Range *range = &ranges->items[i];
        if ((char *)address >= range->address && (char *)address < range->address + range->bytes) return range;
    }
    return NULL;
}

static inline void ranges_remove(Ranges *ranges, Range *range) {
    *range = ranges->items[--ranges->count];
}

#endif
