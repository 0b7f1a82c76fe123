"""Inodes as bytes: encoding new ones, and changing existing ones.

Format: struct ext2_inode_large in e2fsprogs' ext2_fs.h; the kernel's Documentation/filesystems/ext4/inodes.rst. Checksums are
not set here, but when the inode is written to its table.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

import msgspec

S_IFIFO = 0x1000
S_IFCHR = 0x2000
S_IFDIR = 0x4000
S_IFBLK = 0x6000
S_IFREG = 0x8000
S_IFLNK = 0xA000
S_IFSOCK = 0xC000
S_IFMT = 0xF000

EXT2_INDEX_FL = 0x1000
EXT4_HUGE_FILE_FL = 0x40000
EXT4_EXTENTS_FL = 0x80000

EXT2_GOOD_OLD_INODE_SIZE = 128
EXT4_LINK_MAX = 65000
NSEC_PER_SEC = 1_000_000_000

_TIME_MIN = -(1 << 31)
_TIME_MAX = (1 << 31) - 1
_TIME_MAX_EXTRA = (1 << 34) - 1 + _TIME_MIN

# i_mode i_uid i_size i_atime i_ctime i_mtime i_dtime i_gid i_links_count i_blocks i_flags i_version i_block[60 bytes]
# i_generation i_file_acl i_size_high i_faddr i_blocks_hi i_file_acl_high i_uid_high i_gid_high i_checksum_lo i_reserved
_BASE = struct.Struct("<HHIIIIIHHIII60sIIIIHHHHHH")
# i_extra_isize i_checksum_hi i_ctime_extra i_mtime_extra i_atime_extra i_crtime i_crtime_extra i_version_hi i_projid
_EXTRA = struct.Struct("<HHIIIIIII")
# The fields between _Frame's parts; the tail follows.
_FRAMED = struct.Struct("<4sI20sI8s60s")
_LINKS = struct.Struct("<H")
_LINKS_OFFSET = 26
_EXTRA_ISIZE_LOW = 128
CHECKSUM_HALF = struct.Struct("<H")
CHECKSUM_LOW, CHECKSUM_HIGH = 124, 130
"""The offsets of the two halves of an inode's checksum."""


class InodeShape(msgspec.Struct, frozen=True):
    """The size of inodes, and the bytes of fields after the first 128 bytes (0 for none)."""

    size: int
    extra_isize: int

    @classmethod
    def of(cls, inode_size: int, want_extra_isize: int) -> InodeShape:
        """The shape of new inodes by the kernel, for these fields of the superblock."""
        room = inode_size - EXT2_GOOD_OLD_INODE_SIZE
        if not room:
            return cls(inode_size, 0)
        wanted = want_extra_isize or _EXTRA.size
        return cls(inode_size, min(wanted, room) & ~3)


class NewInode(msgspec.Struct, frozen=True, gc=False):
    """The fields of a new inode.

    ``mode`` includes the file type; ``sectors`` counts units of 512 bytes;
    ``block`` is i_block.
    """

    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0
    sectors: int = 0
    links: int = 1
    flags: int = 0
    block: bytes = b""


class _Frame(NamedTuple):
    """The common parts of new inodes: before, between and after size, blocks and i_block."""

    head: bytes
    times: bytes
    flags: bytes
    tail: bytes


def encode_inode(shape: InodeShape, inode: NewInode, now: int) -> bytes:
    """The whole inode. Access time is the modification time; change and creation time are *now*, in seconds.

    Times out of the file system's range become the nearest one in it, as in the kernel.
    """
    size, sectors = inode.size, inode.sectors
    head, times, flag_words, tail = _frame(
        shape, inode.mode, inode.uid, inode.gid, inode.mtime, inode.links, inode.flags, now
    )
    raw = _FRAMED.pack(head, size & 0xFFFFFFFF, times, sectors & 0xFFFFFFFF, flag_words, inode.block) + tail
    return raw if size < 1 << 32 else replace_content(raw, size, sectors, inode.flags, raw[40:100])


@lru_cache(maxsize=1024)
def _frame(shape: InodeShape, mode: int, uid: int, gid: int, mtime: int, links: int, flags: int, now: int) -> _Frame:
    """The frame of an inode, cached: files of one package have these in common."""
    extra_isize = shape.extra_isize
    mtime, mtime_extra = encode_time(mtime, extended=extra_isize >= 12)
    ctime, ctime_extra = encode_time(now * NSEC_PER_SEC, extended=extra_isize >= 8)
    # In the order of _BASE's fields.
    raw = _BASE.pack(
        mode, uid & 0xFFFF, 0, mtime, ctime, mtime, 0, gid & 0xFFFF, links, 0, flags, 0, b"",
        0, 0, 0, 0, 0, 0, uid >> 16, gid >> 16, 0, 0,
    )  # fmt: skip
    if extra_isize >= 4:
        extra = _EXTRA.pack(extra_isize, 0, ctime_extra, mtime_extra, mtime_extra, ctime, ctime_extra, 0, 0)
        raw += extra[:extra_isize]
    return _Frame(raw[:4], raw[8:28], raw[32:40], raw[100:].ljust(shape.size - 100, b"\0"))


