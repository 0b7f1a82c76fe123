"""The allocation table of a FAT file system: checks, and the count of free clusters.

Format: Microsoft's "FAT: General Overview of On-Disk Format" 1.03. mtools trusts FAT32's stored count of free clusters, which
may be stale.
"""

from __future__ import annotations

import struct
from array import array

import msgspec

from ...errors import FilesystemError
from ..device import Device
from ..probe import FilesystemKind, kind_name, probe

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
    kind = found.kind if found is not None else None
    if kind is None or kind not in _ENTRY_BITS:
        raise FilesystemError(f"{device.name} holds {kind_name(found)}, expected FAT")
    head = device.read(0, 512)
    sector, per_cluster, reserved, copies, root_entries, sectors_16, media, size_16 = struct.unpack_from(
        "<HBHBHHBH", head, 11
    )
    sectors_32, size_32, flags = struct.unpack_from("<IIH", head, 32)
    sectors, size = sectors_16 or sectors_32, size_16 or size_32
    if sectors * sector > device.size:
        raise damaged(device, f"it has {sectors * sector} bytes by its boot sector, its partition {device.size}")
    root_start = reserved + copies * size
    data_start = root_start + -(-root_entries * 32 // sector)
    clusters = (sectors - data_start) // per_cluster
    if (clusters + _RESERVED_ENTRIES) * _ENTRY_BITS[kind] > size * sector * 8:
        raise damaged(device, f"its allocation table is too small for {clusters} clusters")
    flags = flags if kind is FilesystemKind.FAT32 else 0
    active = flags & _ACTIVE_COPY if flags & _MIRRORING_OFF else 0
    if active >= copies:
        raise damaged(device, f"copy {active} of its allocation table is to be used, and it has {copies}")
    first = reserved * sector
    table = FatTable(
        kind,
        copies=copies,
        cluster_size=per_cluster * sector,
        clusters=clusters,
        offset=first + active * size * sector,
        size=size * sector,
        data_offset=data_start * sector,
        root_offset=root_start * sector,
        root_size=root_entries * 32,
        root_cluster=struct.unpack_from("<I", head, 44)[0] if kind is FilesystemKind.FAT32 else 0,
    )
    if device.read(table.offset, 1)[0] != media:
        raise damaged(device, "its allocation table does not begin with the kind of medium that its boot sector names")
    if not flags & _MIRRORING_OFF:
        for number in range(1, copies):
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
