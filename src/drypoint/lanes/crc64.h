/* CRC-64 with the ISO polynomial as Go's hash/crc64 takes it: reflected, begun with all ones, inverted at the end.
 *
 * Short pieces by sixteen tables; longer ones by carry-less multiplication where the processor has it. V. Gopal and others,
 * "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel, 2009. */
#ifndef DRYPOINT_CRC64_H
#define DRYPOINT_CRC64_H

#include <stddef.h>
#include <stdint.h>

#include "little_endian.h"

#define CRC64_POLYNOMIAL UINT64_C(0xD800000000000000)

static uint64_t crc64_tables[16][256];
static int crc64_multiplies;

/* x to the power of n, modulo the polynomial; bit 63 is x^0. */
static uint64_t crc64_power(unsigned n)
{
    uint64_t value = UINT64_C(1) << 63;
    while (n--)
        value = (value >> 1) ^ (value & 1 ? CRC64_POLYNOMIAL : 0);
    return value;
}

static uint64_t crc64_by_tables(uint64_t crc, const unsigned char *bytes, size_t count)
{
    for (; count >= 16; bytes += 16, count -= 16) {
        uint64_t low = get_64(bytes) ^ crc, high = get_64(bytes + 8);
        crc = 0;
        for (int i = 0; i < 8; i++)
            crc ^= crc64_tables[15 - i][(low >> 8 * i) & 255] ^ crc64_tables[7 - i][(high >> 8 * i) & 255];
    }
    while (count--)
        crc = (crc >> 8) ^ crc64_tables[0][(crc ^ *bytes++) & 255];
    return crc;
}

#if defined(__x86_64__)
#include <immintrin.h>

static uint64_t crc64_by_64[2], crc64_by_16[2];

/* What is in 128 bits, as it counts so many bytes further on. */
__attribute__((target("pclmul,sse4.1"))) static inline __m128i crc64_fold(__m128i value, __m128i powers)
{
    return _mm_xor_si128(_mm_clmulepi64_si128(value, powers, 0x00), _mm_clmulepi64_si128(value, powers, 0x11));
}

__attribute__((target("pclmul,sse4.1"))) static inline __m128i crc64_take(const unsigned char *bytes)
{
    return _mm_loadu_si128((const __m128i *)bytes);
}

/* At least 64 bytes. */
__attribute__((target("pclmul,sse4.1")))
static uint64_t crc64_by_multiplying(uint64_t crc, const unsigned char *bytes, size_t count)
{
    const __m128i by_64 = crc64_take((const unsigned char *)crc64_by_64);
    const __m128i by_16 = crc64_take((const unsigned char *)crc64_by_16);
    __m128i lanes[4], sum;
    unsigned char folded[16];
    for (int i = 0; i < 4; i++)
        lanes[i] = crc64_take(bytes + 16 * i);
    lanes[0] = _mm_xor_si128(lanes[0], _mm_cvtsi64_si128((long long)crc));
    for (bytes += 64, count -= 64; count >= 64; bytes += 64, count -= 64)
        for (int i = 0; i < 4; i++)
            lanes[i] = _mm_xor_si128(crc64_fold(lanes[i], by_64), crc64_take(bytes + 16 * i));
    sum = lanes[0];
    for (int i = 1; i < 4; i++)
        sum = _mm_xor_si128(crc64_fold(sum, by_16), lanes[i]);
    for (; count >= 16; bytes += 16, count -= 16)
        sum = _mm_xor_si128(crc64_fold(sum, by_16), crc64_take(bytes));
    _mm_storeu_si128((__m128i *)folded, sum);
    return crc64_by_tables(crc64_by_tables(0, folded, 16), bytes, count);
}
#endif

/* Once, before the first call of crc64. */
static void crc64_prepare(void)
{
    for (int byte = 0; byte < 256; byte++) {
        uint64_t value = (uint64_t)byte;
        for (int bit = 0; bit < 8; bit++)
            value = (value >> 1) ^ (value & 1 ? CRC64_POLYNOMIAL : 0);
        crc64_tables[0][byte] = value;
    }
    for (int byte = 0; byte < 256; byte++)
        for (int table = 1; table < 16; table++) {
            uint64_t before = crc64_tables[table - 1][byte];
            crc64_tables[table][byte] = (before >> 8) ^ crc64_tables[0][before & 255];
        }
#if defined(__x86_64__)
    /* A product of reflected numbers comes out one power too high. */
    crc64_by_64[0] = crc64_power(8 * 64 + 64 - 1);
    crc64_by_64[1] = crc64_power(8 * 64 - 1);
    crc64_by_16[0] = crc64_power(8 * 16 + 64 - 1);
    crc64_by_16[1] = crc64_power(8 * 16 - 1);
    __builtin_cpu_init();
    crc64_multiplies = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
#endif
}

static uint64_t crc64(const unsigned char *bytes, size_t count)
{
    uint64_t all = ~UINT64_C(0);
#if defined(__x86_64__)
    if (crc64_multiplies && count >= 64)
        return ~crc64_by_multiplying(all, bytes, count);
#endif
    return ~crc64_by_tables(all, bytes, count);
}

#endif
