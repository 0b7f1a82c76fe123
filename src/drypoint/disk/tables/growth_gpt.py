"""Both copies of a GPT, and the protective MBR, after partitions moved or changed their size and the disk its length.

Rules: UEFI specification 2.10, 5.3: the backup header is in the disk's last sector, its array before it, after the last
usable sector; each header has a CRC of itself and one of its array.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from msgspec.structs import replace

from ...errors import DiskImageError, PartitionTableError
from .gpt import GptHeader, GptTable
from .layout import Change, round_up
from .mbr import GPT_PROTECTIVE_TYPE, MAX_LBA, BootRecord
from .partitions import Partition, PartitionTable

# Hypervisors refuse disk images that do not end on a megabyte, and a GPT's backup would spoil that.
GPT_DISK_ALIGNMENT = 1 << 20

_FIRST_LBA_AT = 32


def gpt_disk_size(source: GptTable, end: int, device_size: int) -> int:
    """Bytes of a disk whose last partition ends at *end*, with space for the backup; at least *device_size*."""
    needed = end + (_array_sectors(source) + 1) * source.sector_size
    return device_size if needed <= device_size else round_up(needed, max(GPT_DISK_ALIGNMENT, source.sector_size))


def check_not_hybrid(table: PartitionTable, partition: Partition) -> None:
    """Raise DiskImageError if the MBR repeats partitions: it would have to change too, and no standard defines its meaning."""
    if table.is_hybrid:
        raise DiskImageError(
            f"partition {partition.number} cannot change its size: the MBR is hybrid and repeats partitions of the GPT; "
            "convert it to a protective MBR first (gdisk: x, n, w)"
        )


def gpt_writes(
    table: PartitionTable, source: GptTable, change: Change, device_size: int, old_end: int
) -> tuple[tuple[int, bytes], ...]:
    """The (offset, bytes) to write, in order. *device_size* is the disk's new size, *old_end* is where the partitions ended.

    Raises:
        PartitionTableError: there is no space for the primary array.
    """
    sector_size = source.sector_size
    last_lba = device_size // sector_size - 1
    array = _moved_array(table, source, change)
    primary, backup = _headers(source, last_lba, zlib.crc32(array))
    writes = [
        *_cleared_backup(source, change, last_lba, old_end),
        # The backup before the primary: until the primary is written, the old table is valid.
        (backup.partition_entry_lba * sector_size, array),
        (backup.my_lba * sector_size, backup.pack(sector_size)),
        (primary.partition_entry_lba * sector_size, array),
        (sector_size, primary.pack(sector_size)),
    ]
    protective = _protective(source.protective_mbr, last_lba)
    if protective is not source.protective_mbr:
        writes.append((0, protective.sector))
    return tuple(writes)


def _moved_array(table: PartitionTable, source: GptTable, change: Change) -> bytes:
    """The array of entries, with each partition where it is after *change*."""
    array = bytearray(source.array)
    for item in table.partitions:
        place = change.place(item)
        at = (item.number - 1) * source.header.size_of_partition_entry + _FIRST_LBA_AT
        array[at : at + 8] = (place.start // source.sector_size).to_bytes(8, "little")
        array[at + 8 : at + 16] = (place.end // source.sector_size - 1).to_bytes(8, "little")
    return bytes(array)


def _headers(source: GptTable, last_lba: int, array_crc32: int) -> tuple[GptHeader, GptHeader]:
    """The primary header and the backup for a disk that ends with *last_lba*."""
    old, array_sectors = source.header, _array_sectors(source)
    primary_array_lba = old.partition_entry_lba if old.my_lba == 1 else 2
    if primary_array_lba + array_sectors > old.first_usable_lba:
        raise PartitionTableError(
            f"the GPT has no space for its {array_sectors} sectors of entries before the first usable sector, "
            f"{old.first_usable_lba}"
        )
    primary = replace(
        old,
        my_lba=1,
        alternate_lba=last_lba,
        last_usable_lba=last_lba - array_sectors - 1,
        partition_entry_lba=primary_array_lba,
        partition_entry_array_crc32=array_crc32,
    )
    return primary, replace(primary, my_lba=last_lba, alternate_lba=1, partition_entry_lba=last_lba - array_sectors)


def _cleared_backup(source: GptTable, change: Change, last_lba: int, old_end: int) -> Iterator[tuple[int, bytes]]:
    """What clears the old backup, so that no later reader takes it for a table.

    It is written first, because after a small change the new backup overlaps the old one's place. What has moved onto that
    place by now belongs to a partition and stays.
    """
    old = source.header
    old_last_lba = old.alternate_lba if old.my_lba == 1 else old.my_lba
    stale_lba = old_last_lba - _array_sectors(source)
    if old_last_lba < last_lba and stale_lba > old.last_usable_lba:
        first = max(stale_lba * source.sector_size, change.end(old_end) if change.delta > 0 else 0)
        end = (old_last_lba + 1) * source.sector_size
        if first < end:
            yield first, bytes(end - first)


def _array_sectors(source: GptTable) -> int:
    return -(-source.header.array_size // source.sector_size)


def _protective(mbr: BootRecord, last_lba: int) -> BootRecord:
    """The protective MBR for a disk that ends with *last_lba*; one that claims the largest size possible keeps doing so."""
    for index, entry in enumerate(mbr.entries):
        if entry.os_type == GPT_PROTECTIVE_TYPE and entry.size_in_lba != MAX_LBA:
            return mbr.with_entry(index, replace(entry, size_in_lba=min(last_lba, MAX_LBA)))
    return mbr
