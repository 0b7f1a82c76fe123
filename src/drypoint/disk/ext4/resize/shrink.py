"""Shrinking an ext4 file system, by resize2fs on a sparse copy of the partition."""

from __future__ import annotations

from pathlib import Path

from ...device import Device, FileDevice, Window
from ...host.scratch import path_of
from ...tables.moving import clear_range
from ..read.blocks import Volume
from .geometry import Geometry, read_geometry, trimmed_size
from .grow import (
    CHECK_TIMEOUT,
    RESIZE_TIMEOUT,
    bring_back,
    check_file,
    check_unmounted,
    filesystem_copy,
    geometry_in,
    least_blocks,
    resize_file,
)

_MOST_TRIES = 4


def shrink_filesystem(
    device: Device,
    offset: int,
    size: int,
    least_size: int,
    scratch_dir: Path,
    *,
    keep_blocks: int,
    keep_inodes: int = 0,
    step: int,
) -> int:
    """Shrink the ext file system at *offset* as far as possible; the partition still has its old size.

    Blocks move towards the front. Inodes keep their numbers, because to renumber one resize2fs sets the times of the
    directories that refer to it: a file system with a used inode near its end keeps its size. Equal input gives equal output.
    Space within the returned size that it does not use reads as zeros; the caller truncates what follows.

    Args:
        device: the disk image, writable; its bytes need not be contiguous.
        offset: the partition's first byte.
        size: bytes of the partition.
        least_size: bytes that the partition keeps at least.
        scratch_dir: directory of the unnamed copy; best on the device's own file system.
        keep_blocks: blocks that must be free afterwards, in addition to those reserved for root.
        keep_inodes: inodes that must be free afterwards.
        step: bytes; the partition shrinks by a multiple of it.

    Returns:
        Bytes that the partition now needs. *size* if nothing could be gained: then nothing changed.

    Raises:
        FilesystemError: no ext file system, one that is damaged or was not unmounted cleanly, or resize2fs refused it.
        ToolError: e2fsck or resize2fs is missing or took too long.
        OutputError: no space for the copy.
        DiskImageError: the partition is not inside the device, or reading or writing failed.
    """
    where = f"{device.name}: the ext4 file system at offset {offset}"
    geometry = geometry_in(device, offset, size)
    check_unmounted(geometry, where)
    least = max(least_size, trimmed_size(geometry, _used_groups(device, offset, size), keep_blocks, keep_inodes))
    for _ in range(_MOST_TRIES):
        target = _reachable(size, least, step)
        if target == size:
            break
        with filesystem_copy(device, offset, geometry.size, scratch_dir) as scratch:
            possible = least_blocks(scratch, where, RESIZE_TIMEOUT) * geometry.block_size
            target = _reachable(size, max(least, possible), step)
            if target // geometry.block_size >= geometry.blocks_count:
                break
            resize_file(scratch, geometry, target // geometry.block_size, where, RESIZE_TIMEOUT)
            check_file(scratch, 0, f"{where}, once cut", CHECK_TIMEOUT)
            missing = _missing(_geometry_of(scratch), keep_blocks, keep_inodes)
            if not missing:
                length = target // geometry.block_size * geometry.block_size
                bring_back(scratch, device, offset, length, where)
                clear_range(device, offset + length, target - length)
                return target
        # Splitting extents took blocks that cannot be predicted.
        least = target + missing
    return size


def _reachable(size: int, least: int, step: int) -> int:
    """The smallest size of at least *least* bytes that is a multiple of *step* below *size*."""
    return size - max(0, size - least) // step * step


def _used_groups(device: Device, offset: int, size: int) -> int:
    """The number of block groups from the first to the one with the last used inode."""
    volume = Volume(Window(device, offset, size))
    per_group = volume.superblock.inodes_per_group
    return max((group.number + 1 for group in volume.groups() if group.free_inodes < per_group), default=1)


def _geometry_of(scratch: int) -> Geometry:
    with FileDevice(path_of(scratch), name="the copy of the file system") as device:
        return read_geometry(device)


def _missing(geometry: Geometry, keep_blocks: int, keep_inodes: int) -> int:
    """Bytes to add until *keep_blocks* and *keep_inodes* are free; 0 if they are."""
    if geometry.free_inodes < keep_inodes:
        return geometry.blocks_per_group * geometry.block_size
    return max(0, keep_blocks - (geometry.free_blocks - geometry.reserved_blocks)) * geometry.block_size
