"""Writing new inodes in bulk: numbers are taken in runs, bytes are collected into whole blocks of the inode table.

The place of an inode, the writing, the bitmap and all counts are libext2fs's. Called for one inode at a time, it reads and
writes a whole block for each.
"""

from __future__ import annotations

import ctypes
import errno
from typing import Any

from ....errors import NoSpaceError
from . import bindings
from .bindings import Library
from .checksum import file_system_seed, inode_checksum
from .inode import CHECKSUM_HALF, CHECKSUM_HIGH, CHECKSUM_LOW
from .superblock import Superblock

_SUPER_FREE_INODES = 0x10 // 4
# Directories get their number first and their bytes last: their blocks should still be held then.
_HELD_BLOCKS = 256


class InodeNumbers:
    """Allocates numbers of free inodes. Only :meth:`mark` marks them as used.

    Args:
        fs: the library's handle.
        where: the file system's name in errors.
    """

    def __init__(self, library: Library, fs: Any, superblock: Superblock, where: str) -> None:
        self._where = where
        self._library = library
        self._short = library.short
        self._fs = fs
        self._address = int(library.ffi.cast("uintptr_t", fs))
        self._count = superblock.inodes_count
        self._per_group = superblock.inodes_per_group
        self._group = -1
        self._first = self._next = self._stop = 0
        self._directories = 0
        self.free = int(fs.super[_SUPER_FREE_INODES])
        """The number of free inodes."""

    def take(self, near: int, *, directory: bool) -> int:
        """The first free inode from the group of inode *near* on.

        Raises:
            NoSpaceError: no inode is free.
            FilesystemError: the bitmap cannot be searched.
        """
        if self._next == self._stop or (near - 1) // self._per_group != self._group:
            self.mark()
            self._find(near)
        ino = self._next
        self._next = ino + 1
        self._directories += directory
        self.free -= 1
        return ino

    def release(self, ino: int, *, directory: bool) -> None:
        """Mark an inode as free."""
        self.mark()
        self._short.ext2fs_inode_alloc_stats2(self._address, ino, -1, directory)
        self.free += 1

    def mark(self) -> None:
        """Mark allocated numbers as used. Must be called before any other use of the inode bitmap."""
        taken = self._next - self._first
        if not taken:
            self._stop = self._next
            return
        short, address, group = self._short, self._address, self._group
        # The library marks the last one, and updates the unused part of the group's table and all checksums.
        if taken > 1:
            short.ext2fs_mark_block_bitmap_range2(
                int(self._library.ffi.cast("uintptr_t", self._fs.inode_map)), self._first, taken - 1
            )
            free = short.ext2fs_bg_free_inodes_count(address, group)
            short.ext2fs_bg_free_inodes_count_set(address, group, free - (taken - 1) & 0xFFFFFFFF)
            words = self._fs.super
            words[_SUPER_FREE_INODES] = words[_SUPER_FREE_INODES] - (taken - 1) & 0xFFFFFFFF
        if self._directories:
            directories = short.ext2fs_bg_used_dirs_count(address, group)
            short.ext2fs_bg_used_dirs_count_set(address, group, directories + self._directories & 0xFFFFFFFF)
        short.ext2fs_inode_alloc_stats2(address, self._next - 1, 1, 0)
        self._first = self._stop = self._next
        self._directories = 0

    def _find(self, near: int) -> None:
        """Find the run of free inodes in one group that starts with the first free one."""
        found = ctypes.c_uint32()
        code = self._short.ext2fs_new_inode(self._address, near, 0, None, found)
        if code == bindings.EXT2_ET_INODE_ALLOC_FAIL:
            raise NoSpaceError(f"the file system in {self._where} has no free inode ({self._count} in all)")
        self._library.check(code, f"cannot find a free inode in {self._where}")
        first = found.value
        group = (first - 1) // self._per_group
        last = min((group + 1) * self._per_group, self._count)
        end = self._library.ffi.new("uint64_t *")
        code = self._library.ext2.ext2fs_find_first_set_generic_bmap(self._fs.inode_map, first, last, end)
        if code != errno.ENOENT:
            self._library.check(code, f"cannot search the inode bitmap of {self._where}")
            last = int(end[0]) - 1
        self._group, self._first, self._next, self._stop = group, first, first, last + 1


