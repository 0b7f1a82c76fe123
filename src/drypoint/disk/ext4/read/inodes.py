"""Inodes as values, and the reader of the inode table.

Format: the kernel's Documentation/filesystems/ext4 (inodes.rst), with its names of fields.
"""

from __future__ import annotations

import stat
import struct
from typing import NamedTuple

from ....errors import FilesystemError
from .blocks import Cache, Volume
from .superblocks import crc32c, stored

ENCRYPT_FLAG = 0x800
EXTENTS_FLAG = 0x80000
EA_INODE_FLAG = 0x200000
INLINE_DATA_FLAG = 0x10000000
XATTR_MAGIC = b"\x00\x00\x02\xea"

_TABLE_CHUNK = 64 * 1024
_TABLE_CHUNKS_CACHED = 128
_INODES_CACHED = 4096

# Without the fields that reading does not need.
_CORE = struct.Struct("<HHII4xi4xHH4xI4x60sIII6x4H2x")
_SEED = struct.Struct("<II")
_CHECKSUM_LOW_AT, _CORE_SIZE = 0x7C, 0x80
_EXTRA_SIZE_AT, _CHECKSUM_HIGH_AT, _MTIME_EXTRA_AT = 0x80, 0x82, 0x88
_CHECKSUM_HIGH_END, _MTIME_EXTRA_END = 0x84 - _CORE_SIZE, 0x8C - _CORE_SIZE
_NANOSECONDS = 1_000_000_000


class Inode(NamedTuple):
    """An inode in use.

    Attributes:
        mode: type and permission bits, as ``st_mode``.
        mtime: nanoseconds since the epoch.
        block: the 60 bytes of ``i_block``: the root of a block map, a symbolic link's target, a device number, inline data.
        xattr_block: the block with more extended attributes, or 0.
        xattr_area: the extended attributes inside the inode, with their magic number; empty if there are none.
        value_hash: for an inode that holds an extended attribute's value, the hash of the value.
    """

    number: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    links: int
    flags: int
    generation: int
    block: bytes
    xattr_block: int
    xattr_area: bytes
    value_hash: int

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


