"""The partitions of a disk image, for any kind of table, and the search for one of them.

Starts and sizes are in bytes. Numbers are those of the Linux kernel: 1 to 4 and from 5 in an MBR, the entry's position in a
GPT; 0 stands for a disk image without a table that is one ext file system as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from ...errors import PartitionTableError
from ..device import Device, Window
from ..filesystem_info import FilesystemInfo
from ..probe import BackupSuperblock, probe, probe_backup
from .gpt import GptTable
from .mbr import MbrTable


class PartitionKind(StrEnum):
    """Where in a table a partition is defined."""

    PRIMARY = "primary"
    EXTENDED = "extended"
    LOGICAL = "logical"
    GPT = "gpt"
    WHOLE = "whole"


class Partition(msgspec.Struct, frozen=True):
    """A partition: *start* and *size* in bytes.

    *type* is ``0x83`` and the like, or a GPT type GUID in lower case; *name*, *guid* and *attributes* are from a GPT,
    *bootable* is from an MBR.
    """

    number: int
    start: int
    size: int
    kind: PartitionKind
    type: str
    name: str = ""
    guid: str = ""
    attributes: int = 0
    bootable: bool = False

    @property
    def end(self) -> int:
        """The offset of the first byte after the partition."""
        return self.start + self.size


class PartitionTable(msgspec.Struct, frozen=True):
    """The table of a disk image. *source* is the table in its own format, None for a disk image that is one file system.

    *notes* says, a sentence each, what is unusual but does not prevent reading: a damaged copy of a GPT, a hybrid MBR.
    """

    sector_size: int
    partitions: tuple[Partition, ...]
    source: MbrTable | GptTable | None
    disk_id: str = ""
    notes: tuple[str, ...] = ()
    is_hybrid: bool = False


class ProbedPartition(msgspec.Struct, frozen=True):
    """A partition and the file system in it; *backup* if only a copy of an ext superblock was found."""

    partition: Partition
    filesystem: FilesystemInfo | None
    backup: BackupSuperblock | None = None


def end_of(table: PartitionTable) -> int:
    """The offset of the first byte after all partitions of *table*."""
    return max((item.end for item in table.partitions), default=0)


def probe_partitions(device: Device, table: PartitionTable) -> tuple[ProbedPartition, ...]:
    """Probe every partition except the extended one, in table order.

    Raises:
        DiskImageError: the device cannot be read.
    """
    return tuple(
        _probed(device, partition) for partition in table.partitions if partition.kind is not PartitionKind.EXTENDED
    )


def _probed(device: Device, partition: Partition) -> ProbedPartition:
    window = Window(device, partition.start, partition.size)
    filesystem = probe(window)
    return ProbedPartition(partition, filesystem, probe_backup(window) if filesystem is None else None)


def find_partition(device: Device, table: PartitionTable, selector: str | int) -> ProbedPartition:
    """The one partition that *selector* names, see :func:`choose_partition`.

    Raises:
        PartitionTableError: as :func:`choose_partition`.
        DiskImageError: the device cannot be read.
    """
    return choose_partition(device.name, table, probe_partitions(device, table), selector)


def choose_partition(
    name: str, table: PartitionTable, probed: Sequence[ProbedPartition], selector: str | int
) -> ProbedPartition:
    """The one of the *probed* partitions of the disk image *name* that *selector* names.

    A number (an int, or digits that are not a file system's label) is a partition number. Any other text is a file system's
    label or, if no file system has it, a GPT partition's name.

    Raises:
        PartitionTableError: no partition matches, or more than one does; the message lists them.
    """
    if selector == "":
        raise PartitionTableError("a partition is chosen by its label, GPT name or number, not by an empty text")
    matches: list[ProbedPartition] = []
    if isinstance(selector, str):
        matches = [item for item in probed if item.filesystem is not None and item.filesystem.label == selector]
        matches = matches or [item for item in probed if item.partition.name == selector]
    if not matches and str(selector).isdecimal():
        number = int(selector)
        matches = [item for item in probed if item.partition.number == number]
        if any(partition.number == number for partition in table.partitions) and not matches:
            raise PartitionTableError(
                f"{name}: partition {number} is the extended partition, a container of others; "
                f"choose one of {describe(probed)}"
            )
    if len(matches) == 1:
        return matches[0]
    wanted = f"number {selector}" if isinstance(selector, int) else f"label {selector!r}"
    if matches:
        numbers = " and ".join(str(item.partition.number) for item in matches)
        raise PartitionTableError(
            f"{name}: partitions {numbers} both have the {wanted}; choose the partition by its number instead"
        )
    hidden = [item for item in probed if item.filesystem is not None and item.filesystem.kind.is_luks]
    encrypted = f". What an encrypted one ({describe(hidden)}) holds cannot be read" if hidden else ""
    raise PartitionTableError(f"{name}: no partition has the {wanted}; there are {describe(probed)}{encrypted}")


def describe(probed: Sequence[ProbedPartition]) -> str:
    """The partitions in one line: ``1 'resin-boot' (FAT16), 5 'resin-state' (ext4), 6 (unknown)``."""
    if not probed:
        return "no partitions"
    parts = []
    for item in probed:
        label = (item.filesystem.label if item.filesystem else "") or item.partition.name
        kind = item.filesystem.kind.value if item.filesystem else "unknown content"
        if item.backup is not None:
            label, kind = item.backup.info.label or label, _without_superblock(item.partition, item.backup)
        parts.append(f"{item.partition.number}{f' {label!r}' if label else ''} ({kind})")
    return ", ".join(parts)


def _without_superblock(partition: Partition, backup: BackupSuperblock) -> str:
    # An older file system may have left the copy. e2fsck -p, and so --fsck, does not use a copy: that needs a decision.
    return (
        f"unknown content, with a copy of an {backup.info.kind.value} superblock; if that file system is meant, e2fsck "
        f"repairs it by hand only: e2fsck -f -b {backup.block} -B {backup.block_size} 'DISK?offset={partition.start}', "
        "on a plain disk image DISK"
    )
