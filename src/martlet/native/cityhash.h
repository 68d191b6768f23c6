/*
 * CityHash64, version 1.0, by which CatBoost numbers its categories.
 *
 * Source: Pike and Alakuijala, "CityHash", 2011.
 */
#ifndef MARTLET_CITYHASH_H
#define MARTLET_CITYHASH_H
#include <stddef.h>
#include <stdint.h>

#define K0 UINT64_C(0xC3A5C85C97CB3127)
#define K1 UINT64_C(0xB492B66FBE98F273)
#define K2 UINT64_C(0x9AE16A3B2F90404F)
#define K3 UINT64_C(0xC949D7C7509E6557)
#define MIX UINT64_C(0x9DDFEA08EB382D69)

typedef struct {
    uint64_t first, second;
} Pair;

/* Bytes stand lowest first in a word, whatever the machine. */
static inline uint64_t bytes_at(const unsigned char *text, int count)
{
    uint64_t word = 0;
    for (int i = 0; i < count; i++)
        word |= (uint64_t)text[i] << (8 * i);
    return word;
}

static inline uint64_t word(const unsigned char *text)
{
    return bytes_at(text, 8);
}

static inline uint64_t turned(uint64_t v, int by)
{
    return v >> by | v << (64 - by);
}

static inline uint64_t shifted(uint64_t v)
{
    return v ^ v >> 47;
}

static inline uint64_t pair(uint64_t low, uint64_t high)
{
    const uint64_t mixed = shifted((low ^ high) * MIX);
    return shifted((high ^ mixed) * MIX) * MIX;
}

static uint64_t hash_short(const unsigned char *text, size_t size)
{
    if (size > 8) {
        const uint64_t last = word(text + size - 8);
        return pair(word(text), turned(last + size, (int)size)) ^ last;
    }
    if (size >= 4)
        return pair(size + (bytes_at(text, 4) << 3), bytes_at(text + size - 4, 4));
    if (size == 0)
        return K2;
    const uint64_t low = text[0] + ((uint64_t)text[size >> 1] << 8);
    const uint64_t high = size + ((uint64_t)text[size - 1] << 2);
    return shifted(low * K2 ^ high * K3) * K2;
}

static uint64_t hash_17_to_32(const unsigned char *text, size_t size)
{
    const uint64_t a = word(text) * K1, b = word(text + 8);
    const uint64_t c = word(text + size - 8) * K2, d = word(text + size - 16) * K0;
    return pair(turned(a - b, 43) + turned(c, 30) + d, a + turned(b ^ K3, 20) - c + size);
}

static Pair two_of_32(const unsigned char *text, uint64_t last, uint64_t a)
{
    const uint64_t b = turned(a + last, 52);
    uint64_t c = turned(a, 37);
    a += word(text + 8);
    c += turned(a, 7);
    a += word(text + 16);
    return (Pair){a + last, b + turned(a, 31) + c};
}

static uint64_t hash_33_to_64(const unsigned char *text, size_t size)
{
    const unsigned char *end = text + size;
    const Pair v = two_of_32(text, word(text + 24), word(text) + (size + word(end - 16)) * K0);
    const Pair w = two_of_32(end - 32, word(end - 8), word(text + 16) + word(end - 32));
    const uint64_t mixed = shifted((v.first + w.second) * K2 + (w.first + v.second) * K0);
    return shifted(mixed * K0 + v.second) * K2;
}

static Pair weak(const unsigned char *text, uint64_t a, uint64_t b)
{
    const uint64_t z = word(text + 24);
    a += word(text);
    b = turned(b + a + z, 21);
    const uint64_t c = a;
    a += word(text + 8) + word(text + 16);
    b += turned(a, 44);
    return (Pair){a + z, b + c};
}

static uint64_t hash_long(const unsigned char *text, size_t size)
{
    const unsigned char *end = text + size;
    uint64_t x = word(text), y = word(end - 16) ^ K1, z = word(end - 56) ^ K0;
    Pair v = weak(end - 64, size, y), w = weak(end - 32, size * K1, K0);
    z += shifted(v.second) * K1;
    x = turned(z + x, 39) * K1;
    y = turned(y, 33) * K1;
    for (size_t left = (size - 1) & ~(size_t)63; left; left -= 64, text += 64) {
        x = turned(x + y + v.first + word(text + 16), 37) * K1;
        y = turned(y + v.second + word(text + 48), 42) * K1;
        x ^= w.second;
        y ^= v.first;
        z = turned(z ^ w.first, 33);
        v = weak(text, v.second * K1, x + w.first);
        w = weak(text + 32, z + w.second, y);
        const uint64_t other = z;
        z = x;
        x = other;
    }
    return pair(pair(v.first, w.first) + shifted(y) * K1 + z, pair(v.second, w.second) + x);
}

static uint64_t city_hash(const char *text, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)text;
    return size <= 16   ? hash_short(bytes, size)
           : size <= 32 ? hash_17_to_32(bytes, size)
           : size <= 64 ? hash_33_to_64(bytes, size)
                        : hash_long(bytes, size);
}

#undef K0
#undef K1
#undef K2
#undef K3
#undef MIX

#endif
