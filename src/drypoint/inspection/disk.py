"""The partitions of a disk image, and the space in their file systems."""

from __future__ import annotations

import msgspec

from ..disk import Device, FilesystemInfo, FilesystemKind, Partition, ProbedPartition
from ..disk.fat.allocation_table import free_clusters, read_fat_table
from ..disk.tables.gpt import GptTable
from ..errors import DiskImageError
from ..volumes.partitioned_disk import PartitionedDisk
from ..volumes.volume import PartitionVolume

_NO_SECTOR = 0xFFFF
_UNKNOWN = 0xFFFFFFFF


class SpaceUsage(msgspec.Struct, frozen=True):
    """The space in a file system, in bytes.

    Attributes:
        total: the size of the file system.
        free: free bytes, including the reserved ones.
        reserved: bytes that only root may use.
        inodes: their number; None for a file system without inodes, like *free_inodes*.
    """

    total: int
    free: int
    reserved: int = 0
    inodes: int | None = None
    free_inodes: int | None = None


class InspectedPartition(msgspec.Struct, frozen=True):
    """A partition and the file system in it.

    Attributes:
        filesystem: None if it is unknown.
        space: None if it is unknown, or the file system is too damaged.
        notes: what is unusual, a clause each.
    """

    partition: Partition
    filesystem: FilesystemInfo | None = None
    space: SpaceUsage | None = None
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The file system's label, else the partition's name in a GPT."""
        return (self.filesystem.label if self.filesystem else "") or self.partition.name


class InspectedDisk(msgspec.Struct, frozen=True):
    """A disk image: *size* and *sector_size* in bytes.

    Attributes:
        name: for messages.
        table: ``mbr``, ``gpt``, or ``none`` for a file system without a table.
        disk_id: the id in the table; empty without one.
        partitions: in the order of the table, with an extended one.
        notes: what is unusual about the table, a clause each.
    """

    name: str
    size: int
    sector_size: int
    table: str
    disk_id: str
    partitions: tuple[InspectedPartition, ...]
    notes: tuple[str, ...] = ()


def inspect_disk(disk: PartitionedDisk) -> InspectedDisk:
    """Inspect every partition of *disk*. Damage in a partition becomes a note on it.

    Raises:
        DiskImageError: the device cannot be read.
    """
    device, table = disk.device, disk.table
    kind = "none" if table.source is None else "gpt" if isinstance(table.source, GptTable) else "mbr"
    probed = {one.partition.number: one for one in disk.partitions}
    partitions = tuple(_partition(disk, partition, probed.get(partition.number)) for partition in table.partitions)
    return InspectedDisk(
        device.name, device.size, table.sector_size, kind, table.disk_id, partitions, tuple(table.notes)
    )


def _partition(disk: PartitionedDisk, partition: Partition, probed: ProbedPartition | None) -> InspectedPartition:
    """*probed* is None for the extended partition."""
    filesystem = None if probed is None else probed.filesystem
    if probed is None or filesystem is None:
        return InspectedPartition(partition)
    notes: list[str] = []
    space: SpaceUsage | None = None
    try:
        if filesystem.kind.is_ext:
            space = _ext(disk.volume_in(probed), notes)
        elif filesystem.kind.is_fat:
            space = _fat(disk.fat_volume_in(probed, "its free space").window, filesystem, notes)
    except DiskImageError as error:
        notes.append(f"damaged: {error}")
    return InspectedPartition(partition, filesystem, space, tuple(notes))


def _ext(volume: PartitionVolume, notes: list[str]) -> SpaceUsage:
    geometry, size = volume.geometry, volume.window.size
    if geometry.size > size:
        notes.append(f"damaged: its file system spans {geometry.size} bytes, the partition only {size}")
    if geometry.needs_recovery:
        notes.append("not unmounted: its journal holds changes that are not in place yet")
    elif not geometry.is_clean:
        notes.append("its superblock does not say that it is clean; e2fsck -fn shows more")
    return SpaceUsage(
        geometry.size,
        geometry.free_blocks * geometry.block_size,
        geometry.reserved_blocks * geometry.block_size,
        geometry.inodes_count,
        geometry.free_inodes,
    )


def _fat(window: Device, filesystem: FilesystemInfo, notes: list[str]) -> SpaceUsage:
    table = read_fat_table(window)
    free = free_clusters(window, table)
    hint = _fat_hint(window) if filesystem.kind is FilesystemKind.FAT32 else None
    if hint is not None and hint != free:
        notes.append(f"{free} clusters are free, but its FSInfo sector says {hint}")
    return SpaceUsage(table.clusters * table.cluster_size, free * table.cluster_size)


def _fat_hint(window: Device) -> int | None:
    """The number of free clusters in FAT32's FSInfo sector, a hint by the specification; None without one."""
    boot = window.read(0, 512)
    sector_size, sector = (int.from_bytes(boot[offset : offset + 2], "little") for offset in (11, 48))
    if not 0 < sector < _NO_SECTOR or (sector + 1) * sector_size > window.size:
        return None
    info = window.read(sector * sector_size, 512)
    hint = int.from_bytes(info[488:492], "little")
    return hint if info[:4] == b"RRaA" and info[484:488] == b"rrAa" and hint != _UNKNOWN else None
