"""The boot sector of a FAT file system, and the geometry that follows from it.

Format: Microsoft's "FAT: General Overview of On-Disk Format" 1.03.
"""

from __future__ import annotations

import struct

import msgspec

from ..filesystem_info import FilesystemKind

BOOT_SECTOR_SIZE = 512
ROOT_ENTRY_SIZE = 32

_BPB = struct.Struct("<HBHBHHBH")
_BPB_AT, _WIDE_AT, _ROOT_CLUSTER_AT = 11, 32, 44
_EXTENDED_AT, _EXTENDED_AT_FAT32 = 36, 64
_EXTENDED_SIGNATURE = 0x29
_SIGNATURE, _JUMPS = b"\x55\xaa", (0xEB, 0xE9)
_ATARI_JUMP = b"\x60\x1c"
"""``bra.s``: the start of a boot sector by ``mkfs.vfat -A``, which has no signature."""
_SECTOR_SIZES = (512, 1024, 2048, 4096)
_CLUSTER_SECTORS = (1, 2, 4, 8, 16, 32, 64, 128)
_FEWEST_CLUSTERS_FAT16 = 4085


class BootSector(msgspec.Struct, frozen=True):
    """What the boot sector says; offsets and sizes in sectors of *sector_size* bytes.

    Attributes:
        copies: of the allocation table, of *table_sectors* each.
        media: the byte that the allocation table begins with.
        flags: FAT32's, which say which copy is in use; 0 for the others.
        root_cluster: FAT32's root directory's first; 0 for the others, whose has *root_entries* entries.
        serial: ``1234-ABCD``; empty without one.
        label: as in the boot sector, as bytes; empty without one.
    """

    kind: FilesystemKind
    sector_size: int
    cluster_sectors: int
    reserved: int
    copies: int
    table_sectors: int
    root_entries: int
    sectors: int
    media: int
    flags: int
    root_cluster: int
    serial: str
    label: bytes

    @property
    def size(self) -> int:
        """Bytes of the file system."""
        return self.sectors * self.sector_size

    @property
    def cluster_size(self) -> int:
        """Bytes of a cluster."""
        return self.cluster_sectors * self.sector_size

    @property
    def root_start(self) -> int:
        """The sector after the allocation tables, where FAT12's and FAT16's root directory is."""
        return self.reserved + self.copies * self.table_sectors

    @property
    def data_start(self) -> int:
        """The sector of cluster 2."""
        return self.root_start + -(-self.root_entries * ROOT_ENTRY_SIZE // self.sector_size)

    @property
    def clusters(self) -> int:
        """How many clusters there are; they are numbered from 2."""
        return (self.sectors - self.data_start) // self.cluster_sectors

    @property
    def root_directory(self) -> tuple[int, int]:
        """Offset and length in bytes of the root directory; of FAT32's, of its first cluster."""
        if self.root_cluster:
            return self.data_start * self.sector_size + (self.root_cluster - 2) * self.cluster_size, self.cluster_size
        return self.root_start * self.sector_size, self.root_entries * ROOT_ENTRY_SIZE


def parse_boot_sector(head: bytes) -> BootSector | None:
    """The boot sector that *head*, 512 bytes or more, begins with; None if it is not one of a FAT file system."""
    is_atari = head[:2] == _ATARI_JUMP
    if not is_atari and (head[510:512] != _SIGNATURE or head[0] not in _JUMPS):
        return None
    sector_size, cluster_sectors, reserved, copies, root_entries, sectors_16, media, table_16 = _BPB.unpack_from(
        head, _BPB_AT
    )
    sectors_32, table_32, flags = struct.unpack_from("<IIH", head, _WIDE_AT)
    if (
        sector_size not in _SECTOR_SIZES
        or cluster_sectors not in _CLUSTER_SECTORS
        or not copies
        or not reserved
        or (media != 0xF0 and media < 0xF8)
    ):
        return None
    is_fat32 = not table_16
    serial, label = _extended(head, _EXTENDED_AT_FAT32 if is_fat32 else _EXTENDED_AT)
    sector = BootSector(
        FilesystemKind.FAT32,
        sector_size=sector_size,
        cluster_sectors=cluster_sectors,
        reserved=reserved,
        copies=copies,
        table_sectors=table_16 or table_32,
        root_entries=root_entries,
        sectors=sectors_16 or sectors_32,
        media=media,
        flags=flags if is_fat32 else 0,
        root_cluster=struct.unpack_from("<I", head, _ROOT_CLUSTER_AT)[0] if is_fat32 else 0,
        serial=serial,
        label=label,
    )
    if not sector.table_sectors or sector.sectors <= sector.data_start:
        return None
    return msgspec.structs.replace(sector, kind=_kind(sector, is_atari=is_atari, is_fat32=is_fat32))


def _kind(sector: BootSector, *, is_atari: bool, is_fat32: bool) -> FilesystemKind:
    if is_atari:
        # It numbers clusters in 16 bits where others use 12.
        return FilesystemKind.FAT_ATARI
    if is_fat32:
        return FilesystemKind.FAT32
    return FilesystemKind.FAT12 if sector.clusters < _FEWEST_CLUSTERS_FAT16 else FilesystemKind.FAT16


def _extended(head: bytes, place: int) -> tuple[str, bytes]:
    """Serial number and label, where there are any."""
    if head[place + 2] != _EXTENDED_SIGNATURE:
        return "", b""
    serial = head[place + 3 : place + 7][::-1].hex().upper()
    return f"{serial[:4]}-{serial[4:]}", head[place + 7 : place + 18]
