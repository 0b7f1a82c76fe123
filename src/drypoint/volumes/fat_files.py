"""Small files in the FAT partitions of a disk image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .partitioned_disk import PartitionedDisk


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


def put_fat_files(disk: PartitionedDisk, files: Sequence[FatFile], timestamp: int) -> None:
    """Write *files* to their partitions of *disk*; *timestamp* in seconds. Each partition gets all of its files, or none.

    Raises:
        PartitionTableError: there is no partition of such a number.
        DrypointError: as :meth:`.FatVolume.write`.
    """
    contents: dict[int, dict[str, bytes]] = {}
    for file in files:
        contents.setdefault(file.partition, {})[file.path] = file.content
    for number, content in contents.items():
        disk.fat_volume_in(disk.find(number), "a file for the boot partition").write(content, timestamp=timestamp)
