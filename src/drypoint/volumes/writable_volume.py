"""A file system open for writing: repaired, grown as needed, and shrunk at the end on request."""

from __future__ import annotations

from pathlib import Path

from ..disk import (
    Device,
    GrowableDevice,
    GrowthPlan,
    Partition,
    TrimmableDevice,
    Window,
    apply_growth,
    apply_shrink,
    plan_growth,
    plan_shrink,
)
from ..disk.ext4.resize.geometry import Geometry, needed_size, read_geometry
from ..disk.ext4.resize.grow import bring_back, grow_filesystem, preen_file, unchecked_copy
from ..disk.ext4.resize.shrink import shrink_filesystem
from ..disk.ext4.write.allocation import Shortage
from ..disk.ext4.write.superblock import load_superblock
from ..disk.tables.growth import ALIGNMENT
from ..disk.tables.leftover import check_nothing_overwritten, moved, overwritten
from ..progress import Progress
from ..sinks.ext4 import Ext4Sink
from ..sizing.space import Space, spare_space
from .volume import PartitionVolume, Volume

# The least growth in the middle of writing, so that there are few of them: each costs a copy of the partition.
_LEAST_STEP = 64 << 20
_STEP_SHARE = 4
# Inodes still needed are projected from those used so far, and a quarter more, because the number of blocks still needed is
# an estimate too; but at most twice those used so far, because the small files may all have come first.
_MOST_INODES_AHEAD = 2
# As in balenaOS's own data partitions.
_BYTES_PER_INODE = 8 << 10


