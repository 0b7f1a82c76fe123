/* Pieces of a tar-split's lines: base64 (RFC 4648), decimal numbers, and text that JSON takes as it stands. */
#ifndef DRYPOINT_TEXT_H
#define DRYPOINT_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static const char text_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static char text_pairs[4096][2];
static signed char text_values[256];
static unsigned char text_escaped[256];

/* Once, before any other call. */
static void text_prepare(void)
{
    for (int i = 0; i < 4096; i++) {
        text_pairs[i][0] = text_alphabet[i >> 6];
        text_pairs[i][1] = text_alphabet[i & 63];
    }
    memset(text_values, -1, sizeof text_values);
    for (int i = 0; i < 64; i++)
        text_values[(unsigned char)text_alphabet[i]] = (signed char)i;
    for (int i = 0; i < 256; i++)
        text_escaped[i] = i < 0x20 || i > 0x7F || strchr("\"\\<>&", i) != NULL;
}

/* Needs room for 4 * ((count + 2) / 3) characters; returns the end of what was written. */
static char *text_encode(char *out, const unsigned char *bytes, size_t count)
{
    for (; count >= 3; bytes += 3, count -= 3, out += 4) {
        unsigned word = (unsigned)bytes[0] << 16 | (unsigned)bytes[1] << 8 | bytes[2];
        memcpy(out, text_pairs[word >> 12], 2);
        memcpy(out + 2, text_pairs[word & 4095], 2);
    }
    if (count) {
        unsigned word = (unsigned)bytes[0] << 16 | (count == 2 ? (unsigned)bytes[1] << 8 : 0);
        memcpy(out, text_pairs[word >> 12], 2);
        out[2] = count == 2 ? text_alphabet[word >> 6 & 63] : '=';
        out[3] = '=';
        out += 4;
    }
    return out;
}

/* The bytes of *count* characters, in canonical form only; -1 for anything else. Needs room for 3 * (count / 4) bytes. */
static ptrdiff_t text_decode(unsigned char *out, const unsigned char *text, size_t count)
{
    unsigned char *start = out;
    if (count % 4)
        return -1;
    for (; count; text += 4, count -= 4) {
        int a = text_values[text[0]], b = text_values[text[1]], c = text_values[text[2]], d = text_values[text[3]];
        if ((a | b | c | d) >= 0) {
            out[0] = (unsigned char)(a << 2 | b >> 4);
            out[1] = (unsigned char)(b << 4 | c >> 2);
            out[2] = (unsigned char)(c << 6 | d);
            out += 3;
            continue;
        }
        if (count != 4 || (a | b) < 0 || text[3] != '=')
            return -1;
        if (text[2] == '=' ? b & 15 : c < 0 || c & 3)
            return -1;
        *out++ = (unsigned char)(a << 2 | b >> 4);
        if (text[2] != '=')
            *out++ = (unsigned char)(b << 4 | c >> 2);
    }
    return out - start;
}

/* Needs room for 20 digits; returns the end of what was written. */
static char *text_decimal(char *out, uint64_t value)
{
    char digits[20];
    int count = 0;
    do
        digits[count++] = (char)('0' + value % 10);
    while (value /= 10);
    while (count)
        *out++ = digits[--count];
    return out;
}

/* Whether a string of JSON, as Go writes it, has these bytes as they are. */
static int text_is_plain(const unsigned char *bytes, size_t count)
{
    unsigned char escaped = 0;
    while (count--)
        escaped |= text_escaped[*bytes++];
    return !escaped;
}

#endif
