"""Directories with a hash index: a lookup among 100,000 names reads three blocks instead of thousands.

Format: the kernel's Documentation/filesystems/ext4/directory.rst ("Hash Tree Directories").
"""

from __future__ import annotations

import struct

from ....errors import FilesystemError
from .checksum import crc32c
from .directory import FT_DIRECTORY, BlockPacker, NamedInode, leaf_room, seal
from .filesystem import Ext4Filesystem

_DOT = struct.Struct("<IHBB4s")
_ROOT_INFO = struct.Struct("<IBBBB")
_FAKE_ENTRY = struct.Struct("<IHH")
_ENTRY = struct.Struct("<II")
_DX_TAIL_SIZE = 8
_ROOT_OFFSET = 32
_NODE_OFFSET = 8


def indexed_blocks(
    filesystem: Ext4Filesystem, seed: int, ino: int, parent: int, entries: list[NamedInode]
) -> list[bytes]:
    """The blocks of an indexed directory for inode *ino*, whose checksums start from *seed*.

    They are the root, inner nodes from the top level down, and leaves by hash.

    Raises:
        FilesystemError: there are more entries than an index of the depth that the file system allows can hold.
    """
    leaves = _leaves(filesystem, entries)
    node_room = _limit(filesystem, _NODE_OFFSET)
    root_room = _limit(filesystem, _ROOT_OFFSET)
    # Levels of inner nodes below the root, counted from the leaves up; the number of nodes determines the first leaf.
    levels: list[int] = []
    width = len(leaves)
    while width > root_room:
        width = -(-width // node_room)
        levels.append(width)
    if len(levels) > (2 if filesystem.superblock.large_directories else 1):
        raise FilesystemError(f"a directory of {len(entries)} entries is too large for the file system in {filesystem}")
    first_leaf = 1 + sum(levels)
    below = [(hash_, first_leaf + index) for index, (hash_, _) in enumerate(leaves)]
    nodes: list[bytes] = []
    start = first_leaf
    for level_width in levels:
        start -= level_width
        groups = [below[first : first + node_room] for first in range(0, len(below), node_room)]
        nodes[:0] = [_index_block(filesystem, seed, _node_head(filesystem), group) for group in groups]
        below = [(group[0][0], start + index) for index, group in enumerate(groups)]
    root = _index_block(filesystem, seed, _root_head(filesystem, ino, parent, len(levels)), below)
    return [root, *nodes, *(seal(filesystem, seed, block) for _, block in leaves)]


def _leaves(filesystem: Ext4Filesystem, entries: list[NamedInode]) -> list[tuple[int, bytes]]:
    """Leaf blocks without checksums, each with its first hash; the low bit means that it continues the previous leaf."""
    by_name = {name: (name, ino, file_type) for name, ino, file_type in entries}
    packer = BlockPacker(leaf_room(filesystem), filetype=filesystem.superblock.filetype)
    leaves: list[tuple[int, bytes]] = []
    start, previous = 0, -1
    for major, _, name in sorted(filesystem.dirhash(list(by_name))):
        full = packer.put(by_name[name])
        if full is not None:
            leaves.append((start, full))
            start = major | (1 if major == previous else 0)
        previous = major
    leaves.append((start, packer.take()))
    return leaves


def _limit(filesystem: Ext4Filesystem, offset: int) -> int:
    tail = _DX_TAIL_SIZE if filesystem.superblock.metadata_csum else 0
    return (filesystem.block_size - offset - tail) // _ENTRY.size


def _root_head(filesystem: Ext4Filesystem, ino: int, parent: int, levels: int) -> bytes:
    file_type = FT_DIRECTORY if filesystem.superblock.filetype else 0
    return (
        _DOT.pack(ino, 12, 1, file_type, b".")
        + _DOT.pack(parent, filesystem.block_size - 12, 2, file_type, b"..")
        + _ROOT_INFO.pack(0, filesystem.superblock.def_hash_version, _ROOT_INFO.size, levels, 0)
    )


def _node_head(filesystem: Ext4Filesystem) -> bytes:
    return _FAKE_ENTRY.pack(0, filesystem.block_size, 0)


def _index_block(filesystem: Ext4Filesystem, seed: int, head: bytes, entries: list[tuple[int, int]]) -> bytes:
    """One index block. The first entry has limit and count in place of its hash, which is never used."""
    limit = _limit(filesystem, len(head))
    first = struct.pack("<HHI", limit, len(entries), entries[0][1])
    block = head + first + b"".join(_ENTRY.pack(hash_, number) for hash_, number in entries[1:])
    if filesystem.superblock.metadata_csum:
        checksum = crc32c(crc32c(seed, block), bytes(_DX_TAIL_SIZE))
        block = block.ljust(len(head) + limit * _ENTRY.size, b"\0") + struct.pack("<II", 0, checksum)
    return block.ljust(filesystem.block_size, b"\0")
