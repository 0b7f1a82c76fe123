"""The boot records of an MBR table after partitions moved or changed their size.

Rules: UEFI specification 5.2.1, and for extended boot records what Linux reads and sfdisk writes: a logical partition's start
counts from its own record, a link's from the container; C/H/S addresses count from the disk's start in all of them.
"""

from __future__ import annotations

from msgspec.structs import replace

from ...errors import PartitionTableError
from .layout import Change
from .mbr import MAX_LBA, SECTOR_SIZE, BootRecord, MbrEntry, MbrTable, chs_address
from .partitions import Partition, PartitionTable


def mbr_records(table: PartitionTable, source: MbrTable, change: Change) -> tuple[BootRecord, ...]:
    """The records that differ from what the moves of *change* leave in their places, outermost first, with their new LBAs.

    Raises:
        PartitionTableError: a partition would end beyond what an MBR can express, or is logical without a container.
    """
    places = {item.number: change.place(item) for item in table.partitions}
    for place in places.values():
        if place.end // SECTOR_SIZE - 1 > MAX_LBA:
            raise PartitionTableError(
                f"partition {place.number} would end at byte {place.end}, but an MBR only reaches 2 TiB; use a disk image "
                "with a GPT"
            )
    records = [_moved_mbr(source.mbr, places)]
    if source.extended is not None:
        container = source.mbr.entries[source.extended].starting_lba, places[source.extended + 1].start // SECTOR_SIZE
        logicals = {logical.ebr.lba: number for number, logical in enumerate(source.logicals, 5)}
        records += [_moved_ebr(ebr, container, logicals, places, change) for ebr in source.ebrs]
    unchanged = {_start(change, record.lba): record.sector for record in (source.mbr, *source.ebrs)}
    return tuple(record for record in records if unchanged[record.lba] != record.sector)


def _moved_mbr(mbr: BootRecord, places: dict[int, Partition]) -> BootRecord:
    for index, entry in enumerate(mbr.entries):
        if not entry.is_empty:
            place = places[index + 1]
            old = entry.starting_lba, entry.starting_lba + entry.size_in_lba
            new = place.start // SECTOR_SIZE, place.end // SECTOR_SIZE
            mbr = mbr.with_entry(index, _moved(entry, old, new, 0))
    return mbr


def _moved_ebr(
    ebr: BootRecord,
    container: tuple[int, int],
    logicals: dict[int, int],
    places: dict[int, Partition],
    change: Change,
) -> BootRecord:
    """An EBR at its new place.

    *container* is the container's old and new start; *logicals* maps the sector of an EBR to its logical partition's number.
    """
    old_base, new_base = container
    moved = BootRecord(_start(change, ebr.lba), ebr.sector, ebr.entries)
    for index, entry in enumerate(ebr.entries):
        if entry.is_empty:
            continue
        if entry.is_extended:
            target = old_base + entry.starting_lba
            end = target + entry.size_in_lba
            new_end = _end(change, end)
            following = logicals.get(target)
            if following is not None and following == change.after.number:
                # A link spans the logical partition that it leads to.
                new_end = max(new_end, change.after.end // SECTOR_SIZE)
            moved = moved.with_entry(index, _moved(entry, (target, end), (_start(change, target), new_end), new_base))
        else:
            place = places[logicals[ebr.lba]]
            first = ebr.lba + entry.starting_lba
            new = place.start // SECTOR_SIZE, place.end // SECTOR_SIZE
            moved = moved.with_entry(index, _moved(entry, (first, first + entry.size_in_lba), new, moved.lba))
    return moved


def _moved(entry: MbrEntry, old: tuple[int, int], new: tuple[int, int], base: int) -> MbrEntry:
    """*entry*, which spans the sectors *old* of the disk (first, and first behind), for the sectors *new*."""
    first, end = new
    entry = replace(entry, starting_lba=first - base, size_in_lba=min(end - first, MAX_LBA))
    if old[0] != first:
        entry = replace(entry, starting_chs=chs_address(first))
    if old[1] != end:
        entry = replace(entry, ending_chs=chs_address(end - 1))
    return entry


def _start(change: Change, lba: int) -> int:
    return change.start(lba * SECTOR_SIZE) // SECTOR_SIZE


def _end(change: Change, lba: int) -> int:
    return change.end(lba * SECTOR_SIZE) // SECTOR_SIZE
