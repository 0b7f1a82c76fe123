"""A disk image that is a file in a partition of another one. How to find it is up to the caller (:data:`FindContainer`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import msgspec

from ..disk import Device, Window, find_partition, read_table
from ..disk.ext4.read.file_device import Ext4FileDevice
from ..disk.probe import probe_compressed
from ..disk.tables.tail import open_disk_image_file
from ..errors import DiskImageError, FilesystemError


class Container(Protocol):
    """Location of the inner disk image: a clean path in a partition (file-system label, GPT name or number)."""

    @property
    def partition(self) -> str | int: ...

    @property
    def path(self) -> bytes: ...


FindContainer: TypeAlias = Callable[[Device], Container | None]
"""Finds the inner disk image to verify; None to verify the given disk image itself.

Raises:
    DiskImageError: it cannot be determined.
"""


class InnerDisk(msgspec.Struct, frozen=True):
    """An inner disk image: the *path* in the file system of *size* bytes at *offset* of the outer disk image."""

    device: Ext4FileDevice
    path: bytes
    offset: int
    size: int


def open_inner_disk(outer: Device, container: Container) -> InnerDisk:
    """Open the inner disk image *container* for reading.

    Raises:
        DiskImageError: there is no such partition or file; the disk image is compressed; or the file system is damaged.
    """
    found = find_partition(outer, read_table(outer), container.partition)
    partition = found.partition
    if found.filesystem is None or not found.filesystem.kind.is_ext:
        kind = found.filesystem.kind.value if found.filesystem else "no known file system"
        raise FilesystemError(
            f"{outer.name}: partition {partition.number} should hold a disk image as a file, but holds {kind}, not ext4"
        )
    window = Window(outer, partition.start, partition.size)
    # An unclean file system is read without its journal; that the journal has more is a finding of its own.
    device = open_disk_image_file(window, container.path, allow_dirty=True)
    compression = probe_compressed(device)
    if compression is not None:
        raise DiskImageError(
            f"{device.name}, the disk image inside, is {compression}-compressed and cannot be read in place; "
            "copy it out and verify the copy"
        )
    return InnerDisk(device, container.path, partition.start, partition.size)
