"""The extent tree of an inode in a file system that is open for writing, read through libext2fs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ....errors import FilesystemError
from .bindings import EXT2_ET_EXTENT_NO_NEXT
from .filesystem import Ext4Filesystem

_EXTENT_ROOT = 0x0001
_EXTENT_NEXT = 0x0009
_FLAG_LEAF = 0x0001
_FLAG_UNINIT = 0x0002
_FLAG_SECOND_VISIT = 0x0004


class TreeRun(NamedTuple):
    """*length* blocks of a tree from *physical* on: data from block *logical* of the file on, or a node.

    Data that is not *written* has blocks, but reads as zeros.
    """

    logical: int
    physical: int
    length: int
    is_node: bool
    written: bool


def walk_extents(filesystem: Ext4Filesystem, ino: int, raw: bytes) -> Iterator[TreeRun]:
    """Every run of inode *ino*, whose bytes are *raw*, nodes before what they point to; the root is in the inode.

    Raises:
        FilesystemError: the tree is damaged.
    """
    library, superblock = filesystem.library, filesystem.superblock
    ffi, ext2 = library.ffi, library.ext2
    inode = ffi.from_buffer(bytearray(raw))
    handle = ffi.new("ext2_extent_handle_t *")
    extent = ffi.new("struct ext2fs_extent *")
    doing = f"cannot read the extents of inode {ino} of {filesystem}"
    filesystem.check(ext2.ext2fs_extent_open2(filesystem.handle, ino, inode, handle), doing)
    try:
        code = ext2.ext2fs_extent_get(handle[0], _EXTENT_ROOT, extent)
        while code != EXT2_ET_EXTENT_NO_NEXT:
            filesystem.check(code, doing)
            is_leaf = bool(extent.e_flags & _FLAG_LEAF)
            length = extent.e_len if is_leaf else 1
            if not extent.e_flags & _FLAG_SECOND_VISIT:
                if extent.e_pblk < superblock.first_data_block or extent.e_pblk + length > superblock.blocks_count:
                    raise FilesystemError(f"{doing}: one is outside the file system; run e2fsck -f")
                yield TreeRun(extent.e_lblk, extent.e_pblk, length, not is_leaf, not extent.e_flags & _FLAG_UNINIT)
            code = ext2.ext2fs_extent_get(handle[0], _EXTENT_NEXT, extent)
    finally:
        ext2.ext2fs_extent_free(handle[0])
