"""A disk image's partition table and file systems, apart from what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..disk import Device, PartitionTable, ProbedPartition, Window
from ..disk.ext4.reader import Ext4Reader
from ..disk.gpt import GptTable
from ..errors import FilesystemError
from .filesystem import Judgement, judge_ext, judge_fat
from .finding import FileSystemVerdict, Finding, finding


def check_table(table: PartitionTable) -> Iterator[Finding]:
    """What is wrong or odd with a table that can be read."""
    damage = table.source.damage if isinstance(table.source, GptTable) else ()
    for note in table.notes:
        yield finding("damaged-table-copy" if note in damage else "odd-partition-table", b"", note)


def check_partition(device: Device, probed: ProbedPartition) -> tuple[FileSystemVerdict | None, tuple[Finding, ...]]:
    """Check the file system of one partition of *device*, if it is an ext or a FAT one; others are named, not checked.

    Raises:
        DiskImageError: the device cannot be read.
    """
    if probed.filesystem is None:
        return None, ()
    partition, kind = probed.partition, probed.filesystem.kind
    window = Window(device, partition.start, partition.size)
    judgement = Judgement((), "not checked")
    findings: list[Finding] = []
    if kind.is_ext:
        findings += check_structure(window)
        judgement = judge_ext(window)
    elif kind.is_fat:
        judgement = judge_fat(window)
    findings += judgement.findings
    verdict = FileSystemVerdict(partition.number, probed.filesystem.label, kind.value, judgement.words)
    return verdict, tuple(replace(one, partition=partition.number) for one in findings)


def check_structure(device: Device) -> Iterator[Finding]:
    """The superblock, its flags, and every group descriptor of the ext file system on *device*, without e2fsck."""
    try:
        reader = Ext4Reader(device, allow_dirty=True)
    except FilesystemError as error:
        yield finding("damaged-superblock", b"", str(error))
        return
    if reader.needs_recovery:
        yield finding(
            "journal-needs-recovery", b"", "it was not unmounted; its journal holds changes that are not in place yet"
        )
    elif not reader.superblock.clean:
        yield finding("file-system-not-clean", b"", "its superblock does not call it clean")
    try:
        for _ in reader.groups():
            continue
    except FilesystemError as error:
        yield finding("damaged-group-descriptor", b"", str(error))
