"""The GUID partition table as bytes and as values: UEFI specification 2.10, chapter 5.3, with its field names.

An LBA counts logical sectors of 512 or 4,096 bytes. The primary header is at LBA 1, the backup at the disk's last LBA, and
each points at the other (alternate_lba) and at an entry array of its own.
"""

from __future__ import annotations

import struct
import zlib
from uuid import UUID

import msgspec
from msgspec.structs import replace

from ...errors import PartitionTableError
from ..device import Device
from .mbr import BootRecord

SIGNATURE = b"EFI PART"
REVISION = 0x00010000
SECTOR_SIZES = (512, 4096)
MAX_ENTRIES = 1024
MAX_ENTRY_SIZE = 4096
NAME_BYTES = 72

_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_CRC_OFFSET = 16
_UNUSED = bytes(16)


class GptHeader(msgspec.Struct, frozen=True):
    """A GPT header. *tail* holds what follows the 92 known bytes up to *header_size*: the CRC covers it, so it is kept."""

    revision: int
    header_size: int
    my_lba: int
    alternate_lba: int
    first_usable_lba: int
    last_usable_lba: int
    disk_guid: UUID
    partition_entry_lba: int
    number_of_partition_entries: int
    size_of_partition_entry: int
    partition_entry_array_crc32: int
    tail: bytes = b""

    @property
    def array_size(self) -> int:
        """Bytes of the entry array."""
        return self.number_of_partition_entries * self.size_of_partition_entry

    def pack(self, sector_size: int) -> bytes:
        """The header with its CRC, padded with zeros to one sector."""
        header = _HEADER.pack(
            SIGNATURE,
            self.revision,
            self.header_size,
            0,
            0,
            self.my_lba,
            self.alternate_lba,
            self.first_usable_lba,
            self.last_usable_lba,
            self.disk_guid.bytes_le,
            self.partition_entry_lba,
            self.number_of_partition_entries,
            self.size_of_partition_entry,
            self.partition_entry_array_crc32,
        )
        header += self.tail
        crc = zlib.crc32(header).to_bytes(4, "little")
        return (header[:_CRC_OFFSET] + crc + header[_CRC_OFFSET + 4 :]).ljust(sector_size, b"\0")


class GptEntry(msgspec.Struct, frozen=True):
    """A used entry: *index* counts from 0 in the array; *last_lba* is the last sector that belongs to the partition."""

    index: int
    partition_type_guid: UUID
    unique_partition_guid: UUID
    first_lba: int
    last_lba: int
    attributes: int
    partition_name: str


class GptTable(msgspec.Struct, frozen=True):
    """A whole table, from the good (or better) copy of header and entry array.

    *array* is the raw entry array, so that a writer keeps unknown bytes. *damage* says, a sentence each, which of the
    two copies is unusable and why; the table itself is sound.
    """

    protective_mbr: BootRecord
    sector_size: int
    header: GptHeader
    array: bytes
    entries: tuple[GptEntry, ...]
    damage: tuple[str, ...]


def parse_header(sector: bytes, lba: int) -> GptHeader:
    """Read and check the header found at *lba*; *sector* is one whole logical sector.

    Raises:
        PartitionTableError: signature, CRC, size, position or array geometry is wrong; the message is a clause without a place.
    """
    if sector[:8] != SIGNATURE:
        raise PartitionTableError("it does not start with 'EFI PART'")
    (
        _,
        revision,
        header_size,
        header_crc32,
        _,
        my_lba,
        alternate_lba,
        first_usable_lba,
        last_usable_lba,
        disk_guid,
        partition_entry_lba,
        number_of_partition_entries,
        size_of_partition_entry,
        partition_entry_array_crc32,
    ) = _HEADER.unpack_from(sector)
    if not _HEADER.size <= header_size <= len(sector):
        raise PartitionTableError(f"its size is given as {header_size} bytes")
    computed = zlib.crc32(sector[:_CRC_OFFSET] + bytes(4) + sector[_CRC_OFFSET + 4 : header_size])
    if computed != header_crc32:
        raise PartitionTableError(f"its CRC32 is {computed:08x}, but it records {header_crc32:08x}")
    if my_lba != lba:
        raise PartitionTableError(f"its own sector number is {my_lba}, but it is at {lba}")
    if size_of_partition_entry < 128 or size_of_partition_entry > MAX_ENTRY_SIZE or size_of_partition_entry % 128:
        raise PartitionTableError(f"its entries are {size_of_partition_entry} bytes long")
    if not 0 < number_of_partition_entries <= MAX_ENTRIES:
        raise PartitionTableError(f"it has {number_of_partition_entries} entries; 1 to {MAX_ENTRIES} are supported")
    return GptHeader(
        revision=revision,
        header_size=header_size,
        my_lba=my_lba,
        alternate_lba=alternate_lba,
        first_usable_lba=first_usable_lba,
        last_usable_lba=last_usable_lba,
        disk_guid=UUID(bytes_le=disk_guid),
        partition_entry_lba=partition_entry_lba,
        number_of_partition_entries=number_of_partition_entries,
        size_of_partition_entry=size_of_partition_entry,
        partition_entry_array_crc32=partition_entry_array_crc32,
        tail=sector[_HEADER.size : header_size],
    )


