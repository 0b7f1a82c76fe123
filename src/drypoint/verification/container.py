"""A disk image that is a file in a partition of another one. How to find it is up to the caller (:data:`FindContainer`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ..disk import Device
from ..disk.probe import probe_compressed
from ..errors import DiskImageError
from ..volumes.partitioned_disk import INNER_IMAGE, PartitionedDisk
from ..volumes.target import Container

FindContainer: TypeAlias = Callable[[Device], Container | None]
"""Finds the inner disk image to verify; None to verify the given disk image itself.

Raises:
    DiskImageError: it cannot be determined.
"""


def open_inner_disk(outer: PartitionedDisk, container: Container) -> PartitionedDisk:
    """Open the inner disk image *container* for reading.

    Raises:
        DiskImageError: there is no such partition or file; the disk image is compressed; or the file system or the table is
            damaged.
    """
    volume = outer.volume(container.partition, INNER_IMAGE)
    # An unclean file system is read without its journal; that the journal has more is a finding of its own.
    device = volume.disk_image_file(container.path, allow_dirty=True)
    compression = probe_compressed(device)
    if compression is not None:
        raise DiskImageError(
            f"{device.name}, the disk image inside, is {compression}-compressed and cannot be read in place; "
            "copy it out and verify the copy"
        )
    return PartitionedDisk(device, within=volume, path=container.path)
