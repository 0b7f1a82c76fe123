"""Making room: a bigger partition, planned as values and then done.

Planning is pure: the bytes to write, where, and how long the disk image becomes. The partition must be the last on the disk.
Its new end is aligned to 4 MiB, as balenaOS and most others align; its start never moves.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import assert_never

from ..errors import DiskImageError, PartitionTableError
from .device import FileDevice
from .gpt import GptTable, resize_entry
from .mbr import GPT_PROTECTIVE_TYPE, MAX_LBA, SECTOR_SIZE, BootRecord, MbrTable, chs_address
from .partitions import Partition, PartitionKind, PartitionTable, read_table

ALIGNMENT = 4 << 20
# Hypervisors refuse disk images that do not end on a megabyte, and a GPT's backup would spoil that.
GPT_DISK_ALIGNMENT = 1 << 20


@dataclass(frozen=True, slots=True)
class TableWrite:
    """Bytes of a partition table and the offset on the disk where they go."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class GrowthPlan:
    """What is to be done: make the disk image *device_size* bytes long, then do *writes* in order.

    *partition* is the partition as it is afterwards.
    """

    partition: Partition
    device_size: int
    writes: tuple[TableWrite, ...]


def plan_growth(table: PartitionTable, device_size: int, partition: Partition, new_size: int) -> GrowthPlan:
    """Plan to make *partition* at least *new_size* bytes long; nothing to do if it is already.

    Args:
        table: the table as read from the device.
        device_size: bytes of the disk image now.
        partition: one of the table's.
        new_size: bytes wanted.

    Raises:
        DiskImageError: something lies behind the partition, or the MBR is hybrid.
        PartitionTableError: the table's format cannot express the new size.
    """
    if new_size <= partition.size:
        return GrowthPlan(partition, device_size, ())
    end = _round_up(partition.start + new_size, ALIGNMENT)
    grown = replace(partition, size=end - partition.start)
    _check_last(table, partition)
    match table.source:
        case None:
            return GrowthPlan(grown, max(end, device_size), ())
        case MbrTable() as source:
            return GrowthPlan(grown, max(end, device_size), _mbr_writes(source, partition, grown))
        case GptTable() as source:
            return _gpt_plan(table, source, device_size, partition, grown)
        case _:
            assert_never(table.source)


def apply_growth(device: FileDevice, plan: GrowthPlan) -> PartitionTable:
    """Do what *plan* says and read the table back.

    The file grows first, so that no table ever names sectors that do not exist.

    Raises:
        DiskImageError: the device cannot be written, or the table read back does not hold the grown partition.
    """
    device.extend(plan.device_size)
    for write in plan.writes:
        device.write(write.offset, write.data)
    table = read_table(device)
    if plan.partition not in table.partitions:
        raise PartitionTableError(
            f"{device.name}: after growth partition {plan.partition.number} should be {plan.partition.size} bytes long, "
            f"but the table read back holds {table.partitions}"
        )
    return table


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _check_last(table: PartitionTable, partition: Partition) -> None:
    behind = [item.number for item in table.partitions if item.start >= partition.end]
    if isinstance(table.source, MbrTable) and any(ebr.lba * SECTOR_SIZE >= partition.end for ebr in table.source.ebrs):
        behind = behind or [item.number for item in table.partitions if item.kind is PartitionKind.EXTENDED]
    if behind:
        numbers = ", ".join(map(str, behind))
        raise DiskImageError(
            f"partition {partition.number} cannot grow: it is not the last on the disk, partition {numbers} lies behind it"
        )


