"""Both copies of a GPT, and the protective MBR, after partitions moved or changed their size and the disk its length.

Rules: UEFI specification 2.10, 5.3: the backup header is in the disk's last sector, its array before it, after the last
usable sector; each header has a CRC of itself and one of its array.
"""

from __future__ import annotations

import zlib

from msgspec.structs import replace

from ...errors import DiskImageError, PartitionTableError
from .gpt import GptTable
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
    sector_size, old = source.sector_size, source.header
    array_sectors = _array_sectors(source)
    last_lba = device_size // sector_size - 1
    array = bytearray(source.array)
    for item in table.partitions:
        place = change.place(item)
        at = (item.number - 1) * old.size_of_partition_entry + _FIRST_LBA_AT
        array[at : at + 8] = (place.start // sector_size).to_bytes(8, "little")
        array[at + 8 : at + 16] = (place.end // sector_size - 1).to_bytes(8, "little")
    is_primary = old.my_lba == 1
    primary_array_lba = old.partition_entry_lba if is_primary else 2
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
        partition_entry_array_crc32=zlib.crc32(array),
    )
    backup = replace(primary, my_lba=last_lba, alternate_lba=1, partition_entry_lba=last_lba - array_sectors)
    writes = []
    old_last_lba = old.alternate_lba if is_primary else old.my_lba
    stale_lba = old_last_lba - array_sectors
    if old_last_lba < last_lba and stale_lba > old.last_usable_lba:
        # The old backup is cleared, so that no later reader takes it for a table. This is the first write, because after a
        # small change the new backup overlaps the old one's place. What has moved onto that place by now belongs to a
        # partition and stays.
        first = max(stale_lba * sector_size, change.end(old_end) if change.delta > 0 else 0)
        end = (old_last_lba + 1) * sector_size
        if first < end:
            writes.append((first, bytes(end - first)))
    # The backup before the primary: until the primary is written, the old table is valid.
    writes += [
        (backup.partition_entry_lba * sector_size, bytes(array)),
        (backup.my_lba * sector_size, backup.pack(sector_size)),
        (primary.partition_entry_lba * sector_size, bytes(array)),
        (sector_size, primary.pack(sector_size)),
    ]
    protective = _protective(source.protective_mbr, last_lba)
    if protective is not source.protective_mbr:
        writes.append((0, protective.sector))
    return tuple(writes)


def _array_sectors(source: GptTable) -> int:
    return -(-source.header.array_size // source.sector_size)


def _protective(mbr: BootRecord, last_lba: int) -> BootRecord:
    """The protective MBR for a disk that ends with *last_lba*; one that claims the largest size possible keeps doing so."""
    for index, entry in enumerate(mbr.entries):
        if entry.os_type == GPT_PROTECTIVE_TYPE and entry.size_in_lba != MAX_LBA:
            return mbr.with_entry(index, replace(entry, size_in_lba=min(last_lba, MAX_LBA)))
    return mbr