class WritableVolume:
    """The ext2, ext3 or ext4 file system *found*, on the disk image *disk*, open for writing.

    Its partition grows as needed; what follows the partition moves. The disk image is a file, a block device, or a file inside
    another disk image.

    Args:
        found: its place: on *disk*, or on the disk image that *disk* is a copy of.
        scratch_dir: directory for the copies that growing, shrinking and repairing need.
        sound: whether e2fsck need not run before the first growth, because it has already found no errors and will run at the
            end. It does not run before a second growth: what drypoint writes keeps a file system consistent.
        over_data: whether it may grow over data that belongs to no partition, for a disk image that was read from a card. On a
            block device it always may.
        least_disk_size: the least size in bytes to which trimming may shrink the disk image; default: the current one.
    """

    def __init__(
        self,
        disk: GrowableDevice,
        found: PartitionVolume,
        scratch_dir: Path,
        progress: Progress,
        *,
        sound: bool = False,
        over_data: bool = False,
        least_disk_size: int | None = None,
    ) -> None:
        self._disk = disk
        self._table = found.disk.table
        self._partition = found.partition
        self._name = found.name
        self._scratch_dir = scratch_dir
        self._progress = progress
        self._sound = sound
        self._over_data = over_data
        # The space requested from make_space, and what was free before any of it was used.
        self._space = Space(0, 0)
        self._free = Space(0, 0)
        self._least_disk_size = disk.size if least_disk_size is None else least_disk_size

    @property
    def disk(self) -> GrowableDevice:
        """The disk image that holds it."""
        return self._disk

    @property
    def partition(self) -> Partition:
        """The current partition."""
        return self._partition

    @property
    def window(self) -> Window:
        """The current bytes of the partition."""
        return Window(self._disk, self._partition.start, self._partition.size)

    def reread(self) -> Volume:
        """The current file system, for reading."""
        return Volume(self.window)

    @property
    def block_size(self) -> int:
        """Bytes of a block."""
        return read_geometry(self.window).block_size

    def sink(self, now: int, *, grows: bool = True) -> Ext4Sink:
        """Open it for writing.

        Args:
            now: seconds since the epoch, at least 1, the time of changes.
            grows: whether the partition grows when the file system is full.

        Raises:
            DiskImageError: the file system cannot be written.
        """
        return Ext4Sink(self.window, now=now, on_full=self.on_full if grows else None)

    def repair(self) -> None:
        """Run ``e2fsck -fp`` on it: automatic repairs only. The file system keeps its own time.

        Raises:
            FilesystemError: e2fsck cannot repair it automatically; nothing is changed then.
            ToolError: e2fsck is missing or took too long.
            OutputError: no space for the copy that e2fsck works on.
            DiskImageError: the disk image cannot be read or written.
        """
        start, size = self._partition.start, self._partition.size
        step = self._progress.begin(f"repairing the file system of partition {self._partition.number}", None)
        with unchecked_copy(self._disk, start, size, self._scratch_dir) as scratch:
            preen_file(scratch, self._name, load_superblock(self.window).last_write)
            bring_back(scratch, self._disk, start, size, self._name)
        step.end()

    def make_space(self, space: Space) -> None:
        """Grow until *space* is free; nothing happens if it is already.

        Raises:
            DiskImageError: the partition or its file system cannot grow so far.
        """
        geometry = read_geometry(self.window)
        size = needed_size(geometry, space.blocks, space.inodes)
        if size > geometry.size:
            geometry = self._grow(size)
        self._space, self._free = space, Space(geometry.free_blocks, geometry.free_inodes)

    def on_full(self, shortage: Shortage) -> Device:
        """Add the missing space and some more, for the sink that ran out of it; returns the device to continue with."""
        geometry = read_geometry(self.window)
        taken = Space(self._free.blocks - geometry.free_blocks, self._free.inodes - geometry.free_inodes)
        step = max(_LEAST_STEP, geometry.size // _STEP_SHARE)
        blocks = geometry.free_blocks + shortage.blocks + step // geometry.block_size
        inodes = geometry.free_inodes + shortage.inodes + (step // _BYTES_PER_INODE if shortage.inodes else 0)
        inodes = max(inodes, shortage.inodes + self._inodes_to_come(taken))
        grown = self._grow(max(needed_size(geometry, blocks, inodes), geometry.size + step))
        self._free = Space(grown.free_blocks + taken.blocks, grown.free_inodes + taken.inodes)
        return self.window

    def _inodes_to_come(self, taken: Space) -> int:
        """Inodes for the rest of the blocks that space was made for, at the rate of the *taken* ones, and some more."""
        blocks_left = self._space.blocks - taken.blocks
        if blocks_left <= 0 or taken.blocks <= 0 or taken.inodes <= 0:
            return 0
        return min(blocks_left * taken.inodes // taken.blocks * 5 // 4, _MOST_INODES_AHEAD * taken.inodes)

    def shrink_to_fit(self, additional_space: int, least_size: int) -> None:
        """Give back unused space, so that at most *additional_space* bytes, rounded up, stay free.

        The partition keeps at least *least_size* bytes, its size in the base, and the disk image its least size. Nothing
        changes if less than 4 MiB can be gained.

        Raises:
            FilesystemError: the file system is damaged, or resize2fs refused it.
            ToolError: e2fsck or resize2fs is missing or took too long.
            OutputError: no space for the copy that resize2fs works on.
            DiskImageError: the disk image cannot be read or written.
        """
        old, disk = self._partition, self._disk
        # Nothing can be gained on a device that cannot shrink.
        most = min(old.size - least_size, disk.size - self._least_disk_size)
        if most < ALIGNMENT or not isinstance(disk, TrimmableDevice):
            return
        space = spare_space(read_geometry(self.window).block_size, additional_space)
        step = self._progress.begin(f"trimming partition {old.number}", None)
        size = shrink_filesystem(
            disk,
            old.start,
            old.size,
            old.size - most,
            self._scratch_dir,
            keep_blocks=space.blocks,
            keep_inodes=space.inodes,
            step=ALIGNMENT,
        )
        if size < old.size:
            plan = plan_shrink(self._table, disk.size, old, size, self._least_disk_size)
            self._table = apply_shrink(disk, plan)
            self._partition = plan.partition
        step.end()

    def _note_data(self, plan: GrowthPlan) -> None:
        """Warn about data of no partition that is overwritten or moves."""
        disk, table, name = self._disk, self._table, self._disk.name
        for one in overwritten(disk, table, self._partition, plan):
            self._progress.note(
                f"warning: {name}: bytes {one.start} to {one.end}, which belong to no partition, held data that is overwritten"
            )
        for one in moved(disk, table, plan):
            self._progress.note(
                f"warning: {name}: bytes {one.start} to {one.end} hold data between partitions, which moves with them by "
                f"{plan.moves[0].delta} bytes: a program that finds it by its offset no longer finds it"
            )

    def _grow(self, size: int) -> Geometry:
        old = self._partition
        plan = plan_growth(self._table, self._disk.size, old, size)
        if not self._over_data:
            check_nothing_overwritten(self._disk, self._table, old, plan)
        self._note_data(plan)
        step = self._progress.begin(f"growing partition {old.number}", None)
        self._table = apply_growth(self._disk, plan)
        self._partition = plan.partition
        grown = grow_filesystem(
            self._disk, old.start, old.size, plan.partition.size, self._scratch_dir, sound=self._sound
        )
        self._sound = True
        step.end()
        return grown
