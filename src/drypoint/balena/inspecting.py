"""Inspection of a disk image, balenaOS or not, without changing it."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec.structs import replace

from ..disk import Device, Partition
from ..disk.formats import opened_image
from ..disk.probe import probe_compressed
from ..errors import DrypointError, FilesystemError, StoreError
from ..inspection import InspectedDisk, InspectedPartition, inspect_disk
from ..progress import SILENT, Progress
from ..stores import StoreListing, detect
from ..system import find_store
from ..volumes.partitioned_disk import INNER_IMAGE, PartitionedDisk
from ..volumes.target import DEFAULT_PARTITION
from ..volumes.volume import PartitionVolume
from .flasher import installed_image
from .os_image import OsImage, inspect_os
from .preloaded import PreloadedApps, SupervisorImage, find_apps, find_supervisors


class InnerInspection(msgspec.Struct, frozen=True):
    """The inspection of the disk image that a flasher installs: the file *path* in the partition of that number."""

    partition: int
    path: bytes
    found: Inspection


class Inspection(msgspec.Struct, frozen=True):
    """The content of a disk image.

    Attributes:
        os: balenaOS's description of itself; None for other disk images.
        data: the partition that was searched for a store; None if there is none.
        store: the content of the engine's store; None if there is none.
        supervisors: the Supervisor's images in the store.
        apps: the applications in the data partition's apps.json; None if there is none.
        notes: what could not be read, a sentence each.
        inner: the disk image that it installs; None if it is not a flasher, or that one cannot be read.
    """

    disk: InspectedDisk
    os: OsImage | None
    data: Partition | None
    store: StoreListing | None
    supervisors: tuple[SupervisorImage, ...]
    apps: PreloadedApps | None
    notes: tuple[str, ...]
    inner: InnerInspection | None = None


def inspect(
    image: Path,
    *,
    partition: str | int | None = None,
    data_root: bytes | None = None,
    progress: Progress = SILENT,
) -> Inspection:
    """Inspect the disk image *image*, and the one that it installs if it is a flasher.

    Nothing is changed; neither root nor a mount is needed.

    Args:
        image: may be compressed (gzip, xz, zstd, zip), which is detected from its content.
        partition: file-system label, GPT name, or number, of the partition with the engine's store. None: the one labelled
            resin-data, if there is one and it can be read. In an inner disk image it is always that one.
        data_root: the engine's data root, a clean path in the partition; None for the one configured on the disk image, else
            ``docker``.
        progress: gets each step.

    Raises:
        DiskImageError: the disk image cannot be read, its table is damaged beyond use, or *partition* does not exist or is not
            an ext file system.
        OutputError: there is no space to unpack a compressed one.
        StoreError: what is at the data root of *partition* is not a store at all.
    """
    with opened_image(image, progress=progress) as opened:
        step = progress.begin("reading the disk image")
        found = inspect_device(opened.device, partition=partition, data_root=data_root)
        step.end()
    return found


def inspect_device(device: Device, *, partition: str | int | None = None, data_root: bytes | None = None) -> Inspection:
    """Like :func:`inspect`, for an open disk image."""
    disk = PartitionedDisk(device)
    found = _inspect(disk, partition, data_root)
    return _with_inner(disk, found, data_root) if found.os is not None and found.os.flasher else found


def _with_inner(disk: PartitionedDisk, found: Inspection, data_root: bytes | None) -> Inspection:
    """*found* with the disk image that *disk* installs; if that cannot be read, with a note."""
    try:
        container = installed_image(disk.device)
        if container is None:
            return found
        outer = disk.volume(container.partition, INNER_IMAGE)
        inner = outer.disk_image_file(container.path, allow_dirty=True)
        compression = probe_compressed(inner)
        if compression is not None:
            path = container.path.decode("utf-8", "backslashreplace")
            note = f"the disk image that is installed, /{path}, is {compression}-compressed, and was not inspected"
            return replace(found, notes=(*found.notes, note))
        # Only one level: an inner flasher is not followed.
        inside = InnerInspection(outer.number, container.path, _inspect(PartitionedDisk(inner), None, data_root))
    except DrypointError as error:
        return replace(found, notes=(*found.notes, f"the disk image that is installed cannot be read: {error}"))
    return replace(found, inner=inside)


def _inspect(opened: PartitionedDisk, partition: str | int | None, data_root: bytes | None) -> Inspection:
    disk = inspect_disk(opened)
    os_image = inspect_os(opened, disk.partitions)
    # In a flasher, the inner disk image has the partition of that name.
    if partition is not None and not (partition == DEFAULT_PARTITION and os_image is not None and os_image.flasher):
        return _with_data(disk, os_image, opened.volume(partition), data_root)
    candidates = _data_partitions(disk)
    if len(candidates) != 1:
        several = " and ".join(str(one.partition.number) for one in candidates)
        notes = (
            (f"partitions {several} are both labelled {DEFAULT_PARTITION}; choose one by its number",)
            if several
            else _other_kinds(disk)
        )
        return Inspection(disk, os_image, None, None, (), None, notes)
    found = candidates[0]
    try:
        return _with_data(disk, os_image, opened.volume(found.partition.number), data_root)
    except (FilesystemError, StoreError) as error:
        # The partition was not chosen by the caller: the rest is reported all the same.
        return Inspection(disk, os_image, found.partition, None, (), None, (str(error),))


def _with_data(
    disk: InspectedDisk, os_image: OsImage | None, volume: PartitionVolume, data_root: bytes | None
) -> Inspection:
    reader, data = volume.reader(allow_dirty=True), volume.partition
    place = find_store(volume, data_root)
    linked = any(one.code == "linked-data-root" for one in place.obstacles)
    notes = (*map(str, place.obstacles), *place.warnings)
    store = None if linked else detect(place.data_root).read(reader)
    device = volume.disk.device
    if store is None or not store.contents.exists:
        return Inspection(disk, os_image, data, None, (), find_apps(device, reader, None), notes)
    apps = find_apps(device, reader, store.contents)
    return Inspection(disk, os_image, data, store.list(reader), find_supervisors(reader, store), apps, notes)


def _other_kinds(disk: InspectedDisk) -> tuple[str, ...]:
    """A note for each partition with the usual label that is not an ext file system."""
    return tuple(
        f"partition {one.partition.number}, labelled {DEFAULT_PARTITION}, holds {one.filesystem.kind.value}: an engine's store "
        "can only be read in ext4"
        for one in disk.partitions
        if one.label == DEFAULT_PARTITION and one.filesystem is not None
    )


def _data_partitions(disk: InspectedDisk) -> list[InspectedPartition]:
    """The partitions with the usual label and an ext file system, or the file system that is the whole disk image."""
    return [
        one
        for one in disk.partitions
        if one.filesystem is not None
        and one.filesystem.kind.is_ext
        and (one.label == DEFAULT_PARTITION or disk.table == "none")
    ]
