"""Freeing the blocks of files and directories.

An extent tree is walked once and its blocks are freed: the library's ext2fs_punch searches the tree again for each extent, and
fails on trees of several levels in e2fsprogs 1.47.0.
"""

from __future__ import annotations

import struct

from .extent_walk import walk_extents
from .filesystem import Ext4Filesystem
from .inode import EXT4_EXTENTS_FL, EXT4_HUGE_FILE_FL, flags_of, mark_deleted, replace_content, sectors_of

_EMPTY_ROOT = struct.pack("<HHHHI", 0xF30A, 0, 4, 0, 0).ljust(60, b"\0")


def free_content(filesystem: Ext4Filesystem, ino: int, raw: bytes) -> bytes:
    """Free the data blocks of inode *ino*, whose bytes are *raw*, and the blocks that map them.

    Returns:
        The inode, as written to disk: with size 0.

    Raises:
        FilesystemError: the inode's mapping is damaged.
    """
    if not filesystem.has_blocks(raw):
        return raw
    if flags_of(raw) & EXT4_EXTENTS_FL:
        runs = [(run.physical, run.length) for run in walk_extents(filesystem, ino, raw)]
        for start, count in runs:
            filesystem.mark_blocks(start, count, used=False)
        # i_blocks of a huge file counts file-system blocks, that of all others units of 512 bytes.
        unit = 1 if flags_of(raw) & EXT4_HUGE_FILE_FL else filesystem.block_size // 512
        freed = sum(count for _, count in runs) * unit
        raw = replace_content(raw, 0, sectors_of(raw) - freed, flags_of(raw), _EMPTY_ROOT)
    else:
        raw = filesystem.punch(ino, raw)
        raw = replace_content(raw, 0, sectors_of(raw), flags_of(raw), b"")
    filesystem.write_inode(ino, raw)
    return raw


def free_inode(filesystem: Ext4Filesystem, ino: int, raw: bytes, *, directory: bool) -> None:
    """Free inode *ino*, whose bytes are *raw*, with its blocks and its reference to an xattr block."""
    raw = free_content(filesystem, ino, raw)
    raw = filesystem.free_xattr_block(ino, raw)
    filesystem.write_inode(ino, mark_deleted(raw, filesystem.now))
    filesystem.inode_numbers.release(ino, directory=directory)