def encode_time(nanoseconds: int, *, extended: bool) -> tuple[int, int]:
    """A time as the low 32 bits of its seconds, and the word with 2 more bits of them and the nanoseconds."""
    seconds, nanoseconds = divmod(nanoseconds, NSEC_PER_SEC)
    last = _TIME_MAX_EXTRA if extended else _TIME_MAX
    if seconds <= _TIME_MIN or seconds >= last:
        # The kernel's timestamp_truncate drops the nanoseconds at both ends of the range, too.
        seconds, nanoseconds = (_TIME_MIN, 0) if seconds <= _TIME_MIN else (last, 0)
    low = seconds & 0xFFFFFFFF
    signed_low = low - (1 << 32) if low & 0x80000000 else low
    return low, nanoseconds << 2 | (seconds - signed_low) >> 32 & 3


def replace_metadata(raw: bytes, mode: int, uid: int, gid: int, mtime: int, now: int) -> bytes:
    """The existing inode *raw* with new permission bits, owner and times; type and content stay."""
    fields = list(_BASE.unpack_from(raw))
    extra_isize = _extra_isize(raw)
    low, extra_word = encode_time(mtime, extended=extra_isize >= 12)
    changed, changed_extra = encode_time(now * NSEC_PER_SEC, extended=extra_isize >= 8)
    fields[0] = fields[0] & S_IFMT | mode
    fields[1], fields[19] = uid & 0xFFFF, uid >> 16
    fields[7], fields[20] = gid & 0xFFFF, gid >> 16
    fields[3], fields[4], fields[5] = low, changed, low
    out = bytearray(raw)
    _BASE.pack_into(out, 0, *fields)
    for offset, value in ((4, changed_extra), (8, extra_word), (12, extra_word)):
        if extra_isize >= offset + 4:
            struct.pack_into("<I", out, EXT2_GOOD_OLD_INODE_SIZE + offset, value)
    return bytes(out)


def replace_content(raw: bytes, size: int, sectors: int, flags: int, block: bytes) -> bytes:
    """The existing inode *raw* with new size, block count, flags and i_block."""
    fields = list(_BASE.unpack_from(raw))
    fields[2], fields[15] = size & 0xFFFFFFFF, size >> 32
    fields[9], fields[17] = sectors & 0xFFFFFFFF, sectors >> 32
    fields[10], fields[12] = flags, block
    return _BASE.pack(*fields) + raw[EXT2_GOOD_OLD_INODE_SIZE:]


def mark_deleted(raw: bytes, now: int) -> bytes:
    """The existing inode *raw* without names, deleted at *now*."""
    fields = list(_BASE.unpack_from(raw))
    fields[6], fields[8] = now & 0xFFFFFFFF, 0
    return _BASE.pack(*fields) + raw[EXT2_GOOD_OLD_INODE_SIZE:]


def has_high_checksum(raw: bytes) -> bool:
    """Whether the inode *raw* has a field for the upper half of its checksum."""
    return len(raw) > EXT2_GOOD_OLD_INODE_SIZE and (raw[_EXTRA_ISIZE_LOW] >= 4 or raw[_EXTRA_ISIZE_LOW + 1] > 0)


def without_checksum(raw: bytes) -> bytes:
    """The existing inode *raw* with zeros for its checksum."""
    out = bytearray(raw)
    CHECKSUM_HALF.pack_into(out, CHECKSUM_LOW, 0)
    if has_high_checksum(raw):
        CHECKSUM_HALF.pack_into(out, CHECKSUM_HIGH, 0)
    return bytes(out)


def without_xattrs(raw: bytes) -> bytes:
    """The existing inode *raw* with zeros after its fields, which removes the extended attributes inside it."""
    return raw[: EXT2_GOOD_OLD_INODE_SIZE + _extra_isize(raw)].ljust(len(raw), b"\0")


def with_links(raw: bytes, links: int) -> bytes:
    """The existing inode *raw* with a new number of names."""
    return raw[:_LINKS_OFFSET] + _LINKS.pack(links) + raw[_LINKS_OFFSET + 2 :]


def links_of(raw: bytes) -> int:
    (links,) = _LINKS.unpack_from(raw, _LINKS_OFFSET)
    return int(links)


def mode_of(raw: bytes) -> int:
    """Permission bits and file type."""
    return raw[0] | raw[1] << 8


def size_of(raw: bytes) -> int:
    low: int
    high: int
    (low,) = struct.unpack_from("<I", raw, 4)
    (high,) = struct.unpack_from("<I", raw, 108)
    return high << 32 | low


def flags_of(raw: bytes) -> int:
    (flags,) = struct.unpack_from("<I", raw, 32)
    return int(flags)


def generation_of(raw: bytes) -> int:
    (generation,) = struct.unpack_from("<I", raw, 100)
    return int(generation)


def sectors_of(raw: bytes) -> int:
    low: int
    high: int
    (low,) = struct.unpack_from("<I", raw, 28)
    (high,) = struct.unpack_from("<H", raw, 116)
    return high << 32 | low


def device_block(major: int, minor: int) -> bytes:
    """i_block of a device: the 16-bit form if it fits, else the kernel's 32-bit form in the second word.

    Raises:
        ValueError: a number is outside 12 bits (major) or 20 bits (minor).
    """
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise ValueError(f"device number {major}:{minor} is outside 0:0 to 4095:1048575")
    if major < 256 and minor < 256:
        return struct.pack("<I", major << 8 | minor)
    return struct.pack("<II", 0, minor & 0xFF | major << 8 | (minor & ~0xFF) << 12)


def _extra_isize(raw: bytes) -> int:
    if len(raw) <= EXT2_GOOD_OLD_INODE_SIZE:
        return 0
    (extra,) = struct.unpack_from("<H", raw, EXT2_GOOD_OLD_INODE_SIZE)
    return int(extra)
