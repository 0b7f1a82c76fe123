"""Check a disk image's partition table and file systems, but not what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Protocol

import msgspec
from msgspec.structs import replace

from ..concurrency.pool import Pool
from ..disk import Device, PartitionTable, Window
from ..disk.tables.gpt import GptTable
from ..errors import FilesystemError
from ..progress import Progress
from ..volumes.partitioned_disk import PartitionedDisk
from ..volumes.volume import Volume
from .filesystem import Judgement, judge_ext, judge_fat
from .finding import FileSystemVerdict, Finding, finding

_UNREADABLE = frozenset({"damaged-superblock", "damaged-group-descriptor"})


class _Judge(Protocol):
    def __call__(self, device: Device, /) -> Judgement: ...


class _Started(msgspec.Struct, frozen=True):
    verdict: FileSystemVerdict
    structure: tuple[Finding, ...]
    judgement: Future[Judgement] | None


def check_table(table: PartitionTable) -> Iterator[Finding]:
    """Faults and oddities of a table that can be read."""
    damage = table.source.damage if isinstance(table.source, GptTable) else ()
    for note in table.notes:
        yield finding("damaged-table-copy" if note in damage else "odd-partition-table", b"", note)


class DiskCheck:
    """The check of a disk image: findings of its table and its file systems' structures, and checkers still running.

    Args:
        checkers: runs the file systems' checkers in parallel.

    Raises:
        DiskImageError: the device cannot be read.
    """

    def __init__(self, disk: PartitionedDisk, checkers: Pool, progress: Progress) -> None:
        path = self._path = disk.path
        self._table = list(check_table(disk.table))
        self._started: list[_Started] = []
        for probed in disk.partitions:
            if probed.filesystem is None:
                continue
            window = Window(disk.device, probed.partition.start, probed.partition.size)
            is_ext = probed.filesystem.kind.is_ext
            structure = tuple(check_structure(disk.volume_in(probed))) if is_ext else ()
            judge: _Judge | None = judge_ext if is_ext else judge_fat if probed.filesystem.kind.is_fat else None
            verdict = FileSystemVerdict(
                probed.partition.number, probed.filesystem.label, probed.filesystem.kind.value, "not checked", path
            )
            judgement = None
            if judge is not None:
                inside = " of the inner disk image" if path else ""
                what = f"checking the file system of partition {probed.partition.number}{inside}"
                judgement = checkers.submit(_judged, judge, window, what, progress)
            self._started.append(_Started(verdict, structure, judgement))

    def is_readable(self, number: int) -> bool:
        """Whether the ext file system in partition *number* can be read at all. Does not wait for the checkers."""
        return not any(
            one.code in _UNREADABLE
            for started in self._started
            if started.verdict.partition == number
            for one in started.structure
        )

    def result(self) -> tuple[list[Finding], list[FileSystemVerdict]]:
        """All findings and verdicts, in the order of the partitions. Waits for the checkers.

        Raises:
            DiskImageError: the device cannot be read.
            OutputError: no space for a copy that a checker needs.
        """
        findings = self._table
        verdicts = []
        for started in self._started:
            judgement = (
                Judgement((), started.verdict.verdict) if started.judgement is None else started.judgement.result()
            )
            number = started.verdict.partition
            findings += [replace(one, partition=number) for one in (*started.structure, *judgement.findings)]
            verdicts.append(replace(started.verdict, verdict=judgement.words))
        return [replace(one, disk_image=self._path) for one in findings], verdicts


def _judged(judge: _Judge, window: Window, what: str, progress: Progress) -> Judgement:
    step = progress.begin(what)
    judgement = judge(window)
    step.end()
    return judgement


def check_structure(volume: Volume) -> Iterator[Finding]:
    """Check the superblock, its flags, and every group descriptor of *volume*, without e2fsck."""
    try:
        reader = volume.reader(allow_dirty=True)
    except FilesystemError as error:
        yield finding("damaged-superblock", b"", str(error))
        return
    if reader.needs_recovery:
        yield finding(
            "journal-needs-recovery", b"", "it was not unmounted; its journal holds changes that are not in place yet"
        )
    elif not reader.superblock.clean:
        yield finding("file-system-not-clean", b"", "its superblock does not mark it as clean")
    try:
        for _ in reader.groups():
            continue
    except FilesystemError as error:
        yield finding("damaged-group-descriptor", b"", str(error))
