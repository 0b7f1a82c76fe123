/* A tar header of the plainest kind, and its name: see header.py and tarsplit.clean_name, which take all kinds. */
#ifndef DRYPOINT_TAR_HEADER_H
#define DRYPOINT_TAR_HEADER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { TAR_BLOCK = 512, TAR_NAME_MAX = 100 + 1 + 155 };

typedef struct {
    unsigned char kind;
    uint32_t mode, uid, gid;
    uint64_t size, mtime;
    int name_length, link_length;
    unsigned char name[TAR_NAME_MAX]; /* the prefix before it */
    const unsigned char *link;        /* in the block */
} tar_header;

static inline int tar_is_blank(unsigned char byte)
{
    return byte == 0 || byte == ' ';
}

static inline int tar_octal(const unsigned char *digits, int count, uint64_t *value)
{
    uint64_t found = 0;
    for (int i = 0; i < count; i++) {
        unsigned digit = digits[i] - (unsigned)'0';
        if (digit > 7)
            return 0;
        found = found << 3 | digit;
    }
    *value = found;
    return 1;
}

/* Six or seven digits, then blanks. */
static inline int tar_number(const unsigned char *field, uint32_t *value)
{
    uint64_t found;
    if (!tar_is_blank(field[7]) || !tar_octal(field, tar_is_blank(field[6]) ? 6 : 7, &found))
        return 0;
    *value = (uint32_t)found;
    return 1;
}

/* Whether all bytes are ASCII; and their sum. */
static inline int tar_sum(const unsigned char *block, uint32_t *sum)
{
    const uint64_t evens = UINT64_C(0x00FF00FF00FF00FF);
    uint64_t all = 0, sums = 0;
    for (int i = 0; i < TAR_BLOCK; i += 8) {
        uint64_t word;
        memcpy(&word, block + i, 8);
        all |= word;
        sums += (word & evens) + (word >> 8 & evens); /* 64 times 2 times 127 at most: no carry */
    }
    *sum = (uint32_t)((sums & 0xFFFF) + (sums >> 16 & 0xFFFF) + (sums >> 32 & 0xFFFF) + (sums >> 48));
    return !(all & UINT64_C(0x8080808080808080));
}

/* Whether the block is the header of a regular file, a directory or a symbolic link, spelled as nearly all are. */
static int tar_plain_header(const unsigned char *block, tar_header *header)
{
    static const unsigned char zeros[16];
    const unsigned char *devices = block + 329, *prefix = block + 345;
    uint64_t expected;
    uint32_t sum;
    int is_gnu, length;

    header->kind = block[156];
    if (header->kind != '0' && header->kind != '5' && header->kind != '2')
        return 0;
    is_gnu = !memcmp(block + 257, "ustar  \0", 8);
    if (!is_gnu && (memcmp(block + 257, "ustar\0" "00", 8) || !memcmp(block + 508, "tar\0", 4)))
        return 0;
    if (is_gnu && (block[345] || block[357])) /* times */
        return 0;
    if (memcmp(devices, zeros, 16) && memcmp(devices, "0000000\0" "0000000\0", 16)
        && memcmp(devices, "000000 \0" "000000 \0", 16))
        return 0;
    if (!tar_number(block + 100, &header->mode) || !tar_number(block + 108, &header->uid)
        || !tar_number(block + 116, &header->gid))
        return 0;
    if (!tar_octal(block + 124, 11, &header->size) || !tar_is_blank(block[135]))
        return 0;
    if (!tar_octal(block + 136, 11, &header->mtime) || !tar_is_blank(block[147]))
        return 0;
    if (!tar_octal(block + 148, 6, &expected) || !tar_is_blank(block[154]) || !tar_is_blank(block[155]))
        return 0;
    if (!tar_sum(block, &sum))
        return 0;
    for (int i = 148; i < 156; i++)
        sum += (uint32_t)' ' - block[i];
    if (sum != expected)
        return 0;

    length = 0;
    if (!is_gnu && prefix[0]) {
        length = (int)strnlen((const char *)prefix, 155);
        memcpy(header->name, prefix, (size_t)length);
        header->name[length++] = '/';
    }
    header->name_length = (int)strnlen((const char *)block, 100);
    memcpy(header->name + length, block, (size_t)header->name_length);
    header->name_length += length;
    header->link = block + 157;
    header->link_length = (int)strnlen((const char *)header->link, 100);
    if (header->kind == '2' ? !header->link_length : header->link_length != 0)
        return 0;
    return header->kind == '0' || !header->size;
}

/* Whether cleaning takes no more off the name than "./" before and "/" behind it, and it means no whiteout: what is left. */
static int tar_plain_name(const unsigned char *name, int length, int *start, int *end)
{
    int part = length >= 2 && name[0] == '.' && name[1] == '/' ? 2 : 0, stop = length;
    if (stop > part && name[stop - 1] == '/')
        stop--;
    *start = part;
    *end = stop;
    while (part < stop) {
        const unsigned char *slash = memchr(name + part, '/', (size_t)(stop - part));
        int next = slash ? (int)(slash - name) : stop, size = next - part;
        if (!size)
            return 0;
        if (name[part] == '.') {
            if (size == 1 || (size == 2 && name[part + 1] == '.'))
                return 0;
            if (!slash && size >= 4 && !memcmp(name + part, ".wh.", 4))
                return 0;
        }
        if (!slash)
            return 1;
        part = next + 1;
    }
    return 0; /* nothing is left, or it ends in two slashes */
}

#endif
