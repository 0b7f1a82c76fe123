/* The C that lanes call, run under sanitizers: every input and output lies in a buffer of its own without a byte to spare. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "crc32c.h"
#include "crc64.h"
#include "little_endian.h"
#include "tar_header.h"
#include "text.h"

static uint64_t state = 1;

static unsigned random_below(unsigned limit)
{
    state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)((state >> 33) % limit);
}

static unsigned char *random_bytes(size_t count)
{
    unsigned char *bytes = malloc(count ? count : 1);
    assert(bytes);
    for (size_t i = 0; i < count; i++)
        bytes[i] = (unsigned char)random_below(256);
    return bytes;
}

static void check_crc64(void)
{
    for (size_t count = 0; count < 700; count++) {
        unsigned char *bytes = random_bytes(count);
        uint64_t bit_by_bit = ~UINT64_C(0);
        for (size_t i = 0; i < count; i++) {
            bit_by_bit ^= bytes[i];
            for (int bit = 0; bit < 8; bit++)
                bit_by_bit = (bit_by_bit >> 1) ^ (bit_by_bit & 1 ? CRC64_POLYNOMIAL : 0);
        }
        assert(crc64(bytes, count) == ~bit_by_bit);
        assert(~crc64_by_tables(~UINT64_C(0), bytes, count) == ~bit_by_bit);
        free(bytes);
    }
}

static void check_crc32c(void)
{
    assert(~crc32c(~0u, (const unsigned char *)"123456789", 9) == 0xE3069283u);
    for (size_t count = 0; count < 300; count++) {
        unsigned char *bytes = random_bytes(count);
        uint32_t bit_by_bit = 0x12345678;
        for (size_t i = 0; i < count; i++) {
            bit_by_bit ^= bytes[i];
            for (int bit = 0; bit < 8; bit++)
                bit_by_bit = (bit_by_bit >> 1) ^ (bit_by_bit & 1 ? CRC32C_POLYNOMIAL : 0);
        }
        assert(crc32c(0x12345678, bytes, count) == bit_by_bit);
        assert(crc32c_by_tables(0x12345678, bytes, count) == bit_by_bit);
        free(bytes);
    }
}

static void check_little_endian(void)
{
    unsigned char *at = malloc(4);
    put_32(at, 0x01020304);
    assert(at[0] == 4 && at[3] == 1 && get_32(at) == 0x01020304);
    put_16(at + 2, 0xABCD);
    assert(at[2] == 0xCD && get_16(at + 2) == 0xABCD);
    free(at);
}

static void check_base64(void)
{
    for (size_t count = 0; count < 300; count++) {
        size_t length = (count + 2) / 3 * 4;
        unsigned char *bytes = random_bytes(count), *back = malloc(length / 4 * 3 + 1);
        char *text = malloc(length + 1);
        assert(text_encode(text, bytes, count) == text + length);
        assert(text_decode(back, (const unsigned char *)text, length) == (ptrdiff_t)count);
        assert(!memcmp(back, bytes, count));
        for (int tries = 0; tries < 50 && length; tries++) {
            unsigned place = random_below((unsigned)length);
            char before = text[place];
            ptrdiff_t decoded;
            text[place] = (char)random_below(256);
            decoded = text_decode(back, (const unsigned char *)text, length);
            if (decoded >= 0) { /* only the one spelling is taken */
                char *again = malloc(length);
                assert(text_encode(again, back, (size_t)decoded) == again + length && !memcmp(again, text, length));
                free(again);
            }
            text[place] = before;
        }
        free(bytes);
        free(back);
        free(text);
    }
}

static void check_decimal(void)
{
    const uint64_t values[] = {0, 9, 10, 99, 1234567, UINT64_MAX};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char expected[32], *text = malloc(20);
        int length = snprintf(expected, sizeof expected, "%llu", (unsigned long long)values[i]);
        assert(text_decimal(text, values[i]) - text == length && !memcmp(text, expected, (size_t)length));
        free(text);
    }
}

static void check_names(void)
{
    static const char alphabet[] = "a./wh\\\x7f";
    for (int tries = 0; tries < 200000; tries++) {
        unsigned length = random_below(14);
        unsigned char *name = malloc(length ? length : 1);
        int start, end;
        for (unsigned i = 0; i < length; i++)
            name[i] = (unsigned char)alphabet[random_below(sizeof alphabet - 1)];
        if (tar_plain_name(name, (int)length, &start, &end)) {
            assert(0 <= start && start < end && end <= (int)length);
            assert(name[start] != '/' && name[end - 1] != '/');
        }
        text_is_plain(name, length);
        free(name);
    }
}

static void check_headers(void)
{
    for (int tries = 0; tries < 200000; tries++) {
        unsigned char *block = calloc(1, TAR_BLOCK);
        unsigned sum = 0, touched = random_below(4);
        char digits[8];
        tar_header header;
        int long_fields = (int)random_below(2);
        memset(block, 'n', long_fields ? 100 : 5);
        memcpy(block + 100, "0000644\0" "0000000\0" "0000000\0" "00000001000\0" "14000000000\0", 48);
        block[156] = "052"[random_below(3)];
        if (block[156] != '0')
            memset(block + 124, '0', 11);
        if (block[156] == '2')
            memset(block + 157, 't', long_fields ? 100 : 3);
        memcpy(block + 257, "ustar\0" "00", 8);
        memset(block + 345, 'p', long_fields ? 155 : 0);
        while (touched--)
            block[100 + random_below(412)] = (unsigned char)random_below(256);
        memset(block + 148, ' ', 8);
        for (int i = 0; i < TAR_BLOCK; i++)
            sum += block[i];
        snprintf(digits, sizeof digits, "%06o", sum);
        memcpy(block + 148, digits, 7);
        if (tar_plain_header(block, &header)) {
            assert(header.name_length > 0 && header.name_length <= TAR_NAME_MAX);
            assert(header.link_length <= 100 && header.size < UINT64_C(1) << 33);
        }
        free(block);
    }
}

int main(void)
{
    crc32c_prepare();
    crc64_prepare();
    text_prepare();
    check_crc32c();
    check_crc64();
    check_little_endian();
    check_base64();
    check_decimal();
    check_names();
    check_headers();
    return 0;
}
