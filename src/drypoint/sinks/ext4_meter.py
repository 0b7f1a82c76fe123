"""How much of an ext4 file system something takes, measured while it is written."""

from __future__ import annotations

import msgspec

from ..disk.ext4.write.allocation import BlockAllocator
from ..disk.ext4.write.filesystem import Ext4Filesystem
from .ext4_directories import OpenDirectories


class Taken(msgspec.Struct, frozen=True):
    """What was taken in a stretch of work.

    Attributes:
        blocks: blocks of all kinds, but for directories that are still in memory.
        most: blocks that had to be free at the stretch's start for it to go through; at least ``blocks``.
        inodes: inodes, those of directories in memory included.
    """

    blocks: int
    most: int
    inodes: int


class Meter:
    """Measures one stretch after the other. That the file system grows in the middle of one changes nothing.

    Attributes:
        lowest: the fewest blocks that were, or might have been, left in this stretch, as if all growth had come before. Whoever
            is about to write what may leave fewer puts that number here.
    """

    def __init__(self, filesystem: Ext4Filesystem, allocator: BlockAllocator, directories: OpenDirectories) -> None:
        self._fs = filesystem
        self._allocator = allocator
        self._directories = directories
        self._grown_blocks = 0
        self._grown_inodes = 0
        self.start()

    def start(self) -> None:
        """Begin a stretch."""
        self._settled = self._settled_blocks()
        self.lowest = self._free_blocks()
        self._begin = self.lowest - self._grown_blocks
        self._inodes = self._fs.free_inodes - self._grown_inodes

    def grew(self, blocks: int, inodes: int) -> None:
        """The file system has so many free blocks and inodes more than before."""
        self._grown_blocks += blocks
        self.lowest += blocks
        self._grown_inodes += inodes

    def read(self) -> Taken:
        """What the stretch has taken so far."""
        blocks = self._settled - self._settled_blocks()
        self.lowest = min(self.lowest, self._free_blocks())
        inodes = self._inodes - (self._fs.free_inodes - self._grown_inodes)
        return Taken(blocks, max(blocks, self._begin - (self.lowest - self._grown_blocks)), inodes)

    def _settled_blocks(self) -> int:
        """Free blocks, as if directories in memory had taken none since they came there."""
        return self._allocator.free_blocks + self._directories.held_blocks - self._grown_blocks

    def _free_blocks(self) -> int:
        return self._allocator.free_blocks - self._directories.reserved_blocks
