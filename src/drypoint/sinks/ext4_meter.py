"""Measures how many blocks and inodes of an ext4 file system entries take as they are written."""

from __future__ import annotations

import msgspec

from ..disk.ext4.write.allocation import BlockAllocator
from ..disk.ext4.write.filesystem import Ext4Filesystem
from .ext4_directories import OpenDirectories


class Taken(msgspec.Struct, frozen=True):
    """What was taken since :meth:`Meter.start`.

    Attributes:
        blocks: blocks of all kinds, except those of directories that are still in memory.
        most: blocks that had to be free at the start for the work to succeed; at least ``blocks``.
        inodes: inodes, those of directories in memory included.
    """

    blocks: int
    most: int
    inodes: int


class Meter:
    """Measures what is taken from one :meth:`start` to the next. Growth of the file system in between does not count.

    Attributes:
        lowest: the fewest blocks that were, or might have been, left since the start, as if all growth had come before it. Code
            that is about to write what may leave fewer sets it.
    """

    def __init__(self, filesystem: Ext4Filesystem, allocator: BlockAllocator, directories: OpenDirectories) -> None:
        self._fs = filesystem
        self._allocator = allocator
        self._directories = directories
        self._grown_blocks = 0
        self._grown_inodes = 0
        self.start()

    def start(self) -> None:
        """Begin to measure."""
        self._settled = self._settled_blocks()
        self.lowest = self._free_blocks()
        self._begin = self.lowest - self._grown_blocks
        self._inodes = self._fs.free_inodes - self._grown_inodes

    def grew(self, blocks: int, inodes: int) -> None:
        """Note that the file system has grown by so many free blocks and inodes."""
        self._grown_blocks += blocks
        self.lowest += blocks
        self._grown_inodes += inodes

    def read(self) -> Taken:
        """What was taken since :meth:`start`."""
        blocks = self._settled - self._settled_blocks()
        self.lowest = min(self.lowest, self._free_blocks())
        inodes = self._inodes - (self._fs.free_inodes - self._grown_inodes)
        return Taken(blocks, max(blocks, self._begin - (self.lowest - self._grown_blocks)), inodes)

    def _settled_blocks(self) -> int:
        """Free blocks, as if open directories had taken none since they were opened."""
        return self._allocator.free_blocks + self._directories.held_blocks - self._grown_blocks

    def _free_blocks(self) -> int:
        return self._allocator.free_blocks - self._directories.reserved_blocks
