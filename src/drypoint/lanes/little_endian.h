/* Numbers as ext4 has them on disk, and as CRC-64 takes them. */
#ifndef DRYPOINT_LITTLE_ENDIAN_H
#define DRYPOINT_LITTLE_ENDIAN_H

#include <stdint.h>
#include <string.h>

static inline void put_16(unsigned char *at, uint16_t value)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap16(value);
#endif
    memcpy(at, &value, 2);
}

static inline void put_32(unsigned char *at, uint32_t value)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap32(value);
#endif
    memcpy(at, &value, 4);
}

static inline uint16_t get_16(const unsigned char *at)
{
    uint16_t value;
    memcpy(&value, at, 2);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap16(value);
#endif
    return value;
}

static inline uint32_t get_32(const unsigned char *at)
{
    uint32_t value;
    memcpy(&value, at, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap32(value);
#endif
    return value;
}

static inline uint64_t get_64(const unsigned char *at)
{
    uint64_t value;
    memcpy(&value, at, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap64(value);
#endif
    return value;
}

#endif