def parse_array(array: bytes, entry_size: int) -> tuple[GptEntry, ...]:
    """The used entries of an array, in its order."""
    entries = []
    for index in range(len(array) // entry_size):
        type_guid, unique_guid, first_lba, last_lba, attributes, name = _ENTRY.unpack_from(array, index * entry_size)
        if type_guid == _UNUSED:
            continue
        entries.append(
            GptEntry(
                index=index,
                partition_type_guid=UUID(bytes_le=type_guid),
                unique_partition_guid=UUID(bytes_le=unique_guid),
                first_lba=first_lba,
                last_lba=last_lba,
                attributes=attributes,
                partition_name=name.decode("utf-16-le", "replace").partition("\0")[0],
            )
        )
    return tuple(entries)


def pack_entry(entry: GptEntry, size: int = 128) -> bytes:
    """An entry's bytes.

    Raises:
        PartitionTableError: the name is longer than 36 UTF-16 units.
    """
    name = entry.partition_name.encode("utf-16-le")
    if len(name) > NAME_BYTES:
        raise PartitionTableError(f"the partition name {entry.partition_name!r} is longer than 36 UTF-16 units")
    return _ENTRY.pack(
        entry.partition_type_guid.bytes_le,
        entry.unique_partition_guid.bytes_le,
        entry.first_lba,
        entry.last_lba,
        entry.attributes,
        name,
    ).ljust(size, b"\0")


def find_sector_size(device: Device) -> int | None:
    """512 or 4096: where a header is at LBA 1 or (if the primary is damaged) at the last LBA; None without a header."""
    for sector_size in SECTOR_SIZES:
        if device.size >= 3 * sector_size and device.read(sector_size, 8) == SIGNATURE:
            return sector_size
    for sector_size in SECTOR_SIZES:
        last = device.size // sector_size - 1
        if last >= 2 and device.read(last * sector_size, 8) == SIGNATURE:
            return sector_size
    return None


def read_gpt_table(device: Device, protective_mbr: BootRecord, sector_size: int) -> GptTable:
    """Read the primary table, or the backup if the primary is damaged, and check both.

    Raises:
        PartitionTableError: neither copy is usable; the message says why for each.
    """
    where = device.name
    primary: GptTable | None = None
    backup: GptTable | None = None
    primary_damage = backup_damage = ""
    try:
        primary = _read_copy(device, protective_mbr, 1, sector_size)
    except PartitionTableError as error:
        primary_damage = str(error)
    backup_lba = primary.header.alternate_lba if primary else device.size // sector_size - 1
    try:
        backup = _read_copy(device, protective_mbr, backup_lba, sector_size)
    except PartitionTableError as error:
        backup_damage = str(error)
    table = primary or backup
    if table is None:
        raise PartitionTableError(
            f"{where}: both copies of the GPT are unusable; the primary at sector 1: {primary_damage}; "
            f"the backup at sector {backup_lba}: {backup_damage}"
        )
    damage: list[str] = []
    if primary_damage:
        damage.append(f"the primary GPT at sector 1 is damaged ({primary_damage}); its backup is used")
    if backup_damage:
        damage.append(f"the backup GPT at sector {backup_lba} is damaged ({backup_damage}); the primary is used")
    if primary and backup and not _agree(primary, backup):
        damage.append("the primary and the backup GPT differ; the primary is used")
    return replace(table, damage=tuple(damage))


def _agree(primary: GptTable, backup: GptTable) -> bool:
    return primary.array == backup.array and primary.header.disk_guid == backup.header.disk_guid


def _read_copy(device: Device, protective_mbr: BootRecord, lba: int, sector_size: int) -> GptTable:
    sectors = device.size // sector_size
    if not 1 <= lba < sectors:
        raise PartitionTableError(f"sector {lba} is beyond the end of the file ({device.size} bytes)")
    header = parse_header(device.read(lba * sector_size, sector_size), lba)
    start = header.partition_entry_lba * sector_size
    if header.partition_entry_lba < 2 or start + header.array_size > device.size:
        raise PartitionTableError(f"its entry array at sector {header.partition_entry_lba} is outside the file")
    array = device.read(start, header.array_size)
    computed = zlib.crc32(array)
    if computed != header.partition_entry_array_crc32:
        raise PartitionTableError(
            f"the CRC32 of its entry array is {computed:08x}, but it records {header.partition_entry_array_crc32:08x}"
        )
    return GptTable(protective_mbr, sector_size, header, array, parse_array(array, header.size_of_partition_entry), ())
