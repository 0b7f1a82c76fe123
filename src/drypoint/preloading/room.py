"""Room on the data partition: how much will be needed, as far as can be known, and growing it.

A registry tells only how large layers are when compressed. What they take on the disk is estimated from that; where the
estimate falls short the sink asks for more while it writes, so a wrong guess costs time and never the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..disk import Device, FileDevice, Partition, PartitionTable, Window, apply_growth, plan_growth
from ..disk.ext4.allocate import Shortage
from ..disk.ext4.geometry import needed_size, read_geometry
from ..disk.ext4.resize import grow_filesystem
from ..engine import StorePlan
from ..oci import Descriptor
from ..progress import Progress
from .request import ExtraFile

# Uncompressed bytes for each compressed one. Distribution userlands, the bulk of most images, lie at 2.4 to 2.9.
_GZIP_RATIO = 2.8
_ZSTD_RATIO = 3.2
# Rounding up to blocks, directories, extended attributes: a Debian userland needs some 8 % more than its files' bytes.
_BLOCK_OVERHEAD = 1.12
_BYTES_PER_INODE = 8 << 10
# What each growth in the middle of writing adds at least, so that there are few of them: each costs a check and a copy of
# the partition. How much has been fetched by then would tell more, but not the same in each run.
_LEAST_STEP = 64 << 20
_STEP_SHARE = 4


@dataclass(frozen=True, slots=True)
class Room:
    """What a file system must have free: *blocks* of its own block size, and *inodes*."""

    blocks: int
    inodes: int


def estimate_room(plan: StorePlan, files: Sequence[ExtraFile], block_size: int, additional_space: int) -> Room:
    """What *plan* and *files* will take, and *additional_space* bytes beside them."""
    layers = sum(_uncompressed_size(planned.layer.blob) for planned in plan.layers)
    small_files = plan.small_files + len(files)
    # What the plan removes is not counted: by the time this room is wanted it is free already.
    whole = sum(len(file.content) for file in (*plan.configs, *plan.records)) + sum(len(file.content) for file in files)
    if plan.repositories is not None:
        whole += len(plan.repositories.content)
    blocks = int(layers * _BLOCK_OVERHEAD) // block_size + small_files + (whole + additional_space) // block_size + 1
    return Room(blocks, layers // _BYTES_PER_INODE + small_files)


def spare_room(block_size: int, additional_space: int) -> Room:
    """What has to be free in the end; the same that :func:`estimate_room` wants when nothing is left to be written."""
    return Room(additional_space // block_size + 1, 0)


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
        inodes = geometry.free_inodes + shortage.inodes + (step // _BYTES_PER_INODE if shortage.inodes else 0)
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


def _uncompressed_size(blob: Descriptor) -> int:
    """A guess from the compressed size and what the media type says."""
    if "gzip" in blob.media_type:
        return int(blob.size * _GZIP_RATIO)
    if "zstd" in blob.media_type:
        return int(blob.size * _ZSTD_RATIO)
    return blob.size
