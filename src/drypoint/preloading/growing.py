"""The data partition while it is being filled: made larger as needed."""

from __future__ import annotations

from pathlib import Path

from ..disk import Device, FileDevice, Partition, PartitionTable, Window, apply_growth, plan_growth
from ..disk.ext4.allocate import Shortage
from ..disk.ext4.geometry import needed_size, read_geometry
from ..disk.ext4.resize import grow_filesystem
from ..progress import Progress
from .room import BYTES_PER_INODE, Room

# What each growth in the middle of writing adds at least, so that there are few of them: each costs a check and a copy of
# the partition. How much has been fetched by then would tell more, but not the same in each run.
_LEAST_STEP = 64 << 20
_STEP_SHARE = 4


class GrowingPartition:
    """The data partition of the disk image that is being made, which is made larger as needed."""

    def __init__(
        self, disk: FileDevice, table: PartitionTable, partition: Partition, scratch_dir: Path, progress: Progress
    ) -> None:
        self._disk = disk
        self._table = table
        self._partition = partition
        self._scratch_dir = scratch_dir
        self._progress = progress

    @property
    def partition(self) -> Partition:
        """The partition as it is now."""
        return self._partition

    @property
    def window(self) -> Window:
        """The partition's bytes as they lie now."""
        return Window(self._disk, self._partition.start, self._partition.size)

    def make_room(self, room: Room) -> None:
        """See to it that so much is free; nothing happens if it is.

        Raises:
            DiskImageError: the partition or its file system cannot grow so far.
        """
        geometry = read_geometry(self.window)
        size = needed_size(geometry, room.blocks, room.inodes)
        if size > geometry.size:
            self._grow(size)

    def on_full(self, shortage: Shortage) -> Device:
        """Add what is missing and some more, for the sink that ran out of it; the device to go on with."""
        geometry = read_geometry(self.window)
        step = max(_LEAST_STEP, geometry.size // _STEP_SHARE)
        blocks = geometry.free_blocks + shortage.blocks + step // geometry.block_size
        inodes = geometry.free_inodes + shortage.inodes + (step // BYTES_PER_INODE if shortage.inodes else 0)
        self._grow(max(needed_size(geometry, blocks, inodes), geometry.size + step))
        return self.window

    def _grow(self, size: int) -> None:
        old = self._partition
        plan = plan_growth(self._table, self._disk.size, old, size)
        step = self._progress.begin(f"growing partition {old.number}", None)
        self._table = apply_growth(self._disk, plan)
        self._partition = plan.partition
        grow_filesystem(self._disk, old.start, old.size, plan.partition.size, self._scratch_dir)
        step.end()
