"""Growing a partition, and shrinking it again: a plan as a value, then its execution.

Planning is pure: which bytes move where, which to write, and how long the disk image becomes. The partition's start never
moves, and its new end is aligned to 4 MiB, as in balenaOS and most systems; what follows it moves by a multiple of that.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from ...errors import PartitionTableError
from ..device import GrowableDevice, TrimmableDevice
from .gpt import GptTable
from .growth_gpt import check_not_hybrid, gpt_disk_size, gpt_writes
from .growth_mbr import mbr_records
from .layout import ALIGNMENT, Change, change_for_growth, change_for_trimming, moves_of
from .mbr import SECTOR_SIZE, MbrTable
from .moving import Move, move_range
from .partitions import Partition, PartitionTable, end_of
from .table_reading import read_table

__all__ = ["ALIGNMENT", "GrowthPlan", "TableWrite", "apply_growth", "apply_shrink", "plan_growth", "plan_shrink"]


class TableWrite(msgspec.Struct, frozen=True):
    """Bytes of a partition table and the offset on the disk where they go."""

    offset: int
    data: bytes


class GrowthPlan(msgspec.Struct, frozen=True):
    """The steps: extend the disk image to *device_size* bytes, do *moves*, then *writes*, each in order.

    *partition* is the partition afterwards, *partitions* is the whole table afterwards.
    """

    partition: Partition
    device_size: int
    writes: tuple[TableWrite, ...]
    moves: tuple[Move, ...] = ()
    partitions: tuple[Partition, ...] = ()


def plan_growth(table: PartitionTable, device_size: int, partition: Partition, new_size: int) -> GrowthPlan:
    """Plan to make *partition* at least *new_size* bytes long; an empty plan if it is already.

    Free space directly after it is used first. Then what is in the way moves up, together with everything after it. The disk
    image becomes longer only if the free space at its end is too small.

    Args:
        table: the table as read from the device.
        device_size: current bytes of the disk image.
        partition: one of the table's.
        new_size: its least new size in bytes.

    Raises:
        DiskImageError: the MBR is hybrid.
        PartitionTableError: the table's format cannot express the new layout.
    """
    if new_size <= partition.size:
        return GrowthPlan(partition, device_size, (), (), table.partitions)
    return _plan(table, device_size, change_for_growth(table, partition, new_size))


def plan_shrink(
    table: PartitionTable, device_size: int, partition: Partition, new_size: int, least_device_size: int = 0
) -> GrowthPlan:
    """Plan to shrink *partition* to *new_size* bytes, or the few more that alignment needs, and the disk image by as much.

    Everything after the partition moves down. An empty plan if the disk image would not get shorter.

    Args:
        table: the table as read from the device.
        device_size: current bytes of the disk image.
        partition: one of the table's.
        new_size: bytes that it must keep.
        least_device_size: bytes that the disk image must keep; the partition keeps what this needs.

    Raises:
        DiskImageError: the MBR is hybrid.
    """
    change = change_for_trimming(partition, new_size, device_size - least_device_size)
    if change.delta == 0:
        return GrowthPlan(partition, device_size, (), (), table.partitions)
    return _plan(table, device_size, change)


def apply_growth(device: GrowableDevice, plan: GrowthPlan) -> PartitionTable:
    """Execute *plan* and read the table back.

    The file grows first, so that no table ever names sectors that do not exist.

    Raises:
        DiskImageError: the device cannot grow or be written, or the table read back does not hold what was planned.
    """
    device.extend(plan.device_size)
    _move_and_write(device, plan)
    return _read_back(device, plan)


def apply_shrink(device: TrimmableDevice, plan: GrowthPlan) -> PartitionTable:
    """Execute *plan* and read the table back. The file is truncated last, before the table is read back.

    Raises:
        DiskImageError: the device cannot be truncated or written, or the table read back does not hold what was planned.
    """
    _move_and_write(device, plan)
    device.truncate(plan.device_size)
    return _read_back(device, plan)


def _plan(table: PartitionTable, device_size: int, change: Change) -> GrowthPlan:
    moves = moves_of(table, change)
    places = tuple(change.place(item) for item in table.partitions)
    end = max(item.end for item in places)
    size = device_size + min(change.delta, 0)
    match table.source:
        case None:
            writes: tuple[TableWrite, ...] = ()
            size = max(size, end)
        case MbrTable() as source:
            records = mbr_records(table, source, change)
            writes = tuple(TableWrite(record.lba * SECTOR_SIZE, record.sector) for record in records)
            size = max(size, end)
        case GptTable() as source:
            check_not_hybrid(table, change.before)
            size = gpt_disk_size(source, end, size)
            old_end = end_of(table)
            writes = tuple(TableWrite(*write) for write in gpt_writes(table, source, change, size, old_end))
        case _:
            assert_never(table.source)
    return GrowthPlan(change.after, size, writes, moves, places)


def _move_and_write(device: GrowableDevice, plan: GrowthPlan) -> None:
    for move in plan.moves:
        move_range(device, move)
    for write in plan.writes:
        device.write(write.offset, write.data)


def _read_back(device: GrowableDevice, plan: GrowthPlan) -> PartitionTable:
    table = read_table(device)
    if table.partitions != plan.partitions:
        raise PartitionTableError(
            f"{device.name}: with partition {plan.partition.number} {plan.partition.size} bytes long, the table should hold "
            f"{plan.partitions}, but read back it holds {table.partitions}"
        )
    return table
