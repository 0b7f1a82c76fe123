"""Opening a volume for writing, wherever it lies: in a partition, or in one of a disk image that is a file in another one."""

from __future__ import annotations

from pathlib import Path

from ..disk import GrowableDevice
from ..fstree import Regular
from ..progress import Progress
from .inner_image import InnerImage
from .partitioned_disk import open_disk
from .target import Target
from .volume import PartitionVolume
from .writable_volume import WritableVolume


def open_writable(
    found: PartitionVolume,
    disk: GrowableDevice,
    scratch_dir: Path,
    progress: Progress,
    *,
    now: int,
    sound: bool = False,
    over_data: bool = False,
) -> WritableVolume:
    """Open the volume *found* for writing, on *disk*: the outermost disk image that it was found on, or a copy of it.

    The volume's disk is an :class:`InnerImage` if it lies in a disk image that is a file itself.

    Args:
        scratch_dir: where copies live that growing and repairing take.
        now: seconds since the epoch, at least 1, that a file which is a disk image is modified at.
        sound, over_data: see :class:`WritableVolume`.

    Raises:
        DiskImageError: the file that holds the disk image, or the file system around it, is damaged.
    """
    within = found.disk.within
    whole = disk
    if within is not None:
        outer = WritableVolume(disk, within, scratch_dir, progress)
        whole = InnerImage(outer, found.disk.path, planned_from=found.partition.start, now=now)
    return WritableVolume(whole, found, scratch_dir, progress, sound=sound, over_data=over_data)


def repair(disk: GrowableDevice, target: Target, scratch_dir: Path, progress: Progress, *, now: int) -> None:
    """Repair the file system that *target* means in the disk image *disk*, see :meth:`WritableVolume.repair`.

    Args:
        scratch_dir: where the copy lives that e2fsck works on.
        now: seconds since the epoch, at least 1, for the file of an inner disk image if that was not modified later.

    Raises:
        DrypointError: as :meth:`WritableVolume.repair`.
    """
    found = open_disk(disk, target.container).volume(target.partition)
    open_writable(found, disk, scratch_dir, progress, now=max(now, _modified(found))).repair()


def _modified(found: PartitionVolume) -> int:
    """When the file of the disk image around *found* was modified, in seconds since the epoch; 0 if it is not in a file."""
    within = found.disk.within
    stat = None if within is None else within.reader().lookup(found.disk.path)
    return stat.entry.metadata.mtime // 10**9 if stat is not None and isinstance(stat.entry, Regular) else 0
