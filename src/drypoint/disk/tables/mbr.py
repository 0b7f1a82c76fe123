"""The master boot record and the chain of extended boot records: bytes and values.

Field names are those of the UEFI specification (5.2.1, legacy MBR). A sector is 512 bytes and an LBA counts sectors. An
extended partition (type 0x05, 0x0f or 0x85) is a container: its first sector is an extended boot record (EBR), laid out like
an MBR, whose first entry is a logical partition (relative to this EBR) and whose second is a link to the next EBR (relative
to the container). Logical partitions are numbered from 5 in the order of the chain.
"""

from __future__ import annotations

import struct

import msgspec

from ...errors import PartitionTableError
from ..device import Device

SECTOR_SIZE = 512
BOOT_SIGNATURE = b"\x55\xaa"
EXTENDED_TYPES = frozenset({0x05, 0x0F, 0x85})
GPT_PROTECTIVE_TYPE = 0xEE
MAX_EBRS = 128
MAX_LBA = 0xFFFFFFFF

_ENTRY = struct.Struct("<B3sB3sII")
_ENTRIES_OFFSET = 446
_SIGNATURE_OFFSET = 510
_DISK_SIGNATURE_OFFSET = 440

# The geometry that sfdisk and every BIOS of the last decades assume for cylinder/head/sector addresses.
_HEADS = 255
_SECTORS_PER_TRACK = 63
_CHS_BEYOND = b"\xfe\xff\xff"


class MbrEntry(msgspec.Struct, frozen=True):
    """One of the four 16-byte partition records of an MBR or EBR.

    *starting_lba* is relative: to the disk in an MBR; to the EBR or to the container in an EBR (see the module).
    """

    boot_indicator: int
    starting_chs: bytes
    os_type: int
    ending_chs: bytes
    starting_lba: int
    size_in_lba: int

    @property
    def is_empty(self) -> bool:
        return self.os_type == 0 or self.size_in_lba == 0

    @property
    def is_extended(self) -> bool:
        return self.os_type in EXTENDED_TYPES and not self.is_empty

    def pack(self) -> bytes:
        """The record's 16 bytes."""
        return _ENTRY.pack(
            self.boot_indicator,
            self.starting_chs,
            self.os_type,
            self.ending_chs,
            self.starting_lba,
            self.size_in_lba,
        )


class BootRecord(msgspec.Struct, frozen=True):
    """An MBR (at LBA 0) or an EBR: its LBA, its whole sector, and the four records in it."""

    lba: int
    sector: bytes
    entries: tuple[MbrEntry, MbrEntry, MbrEntry, MbrEntry]

    @property
    def disk_signature(self) -> int:
        """The 32-bit unique signature; only meaningful in an MBR."""
        return int.from_bytes(self.sector[_DISK_SIGNATURE_OFFSET : _DISK_SIGNATURE_OFFSET + 4], "little")

    def with_entry(self, index: int, entry: MbrEntry) -> BootRecord:
        """The same record with entry *index* replaced; every other byte stays."""
        entries = list(self.entries)
        entries[index] = entry
        first, second, third, fourth = entries
        offset = _ENTRIES_OFFSET + index * _ENTRY.size
        sector = self.sector[:offset] + entry.pack() + self.sector[offset + _ENTRY.size :]
        return BootRecord(self.lba, sector, (first, second, third, fourth))


class Logical(msgspec.Struct, frozen=True):
    """A logical partition: the EBR that holds it, the index of its record there, and its first sector on the disk."""

    ebr: BootRecord
    index: int
    first_lba: int

    @property
    def entry(self) -> MbrEntry:
        return self.ebr.entries[self.index]


class MbrTable(msgspec.Struct, frozen=True):
    """A whole MBR table: *extended* is the index of the container among the MBR's entries, *ebrs* its chain in order."""

    mbr: BootRecord
    extended: int | None
    ebrs: tuple[BootRecord, ...]
    logicals: tuple[Logical, ...]


def has_boot_signature(sector: bytes) -> bool:
    return sector[_SIGNATURE_OFFSET : _SIGNATURE_OFFSET + 2] == BOOT_SIGNATURE


def is_plausible(sector: bytes) -> bool:
    """Whether *sector* can be an MBR: it has the signature, and each boot indicator is 0x00 or 0x80.

    A FAT or NTFS boot sector has the same signature; the code in place of its records rarely passes this test.
    """
    return has_boot_signature(sector) and all(entry.boot_indicator in (0x00, 0x80) for entry in _entries(sector))


