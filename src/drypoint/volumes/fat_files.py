"""Small files in the FAT partitions of a disk image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .partitioned_disk import PartitionedDisk


@dataclass(frozen=True, slots=True)
class FatFile:
    """A small file for a FAT partition of the disk image; it replaces an existing one.

    Attributes:
        partition: the partition's number.
        path: from the file system's root, ``splash/balena-logo.png``; missing directories are created.
        content: the whole content.
    """

    partition: int
    path: str
    content: bytes = field(repr=False)


def put_fat_files(disk: PartitionedDisk, files: Sequence[FatFile], timestamp: int) -> None:
    """Write *files* to their partitions of *disk*; *timestamp* in seconds. Each partition gets all of its files, or none.

    Raises:
        PartitionTableError: there is no partition of that number.
        DrypointError: as :meth:`.FatVolume.write`.
    """
    contents: dict[int, dict[str, bytes]] = {}
    for file in files:
        contents.setdefault(file.partition, {})[file.path] = file.content
    for number, content in contents.items():
        disk.fat_volume_in(disk.find(number), "a file for the boot partition").write(content, timestamp=timestamp)
