"""Data that belongs to no partition, such as a boot loader's environment, which growth must not overwrite unnoticed.

Growth overwrites the space after the partition that grows and, where others move up, the space after the last one. The
backup of a GPT, which is there too, is written anew.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ...errors import DiskImageError
from ..device import Device, FileDevice
from ..host.undo import UndoDevice
from .gpt import SIGNATURE, GptTable, parse_header
from .growth import GrowthPlan
from .mbr import SECTOR_SIZE, MbrTable
from .partitions import Partition, PartitionKind, PartitionTable, end_of

_CHUNK = 1 << 20


class Leftover(msgspec.Struct, frozen=True):
    """Bytes from *start* to before *end*; the first and the last are not zero."""

    start: int
    end: int


def overwritten(device: Device, table: PartitionTable, partition: Partition, plan: GrowthPlan) -> tuple[Leftover, ...]:
    """Data of no partition that *plan*, which grows *partition*, would overwrite.

    Raises:
        DiskImageError: *device* cannot be read.
    """
    reached = min(plan.partition.end, _next_start(table, partition) or device.size)
    last = max(item.end for item in plan.partitions)
    ranges = [(partition.end, reached), (max(end_of(table), reached), last)]
    pieces = (piece for start, end in ranges for piece in _without_backup(device, table, start, min(end, device.size)))
    found = (_data_in(device, *piece) for piece in pieces)
    return tuple(one for one in found if one is not None and not _is_old_backup(device, table, one))


def moved(device: Device, table: PartitionTable, plan: GrowthPlan) -> tuple[Leftover, ...]:
    """Data between partitions that *plan* moves with them, so that programs which know its place no longer find it.

    Raises:
        DiskImageError: *device* cannot be read.
    """
    found = []
    for move in plan.moves:
        place = move.offset
        for start, end in sorted(_taken(table)):
            if place < start:
                found.append(_data_in(device, place, start))
            place = max(place, end)
    return tuple(one for one in found if one is not None and not _is_old_backup(device, table, one))


def check_nothing_overwritten(device: Device, table: PartitionTable, partition: Partition, plan: GrowthPlan) -> None:
    """Refuse *plan* if it overwrites data that belongs to no partition. A card may simply have held that data before.

    Raises:
        DiskImageError: there is such data; the message says where, and what to do.
    """
    if is_block_device(device):
        return
    for one in overwritten(device, table, partition, plan):
        raise DiskImageError(
            f"{device.name}: partition {partition.number} would grow, and bytes {one.start} to {one.end} after it hold "
            "data that belongs to no partition, perhaps a boot loader's settings or firmware. If it is not needed, write "
            "zeros there first, in the uncompressed file (fallocate --punch-hole "
            f"--offset {one.start} --length {one.end - one.start} FILE); otherwise create a partition for it"
        )


def is_block_device(device: Device) -> bool:
    """Whether *device* is a block device, such as a card."""
    return isinstance(device, UndoDevice) or (isinstance(device, FileDevice) and device.is_block_device)


def _next_start(table: PartitionTable, partition: Partition) -> int | None:
    return min((start for start, _ in _taken(table) if start >= partition.end), default=None)


def _taken(table: PartitionTable) -> Iterator[tuple[int, int]]:
    """The (start, end) ranges of partitions and of extended boot records."""
    for item in table.partitions:
        if item.kind is not PartitionKind.EXTENDED:
            yield item.start, item.end
    if isinstance(table.source, MbrTable):
        for ebr in table.source.ebrs:
            yield ebr.lba * SECTOR_SIZE, (ebr.lba + 1) * SECTOR_SIZE


def _without_backup(device: Device, table: PartitionTable, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of a range without the backup of a GPT."""
    if isinstance(table.source, GptTable):
        for backup_start, backup_end in _backup(device, table.source):
            if start < backup_end and backup_start < end:
                yield start, min(end, backup_start)
                start = backup_end
    yield start, end


def _backup(device: Device, source: GptTable) -> tuple[tuple[int, int], tuple[int, int]]:
    """The (start, end) of the backup's entry array and of its header. With sgdisk there may be a gap between them."""
    header, size = source.header, source.sector_size
    last = header.alternate_lba if header.my_lba == 1 else header.my_lba
    sectors = -(-header.array_size // size)
    try:
        array = parse_header(device.read(last * size, size), last).partition_entry_lba
    except DiskImageError:
        array = last - sectors
    return (array * size, (array + sectors) * size), (last * size, (last + 1) * size)


def _is_old_backup(device: Device, table: PartitionTable, one: Leftover) -> bool:
    """Whether *one* is an old backup of this GPT, which tools leave when they write the backup to the disk's new end."""
    if not isinstance(table.source, GptTable):
        return False
    header, size = table.source.header, table.sector_size
    start, end = one.start // size * size, -(-one.end // size) * size
    if end - start > header.array_size + size:
        return False
    data = device.read(start, end - start)
    if data[-size:].startswith(SIGNATURE):
        data = data[:-size]
    known = {entry.unique_partition_guid.bytes_le for entry in table.source.entries}
    step = header.size_of_partition_entry
    entries = (data[offset : offset + step] for offset in range(0, len(data), step))
    return all(not any(entry) or entry[16:32] in known for entry in entries)


def _data_in(device: Device, start: int, end: int) -> Leftover | None:
    first = last = -1
    for offset, length in device.data_extents(start, end - start) if start < end else ():
        for chunk in range(offset, offset + length, _CHUNK):
            data = device.read(chunk, min(_CHUNK, offset + length - chunk))
            kept = data.rstrip(b"\0")
            if kept:
                first = first if first >= 0 else chunk + len(data) - len(data.lstrip(b"\0"))
                last = chunk + len(kept)
    return Leftover(first, last) if first >= 0 else None
