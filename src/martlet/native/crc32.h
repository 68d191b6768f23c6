/* CRC-32 as zlib has it: the hash of a text key, and the check of a live row. */
#ifndef MARTLET_CRC32_H
#define MARTLET_CRC32_H
#include <stdint.h>

static uint32_t crc_table[256];

/* Once, when the module is imported. */
static void make_crc_table(void)
{
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t c = n;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
        crc_table[n] = c;
    }
}

/* The CRC of what *crc* is of (0: nothing), and *bytes* after it. */
static uint32_t crc32_on(uint32_t crc, const unsigned char *bytes, int64_t length)
{
    uint32_t c = crc ^ 0xFFFFFFFFu;
    for (int64_t i = 0; i < length; i++)
        c = crc_table[(c ^ bytes[i]) & 0xFF] ^ (c >> 8);
    return c ^ 0xFFFFFFFFu;
}

#endif