def _mbr_writes(source: MbrTable, partition: Partition, grown: Partition) -> tuple[TableWrite, ...]:
    end_lba = grown.end // SECTOR_SIZE
    if end_lba - 1 > MAX_LBA:
        raise PartitionTableError(
            f"partition {partition.number} would end at byte {grown.end}, but an MBR reaches only 2 TiB; use a disk image "
            "with a GPT"
        )
    if partition.kind is not PartitionKind.LOGICAL:
        return (_record_write(_resized(source.mbr, partition.number - 1, 0, end_lba)),)
    if source.extended is None:
        raise PartitionTableError(f"partition {partition.number} is logical, but there is no extended partition")
    container_lba = source.mbr.entries[source.extended].starting_lba
    logical = source.logicals[partition.number - 5]
    # From the outside in: what surrounds a partition is never smaller than the partition.
    writes = [_record_write(_resized(source.mbr, source.extended, 0, end_lba))]
    for ebr in source.ebrs:
        for index, entry in enumerate(ebr.entries):
            if entry.is_extended and container_lba + entry.starting_lba == logical.ebr.lba:
                writes.append(_record_write(_resized(ebr, index, container_lba, end_lba)))
    writes.append(_record_write(_resized(logical.ebr, logical.index, logical.ebr.lba, end_lba)))
    return tuple(writes)


def _resized(record: BootRecord, index: int, base_lba: int, end_lba: int) -> BootRecord:
    """The record with entry *index*, whose start counts from *base_lba*, ending before *end_lba* if it did not reach so far."""
    entry = record.entries[index]
    size_in_lba = max(entry.size_in_lba, end_lba - base_lba - entry.starting_lba)
    if size_in_lba == entry.size_in_lba:
        return record
    # Addresses in an EBR's records are the disk's, not the record's: C/H/S has no notion of a base.
    last_lba = base_lba + entry.starting_lba + size_in_lba - 1
    return record.with_entry(index, replace(entry, size_in_lba=size_in_lba, ending_chs=chs_address(last_lba)))


def _record_write(record: BootRecord) -> TableWrite:
    return TableWrite(record.lba * SECTOR_SIZE, record.sector)


def _gpt_plan(
    table: PartitionTable, source: GptTable, device_size: int, partition: Partition, grown: Partition
) -> GrowthPlan:
    if table.is_hybrid:
        raise DiskImageError(
            f"partition {partition.number} cannot grow: the MBR is hybrid and repeats partitions of the GPT; "
            "make it a protective one first (gdisk: x, n, w)"
        )
    sector_size, old = source.sector_size, source.header
    array_sectors = -(-old.array_size // sector_size)
    new_device_size = max(
        device_size, _round_up(grown.end + (array_sectors + 1) * sector_size, max(GPT_DISK_ALIGNMENT, sector_size))
    )
    last_lba = new_device_size // sector_size - 1
    index = partition.number - 1
    array = resize_entry(source.array, index, old.size_of_partition_entry, grown.end // sector_size - 1)
    is_primary = old.my_lba == 1
    primary_array_lba = old.partition_entry_lba if is_primary else 2
    if primary_array_lba + array_sectors > old.first_usable_lba:
        raise PartitionTableError(
            f"the GPT has no room for its {array_sectors} sectors of entries before the first usable sector, "
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
    if old_last_lba < last_lba and old_last_lba - array_sectors > old.last_usable_lba:
        # The old backup would lie inside the partition: no later reader shall take it for a table. First of all writes,
        # since after little growth the new backup reaches into the old one's place.
        stale = (old_last_lba - array_sectors) * sector_size
        writes.append(TableWrite(stale, bytes((array_sectors + 1) * sector_size)))
    # The backup before the primary: until the latter is written the old table stays in force.
    writes += [
        TableWrite(backup.partition_entry_lba * sector_size, array),
        TableWrite(backup.my_lba * sector_size, backup.pack(sector_size)),
        TableWrite(primary.partition_entry_lba * sector_size, array),
        TableWrite(sector_size, primary.pack(sector_size)),
    ]
    protective = _protective(source.protective_mbr, last_lba)
    if protective is not source.protective_mbr:
        writes.append(_record_write(protective))
    return GrowthPlan(grown, new_device_size, tuple(writes))


def _protective(mbr: BootRecord, last_lba: int) -> BootRecord:
    """The protective MBR for a disk that ends with *last_lba*; one that claims the largest size possible keeps doing so."""
    for index, entry in enumerate(mbr.entries):
        if entry.os_type == GPT_PROTECTIVE_TYPE and entry.size_in_lba != MAX_LBA:
            return mbr.with_entry(index, replace(entry, size_in_lba=min(last_lba, MAX_LBA)))
    return mbr
