"""Verify a finished disk image: its partition table, its file systems, and the store in it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from ..disk.formats import opened_image
from ..errors import FilesystemError
from ..oci import Reference
from ..progress import SILENT, Progress
from ..system import StorePlace, find_store
from ..volumes.partitioned_disk import PartitionedDisk
from ..volumes.volume import PartitionVolume
from .container import FindContainer, open_inner_disk
from .filesystem import checkers
from .finding import Finding, Report, by_weight, finding
from .partitions import DiskCheck
from .processes import LayerProcesses
from .required_images import RequiredImagesReader
from .store import verify_store

_NOTHING = Report((), (), 0, 0)


def verify(
    image: Path,
    *,
    partition: str | int,
    data_root: bytes | None = None,
    references: Iterable[Reference] = (),
    required_images: RequiredImagesReader | None = None,
    container: FindContainer | None = None,
    processes: int = 1,
    progress: Progress = SILENT,
) -> Report:
    """Verify the disk image *image*, and the store in *partition*. Changes nothing, and needs neither root nor a mount.

    Args:
        image: raw or compressed; a compressed one is unpacked to an unnamed file first.
        partition: file-system label, GPT name, or number, of the partition with the engine's store. Of the other partitions
            only the file systems are checked.
        data_root: the engine's data root, a clean path in the partition; None for the one configured on the disk image, else
            ``docker``.
        references: names that must resolve to an image that loads.
        required_images: finds the images that the device will ask for, see :class:`RequiredImagesReader`.
        container: finds the inner disk image that *partition* belongs to, if there is one;
            :func:`drypoint.balena.flasher.installed_image` for a flasher. Tables and file systems of both are checked then.
        processes: how many processes may share the work on a large store. They are started as the standard library's
            multiprocessing does: a script that asks for more than one must guard its own work with ``__name__ == "__main__"``.
        progress: receives the steps.

    Raises:
        DiskImageError: the partition table is damaged beyond use; there is no such partition, or no ext file system in it; or
            the inner disk image is compressed, or cannot be determined.
        OutputError: no space to unpack the disk image.
        StoreError: what is at the data root is not a store.
        ToolError: one of the processes was killed.
    """
    with opened_image(image, progress=progress) as opened, checkers() as pool:
        outer = PartitionedDisk(opened.device)
        try:
            inner = _inner_disk(outer, container)
        except FilesystemError as error:
            # The checks of the outer file systems report faults of the one that should hold it.
            findings, file_systems = DiskCheck(outer, pool, progress).result()
            findings.append(finding("unreadable", b"", str(error)))
            return replace(_NOTHING, findings=_sorted(findings), file_systems=tuple(file_systems))
        # Looked up before the checks, which take minutes: a missing partition is reported at once.
        disk = inner or outer
        volume = disk.volume(partition)
        checks = [DiskCheck(one, pool, progress) for one in (outer, inner) if one is not None]
        report = _NOTHING
        if checks[-1].is_readable(volume.number):
            step = progress.begin("verifying the engine's store")
            shared = LayerProcesses.on(volume.window, processes)
            if shared is None and disk.within is not None:
                found = volume.partition
                shared = LayerProcesses.inside(disk.within.window, disk.path, found.start, found.size, processes)
            place = find_store(volume, data_root)
            required = None if required_images is None else required_images.on(disk.device)
            report = _store(volume, place, references, required, shared)
            step.end()
        findings = [replace(one, partition=volume.number, disk_image=disk.path) for one in report.findings]
        file_systems = []
        for check in checks:
            faults, verdicts = check.result()
            findings += faults
            file_systems += verdicts
    return replace(report, findings=_sorted(findings), file_systems=tuple(file_systems), disk_image=disk.path)


def _inner_disk(outer: PartitionedDisk, find: FindContainer | None) -> PartitionedDisk | None:
    container = None if find is None else find(outer.device)
    return None if container is None else open_inner_disk(outer, container)


def _store(
    volume: PartitionVolume,
    place: StorePlace,
    references: Iterable[Reference],
    required_images: RequiredImagesReader | None,
    shared: LayerProcesses | None,
) -> Report:
    faults = [finding(one.code, one.path, one.text) for one in place.obstacles]
    faults += [finding("unclear-engine-settings", b"", warning) for warning in place.warnings]
    if any(one.code == "linked-data-root" for one in faults):
        return replace(_NOTHING, findings=tuple(faults))
    try:
        # An unclean file system is read without its journal; that the journal has more is a finding already.
        reader = volume.reader(allow_dirty=True)
        report = verify_store(
            reader, place.data_root, references=references, required_images=required_images, processes=shared
        )
    except FilesystemError as error:
        return replace(_NOTHING, findings=(*faults, finding("unreadable", place.data_root, str(error))))
    return replace(report, findings=(*faults, *report.findings))


def _sorted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=by_weight))
