"""A disk image that is a file in a partition of another one. Who makes such ones, and how they are known, others know."""

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
    """Where the inner disk image lies: a clean path in a partition, by its file system's label, GPT name or number."""

    @property
    def partition(self) -> str | int: ...

    @property
    def path(self) -> bytes: ...


FindContainer: TypeAlias = Callable[[Device], Container | None]
"""Tells where in the disk image the one to be verified lies; None if that is the given one itself.

Raises:
    DiskImageError: it cannot be told.
"""


class InnerDisk(msgspec.Struct, frozen=True):
    """An inner disk image: the *path* in the file system of *size* bytes at *offset* of the outer disk image."""

    device: Ext4FileDevice
    path: bytes
    offset: int
    size: int


def open_inner_disk(outer: Device, container: Container) -> InnerDisk:
    """The inner disk image that *container* means, to be read.

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
    # Unclean or not, the report says what is in place; that the journal has more is a finding of its own.
    device = open_disk_image_file(window, container.path, allow_dirty=True)
    compression = probe_compressed(device)
    if compression is not None:
        raise DiskImageError(
            f"{device.name}, the disk image inside, is {compression}-compressed, and cannot be read where it lies; "
            "take it out, and verify it by itself"
        )
    return InnerDisk(device, container.path, partition.start, partition.size)
