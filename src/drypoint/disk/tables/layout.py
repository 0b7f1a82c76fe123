"""The arithmetic of a partition whose end moves, and of all others: pure, for growth and trimming.

Offsets and lengths are in bytes.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from .mbr import SECTOR_SIZE, MbrTable
from .moving import Move
from .partitions import Partition, PartitionKind, PartitionTable, end_of

ALIGNMENT = 4 << 20


class Change(msgspec.Struct, frozen=True):
    """*before* becomes *after*, which has another end; what starts at *edge* or after it moves by *delta*.

    A partition that contains the changed one, or what moves, ends as much later or earlier. If nothing moves, *delta* is 0 for
    growth; for trimming it is what the partition loses, because its container may lose it too.
    """

    before: Partition
    after: Partition
    edge: int
    delta: int

    def start(self, offset: int) -> int:
        """The new place of what starts at *offset*."""
        return offset + self.delta if offset >= self.edge else offset

    def end(self, offset: int) -> int:
        """The new end of what ends at *offset*."""
        if self.delta > 0:
            return offset + self.delta if offset > self.edge else offset
        return offset + self.delta if offset >= self.edge else offset

    def place(self, partition: Partition) -> Partition:
        """*partition*, one of the same table, after the change."""
        if partition == self.before:
            return self.after
        start, end = self.start(partition.start), self.end(partition.end)
        if partition.kind is PartitionKind.EXTENDED and self._holds_changed(partition):
            end = max(end, self.after.end)
        return replace(partition, start=start, size=end - start)

    def _holds_changed(self, container: Partition) -> bool:
        return container.start <= self.before.start and self.before.end <= container.end


def change_for_growth(table: PartitionTable, partition: Partition, new_size: int) -> Change:
    """*partition* with at least *new_size* bytes, more than it has; its new end is aligned.

    Free space directly after it is used first. Then what is in the way moves up, with everything after it.
    """
    after = replace(partition, size=round_up(partition.start + new_size, ALIGNMENT) - partition.start)
    behind = _starts_behind(table, partition)
    if not behind:
        return Change(partition, after, partition.end, 0)
    edge = min(behind)
    return Change(partition, after, edge, max(0, round_up(after.end - edge, ALIGNMENT)))


def change_for_trimming(partition: Partition, new_size: int, most: int) -> Change:
    """*partition* with *new_size* bytes or a few more, at most *most* bytes less than it has: whole alignment units less."""
    delta = max(0, min(partition.end - round_up(partition.start + new_size, ALIGNMENT), most)) // ALIGNMENT * ALIGNMENT
    return Change(partition, replace(partition, size=partition.size - delta), partition.end, -delta)


def moves_of(table: PartitionTable, change: Change) -> tuple[Move, ...]:
    """The bytes that move: from the edge to the end of the last partition, in one piece.

    So data between partitions moves with them: boot records of logical partitions, and what drypoint does not know.
    """
    if change.delta == 0 or not _starts_behind(table, change.before):
        return ()
    return (Move(change.edge, end_of(table) - change.edge, change.delta),)


def round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _starts_behind(table: PartitionTable, partition: Partition) -> list[int]:
    starts = [item.start for item in table.partitions]
    if isinstance(table.source, MbrTable):
        starts += [ebr.lba * SECTOR_SIZE for ebr in table.source.ebrs]
    return [start for start in starts if start >= partition.end]
