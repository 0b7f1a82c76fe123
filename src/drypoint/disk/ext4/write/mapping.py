"""Writing the map of a file's blocks: extent trees, and the block maps of ext2 and ext3.

Format: the kernel's Documentation/filesystems/ext4/ifork.rst; struct ext3_extent_header and the structs after it in
e2fsprogs' ext3_extents.h.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable

import msgspec

from ....errors import FilesystemError
from .checksum import crc32c
from .filesystem import Ext4Filesystem

_HEADER = struct.Struct("<HHHHI")
_EXTENT = struct.Struct("<IHHI")
_INDEX = struct.Struct("<IIHH")
# The root of most files' trees: the header, one extent, and space for three more.
_ONE_EXTENT = struct.Struct("<HHHHIIHHI36x")
_EXTENT_MAGIC = 0xF30A
_EXTENT_MAX_LENGTH = 1 << 15
ROOT_ENTRIES = 4
"""The extents, or blocks fewer than these, that fit into the inode."""
_I_BLOCK_SIZE = 60
_DIRECT = 12


class Extent(msgspec.Struct, frozen=True, order=True, gc=False):
    """*length* blocks of a file from its block *logical* on, at block *physical* of the file system."""

    logical: int
    physical: int
    length: int


class Mapping(msgspec.Struct, frozen=True, gc=False):
    """i_block of an inode (``block``), and the number of blocks for the rest of the map (``overhead``)."""

    block: bytes
    overhead: int


class Owner(msgspec.Struct, frozen=True, gc=False):
    """The inode that owns blocks, on which their checksums depend."""

    ino: int
    generation: int = 0


def overhead_bound(filesystem: Ext4Filesystem, blocks: int, pieces: int) -> int:
    """The most blocks needed to map *blocks* data blocks in *pieces* runs."""
    if blocks <= ROOT_ENTRIES:
        return 0
    if not filesystem.has_extents:
        per_block = filesystem.block_size // 4
        return 0 if blocks <= _DIRECT else blocks // per_block + blocks // per_block**2 + 4
    extents = pieces + blocks // _EXTENT_MAX_LENGTH
    if extents <= ROOT_ENTRIES:
        return 0
    per_node = _node_entries(filesystem)
    return extents // per_node + extents // per_node**2 + 4


def map_blocks(
    filesystem: Ext4Filesystem, owner: Owner, extents: list[Extent], take: Callable[[int], tuple[int, int]]
) -> Mapping:
    """Map *extents*, sorted by logical block, for the inode *owner*.

    *take* allocates the blocks for the tree, which is written at once.

    Raises:
        FilesystemError: the file is too large for a block map.
        NoSpaceError: from *take*.
    """
    if filesystem.has_extents:
        if len(extents) == 1 and extents[0].length <= _EXTENT_MAX_LENGTH:
            return Mapping(_root_of_one(extents[0]), 0)
        return _ExtentTree(filesystem, owner, take).build(extents)
    return _BlockMap(filesystem, take).build(extents)


def _root_of_one(extent: Extent) -> bytes:
    physical = extent.physical
    return _ONE_EXTENT.pack(
        _EXTENT_MAGIC, 1, ROOT_ENTRIES, 0, 0, extent.logical, extent.length, physical >> 32, physical & 0xFFFFFFFF
    )


def _node_entries(filesystem: Ext4Filesystem) -> int:
    return (filesystem.block_size - _HEADER.size) // _EXTENT.size


class _ExtentTree:
    def __init__(self, filesystem: Ext4Filesystem, owner: Owner, take: Callable[[int], tuple[int, int]]) -> None:
        self._fs = filesystem
        self._owner = owner
        self._take = take
        self._blocks = 0

    def build(self, extents: list[Extent]) -> Mapping:
        entries = [(extent.logical, self._pack(extent)) for extent in _split(extents)]
        depth = 0
        while len(entries) > ROOT_ENTRIES:
            entries = self._write_level(entries, depth)
            depth += 1
        header = _HEADER.pack(_EXTENT_MAGIC, len(entries), ROOT_ENTRIES, depth, 0)
        root = header + b"".join(packed for _, packed in entries)
        return Mapping(root.ljust(_I_BLOCK_SIZE, b"\0"), self._blocks)

    @staticmethod
    def _pack(extent: Extent) -> bytes:
        return _EXTENT.pack(extent.logical, extent.length, extent.physical >> 32, extent.physical & 0xFFFFFFFF)

    def _write_level(self, entries: list[tuple[int, bytes]], depth: int) -> list[tuple[int, bytes]]:
        """Write *entries* to blocks; returns the entries that point to these."""
        room = _node_entries(self._fs)
        parents: list[tuple[int, bytes]] = []
        for first in range(0, len(entries), room):
            part = entries[first : first + room]
            node = _HEADER.pack(_EXTENT_MAGIC, len(part), room, depth, 0) + b"".join(packed for _, packed in part)
            block, _ = self._take(1)
            self._blocks += 1
            self._fs.write_blocks(block, [self._finish(node, room)])
            parents.append((part[0][0], _INDEX.pack(part[0][0], block & 0xFFFFFFFF, block >> 32, 0)))
        return parents

    def _finish(self, node: bytes, room: int) -> bytes:
        covered = _HEADER.size + room * _EXTENT.size
        node = node.ljust(covered, b"\0")
        if self._fs.superblock.metadata_csum:
            seed = self._fs.inode_checksum_seed(self._owner.ino, self._owner.generation)
            node += crc32c(seed, node).to_bytes(4, "little")
        return node.ljust(self._fs.block_size, b"\0")


def _split(extents: list[Extent]) -> list[Extent]:
    """The same extents, with adjacent ones joined, and none longer than a written extent may be."""
    joined: list[Extent] = []
    for extent in extents:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.logical + last.length == extent.logical
            and last.physical + last.length == extent.physical
        ):
            joined[-1] = Extent(last.logical, last.physical, last.length + extent.length)
        else:
            joined.append(extent)
    return [
        Extent(extent.logical + done, extent.physical + done, min(_EXTENT_MAX_LENGTH, extent.length - done))
        for extent in joined
        for done in range(0, extent.length, _EXTENT_MAX_LENGTH)
    ]


class _BlockMap:
    def __init__(self, filesystem: Ext4Filesystem, take: Callable[[int], tuple[int, int]]) -> None:
        self._fs = filesystem
        self._take = take
        self._per_block = filesystem.block_size // 4
        self._blocks = 0

    def build(self, extents: list[Extent]) -> Mapping:
        pointers = array("I")
        for extent in extents:
            if extent.physical + extent.length > 1 << 32:
                raise FilesystemError(f"{self._fs} has blocks beyond 2**32 but no extents to address them")
            pointers.frombytes(bytes(4 * (extent.logical - len(pointers))))
            pointers.extend(range(extent.physical, extent.physical + extent.length))
        words = pointers[:_DIRECT]
        words.frombytes(bytes(4 * (_DIRECT - len(words))))
        position = _DIRECT
        for depth in (1, 2, 3):
            span = self._per_block**depth
            words.append(self._indirect(pointers, position, depth) if len(pointers) > position else 0)
            position += span
        if len(pointers) > position:
            raise FilesystemError(f"a file of {len(pointers)} blocks is too large for the block map of {self._fs}")
        return Mapping(words.tobytes(), self._blocks)

    def _indirect(self, pointers: array[int], position: int, depth: int) -> int:
        """Write the map of the blocks from *position* on, *depth* levels deep; returns its block, 0 for only holes."""
        span = self._per_block**depth
        if depth == 1:
            words = pointers[position : position + span]
        else:
            below = span // self._per_block
            words = array("I")
            for index in range(self._per_block):
                start = position + index * below
                words.append(self._indirect(pointers, start, depth - 1) if start < len(pointers) else 0)
        if not any(words):
            return 0
        block, _ = self._take(1)
        self._blocks += 1
        self._fs.write_blocks(block, [words.tobytes().ljust(self._fs.block_size, b"\0")])
        return block
