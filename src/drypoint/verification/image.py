"""A finished disk image, proved: its table, its file systems, and the store in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..disk import Window, find_partition, probe_partitions, read_table
from ..disk.ext4.reader import Ext4Reader
from ..disk.formats import opened_image
from ..errors import FilesystemError
from ..oci import Reference
from ..progress import SILENT, Progress
from .demand import DemandReader
from .finding import Finding, Report, by_weight, finding
from .partitions import check_partition, check_table
from .processes import LayerProcesses
from .store import verify_store

_UNREADABLE = frozenset({"damaged-superblock", "damaged-group-descriptor"})


def verify(
    image: Path,
    *,
    partition: str | int,
    data_root: bytes,
    references: Iterable[Reference] = (),
    demand: DemandReader | None = None,
    processes: int = 1,
    progress: Progress = SILENT,
) -> Report:
    """Prove what the disk image *image* holds in *partition*. Nothing is changed, and neither root nor a mount is needed.

    Args:
        image: raw or compressed; a compressed one is unpacked to a nameless file first.
        partition: file-system label, GPT name, or number, of the partition with the engine's store. The file systems of the
            others are checked as such.
        data_root: the engine's data root, a clean path in the partition.
        references: names that must lead to an image that loads.
        demand: tells who will ask for images on the device, see :data:`DemandReader`.
        processes: how many processes may share the work on a large store. They are started as the standard library's
            multiprocessing does: a script that asks for more than one must guard its own work with ``__name__ == "__main__"``.
        progress: is told what is being done.

    Raises:
        DiskImageError: the disk image's table is damaged beyond use; it has no such partition; or no ext file system is there.
        OutputError: there is no room to unpack the disk image.
        StoreError: what is at the data root is no store at all.
        ToolError: one of the processes was killed.
    """
    with opened_image(image, progress=progress) as opened:
        device = opened.device
        table = read_table(device)
        found = find_partition(device, table, partition)
        if found.filesystem is None or not found.filesystem.kind.is_ext:
            kind = found.filesystem.kind.value if found.filesystem else "no known file system"
            raise FilesystemError(f"{image}: partition {found.partition.number} holds {kind}, expected ext4")
        findings = list(check_table(table))
        file_systems = []
        for probed in probe_partitions(device, table):
            step = progress.begin(f"checking the file system of partition {probed.partition.number}")
            verdict, faults = check_partition(device, probed)
            step.end()
            findings += faults
            if verdict is not None:
                file_systems.append(verdict)
        number = found.partition.number
        report = Report((), (), 0, 0)
        if not any(one.code in _UNREADABLE and one.partition == number for one in findings):
            step = progress.begin("verifying the engine's store")
            window = Window(device, found.partition.start, found.partition.size)
            report = _store(window, data_root, references, demand, processes)
            step.end()
        findings += [replace(one, partition=number) for one in report.findings]
    return replace(report, findings=tuple(sorted(findings, key=by_weight)), file_systems=tuple(file_systems))


def _store(
    window: Window, data_root: bytes, references: Iterable[Reference], demand: DemandReader | None, processes: int
) -> Report:
    location = window.location
    shared = LayerProcesses(*location, window.size, processes) if location is not None and processes > 1 else None
    try:
        # Unclean or not, the report says what is in place; that the journal has more is a finding already.
        reader = Ext4Reader(window, allow_dirty=True)
        return verify_store(reader, data_root, references=references, demand=demand, processes=shared)
    except FilesystemError as error:
        unreadable: Finding = finding("unreadable", data_root, str(error))
        return Report((unreadable,), (), 0, 0)
