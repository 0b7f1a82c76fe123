"""Doing what is planned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..disk import FileDevice, Partition, copy_sparse, whole_file
from ..disk.ext4.reader import Ext4Reader
from ..engine import remove_replaced, write_store
from ..engine.overlay2 import AppliedLayer
from ..engine.placement import PlannedLayer
from ..errors import OutputError, VerificationError
from ..fstree import TreeReader
from ..layers import LayerReader
from ..oci import Platform
from ..progress import SILENT, Progress
from ..sinks.ext4 import Ext4Sink
from ..verification import Severity, check_file_system, verify_store
from .fetch import LayerFetcher, LayerJob
from .files import put_file
from .gathering import Gathered, Plan, Wishes, gather
from .growing import GrowingPartition
from .request import ExtraFile, FindReplaced, ImageRequest, Target
from .room import spare_room


@dataclass(frozen=True, slots=True)
class WrittenLayer:
    """A layer that was written: its place in the store, and what it came to."""

    planned: PlannedLayer
    applied: AppliedLayer


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
    wishes = Wishes(images, platform, target or Target(), files, replaced, additional_space, timestamp)
    with FileDevice(base) as device:
        # The target's path is looked at first: nobody wants to hear after minutes of fetching that OUT exists.
        with whole_file(output, overwrite=overwrite, inputs=(base,)) as part:
            gathered = gather(device, wishes, progress)
            with FileDevice(part, writable=True) as disk:
                _copy(device, disk, progress)
                growing = GrowingPartition(
                    disk, gathered.table, gathered.plan.partition, output.absolute().parent, progress
                )
                written = _carry_out(gathered, growing, additional_space, progress)
                if verify:
                    _verify(gathered, growing, progress)
    return Result(gathered.plan, written, output, growing.partition)


def _copy(base: FileDevice, disk: FileDevice, progress: Progress) -> None:
    step = progress.begin("copying the disk image", base.size)
    try:
        copy_sparse(base.fileno(), disk.fileno(), progress=step.advance)
    except OSError as error:
        # A full disk, which whoever made the output file tells; a file larger than the file system takes; a disk that fails.
        raise OutputError(f"cannot copy {base.name}: {error.strerror}") from error
    step.end()


def _carry_out(
    gathered: Gathered, growing: GrowingPartition, additional_space: int, progress: Progress
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


def _write(gathered: Gathered, growing: GrowingPartition, progress: Progress) -> tuple[WrittenLayer, ...]:
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


def _verify(gathered: Gathered, growing: GrowingPartition, progress: Progress) -> None:
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
