"""The use case: gather what is known, plan, then do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..disk import FileDevice, Partition, copy_sparse, whole_file
from ..errors import OutputError
from ..oci import Platform
from ..progress import SILENT, Progress
from .gathering import Gathered, Plan, Wishes, gather
from .growing import GrowingPartition
from .proving import prove
from .request import ExtraFile, FindReplaced, ImageRequest, Target
from .seen import LayerIndex
from .summary import summary
from .writing import WrittenLayer, carry_out, fetching, to_be_noted


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
    index: LayerIndex | None = None,
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
        index: what is known of layers that were written before, and takes in what is written now. With it the partition grows
            by what is needed instead of by an estimate, so that the output's bytes depend on what it knows.
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
    wishes = Wishes(images, platform, target or Target(), files, replaced, additional_space, timestamp, index)
    with FileDevice(base) as device:
        # The target's path is looked at first: nobody wants to hear after minutes of fetching that OUT exists.
        with whole_file(output, overwrite=overwrite, inputs=(base,)) as part:
            gathered = gather(device, wishes, progress)
            progress.note(summary(gathered.plan))
            with FileDevice(part, writable=True) as disk:
                with fetching(gathered, progress) as fetcher:
                    # While the base is copied, the first layers come in.
                    _copy(device, disk, progress)
                    growing = GrowingPartition(
                        disk, gathered.table, gathered.plan.partition, output.absolute().parent, progress
                    )
                    written = carry_out(gathered, growing, fetcher, additional_space)
                if index is not None and written:
                    index.note(to_be_noted(written, gathered.plan.block_size), gathered.plan.filesystem_kind)
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


def _verify(gathered: Gathered, growing: GrowingPartition, progress: Progress) -> None:
    plan = gathered.plan
    prove(
        growing.window,
        plan.store.data_root,
        references=[reference for image in plan.images for reference in (*image.references, *image.tags)],
        layers={planned.chain_id for planned in plan.store.layers},
        known={(finding.code, finding.path) for finding in plan.state.findings},
        progress=progress,
    )
