"""The allocation table of a FAT file system: checks, and the count of free clusters.

Format: Microsoft's "FAT: General Overview of On-Disk Format" 1.03. mtools trusts FAT32's stored count of free clusters, which
may be stale.
"""

from __future__ import annotations

from array import array

import msgspec

from ...errors import FilesystemError
from ..device import Device
from ..filesystem_info import FilesystemKind, kind_name
from ..probe import probe
from .boot_sector import BOOT_SECTOR_SIZE, ROOT_ENTRY_SIZE, parse_boot_sector

_CHUNK = 1 << 20
_ENTRY_BITS = {FilesystemKind.FAT12: 12, FilesystemKind.FAT16: 16, FilesystemKind.FAT32: 32}
_RESERVED_ENTRIES = 2
_MIRRORING_OFF = 0x80
_ACTIVE_COPY = 0x0F


class FatTable(msgspec.Struct, frozen=True):
    """The place and geometry of the active table. Offsets and sizes are in bytes.

    Attributes:
        copies: number of copies of the table, 1 or more.
        clusters: number of clusters in the data area, *cluster_size* bytes each, numbered from 2.
        data_offset: offset of cluster 2.
        root_offset: offset of the root directory of FAT12 and FAT16, *root_size* bytes long.
        root_cluster: first cluster of FAT32's root directory; 0 for the others.
    """

    kind: FilesystemKind
    copies: int
    cluster_size: int
    clusters: int
    offset: int
    size: int
    data_offset: int
    root_offset: int
    root_size: int
    root_cluster: int

    @property
    def entry_bits(self) -> int:
        return _ENTRY_BITS[self.kind]

    def clusters_for(self, length: int) -> int:
        """The number of clusters of a file of *length* bytes."""
        return -(-length // self.cluster_size)


def read_fat_table(device: Device) -> FatTable:
    """Find the table of the FAT file system that fills *device*, and check it as far as possible without the directories.

    Raises:
        FilesystemError: it is not a FAT file system, or a damaged one.
        DiskImageError: the device cannot be read.
    """
    found = probe(device)
    boot = (
        parse_boot_sector(device.read(0, BOOT_SECTOR_SIZE)) if found is not None and found.kind in _ENTRY_BITS else None
    )
    if boot is None:
        raise FilesystemError(f"{device.name} holds {kind_name(found)}, expected FAT")
    if boot.size > device.size:
        raise damaged(device, f"it has {boot.size} bytes by its boot sector, its partition {device.size}")
    sector_size, table_size = boot.sector_size, boot.table_sectors * boot.sector_size
    if (boot.clusters + _RESERVED_ENTRIES) * _ENTRY_BITS[boot.kind] > table_size * 8:
        raise damaged(device, f"its allocation table is too small for {boot.clusters} clusters")
    active = boot.flags & _ACTIVE_COPY if boot.flags & _MIRRORING_OFF else 0
    if active >= boot.copies:
        raise damaged(device, f"copy {active} of its allocation table is to be used, and it has {boot.copies}")
    first = boot.reserved * sector_size
    table = FatTable(
        boot.kind,
        copies=boot.copies,
        cluster_size=boot.cluster_size,
        clusters=boot.clusters,
        offset=first + active * table_size,
        size=table_size,
        data_offset=boot.data_start * sector_size,
        root_offset=boot.root_start * sector_size,
        root_size=boot.root_entries * ROOT_ENTRY_SIZE,
        root_cluster=boot.root_cluster,
    )
    if device.read(table.offset, 1)[0] != boot.media:
        raise damaged(device, "its allocation table does not begin with the kind of medium that its boot sector names")
    if not boot.flags & _MIRRORING_OFF:
        for number in range(1, boot.copies):
            _compare_copies(device, first, number, table)
    return table


def free_clusters(device: Device, table: FatTable) -> int:
    """Count the free clusters.

    Raises:
        DiskImageError: the device cannot be read.
    """
    bits = _ENTRY_BITS[table.kind]
    if bits == 12:
        return _free_clusters_12(device.read(table.offset, (table.clusters + _RESERVED_ENTRIES) * 3 // 2 + 1), table)
    width = bits // 8
    start, end = table.offset + _RESERVED_ENTRIES * width, table.offset + (table.clusters + _RESERVED_ENTRIES) * width
    free = 0
    for offset in range(start, end, _CHUNK):
        # The four high bits of a FAT32 entry are not part of the number, but programs write them as zeros.
        free += array("H" if width == 2 else "I", device.read(offset, min(_CHUNK, end - offset))).count(0)
    return free


def _free_clusters_12(data: bytes, table: FatTable) -> int:
    """Count free clusters of FAT12: two entries share three bytes; the even one has the low half of the middle byte."""
    free = 0
    for cluster in range(_RESERVED_ENTRIES, table.clusters + _RESERVED_ENTRIES):
        pair = int.from_bytes(data[cluster * 3 // 2 : cluster * 3 // 2 + 2], "little")
        free += not (pair >> 4 if cluster & 1 else pair & 0xFFF)
    return free


def _compare_copies(device: Device, first: int, number: int, table: FatTable) -> None:
    other = first + number * table.size
    for offset in range(0, table.size, _CHUNK):
        length = min(_CHUNK, table.size - offset)
        if device.read(first + offset, length) != device.read(other + offset, length):
            raise damaged(device, "the copies of its allocation table differ")


def damaged(device: Device, how: str) -> FilesystemError:
    """The error for a FAT file system that cannot be trusted."""
    return FilesystemError(
        f"the FAT file system of {device.name} is damaged: {how}; use a fresh disk image, or repair it with fsck.vfat"
    )
