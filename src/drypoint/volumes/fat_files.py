"""Small files in the FAT partitions of a disk image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..disk import Device, PartitionTable, Window
from ..disk.fat.files import write_fat_files
from ..errors import PartitionTableError


@dataclass(frozen=True, slots=True)
class FatFile:
    """A small file that goes into a FAT partition of the disk image; one that is there already is replaced.

    Attributes:
        partition: the partition's number.
        path: from the file system's root, ``splash/balena-logo.png``; directories are made where missing.
        content: all of it.
    """

    partition: int
    path: str
    content: bytes = field(repr=False)


def put_fat_files(disk: Device, table: PartitionTable, files: Sequence[FatFile], timestamp: int) -> None:
    """Write *files* to their partitions of *disk*; *timestamp* in seconds. Each partition gets all of its files, or none.

    Raises:
        PartitionTableError: there is no partition of such a number.
        NoSpaceError: a partition has no room for its files.
        FilesystemError: it is not FAT, or damaged.
        UsageError: a path cannot be one on FAT.
        ToolError: mtools is missing.
    """
    windows = {partition.number: Window(disk, partition.start, partition.size) for partition in table.partitions}
    wanted: dict[int, dict[str, bytes]] = {}
    for file in files:
        wanted.setdefault(file.partition, {})[file.path] = file.content
    for number, contents in wanted.items():
        if number not in windows:
            raise PartitionTableError(f"{disk.name} has no partition {number}, which files are to be put into")
        write_fat_files(windows[number], contents, timestamp=timestamp)