class InodeTable:
    """The blocks of the inode table written last, in memory until :meth:`flush`.

    Args:
        fs: the library's handle.
    """

    def __init__(self, library: Library, fs: Any, superblock: Superblock) -> None:
        self._short = library.short
        self._fs = fs
        self._address = int(library.ffi.cast("uintptr_t", fs))
        self._channel = int(library.ffi.cast("uintptr_t", fs.io))
        self._inode_size = superblock.inode_size
        self._block_size = superblock.block_size
        self._per_group = superblock.inodes_per_group
        self._per_block = superblock.block_size // superblock.inode_size
        self._count = superblock.inodes_count
        self._seed = file_system_seed(superblock) if superblock.metadata_csum else None
        self._blocks = range(superblock.first_data_block, superblock.blocks_count)
        self._buffer = bytearray(_HELD_BLOCKS * superblock.block_size)
        self._memory = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer))
        # The offset of each held block in the buffer.
        self._held: dict[int, int] = {}
        # The block used last: its inodes, and the offset of the first of them in the buffer.
        self._first = self._end = self._offset = 0

    def put(self, ino: int, raw: bytes, *, high: bool) -> int:
        """Write the whole inode *raw*, whose checksum is 0, with its checksum; returns the library's code, 0 for success.

        *high*: whether it has a field for the upper half of the checksum, see :func:`.inode.has_high_checksum`.

        It reaches the image with :meth:`flush`, or when many other blocks are held.
        """
        if not self._first <= ino < self._end:
            code = self._hold(ino)
            if code:
                return code
        offset = self._offset + (ino - self._first) * self._inode_size
        buffer = self._buffer
        buffer[offset : offset + self._inode_size] = raw
        if self._seed is not None:
            checksum = inode_checksum(self._seed, ino, raw)
            CHECKSUM_HALF.pack_into(buffer, offset + CHECKSUM_LOW, checksum & 0xFFFF)
            if high:
                CHECKSUM_HALF.pack_into(buffer, offset + CHECKSUM_HIGH, checksum >> 16)
        return 0

    def flush(self) -> int:
        """Write all held blocks and drop them; returns the library's code. The library reads them again afterwards."""
        if not self._held:
            return 0
        self._first = self._end = 0
        held, self._held = sorted(self._held.items()), {}
        self._fs.flags |= bindings.EXT2_FLAG_CHANGED
        first, start, count = *held[0], 0
        for block, offset in (*held, (-1, 0)):
            if (block, offset) != (first + count, start + count * self._block_size):
                code = self._short.io_channel_write_blk64(self._channel, first, count, self._memory + start)
                if code:
                    return int(code)
                first, start, count = block, offset, 0
            count += 1
        return int(self._short.ext2fs_flush_icache(self._address))

    def _hold(self, ino: int) -> int:
        if not 0 < ino <= self._count:
            return bindings.EXT2_ET_BAD_INODE_NUM
        group, index = divmod(ino - 1, self._per_group)
        table = int(self._short.ext2fs_inode_table_loc(self._address, group))
        block = table + index // self._per_block
        if table not in self._blocks or block not in self._blocks:
            return bindings.EXT2_ET_GDESC_BAD_INODE_TABLE
        offset = self._held.get(block)
        if offset is None:
            code = self.flush() if len(self._held) == _HELD_BLOCKS else 0
            offset = len(self._held) * self._block_size
            code = code or int(self._short.io_channel_read_blk64(self._channel, block, 1, self._memory + offset))
            if code:
                return code
            self._held[block] = offset
        self._offset = offset
        self._first = ino - index % self._per_block
        # The last block of a group's table may extend beyond the group.
        self._end = min(self._first + self._per_block, (group + 1) * self._per_group + 1)
        return 0
