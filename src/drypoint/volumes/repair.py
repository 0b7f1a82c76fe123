"""A data partition that was not unmounted cleanly, or is damaged: refused, or repaired on request."""

from __future__ import annotations

from pathlib import Path

from ..disk import Device, GrowableDevice, ProbedPartition, Window, find_partition, probe_partitions, read_table
from ..disk.ext4.read.reader import Ext4Reader
from ..disk.ext4.resize.geometry import read_geometry
from ..disk.ext4.resize.grow import bring_back, check_filesystem, preen_file, unchecked_copy
from ..disk.ext4.write.superblock import external_journal, last_write, read_superblock, why_unclean
from ..disk.tables.partitions import describe
from ..errors import FilesystemError
from ..fstree import Regular
from ..progress import Progress
from .inner_image import open_target, target_disk
from .target import Container, Target

_WAY_OUT = (
    "With --fsck, preload and plan run e2fsck -fp first: automatic repairs only, as a device does when it boots; "
    "where there is an output, the base stays as it is"
)


def find_data_partition(disk: Device, target: Target) -> ProbedPartition:
    """The partition of *disk*, which is the inner disk image if the target has one, that the store lies in.

    Raises:
        PartitionTableError: there is no such partition, or more than one.
        FilesystemError: it holds no ext2, ext3 or ext4 file system, or one whose journal is elsewhere.
    """
    table = read_table(disk)
    found = find_partition(disk, table, target.partition)
    kind = found.filesystem.kind if found.filesystem else None
    where = f"{disk.name}: partition {found.partition.number}"
    if kind is not None and kind.is_luks:
        raise FilesystemError(
            f"{where} is encrypted ({kind.value}), and cannot be changed without its key. Use a disk image that is "
            "not encrypted"
        )
    if kind is None or not kind.is_ext:
        raise FilesystemError(
            f"{where} holds {kind.value if kind else 'no known file system'}, but the engine's store needs ext4 (or ext2, "
            f"ext3). Choose another with --data-partition, of {describe(probe_partitions(disk, table))}; or use a disk image "
            "with ext4 there"
        )
    journal = external_journal(Window(disk, found.partition.start, found.partition.size))
    if journal is not None:
        raise FilesystemError(
            f"{where} holds {kind.value}, but its journal is on another device (UUID {journal}), which is not in this disk "
            "image. Give it an internal journal on a machine with both devices (tune2fs -O ^has_journal, then tune2fs -j)"
        )
    return found


def check_usable(disk: Device, found: ProbedPartition) -> None:
    """Make sure, before anything is written, that the file system of a partition can be written into and is sound.

    Raises:
        FilesystemError: it was not unmounted in order, is damaged, or uses features that are not supported.
        ToolError: e2fsck is missing or took too long.
        OutputError: no room for the copy that e2fsck needs of what lies scattered.
    """
    partition = found.partition
    window = Window(disk, partition.start, partition.size)
    reason = why_unclean(window)
    if reason is not None:
        raise FilesystemError(f"{_name(disk, found)} {reason}. {_WAY_OUT}")
    superblock = read_superblock(window, f"partition {partition.number} of {disk.name}")
    if not superblock.filetype:
        raise FilesystemError(
            f"{_name(disk, found)} was made without the feature filetype (d_type), without which the engine refuses to start "
            "with overlay2. Recreate the file system (mkfs.ext4 -O filetype)"
        )
    try:
        read_geometry(window)
        check_filesystem(disk, partition.start, where=_name(disk, found))
    except FilesystemError as error:
        raise FilesystemError(f"{error}. {_WAY_OUT}") from error


def needs_repair(device: Device, target: Target) -> bool:
    """Whether e2fsck has anything to do in the data partition of the disk image *device*.

    Raises:
        DiskImageError: there is no such partition, or no file system that e2fsck can repair.
        ToolError, OutputError: as :func:`check_usable`.
    """
    disk = target_disk(device, target)
    found = find_data_partition(disk, target)
    window = Window(disk, found.partition.start, found.partition.size)
    if why_unclean(window) is not None:
        return True
    try:
        # e2fsck -fn passes over counts that it sets right without a word.
        read_geometry(window)
        check_filesystem(disk, found.partition.start)
    except FilesystemError:
        return True
    return False


def repair(device: GrowableDevice, target: Target, scratch_dir: Path, progress: Progress, *, now: int) -> None:
    """Run ``e2fsck -fp`` on the data partition of the disk image *device*, which is written to: automatic repairs only.

    Args:
        scratch_dir: where the copy lives that e2fsck works on.
        now: seconds since the epoch, at least 1, for the file of an inner disk image if that was not modified later. The file
            system keeps its own time.

    Raises:
        FilesystemError: e2fsck cannot repair it automatically; *device* is unchanged.
        ToolError: e2fsck is missing or took too long.
        OutputError: no room for the copy.
        DiskImageError: *device* cannot be read or written.
    """
    if target.container is not None:
        now = max(now, _modified(device, target.container))
    disk = open_target(device, target, scratch_dir, progress, now=now) or device
    found = find_data_partition(disk, target)
    start, size, where = found.partition.start, found.partition.size, _name(disk, found)
    step = progress.begin(f"repairing the file system of partition {found.partition.number}", None)
    with unchecked_copy(disk, start, size, scratch_dir) as scratch:
        preen_file(scratch, where, last_write(Window(disk, start, size)))
        bring_back(scratch, disk, start, size, where)
    step.end()


def _modified(device: Device, container: Container) -> int:
    """When the file of the inner disk image was modified, in seconds since the epoch."""
    outer = find_partition(device, read_table(device), container.partition).partition
    stat = Ext4Reader(Window(device, outer.start, outer.size)).lookup(container.path)
    return stat.entry.metadata.mtime // 10**9 if stat is not None and isinstance(stat.entry, Regular) else 0


def _name(disk: Device, found: ProbedPartition) -> str:
    label = found.filesystem.label if found.filesystem is not None else ""
    return f"{disk.name}: the file system of partition {found.partition.number}{f' ({label!r})' if label else ''}"
