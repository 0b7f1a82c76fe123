"""Opening the file systems of a disk image: its partition table, and the content of each partition."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from ..disk import (
    Device,
    ProbedPartition,
    Window,
    choose_partition,
    describe,
    probe_partitions,
    read_table,
)
from ..disk.filesystem_info import kind_name
from ..errors import FilesystemError
from .fat_volume import FatVolume
from .target import Container
from .volume import PartitionVolume

STORE = "the engine's store"
"""What needs the file system, in the message about one that is not ext2, ext3 or ext4."""
INNER_IMAGE = "a disk image that is a file"


class PartitionedDisk:
    """The disk image *device*: its table and the file systems in its partitions, read once.

    A bare file system is a disk image with one partition, number 0. Later writes are not seen: open it again.

    Attributes:
        device: its bytes.
        table: its partition table.
        within: the file system that holds it as the file *path*; None for a disk image that is not in another one.

    Raises:
        PartitionTableError: as :func:`drypoint.disk.read_table`.
        DiskImageError: the device cannot be read.
    """

    def __init__(self, device: Device, *, within: PartitionVolume | None = None, path: bytes = b"") -> None:
        self.device = device
        self.table = read_table(device)
        self.within = within
        self.path = path
        self._volumes: dict[int, PartitionVolume] = {}

    @cached_property
    def partitions(self) -> tuple[ProbedPartition, ...]:
        """Every partition except the extended one with its file system, in table order.

        Raises:
            DiskImageError: the device cannot be read.
        """
        return probe_partitions(self.device, self.table)

    def find(self, selector: str | int) -> ProbedPartition:
        """The one partition that *selector* names, see :func:`drypoint.disk.find_partition`.

        Raises:
            PartitionTableError: no partition matches, or more than one does; the message lists them.
        """
        return choose_partition(self.device.name, self.table, self.partitions, selector)

    def volume(self, selector: str | int, needed_by: str = STORE) -> PartitionVolume:
        """The ext2, ext3 or ext4 file system of the partition that *selector* names.

        Args:
            needed_by: what needs it, for the message about an unsuitable partition.

        Raises:
            PartitionTableError: as :meth:`find`.
            FilesystemError: it is encrypted, or holds something else.
            DiskImageError: the device cannot be read.
        """
        return self.volume_in(self.find(selector), needed_by)

    def volume_in(self, found: ProbedPartition, needed_by: str = STORE) -> PartitionVolume:
        """Like :meth:`volume`, for a known partition."""
        volume = self._volume(found)
        if volume is None:
            needed = f"{needed_by} needs ext4 (or ext2, ext3)"
            if needed_by == STORE:
                needed += (
                    f". Choose another with --data-partition, of {describe(self.partitions)}; or use a disk image with "
                )
                needed += "ext4 there"
            raise self.wrong_kind(found, needed)
        return volume

    def volumes(self) -> Iterator[PartitionVolume]:
        """Every ext2, ext3 and ext4 file system, in table order.

        Raises:
            DiskImageError: the device cannot be read.
        """
        for found in self.partitions:
            volume = self._volume(found)
            if volume is not None:
                yield volume

    def fat_volume_in(self, found: ProbedPartition, needed_by: str) -> FatVolume:
        """The FAT file system of a partition; *needed_by* as for :meth:`volume`.

        Raises:
            FilesystemError: it holds something else.
        """
        if found.filesystem is None or not found.filesystem.kind.is_fat:
            raise self.wrong_kind(found, f"{needed_by} needs FAT")
        partition = found.partition
        return FatVolume(Window(self.device, partition.start, partition.size), partition.number)

    def inner(self, container: Container, *, allow_dirty: bool = False) -> PartitionedDisk:
        """The disk image that is the file *container* in a partition.

        Args:
            allow_dirty: whether the file system that holds it may be one that was not unmounted cleanly.

        Raises:
            DiskImageError: there is no such partition or file, or a table or the file system is damaged.
        """
        volume = self.volume(container.partition, INNER_IMAGE)
        if not allow_dirty:
            volume.check_unmounted()
        device = volume.disk_image_file(container.path, allow_dirty=allow_dirty)
        return PartitionedDisk(device, within=volume, path=container.path)

    def wrong_kind(self, found: ProbedPartition, needed: str) -> FilesystemError:
        """The error about an unsuitable partition; *needed* is a clause with what is needed and the next step."""
        where = f"{self.device.name}: partition {found.partition.number}"
        kind = found.filesystem.kind if found.filesystem else None
        if kind is not None and kind.is_luks:
            return FilesystemError(
                f"{where} is encrypted ({kind.value}), and can be neither read nor changed without its key. Use a disk image "
                "that is not encrypted"
            )
        return FilesystemError(f"{where} holds {kind_name(found.filesystem)}, but {needed}")

    def _volume(self, found: ProbedPartition) -> PartitionVolume | None:
        if found.filesystem is None or not found.filesystem.kind.is_ext:
            return None
        # One for each partition, so that it is read only once.
        return self._volumes.setdefault(
            found.partition.number, PartitionVolume(self, found.partition, found.filesystem)
        )


def open_disk(device: Device, container: Container | None, *, allow_dirty: bool = False) -> PartitionedDisk:
    """The disk image *device*, or the one that is the file *container* in it.

    Raises:
        DiskImageError: as :class:`PartitionedDisk` and :meth:`PartitionedDisk.inner`.
    """
    disk = PartitionedDisk(device)
    return disk if container is None else disk.inner(container, allow_dirty=allow_dirty)
