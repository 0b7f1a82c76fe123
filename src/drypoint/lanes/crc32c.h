/* CRC-32C as ext4 takes it: from a seed, without inversion at either end. */
#ifndef DRYPOINT_CRC32C_H
#define DRYPOINT_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "little_endian.h"

#define CRC32C_POLYNOMIAL 0x82F63B78u

static uint32_t crc32c_tables[8][256];
static int crc32c_has_instruction;

static uint32_t crc32c_by_tables(uint32_t crc, const unsigned char *bytes, size_t count)
{
    for (; count >= 8; bytes += 8, count -= 8) {
        uint32_t low = get_32(bytes) ^ crc, high = get_32(bytes + 4);
        crc = 0;
        for (int i = 0; i < 4; i++)
            crc ^= crc32c_tables[7 - i][(low >> 8 * i) & 255] ^ crc32c_tables[3 - i][(high >> 8 * i) & 255];
    }
    while (count--)
        crc = (crc >> 8) ^ crc32c_tables[0][(crc ^ *bytes++) & 255];
    return crc;
}

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("sse4.2"))) static uint32_t crc32c_by_instruction(uint32_t crc, const unsigned char *bytes, size_t count)
{
    uint64_t wide = crc;
    for (; count >= 8; bytes += 8, count -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        wide = _mm_crc32_u64(wide, word);
    }
    crc = (uint32_t)wide;
    while (count--)
        crc = _mm_crc32_u8(crc, *bytes++);
    return crc;
}
#endif

/* Once, before the first call of crc32c. */
static void crc32c_prepare(void)
{
    for (int byte = 0; byte < 256; byte++) {
        uint32_t value = (uint32_t)byte;
        for (int bit = 0; bit < 8; bit++)
            value = (value >> 1) ^ (value & 1 ? CRC32C_POLYNOMIAL : 0);
        crc32c_tables[0][byte] = value;
    }
    for (int byte = 0; byte < 256; byte++)
        for (int table = 1; table < 8; table++) {
            uint32_t before = crc32c_tables[table - 1][byte];
            crc32c_tables[table][byte] = (before >> 8) ^ crc32c_tables[0][before & 255];
        }
#if defined(__x86_64__)
    __builtin_cpu_init();
    crc32c_has_instruction = __builtin_cpu_supports("sse4.2") != 0;
#endif
}

static uint32_t crc32c(uint32_t seed, const unsigned char *bytes, size_t count)
{
#if defined(__x86_64__)
    if (crc32c_has_instruction)
        return crc32c_by_instruction(seed, bytes, count);
#endif
    return crc32c_by_tables(seed, bytes, count);
}

#endif
