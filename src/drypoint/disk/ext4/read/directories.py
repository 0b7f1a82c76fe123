"""The entries of directories: linear, hashed and inline.

To a linear reader, the index blocks of a hashed directory look like blocks without entries: so old kernels can read the format,
and so it is read here. Format: the kernel's Documentation/filesystems/ext4 (directory.rst).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from .blocks import Volume
from .inodes import Inode, inode_seed
from .superblocks import crc32c, stored

_ENTRY = struct.Struct("<IHBB")
_TAIL = struct.Struct("<IHBBI")
_TAIL_TYPE = 0xDE
_INDEX_TAIL_SIZE = 8
_INLINE_FIRST = 60 - 4
_SLASH, _NUL = b"/\0"


class DirectoryEntry(NamedTuple):
    """A name in a directory. ``kind`` is the format's file type, 0 where the file system does not record it."""

    name: bytes
    inode: int
    kind: int


class DirectoryParser:
    """Parses one directory's blocks."""

    def __init__(self, volume: Volume, inode: Inode) -> None:
        superblock = volume.superblock
        self._volume = volume
        self._inode = inode
        self._owner = f"directory inode {inode.number}"
        self._checksums = superblock.has("metadata_csum")
        self._seed = inode_seed(volume, inode.number, inode.generation) if self._checksums else 0
        self._last_inode = superblock.inodes_count
        self._typed = superblock.has("filetype")
        # With 64 KiB blocks a whole block's length does not fit in 16 bits; the two low bits, unused, carry the rest.
        self._wide = superblock.block_size >= 65536

    def block(self, raw: memoryview) -> Iterator[DirectoryEntry]:
        """The entries of one block, ``.`` and ``..`` included.

        Raises:
            FilesystemError: its checksum is wrong, or its entries overlap or exceed it.
        """
        if self._checksums:
            self._check(raw)
        return self._entries(raw)

    def inline(self, block: bytes, more: bytes) -> Iterator[DirectoryEntry]:
        """The entries of a directory in its inode: the parent's number, then entries in two areas."""
        yield DirectoryEntry(b".", self._inode.number, 0)
        yield DirectoryEntry(b"..", int.from_bytes(block[:4], "little"), 0)
        yield from self._entries(memoryview(block)[4:])
        yield from self._entries(memoryview(more))

    def _entries(self, raw: memoryview) -> Iterator[DirectoryEntry]:
        position, end = 0, len(raw)
        unpack = _ENTRY.unpack_from
        while position < end:
            if position + _ENTRY.size > end:
                raise self._volume.damage(self._owner, "an entry runs over the end of its block")
            inode, length, name_length, kind = unpack(raw, position)
            if self._wide:
                length = 65536 if length in (0, 65535) else length & 0xFFFC | (length & 3) << 16
            if length < _ENTRY.size + name_length or length % 4 or length < 12 or position + length > end:
                raise self._volume.damage(self._owner, f"an entry claims to be {length} bytes long")
            if inode:
                if inode > self._last_inode:
                    raise self._volume.damage(self._owner, f"it names inode {inode} of {self._last_inode}")
                start = position + _ENTRY.size
                name = bytes(raw[start : start + name_length])
                if not name or _SLASH in name or _NUL in name:
                    raise self._volume.damage(self._owner, f"{name!r} is not a name")
                yield DirectoryEntry(name, inode, kind if self._typed else 0)
            position += length

    def _check(self, raw: memoryview) -> None:
        # Index blocks first: one that was a leaf before still has a leaf's tail in the place of its own.
        limits = self._index_limits(raw)
        if limits is not None:
            start, limit, count = limits
            tail = start + 8 * limit
            crc = crc32c(raw[: start + 8 * count], self._seed)
            crc = crc32c(raw[tail : tail + 4], crc)
            crc = crc32c(b"\0\0\0\0", crc)
            checksum = int.from_bytes(raw[tail + 4 : tail + 8], "little")
        else:
            end = len(raw) - _TAIL.size
            reserved, length, name_length, kind, checksum = _TAIL.unpack_from(raw, end)
            if (reserved, length, name_length, kind) != (0, _TAIL.size, 0, _TAIL_TYPE):
                raise self._volume.damage(self._owner, "a block has no checksum")
            crc = crc32c(raw[:end], self._seed)
        if stored(crc) != checksum:
            raise self._volume.damage(self._owner, "the checksum of a block is wrong")

    def _index_limits(self, raw: memoryview) -> tuple[int, int, int] | None:
        """For an index block, the offset of its entries, how many fit, and how many there are; None for a leaf."""
        _, length, name_length, _ = _ENTRY.unpack_from(raw)
        if self._wide and length in (0, 65535):
            length = 65536
        if length == len(raw) and name_length == 0:
            start = 8
        elif length == 12 and _ENTRY.unpack_from(raw, 12)[1] == len(raw) - 12:
            start = 32
        else:
            return None
        limit, count = struct.unpack_from("<HH", raw, start)
        if count > limit or start + 8 * limit + _INDEX_TAIL_SIZE > len(raw):
            raise self._volume.damage(self._owner, f"an index block claims {count} entries of {limit}")
        return start, limit, count