def parse_boot_record(sector: bytes, lba: int, where: str) -> BootRecord:
    """Read one boot record.

    Args:
        sector: its 512 bytes.
        lba: the sector's number on the disk.
        where: its name in an error.

    Raises:
        PartitionTableError: the signature is missing.
    """
    if len(sector) != SECTOR_SIZE or not has_boot_signature(sector):
        found = sector[_SIGNATURE_OFFSET : _SIGNATURE_OFFSET + 2].hex(" ") or "nothing"
        raise PartitionTableError(f"{where}: the boot record at sector {lba} should end in 55 aa, found {found}")
    return BootRecord(lba, sector, _entries(sector))


def read_mbr_table(device: Device) -> MbrTable:
    """Read the MBR at the device's start and the chain of EBRs in its extended partition.

    Only what following the chain needs is checked; ``partitions.read_table`` checks overlaps and bounds.

    Raises:
        PartitionTableError: a signature is missing, there are two containers, or the chain leaves its container, runs in
            circles or has more than 128 members.
    """
    where = device.name
    mbr = parse_boot_record(device.read(0, SECTOR_SIZE), 0, where)
    containers = [index for index, entry in enumerate(mbr.entries) if entry.is_extended]
    if not containers:
        return MbrTable(mbr, None, (), ())
    if len(containers) > 1:
        numbers = " and ".join(str(index + 1) for index in containers)
        raise PartitionTableError(f"{where}: partitions {numbers} are both extended; an MBR may hold only one")
    ebrs, logicals = _read_chain(device, mbr.entries[containers[0]], where)
    return MbrTable(mbr, containers[0], ebrs, logicals)


def chs_address(lba: int) -> bytes:
    """The three-byte cylinder/head/sector address of *lba*, or the value for addresses beyond its range."""
    cylinder, rest = divmod(lba, _HEADS * _SECTORS_PER_TRACK)
    if cylinder > 1023:
        return _CHS_BEYOND
    head, sector = divmod(rest, _SECTORS_PER_TRACK)
    return bytes((head, (sector + 1) | (cylinder >> 8) << 6, cylinder & 0xFF))


def _entries(sector: bytes) -> tuple[MbrEntry, MbrEntry, MbrEntry, MbrEntry]:
    first, second, third, fourth = (
        MbrEntry(*_ENTRY.unpack_from(sector, _ENTRIES_OFFSET + index * _ENTRY.size)) for index in range(4)
    )
    return first, second, third, fourth


def _read_chain(device: Device, container: MbrEntry, where: str) -> tuple[tuple[BootRecord, ...], tuple[Logical, ...]]:
    first = container.starting_lba
    end = first + container.size_in_lba
    ebrs: list[BootRecord] = []
    logicals: list[Logical] = []
    seen: set[int] = set()
    lba: int | None = first
    while lba is not None:
        if not first <= lba < end:
            raise PartitionTableError(
                f"{where}: the chain of logical partitions points at sector {lba}, "
                f"outside the extended partition ({first} to {end - 1})"
            )
        if lba in seen:
            raise PartitionTableError(f"{where}: the chain of logical partitions has a cycle at sector {lba}")
        if len(ebrs) == MAX_EBRS:
            raise PartitionTableError(f"{where}: the chain of logical partitions has more than {MAX_EBRS} members")
        if (lba + 1) * SECTOR_SIZE > device.size:
            raise PartitionTableError(
                f"{where}: the chain of logical partitions continues at sector {lba}, beyond the end of the file "
                f"({device.size} bytes); was its download cut short?"
            )
        seen.add(lba)
        ebr = parse_boot_record(device.read(lba * SECTOR_SIZE, SECTOR_SIZE), lba, where)
        ebrs.append(ebr)
        data = [index for index, entry in enumerate(ebr.entries) if not entry.is_empty and not entry.is_extended]
        links = [entry for entry in ebr.entries if entry.is_extended]
        if len(data) > 1 or len(links) > 1:
            raise PartitionTableError(
                f"{where}: the extended boot record at sector {lba} holds {len(data)} partitions and {len(links)} links; "
                "at most one of each is expected"
            )
        logicals.extend(Logical(ebr, index, lba + ebr.entries[index].starting_lba) for index in data)
        lba = first + links[0].starting_lba if links else None
    return tuple(ebrs), tuple(logicals)
