"""Blocks for what is written: taken from long reserved runs, so that what comes one after the other lies so on disk."""

from __future__ import annotations

import msgspec

from ....errors import NoSpaceError
from .filesystem import Ext4Filesystem

_RESERVE_BYTES = 16 << 20


class Shortage(msgspec.Struct, frozen=True):
    """How many blocks and inodes more the file system must have free for the work to go on; either may be 0."""

    blocks: int
    inodes: int


class BlockAllocator:
    """Gives out runs of blocks. A part of the current run stays reserved until :meth:`release`.

    The search is first fit for a whole request; only when no run is long enough is a request cut to pieces.
    """

    def __init__(self, filesystem: Ext4Filesystem) -> None:
        self._fs = filesystem
        self._reserve = max(1, _RESERVE_BYTES // filesystem.block_size)
        self.left = 0
        """How many blocks of the current run are reserved and not yet taken."""
        self.free_blocks = 0
        """Blocks that can still be taken, reserved ones included."""
        self.reset()

    def reset(self) -> None:
        """Forget everything: the file system was closed and opened again."""
        self._start = self._fs.superblock.first_data_block
        self.left = 0
        # The length of which no free run is known to exist; freeing blocks makes it unknown again.
        self._too_long = 1 << 62
        self.recount()

    def recount(self) -> None:
        """The library has taken or freed blocks by itself."""
        self.free_blocks = self._fs.free_blocks + self.left

    def reserve(self, count: int) -> None:
        """Have *count* blocks, more than are left, in one run if there is one: those that follow are for one file.

        Raises:
            NoSpaceError: not one block is free.
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
        """A run of at most *count* blocks: its first block and its length. Ask again for what is missing.

        *ahead* is how many blocks the same file may want, these included.

        Raises:
            NoSpaceError: not one block is free.
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
        """Give back what is reserved and was not taken."""
        if self.left:
            self._fs.mark_blocks(self._start, self.left, used=False)
            self.left = 0

    def leave_one(self) -> None:
        """The library is about to take a block by itself, :meth:`recount` follows: see that not all free ones are reserved."""
        if not self._fs.free_blocks:
            self.release()

    def freed(self) -> None:
        """Blocks were freed behind the allocator's back."""
        self._too_long = 1 << 62
        self.recount()

    def _search(self, goal: int, count: int, wanted: int) -> tuple[int, int]:
        """The first free run of at least *count* blocks from *goal* on, then from the beginning; else the first free run."""
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
