"""Inodes and contents of plain small files: the compiled lane of drypoint.disk.ext4.read.reader.

An inode is plain if it is a regular file without extended attributes or flags that change what its fields mean, with a right checksum.
For any other, None: the twin reads it, or says what is wrong. Threads may share a lane: what it keeps is one value.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from ....fstree.entry import Metadata, Regular
from ....fstree.protocols import Stat


cdef extern from "crc32c.h" nogil:
    void crc32c_prepare()
    uint32_t crc32c(uint32_t seed, const unsigned char *data, size_t count)

cdef extern from "little_endian.h" nogil:
    uint16_t get_16(const unsigned char *at)
    uint32_t get_32(const unsigned char *at)
    void put_32(unsigned char *at, uint32_t value)

crc32c_prepare()

cdef enum:
    INODE_MAX = 1024
    CORE = 128
    SLOTS = 256
    S_IFMT = 0xF000
    S_IFREG = 0x8000
    # Encrypted, or with its content in the inode: the flags after which fields mean something else.
    OTHERWISE = 0x800 | 0x10000000
    EXTENTS = 0x80000
    EXTENT_MAGIC = 0xF30A
    LONGEST_EXTENT = 0x8000


cdef class PlainInodes:
    """Reads plain files of one file system. See the stub."""

    cdef object _inodes
    cdef tuple _chunk
    cdef bint _checksums
    cdef uint32_t _seed
    cdef Py_ssize_t _inode_size, _block_size
    cdef int64_t _first_data_block, _blocks_count
    cdef list _metadata

    def __init__(self, inodes, superblock):
        self._inodes = inodes
        self._chunk = (b"", 0)
        self._checksums = superblock.has("metadata_csum")
        self._seed = superblock.checksum_seed ^ 0xFFFFFFFF if self._checksums else 0
        self._inode_size, self._block_size = superblock.inode_size, superblock.block_size
        self._first_data_block, self._blocks_count = superblock.first_data_block, superblock.blocks_count
        self._metadata = [None] * SLOTS

    def stat(self, bytes path not None, int64_t number):
        cdef unsigned char[INODE_MAX] raw
        cdef uint64_t size
        cdef int64_t time
        cdef uint32_t extra
        if not self._read(number, raw):
            return None
        size = get_32(raw + 4) | <uint64_t>get_32(raw + 108) << 32
        time = <int64_t><int32_t>get_32(raw + 16) * 1000000000
        if self._inode_size > CORE and get_16(raw + 128) >= 12:
            extra = get_32(raw + 136)
            if extra & 3:
                return None
            time += extra >> 2
        metadata = self._metadata_of(
            get_16(raw) & 0o7777,
            get_16(raw + 2) | <uint32_t>get_16(raw + 120) << 16,
            get_16(raw + 24) | <uint32_t>get_16(raw + 122) << 16,
            time,
        )
        return Stat(Regular(path, metadata, size), number, get_16(raw + 26))

    def place(self, int64_t number):
        """The size, first block and length of the one extent of a plain file."""
        cdef unsigned char[INODE_MAX] raw
        cdef const unsigned char *root = raw + 40
        cdef uint64_t size
        cdef int64_t physical, length
        if not self._read(number, raw) or not get_32(raw + 32) & EXTENTS:
            return None
        size = get_32(raw + 4) | <uint64_t>get_32(raw + 108) << 32
        if get_16(root) != EXTENT_MAGIC or get_16(root + 2) != 1 or get_16(root + 4) != 4 or get_16(root + 6):
            return None
        length = get_16(root + 16)
        physical = get_32(root + 20) | <int64_t>get_16(root + 18) << 32
        if get_32(root + 12) or not 0 < length <= LONGEST_EXTENT:
            return None
        if not self._first_data_block < physical <= self._blocks_count - length:
            return None
        return size, physical, length

    cdef bint _read(self, int64_t number, unsigned char *raw) except -1:
        """The inode, with its checksum as zeros; whether it is plain."""
        cdef tuple held = self._chunk
        cdef bytes chunk = held[0]
        cdef int64_t offset = (number - <int64_t>held[1]) * self._inode_size
        cdef uint32_t extra = 0
        if number < 1 or self._inode_size > INODE_MAX:
            return False
        if not 0 <= offset <= PyBytes_GET_SIZE(chunk) - self._inode_size:
            held = self._inodes.chunk_of(number)
            if held is None:
                return False
            self._chunk = held
            chunk = held[0]
            offset = (number - <int64_t>held[1]) * self._inode_size
            if not 0 <= offset <= PyBytes_GET_SIZE(chunk) - self._inode_size:
                return False
        memcpy(raw, PyBytes_AS_STRING(chunk) + offset, self._inode_size)
        if get_16(raw) & S_IFMT != S_IFREG or not get_16(raw + 26) or get_32(raw + 32) & OTHERWISE:
            return False
        if get_32(raw + 104) or get_16(raw + 118):  # a block of extended attributes
            return False
        if self._inode_size > CORE:
            extra = get_16(raw + 128)
            if extra & 3 or CORE + extra > self._inode_size:
                return False
            if extra and CORE + extra + 4 <= self._inode_size and memcmp(raw + CORE + extra, b"\x00\x00\x02\xea", 4) == 0:
                return False
        return not self._checksums or self._is_right(number, raw, extra)

    cdef bint _is_right(self, int64_t number, unsigned char *raw, uint32_t extra) noexcept:
        cdef unsigned char[8] owner
        cdef uint32_t mask = 0xFFFF
        cdef uint32_t expected = get_16(raw + 124)
        memset(raw + 124, 0, 2)
        if extra >= 4:
            expected |= <uint32_t>get_16(raw + 130) << 16
            mask = 0xFFFFFFFFu
            memset(raw + 130, 0, 2)
        put_32(owner, <uint32_t>number)
        memcpy(owner + 4, raw + 100, 4)
        return crc32c(crc32c(self._seed, owner, 8), raw, <size_t>self._inode_size) & mask == expected

    cdef object _metadata_of(self, uint32_t mode, uint32_t uid, uint32_t gid, int64_t time):
        """Files of one package have it in common: one object for all."""
        cdef uint64_t mixed = <uint64_t>time * 0x9E3779B97F4A7C15u + mode * 31u + uid * 1009u + gid * 7919u
        cdef Py_ssize_t slot = <Py_ssize_t>((mixed >> 32 ^ mixed) & (SLOTS - 1))
        cdef tuple held = self._metadata[slot]
        cdef tuple key
        if held is not None:
            key = held[0]
            if key[0] == mode and key[1] == uid and key[2] == gid and key[3] == time:
                return held[1]
        found = Metadata(mode, uid, gid, time, ())
        self._metadata[slot] = ((mode, uid, gid, time), found)
        return found
