"""The use case: gather what is known, plan, then do it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..digest import Digest
from ..disk import FileDevice, Partition, PartitionTable, Window, copy_sparse, find_partition, read_table, whole_file
from ..disk.ext4.geometry import read_geometry
from ..disk.ext4.reader import Ext4Reader
from ..disk.ext4.resize import check_unmounted
from ..engine import StorePlan, StoreState, plan_store, read_state, remove_replaced, write_store
from ..engine.overlay2 import AppliedLayer
from ..engine.placement import PlannedLayer
from ..errors import FilesystemError, OutputError, VerificationError
from ..fstree import TreeReader
from ..layers import LayerReader
from ..oci import Image, Platform
from ..oci.platform import preference
from ..progress import SILENT, Progress
from ..sinks.ext4 import Ext4Sink
from ..sources import ImageSource
from ..verification import Severity, check_file_system, verify_store
from .fetch import LayerFetcher, LayerJob
from .files import put_file, to_be_written
from .moment import newest_creation
from .request import ExtraFile, FindReplaced, ImageRequest, Target
from .resolving import resolve_all
from .room import GrowingPartition, Room, estimate_room, spare_room


@dataclass(frozen=True, slots=True)
class WrittenLayer:
    """A layer that was written: its place in the store, and what it came to."""

    planned: PlannedLayer
    applied: AppliedLayer


@dataclass(frozen=True, slots=True)
class Plan:
    """What a preload would do.

    Attributes:
        images: what was asked for, resolved.
        state: the store that the disk image holds already.
        store: what is to be written to it.
        files: those to be put beside the store that are not there already.
        partition: the partition as it is.
        room: what the writing is estimated to take, in blocks and inodes.
        free: what the file system has.
        block_size: bytes of a block.
    """

    images: tuple[Image, ...]
    state: StoreState
    store: StorePlan
    files: tuple[ExtraFile, ...]
    partition: Partition
    room: Room
    free: Room
    block_size: int

    @property
    def is_empty(self) -> bool:
        """Whether the disk image holds everything already."""
        return self.store.is_empty and not self.files


@dataclass(frozen=True, slots=True)
class Result:
    """What a preload did.

    Attributes:
        plan: what was planned.
        layers: those that were written, in order.
        output: the finished disk image.
        partition: the data partition as it is now.
    """

    plan: Plan
    layers: tuple[WrittenLayer, ...]
    output: Path
    partition: Partition


@dataclass(frozen=True, slots=True)
class _Wishes:
    """The arguments that say what is wanted, as :func:`preload` explains them."""

    images: Sequence[ImageRequest]
    platform: Platform
    target: Target
    files: Sequence[ExtraFile]
    replaced: FindReplaced | None
    additional_space: int
    timestamp: int | None


@dataclass(frozen=True, slots=True)
class _Gathered:
    plan: Plan
    table: PartitionTable
    sources: dict[Digest, ImageSource]
    timestamp: int


def plan(
    base: Path,
    images: Sequence[ImageRequest],
    *,
    platform: Platform,
    target: Target | None = None,
    files: Sequence[ExtraFile] = (),
    replaced: FindReplaced | None = None,
    additional_space: int = 0,
    timestamp: int | None = None,
    progress: Progress = SILENT,
) -> Plan:
    """Say what :func:`preload` would do with the same arguments. Nothing is written, and no layer is fetched.

    Raises:
        DrypointError: as :func:`preload`, as far as it can be known without the layers.
    """
    wishes = _Wishes(images, platform, target or Target(), files, replaced, additional_space, timestamp)
    with FileDevice(base) as device:
        return _gather(device, wishes, progress).plan


def preload(
    base: Path,
    output: Path,
    images: Sequence[ImageRequest],
    *,
    platform: Platform,
    target: Target | None = None,
    files: Sequence[ExtraFile] = (),
    replaced: FindReplaced | None = None,
    additional_space: int = 0,
    overwrite: bool = False,
    timestamp: int | None = None,
    verify: bool = True,
    progress: Progress = SILENT,
) -> Result:
    """Make *output*, a copy of the disk image *base* whose engine store holds *images* too.

    *base* is only read. *output* appears under its name when it is whole, and not at all when anything fails.

    Args:
        base: a plain disk image, with an MBR or a GPT.
        output: the file to make.
        images: what to put in, each with the source that has it.
        platform: which image of a multi-platform one is meant.
        target: where the store lies; default: ``docker/`` in the partition labelled resin-data.
        files: small files to put beside the store, apps.json for one.
        replaced: finds the names of images that *images* replace: those are removed, as far as nothing else needs them. None
            keeps everything.
        additional_space: bytes that shall be free beyond what the images take.
        overwrite: whether an *output* that exists may be replaced.
        timestamp: seconds since the epoch, the time of all that drypoint makes itself; default: the newest image's creation.
        verify: whether what was written is read back and proved before *output* appears.
        progress: is told how far it is.

    Raises:
        SourceError, ContentError: an image cannot be had, or is not what it claims to be.
        StoreError: the store on the disk image cannot take the images.
        DiskImageError: the disk image, its table, the partition or its file system is not what is needed.
        OutputError: *output* cannot be written.
        VerificationError: what was written does not read back as what it should be.
        ToolError: libext2fs, e2fsck or resize2fs is missing.
    """
    wishes = _Wishes(images, platform, target or Target(), files, replaced, additional_space, timestamp)
    with FileDevice(base) as device:
        # The target's path is looked at first: nobody wants to hear after minutes of fetching that OUT exists.
        with whole_file(output, overwrite=overwrite, inputs=(base,)) as part:
            gathered = _gather(device, wishes, progress)
            with FileDevice(part, writable=True) as disk:
                _copy(device, disk, progress)
                growing = GrowingPartition(
                    disk, gathered.table, gathered.plan.partition, output.absolute().parent, progress
                )
                written = _carry_out(gathered, growing, additional_space, progress)
                if verify:
                    _verify(gathered, growing, progress)
    return Result(gathered.plan, written, output, growing.partition)


def _gather(device: FileDevice, wishes: _Wishes, progress: Progress) -> _Gathered:
    table = read_table(device)
    partition = _ext4_partition(device, table, wishes.target)
    window = Window(device, partition.start, partition.size)
    geometry = read_geometry(window)
    check_unmounted(geometry, f"{device.name}: the file system of partition {partition.number}")
    reader = Ext4Reader(window)
    state = read_state(reader, wishes.target.data_root)
    replaced = wishes.replaced(reader) if wishes.replaced is not None else ()
    resolved, sources = _resolve(wishes.images, wishes.platform, progress)
    seconds = newest_creation(resolved) if wishes.timestamp is None else wishes.timestamp
    store = plan_store(state, resolved, timestamp=seconds * 1_000_000_000, replaced=replaced)
    files = to_be_written(reader, wishes.files)
    room = estimate_room(store, files, geometry.block_size, wishes.additional_space)
    free = Room(geometry.free_blocks - geometry.reserved_blocks, geometry.free_inodes)
    plan = Plan(resolved, state, store, files, partition, room, free, geometry.block_size)
    return _Gathered(plan, table, sources, seconds)


def _ext4_partition(device: FileDevice, table: PartitionTable, target: Target) -> Partition:
    found = find_partition(device, table, target.partition)
    kind = found.filesystem.kind if found.filesystem else None
    if kind is None or not kind.is_ext:
        raise FilesystemError(
            f"{device.name}: partition {found.partition.number} holds {kind.value if kind else 'no known file system'}, "
            "but the engine's store needs ext4; choose another with --data-partition"
        )
    return found.partition


def _resolve(
    requests: Sequence[ImageRequest], platform: Platform, progress: Progress
) -> tuple[tuple[Image, ...], dict[Digest, ImageSource]]:
    """The images in the order asked for, one that is asked for by several names once; and who has each."""
    if not requests:
        return (), {}
    step = progress.begin(f"looking up {len(requests)} image{'s' if len(requests) > 1 else ''}")
    resolved = resolve_all(requests, platform)
    step.end()
    sources: dict[Digest, ImageSource] = {}
    found: dict[Image, None] = {}
    for image, request in zip(resolved, requests, strict=True):
        found[replace(image, tags=request.tags)] = None
        sources.setdefault(image.image_id, request.source)
        if preference(platform, image.config.platform) is None:
            # As the engine: an image without an index is taken, whatever it says it is for.
            progress.note(f"warning: {request.reference} is for {image.config.platform}, but {platform} is wanted")
    return tuple(found), sources


def _copy(base: FileDevice, disk: FileDevice, progress: Progress) -> None:
    step = progress.begin("copying the disk image", base.size)
    try:
        copy_sparse(base.fileno(), disk.fileno(), progress=step.advance)
    except OSError as error:
        # A full disk, which whoever made the output file tells; a file larger than the file system takes; a disk that fails.
        raise OutputError(f"cannot copy {base.name}: {error.strerror}") from error
    step.end()


def _carry_out(
    gathered: _Gathered, growing: GrowingPartition, additional_space: int, progress: Progress
) -> tuple[WrittenLayer, ...]:
    """Do what is planned. Where there is nothing to do, not one byte changes: opening a file system for writing marks it."""
    plan = gathered.plan
    written: tuple[WrittenLayer, ...] = ()
    if plan.store.removal.paths:
        # In a session of its own, so that the partition grows only by what is still missing.
        with Ext4Sink(growing.window, now=max(gathered.timestamp, 1)) as sink:
            remove_replaced(plan.store, sink)
            sink.finish()
    if not plan.is_empty:
        growing.make_room(plan.room)
        written = _write(gathered, growing, progress)
    if additional_space:
        # The estimate may have fallen short of what was written.
        growing.make_room(spare_room(plan.block_size, additional_space))
    return written


def _write(gathered: _Gathered, growing: GrowingPartition, progress: Progress) -> tuple[WrittenLayer, ...]:
    store = gathered.plan.store
    written: list[WrittenLayer] = []
    jobs = [
        LayerJob(planned.image, planned.layer, gathered.sources[planned.image.image_id]) for planned in store.layers
    ]
    step = progress.begin(f"writing {len(jobs)} layers", store.fetch_bytes)
    with LayerFetcher(jobs, step) as fetcher:
        with Ext4Sink(growing.window, now=max(gathered.timestamp, 1), on_full=growing.on_full) as sink:

            @contextmanager
            def open_layer(_: PlannedLayer) -> Iterator[LayerReader]:
                with fetcher.next_layer() as reader:
                    yield reader

            write_store(store, sink, open_layer, lambda *layer: written.append(WrittenLayer(*layer)))
            present: TreeReader = Ext4Reader(growing.window)
            for file in gathered.plan.files:
                put_file(sink, file, gathered.timestamp, exists=present.lookup(file.path) is not None)
            sink.finish()
    step.end()
    return tuple(written)


def _verify(gathered: _Gathered, growing: GrowingPartition, progress: Progress) -> None:
    """Prove what was written. What was wrong with the store before is not this job's fault, and does not stop it."""
    plan = gathered.plan
    step = progress.begin("verifying")
    report = verify_store(
        Ext4Reader(growing.window),
        plan.store.data_root,
        references=[reference for image in plan.images for reference in (*image.references, *image.tags)],
        layers={planned.chain_id for planned in plan.store.layers},
    )
    known = {(finding.code, finding.path) for finding in plan.state.findings}
    faults = [
        finding
        for finding in (*check_file_system(growing.window), *report.findings)
        if finding.severity is Severity.ERROR and (finding.code, finding.path) not in known
    ]
    step.end()
    if faults:
        shown = "; ".join(
            f"{finding.path.decode('utf-8', 'backslashreplace')}: {finding.text}" for finding in faults[:3]
        )
        raise VerificationError(
            f"what was written does not read back as it should, in {len(faults)} places: {shown}. "
            "No output was made. If e2fsck -fn finds nothing wrong with the base, please report this, "
            "with the images' names"
        )
