"""Planning a preload from the disk image and the request: everything before the first byte is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec.structs import replace

from ..digest import Digest
from ..disk import Device, FileDevice, Partition, copy_sparse
from ..disk.formats import OpenedImage, claim_image, opened_image
from ..disk.host.scratch import nameless_file, path_of, scratch_directory
from ..errors import OutputError
from ..fstree.extra_file import ExtraFile
from ..oci import Image, Platform
from ..oci.platform import runs
from ..progress import SILENT, Progress, counted
from ..sizing.growth_forecast import Growth, OuterForecast, forecast
from ..sizing.layer_sizes import LayerSize, filesystem_kind, find_sizes
from ..sizing.space import Space, estimate_space
from ..sources import ImageSource
from ..stores import StoreContents, StorePlan, detect
from ..volumes.extra_files import to_be_written
from ..volumes.outer_forecast import forecast_outer
from ..volumes.partitioned_disk import open_disk
from ..volumes.target import Target
from ..volumes.volume import PartitionVolume
from ..volumes.writing import repair
from .deltas import refuse_deltas
from .request import ImageRequest, PreloadRequest
from .resolve import resolve_all
from .store_place import usable_store
from .timestamps import newest_creation


class Plan(msgspec.Struct, frozen=True):
    """The plan of a preload.

    Attributes:
        images: the requested images, resolved.
        state: the existing store.
        store: the plan for the store.
        files: additional files to write, without those that exist already.
        partition: the current partition.
        sizes: sizes of the layers to write, by chain-id, with their source.
        space: the needed space in blocks and inodes; exact if all of *sizes* are.
        free: the free space of the file system.
        growth: the new sizes of partition and disk image; None if they depend on what is removed first.
        outer: the same for the partition that holds the disk image, if the target has a container; *partition* and *growth* are
            then those of the inner disk image.
        block_size: bytes of a block.
        filesystem_kind: the kind of the file system: on two of one kind, the same layers take the same blocks.
    """

    images: tuple[Image, ...]
    state: StoreContents
    store: StorePlan
    files: tuple[ExtraFile, ...]
    partition: Partition
    sizes: Mapping[Digest, LayerSize]
    space: Space
    free: Space
    growth: Growth | None
    block_size: int
    filesystem_kind: str
    outer: OuterForecast | None = None

    @property
    def is_exact(self) -> bool:
        """Whether *space* is exact and not an estimate."""
        return all(size.is_exact for size in self.sizes.values())

    @property
    def is_empty(self) -> bool:
        """Whether the disk image holds everything already."""
        return self.store.is_empty and not self.files


class PlannedJob(msgspec.Struct, frozen=True):
    """Everything that is known before anything is written.

    Attributes:
        volume: the file system of the store.
        sources: the source of each image by its id.
        timestamp: seconds since the epoch, the time of everything that drypoint makes itself.
    """

    plan: Plan
    volume: PartitionVolume
    sources: dict[Digest, ImageSource]
    timestamp: int


def plan(base: Path | OpenedImage, request: PreloadRequest, *, fsck: bool = False, progress: Progress = SILENT) -> Plan:
    """Plan what :func:`~drypoint.preload` does with the same arguments. Nothing is written, and no layer is fetched.

    Raises:
        DrypointError: as :func:`~drypoint.preload`, as far as that is known without the layers.
    """
    with opened_base(base, None, progress) as opened:
        if not fsck or not find_volume(opened.device, request.target).needs_repair():
            return plan_job(opened.device, request, progress).plan
        with _copy_of(opened) as copy:
            repair(copy, request.target, scratch_directory(), progress, now=max(request.timestamp or 0, 1))
            return plan_job(copy, request, progress).plan


@contextmanager
def opened_base(
    base: Path | OpenedImage, directory: Path | None, progress: Progress, *, in_place: bool = False
) -> Iterator[OpenedImage]:
    """*base*, opened if needed; a compressed one is unpacked into *directory*, see :func:`.opened_image`."""
    if isinstance(base, OpenedImage):
        if in_place:
            claim_image(base.device, progress, in_place=True)
        yield base
        return
    with opened_image(base, directory=directory, in_place=in_place, progress=progress) as opened:
        yield opened


@contextmanager
def _copy_of(opened: OpenedImage) -> Iterator[FileDevice]:
    """A temporary writable copy of the disk image."""
    with nameless_file(scratch_directory()) as fd:
        try:
            copy_sparse(opened.device.fileno(), fd)
        except OSError as error:
            raise OutputError(
                f"cannot copy {opened.device.name} to {scratch_directory()}: {error.strerror}; set TMPDIR to a directory with "
                "more space"
            ) from error
        with FileDevice(path_of(fd), writable=True, name=opened.device.name) as copy:
            copy.extend(opened.device.size)
            yield copy


def find_volume(device: Device, target: Target) -> PartitionVolume:
    """The file system of *target* in the disk image *device*.

    Raises:
        DiskImageError: there is no such file or partition, or it holds another file system.
    """
    return open_disk(device, target.container).volume(target.partition)


def plan_job(device: Device, request: PreloadRequest, progress: Progress) -> PlannedJob:
    """Read the disk image *device*, resolve the images, and plan.

    Raises:
        DrypointError: as :func:`~drypoint.preload`, as far as that is known without the layers.
    """
    volume = find_volume(device, request.target)
    # First of all: a fault of the base must not look like one of drypoint, nor be found after minutes of fetching.
    volume.check_usable()
    disk, partition, geometry = volume.disk, volume.partition, volume.geometry
    reader = volume.reader()
    place = usable_store(volume, request.target, progress)
    present = detect(place.data_root).read(reader)
    replaced = request.replaced(reader) if request.replaced is not None else ()
    resolved, sources = look_up(request.images, request.platform, progress)
    refuse_deltas(resolved, present.contents)
    if request.check_images is not None:
        request.check_images(resolved)
    seconds = newest_creation(resolved) if request.timestamp is None else request.timestamp
    store = present.plan(resolved, timestamp=seconds * 1_000_000_000, replaced=replaced)
    files = to_be_written(reader, request.files)
    sizes = find_sizes(store.layers, sources, geometry, request.index)
    space = estimate_space(store, sizes, files, geometry.block_size, request.additional_space)
    free = Space(geometry.free_blocks - geometry.reserved_blocks, geometry.free_inodes)
    growth = None if store.removal.paths else forecast(disk.table, disk.device, partition, geometry, space)
    kind = filesystem_kind(geometry)
    plan = Plan(
        resolved, present.contents, store, files, partition, sizes, space, free, growth, geometry.block_size, kind
    )
    plan = replace(plan, outer=forecast_outer(volume, growth, is_empty=plan.is_empty))
    return PlannedJob(plan, volume, sources, seconds)


def look_up(
    requests: Sequence[ImageRequest], platform: Platform, progress: Progress
) -> tuple[tuple[Image, ...], dict[Digest, ImageSource]]:
    """The images in the order of the request, each once even if it has several names; and the source of each.

    Raises:
        SourceError, ContentError: as :func:`.resolve_all`.
    """
    if not requests:
        return (), {}
    step = progress.begin(f"looking up {counted(len(requests), 'image')}")
    resolved = resolve_all(requests, platform)
    step.end()
    sources: dict[Digest, ImageSource] = {}
    found: dict[Image, None] = {}
    for image, request in zip(resolved, requests, strict=True):
        found[replace(image, tags=request.tags)] = None
        sources.setdefault(image.image_id, request.source)
        if not runs(platform, image.config.platform):
            # As in the engine, an image without an index is accepted for any platform.
            progress.note(f"warning: {request.reference} is for {image.config.platform}, but {platform} is wanted")
    return tuple(found), sources
