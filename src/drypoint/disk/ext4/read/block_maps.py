"""Block maps of inodes: extent trees, and the older maps of indirect blocks.

Format: the kernel's Documentation/filesystems/ext4 (ifork.rst).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from .blocks import Volume
from .inodes import EXTENTS_FLAG, Inode, inode_seed
from .superblocks import crc32c, stored

_HEADER = struct.Struct("<HHHHI")
_EXTENT = struct.Struct("<IHHI")
_INDEX = struct.Struct("<IIHH")
_EXTENT_MAGIC = 0xF30A
_MAX_DEPTH = 5
_MAX_INITIALIZED = 0x8000
_LAST_LOGICAL = 1 << 32
_DIRECT_BLOCKS = 12
_ROOT_CAPACITY = 4
_SOLE = struct.Struct("<HHHH4xIHHI")
_SOLE_EXPECTED = (_EXTENT_MAGIC, 1, _ROOT_CAPACITY, 0, 0)


class Extent(NamedTuple):
    """*length* blocks of a file from its block *logical* on, at block *physical* of the file system (0: they read as zeros)."""

    logical: int
    physical: int
    length: int


def sole_extent(volume: Volume, inode: Inode) -> tuple[int, int] | None:
    """The physical block and length of the one extent that most files have; None for any other map.

    A map that :func:`extents` would refuse never passes here.
    """
    if not inode.flags & EXTENTS_FLAG:
        return None
    magic, entries, capacity, depth, logical, length, physical_high, physical = _SOLE.unpack_from(inode.block)
    superblock = volume.superblock
    physical |= physical_high << 32
    if (
        (magic, entries, capacity, depth, logical) != _SOLE_EXPECTED
        or not 0 < length <= _MAX_INITIALIZED
        or not superblock.first_data_block < physical <= superblock.blocks_count - length
    ):
        return None
    return physical, length


def extents(volume: Volume, inode: Inode) -> Iterator[Extent]:
    """The inode's extents in logical order, without holes; extents that are adjacent on the disk are joined.

    Raises:
        FilesystemError: the map is damaged: a wrong checksum, blocks out of order or outside the file system, a loop.
    """
    if inode.flags & EXTENTS_FLAG:
        magic, entries, capacity, depth, _ = _HEADER.unpack_from(inode.block)
        if depth == 0 and entries == 1 and capacity == _ROOT_CAPACITY and magic == _EXTENT_MAGIC:
            # As in nearly every file: one extent, in the inode.
            return _ExtentTree(volume, inode).leaf(inode.block, 1, 0, _LAST_LOGICAL)
        return _joined(_ExtentTree(volume, inode).walk())
    return _joined(_IndirectMap(volume, inode).walk())


def _joined(parts: Iterator[Extent]) -> Iterator[Extent]:
    last: Extent | None = None
    for part in parts:
        if last is None:
            last = part
        elif (
            last.physical
            and part.physical == last.physical + last.length
            and part.logical == last.logical + last.length
        ):
            last = Extent(last.logical, last.physical, last.length + part.length)
        else:
            yield last
            last = part
    if last is not None:
        yield last


class _ExtentTree:
    def __init__(self, volume: Volume, inode: Inode) -> None:
        self._volume = volume
        self._inode = inode
        self._owner = f"the extent tree of inode {inode.number}"
        self._visited: set[int] = set()

    def walk(self) -> Iterator[Extent]:
        depth = _HEADER.unpack_from(self._inode.block)[3]
        if depth > _MAX_DEPTH:
            raise self._volume.damage(self._owner, f"it is {depth} levels deep")
        yield from self._node(self._inode.block, depth, 0, _LAST_LOGICAL)

    def _node(self, raw: bytes, depth: int, low: int, high: int) -> Iterator[Extent]:
        """The extents below the node *raw*, which covers the logical blocks from *low* to before *high*."""
        magic, entries, capacity, found_depth, _ = _HEADER.unpack_from(raw)
        if magic != _EXTENT_MAGIC or found_depth != depth:
            raise self._volume.damage(self._owner, "a node's header is not one")
        if entries > capacity or _HEADER.size + capacity * _EXTENT.size > len(raw):
            raise self._volume.damage(self._owner, f"a node claims {entries} entries of {capacity}")
        if depth == 0:
            yield from self.leaf(raw, entries, low, high)
            return
        indexes = [_INDEX.unpack_from(raw, _HEADER.size + i * _INDEX.size) for i in range(entries)]
        for position, (first, leaf, leaf_high, _) in enumerate(indexes):
            end = indexes[position + 1][0] if position + 1 < entries else high
            if not low <= first < end <= high:
                raise self._volume.damage(self._owner, "a node's entries are out of order")
            yield from self._node(self._block(leaf | leaf_high << 32), depth - 1, first, end)
            low = end

    def leaf(self, raw: bytes, entries: int, low: int, high: int) -> Iterator[Extent]:
        """The extents of a leaf with *entries* entries, which covers the logical blocks from *low* to before *high*."""
        superblock = self._volume.superblock
        for i in range(entries):
            logical, length, start_high, start = _EXTENT.unpack_from(raw, _HEADER.size + i * _EXTENT.size)
            written = length <= _MAX_INITIALIZED
            if not written:
                length -= _MAX_INITIALIZED
            if length == 0 or not low <= logical <= high - length:
                raise self._volume.damage(self._owner, "its extents are out of order")
            low = logical + length
            physical = start | start_high << 32
            if not superblock.first_data_block < physical <= superblock.blocks_count - length:
                raise self._volume.damage(
                    self._owner,
                    f"it points to blocks {physical} to {physical + length - 1} of {superblock.blocks_count}",
                )
            yield Extent(logical, physical if written else 0, length)

    def _block(self, number: int) -> bytes:
        if number in self._visited:
            raise self._volume.damage(self._owner, f"it names block {number} twice")
        self._visited.add(number)
        raw = self._volume.read(number, 1, self._owner)
        if self._volume.superblock.has("metadata_csum"):
            end = _HEADER.size + _HEADER.unpack_from(raw)[2] * _EXTENT.size
            seed = inode_seed(self._volume, self._inode.number, self._inode.generation)
            expected = int.from_bytes(raw[end : end + 4], "little")
            if end + 4 > len(raw) or stored(crc32c(raw[:end], seed)) != expected:
                raise self._volume.damage(self._owner, f"the checksum of its block {number} is wrong")
        return raw


class _IndirectMap:
    def __init__(self, volume: Volume, inode: Inode) -> None:
        self._volume = volume
        self._owner = f"the block map of inode {inode.number}"
        self._blocks = -(-inode.size // volume.superblock.block_size)
        self._pointers = struct.unpack("<15I", inode.block)
        self._fan = volume.superblock.block_size // 4
        self._visited: set[int] = set()

    def walk(self) -> Iterator[Extent]:
        yield from self._level(self._pointers[:_DIRECT_BLOCKS], 0, 0)
        logical = _DIRECT_BLOCKS
        for level in (1, 2, 3):
            yield from self._level(self._pointers[_DIRECT_BLOCKS + level - 1 : _DIRECT_BLOCKS + level], level, logical)
            logical += self._fan**level

    def _level(self, pointers: tuple[int, ...], level: int, logical: int) -> Iterator[Extent]:
        """The extents that *pointers* lead to through *level* levels of indirect blocks, from block *logical* on."""
        covered = self._fan**level
        for pointer in pointers:
            if logical >= self._blocks:
                return
            if pointer:
                if level == 0:
                    if not self._volume.superblock.first_data_block < pointer < self._volume.superblock.blocks_count:
                        raise self._volume.damage(
                            self._owner, f"it points to block {pointer} of {self._volume.superblock.blocks_count}"
                        )
                    yield Extent(logical, pointer, 1)
                else:
                    yield from self._level(self._block(pointer), level - 1, logical)
            logical += covered

    def _block(self, number: int) -> tuple[int, ...]:
        if number in self._visited:
            raise self._volume.damage(self._owner, f"it names block {number} twice")
        self._visited.add(number)
        return struct.unpack(f"<{self._fan}I", self._volume.read(number, 1, self._owner))