class InodeTable:
    """Reads inodes, in long runs of the table."""

    def __init__(self, volume: Volume) -> None:
        superblock = volume.superblock
        self._volume = volume
        self._checksums = superblock.has("metadata_csum")
        self._blocks_at_once = max(1, _TABLE_CHUNK // superblock.block_size)
        self._inodes_at_once = self._blocks_at_once * superblock.block_size // superblock.inode_size
        self._chunks: Cache[tuple[int, int], bytes] = Cache(_TABLE_CHUNKS_CACHED)
        self._parsed: Cache[int, Inode] = Cache(_INODES_CACHED)

    def inode(self, number: int) -> Inode:
        """The inode *number*.

        Raises:
            FilesystemError: there is no such inode, it is not in use, its checksum is wrong, or it is encrypted.
        """
        inode = self._parsed.get(number)
        if inode is None:
            inode = self._parse(number, self._raw(number))
            self._parsed.put(number, inode)
        return inode

    def _raw(self, number: int) -> memoryview:
        superblock = self._volume.superblock
        if not 1 <= number <= superblock.inodes_count:
            raise self._volume.damage(f"inode {number}", f"inodes are numbered from 1 to {superblock.inodes_count}")
        chunk, first = self._chunk(number)
        start = (number - first) * superblock.inode_size
        return memoryview(chunk)[start : start + superblock.inode_size]

    def chunk_of(self, number: int) -> tuple[bytes, int] | None:
        """The piece of a group's table that holds inode *number*, and the number of the first inode in it; None if there is no
        such inode."""
        return self._chunk(number) if 1 <= number <= self._volume.superblock.inodes_count else None

    def _chunk(self, number: int) -> tuple[bytes, int]:
        superblock = self._volume.superblock
        group, index = divmod(number - 1, superblock.inodes_per_group)
        part, position = divmod(index, self._inodes_at_once)
        chunk = self._chunks.get((group, part))
        if chunk is None:
            table_blocks = superblock.inodes_per_group * superblock.inode_size // superblock.block_size
            first = part * self._blocks_at_once
            count = min(self._blocks_at_once, table_blocks - first)
            table = self._volume.group(group).inode_table
            chunk = self._volume.read(table + first, count, f"the inode table of group {group}")
            self._chunks.put((group, part), chunk)
        return chunk, number - position

    def _parse(self, number: int, raw: memoryview) -> Inode:
        (
            mode,
            uid,
            size,
            atime,
            mtime,
            gid,
            links,
            flags,
            block,
            generation,
            xattr_block,
            size_high,
            xattr_block_high,
            uid_high,
            gid_high,
            checksum,
        ) = _CORE.unpack_from(raw)
        extra_size = 0
        if len(raw) > _CORE_SIZE:
            extra_size = raw[_EXTRA_SIZE_AT] | raw[_EXTRA_SIZE_AT + 1] << 8
        if self._checksums:
            self._check(number, generation, raw, extra_size, checksum)
        if links == 0 or mode == 0:
            raise self._volume.damage(f"inode {number}", "it is not in use, yet something points to it")
        if extra_size % 4 or _CORE_SIZE + extra_size > len(raw):
            raise self._volume.damage(f"inode {number}", f"its extra size, {extra_size}, is absurd")
        if flags & ENCRYPT_FLAG:
            raise FilesystemError(
                f"inode {number} of the file system on {self._volume.name} is encrypted: it cannot be read"
            )
        # An extra size of 0 is from before in-inode attributes: what follows then has no meaning.
        area = _CORE_SIZE + extra_size
        time = mtime * _NANOSECONDS
        if extra_size >= _MTIME_EXTRA_END:
            extra = int.from_bytes(raw[_MTIME_EXTRA_AT : _MTIME_EXTRA_AT + 4], "little")
            time += ((extra & 3) << 32) * _NANOSECONDS + (extra >> 2)
        if stat.S_ISREG(mode) or self._volume.superblock.has("large_dir"):
            size |= size_high << 32
        return Inode(
            number=number,
            mode=mode,
            uid=uid | uid_high << 16,
            gid=gid | gid_high << 16,
            size=size,
            mtime=time,
            links=links,
            flags=flags,
            generation=generation,
            block=block,
            xattr_block=xattr_block | xattr_block_high << 32,
            xattr_area=bytes(raw[area:]) if extra_size and raw[area : area + 4] == XATTR_MAGIC else b"",
            value_hash=atime,
        )

    def _check(self, number: int, generation: int, raw: memoryview, extra_size: int, low: int) -> None:
        seed = crc32c(_SEED.pack(number, generation), self._volume.superblock.checksum_seed)
        # The two halves of the checksum count as zeros; most inodes have both.
        content = bytearray(raw)
        content[_CHECKSUM_LOW_AT : _CHECKSUM_LOW_AT + 2] = b"\0\0"
        expected, mask = low, 0xFFFF
        if len(raw) > _CORE_SIZE and extra_size >= _CHECKSUM_HIGH_END:
            expected |= (raw[_CHECKSUM_HIGH_AT] | raw[_CHECKSUM_HIGH_AT + 1] << 8) << 16
            mask = 0xFFFFFFFF
            content[_CHECKSUM_HIGH_AT : _CHECKSUM_HIGH_AT + 2] = b"\0\0"
        if stored(crc32c(memoryview(content), seed)) & mask != expected:
            raise self._volume.damage(f"inode {number}", "its checksum is wrong")


def inode_seed(volume: Volume, number: int, generation: int) -> int:
    """The seed of the checksums of an inode and of the blocks that only it owns."""
    return crc32c(_SEED.pack(number, generation), volume.superblock.checksum_seed)


def device_number(block: bytes) -> tuple[int, int]:
    """Major and minor number of a device inode, from its ``i_block``."""
    old, new = struct.unpack_from("<II", block)
    if old:
        # The 16-bit format of Linux before 2.6.
        return old >> 8 & 0xFF, old & 0xFF
    return new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00
