"""Disk images whose last partitions end beyond the end of the file.

genimage (hdimage, without ``fill``, and for a GPT with ``gpt-no-backup``) ends the file where the content of the last partition
ends, and leaves out partitions without content; on the card zeros, or anything else, follow. A download that was cut short
looks the same, except that a file system is incomplete.
"""

from __future__ import annotations

from typing import Protocol

from ...errors import DiskImageError
from ...progress import SILENT, Progress
from ..device import Device, FileDevice, Window
from ..probe import probe
from .gpt import GptTable
from .mbr import SECTOR_SIZE
from .partitions import Partition, PartitionKind, PartitionTable, end_of
from .table_reading import parse_table


class PaddableDevice(Device, Protocol):
    """A device that can be read as if it were longer."""

    def pad(self, size: int) -> None:
        """Make the device read as *size* bytes, with zeros after its own; the underlying file does not change."""


def pad_missing_tail(device: PaddableDevice, progress: Progress = SILENT) -> None:
    """Pad *device*, a disk image, to the end of its partitions, if only zeros can be missing, with a note to *progress*.

    That is so if each partition that reaches beyond the end holds a file system that ends before it, or has no byte in the
    file, and the file ends where a partition or a file system does. Any other disk image stays as it is: reading its table
    raises the error.

    Raises:
        DiskImageError: *device* cannot be read.
    """
    if isinstance(device, FileDevice) and device.is_block_device:
        return
    try:
        table = parse_table(device)
    except DiskImageError:
        return
    before, after = device.size, _whole_size(table)
    if end_of(table) <= before or not _is_whole(device, table):
        return
    device.pad(after)
    progress.note(
        f"note: {device.name} ends {after - before} bytes before its last partition does. Each file system is complete, so "
        "the missing bytes are read as zeros"
    )


def _whole_size(table: PartitionTable) -> int:
    """Bytes of the disk that *table* is for. Sectors that a GPT calls usable must exist, or the kernel ignores it."""
    end = end_of(table)
    if isinstance(table.source, GptTable):
        end = max(end, (table.source.header.last_usable_lba + 1) * table.sector_size)
    return end


def _is_whole(device: Device, table: PartitionTable) -> bool:
    size = device.size
    data = [item for item in table.partitions if item.kind is not PartitionKind.EXTENDED]
    begun = [item for item in data if item.start < size]
    contents = {item.number: _end_of_content(device, item) for item in begun}
    if any(item.end > size and not item.start < contents[item.number] <= size for item in begun):
        return False
    ends = {item.end for item in begun} | {-(-end // SECTOR_SIZE) * SECTOR_SIZE for end in contents.values()}
    return len(begun) == len(data) or size in ends


def _end_of_content(device: Device, partition: Partition) -> int:
    """The end of the file system in *partition* by its superblock; the partition's start if there is none."""
    found = probe(Window(device, partition.start, min(partition.end, device.size) - partition.start))
    return partition.start + (0 if found is None else found.size)
