"""Opening a volume for writing, in a partition of the disk image or of an inner disk image."""

from __future__ import annotations

from pathlib import Path

from ..disk import GrowableDevice
from ..disk.ext4 import LATEST_NOW
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

    The volume's disk is an :class:`InnerImage` if it is in an inner disk image.

    Args:
        scratch_dir: directory for the copies that growing and repairing need.
        now: seconds since the epoch, at least 1, the modification time of an inner disk image.
        sound, over_data: see :class:`WritableVolume`.

    Raises:
        DiskImageError: the file with the inner disk image, or the file system around it, is damaged.
    """
    within = found.disk.within
    whole = disk
    if within is not None:
        outer = WritableVolume(disk, within, scratch_dir, progress)
        whole = InnerImage(outer, found.disk.path, planned_from=found.partition.start, now=now)
    return WritableVolume(whole, found, scratch_dir, progress, sound=sound, over_data=over_data)


def repair(disk: GrowableDevice, target: Target, scratch_dir: Path, progress: Progress, *, now: int) -> None:
    """Repair the file system of *target* in the disk image *disk*, see :meth:`WritableVolume.repair`.

    Args:
        scratch_dir: directory of the copy that e2fsck works on.
        now: modification time of an inner disk image, in seconds since the epoch, at least 1, unless that is later.

    Raises:
        DrypointError: as :meth:`WritableVolume.repair`.
    """
    found = open_disk(disk, target.container).volume(target.partition)
    open_writable(found, disk, scratch_dir, progress, now=max(now, _modified(found))).repair()


def _modified(found: PartitionVolume) -> int:
    """The modification time of the inner disk image with *found*, in seconds since the epoch; 0 if it is not in one."""
    within = found.disk.within
    stat = None if within is None else within.reader().lookup(found.disk.path)
    seconds = stat.entry.metadata.mtime // 10**9 if stat is not None and isinstance(stat.entry, Regular) else 0
    return int(min(seconds, LATEST_NOW))
