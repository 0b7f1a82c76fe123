"""Allocation of blocks from long reserved runs, so that consecutive data is contiguous on disk."""

from __future__ import annotations

import msgspec

from ....errors import NoSpaceError
from .filesystem import Ext4Filesystem

_RESERVE_BYTES = 16 << 20


class Shortage(msgspec.Struct, frozen=True):
    """The blocks and inodes that the file system lacks to continue; either may be 0."""

    blocks: int
    inodes: int


class BlockAllocator:
    """Allocates runs of blocks. A part of the current run stays reserved until :meth:`release`.

    The search is first fit for a whole request; a request is only split if no run is long enough.
    """

    def __init__(self, filesystem: Ext4Filesystem) -> None:
        self._fs = filesystem
        self._reserve = max(1, _RESERVE_BYTES // filesystem.block_size)
        self.left = 0
        """The number of reserved blocks of the current run that are not taken yet."""
        self.free_blocks = 0
        """Blocks that can still be taken, including reserved ones."""
        self.reset()

    def reset(self) -> None:
        """Reset the state: the file system was closed and opened again."""
        self._start = self._fs.superblock.first_data_block
        self.left = 0
        # The length for which there is known to be no free run; freeing blocks resets it.
        self._too_long = 1 << 62
        self.recount()

    def recount(self) -> None:
        """Read the count of free blocks again: the library has taken or freed blocks itself."""
        self.free_blocks = self._fs.free_blocks + self.left

    def reserve(self, count: int) -> None:
        """Reserve *count* blocks, more than are left, in one run if there is one, for one file.

        Raises:
            NoSpaceError: no block is free.
        """
        wanted = max(count, self._reserve)
        end = self._start + self.left
        if end < self._fs.blocks_count:
            following = self._fs.find_free_run(end, wanted - self.left)
            if following is not None and following[0] == end and self.left + following[1] >= count:
                self._fs.mark_blocks(end, following[1], used=True)
                self.left += following[1]
                return
        self.release()
        start, length = self._search(end, count, wanted)
        self._fs.mark_blocks(start, length, used=True)
        self._start, self.left = start, length

    def take(self, count: int, ahead: int = 0) -> tuple[int, int]:
        """A run of at most *count* blocks: its first block and its length. Call again for the rest.

        *ahead* is the number of blocks that the same file may need, including these.

        Raises:
            NoSpaceError: no block is free.
        """
        if not self.left:
            self.reserve(max(count, ahead))
        got = min(count, self.left)
        start = self._start
        self._start += got
        self.left -= got
        self.free_blocks -= got
        return start, got

    def release(self) -> None:
        """Give back reserved blocks that were not taken."""
        if self.left:
            self._fs.mark_blocks(self._start, self.left, used=False)
            self.left = 0

    def leave_one(self) -> None:
        """Leave a free block unreserved: the library will take one itself, and :meth:`recount` follows."""
        if not self._fs.free_blocks:
            self.release()

    def freed(self) -> None:
        """Record that blocks were freed without the allocator."""
        self._too_long = 1 << 62
        self.recount()

    def _search(self, goal: int, count: int, wanted: int) -> tuple[int, int]:
        """The first free run of at least *count* blocks from *goal* on, then from the start; else the first free run."""
        beginning = self._fs.superblock.first_data_block
        first_found: tuple[int, int] | None = None
        longest = 0
        for start, stop in ((goal, self._fs.blocks_count), (beginning, goal)):
            position = start
            while position < stop:
                run = self._fs.find_free_run(position, wanted)
                if run is None or run[0] >= stop:
                    break
                if run[1] >= count or count >= self._too_long:
                    return run
                first_found = first_found or run
                longest = max(longest, run[1])
                position = run[0] + run[1]
        if first_found is None:
            raise NoSpaceError(f"the file system in {self._fs} has no free block ({self._fs.blocks_count} in all)")
        self._too_long = longest + 1
        return first_found
