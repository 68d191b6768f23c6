/* Looks one integer key up in a table's mapped index; see keyindex.c and martlet/stores/keys.py.

   Whatever the file holds, the row that is found is below *height*, or -1. */
#ifndef MARTLET_KEYS_H
#define MARTLET_KEYS_H
#include <stdint.h>

/* The slots of an index: rows, -1 where there is none. */
typedef struct {
    const void *data;
    int64_t count;
    int wide; /* int64, or int32 */
} Slots;

static inline int64_t slot_at(const Slots *slots, uint64_t place)
{
    return slots->wide ? ((const int64_t *)slots->data)[place]
                       : ((const int32_t *)slots->data)[place];
}

static inline uint64_t first_place(uint64_t hash, int shift)
{
    return (hash * UINT64_C(0x9E3779B97F4A7C15)) >> shift;
}

/* Of a power of two: how far a hash is shifted to be a place. */
static inline int shift_of(int64_t count)
{
    int bits = 0;
    while (((int64_t)1 << bits) < count)
        bits++;
    return 64 - bits;
}

/* Open addressing: *known* [height] are the keys by row. */
static inline int64_t find_hashed(const Slots *slots, int shift, const int64_t *known,
                                  int64_t height, int64_t key)
{
    const uint64_t mask = (uint64_t)slots->count - 1;
    uint64_t place = first_place((uint64_t)key, shift);
    for (int64_t step = 0; step < slots->count; step++, place = (place + 1) & mask) {
        const int64_t row = slot_at(slots, place);
        if (row < 0 || row >= height)
            return -1;
        if (known[row] == key)
            return row;
    }
    return -1;
}

/* A slot for every key from *lowest* on. Modulo 2**64, so a key below it is far beyond the last. */
static inline int64_t find_in_span(const Slots *slots, int64_t lowest, int64_t key)
{
    const uint64_t distance = (uint64_t)key - (uint64_t)lowest;
    return distance >= (uint64_t)slots->count ? -1 : slot_at(slots, distance);
}

#endif
