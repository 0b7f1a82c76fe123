"""The job preload: read the disk image, resolve the images, plan, then write."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec

from ..concurrency.background import background
from ..digest import Digest
from ..disk import GrowableDevice, Partition
from ..disk.formats import OpenedImage
from ..disk.host.workspace import Destination, Workspace, working_disk
from ..progress import SILENT, Progress
from ..verification import LayerProcesses, RequiredImagesReader
from ..verification.written import WrittenStore, verify_written
from ..volumes.fat_files import FatFile, put_fat_files
from ..volumes.inner_image import InnerImage
from ..volumes.partitioned_disk import PartitionedDisk
from ..volumes.writable_volume import WritableVolume
from ..volumes.writing import open_writable, repair
from .plan import Plan, PlannedJob, find_volume, opened_base, plan_job
from .request import PreloadRequest
from .summary import summary
from .write import WrittenLayer, carry_out, fetching, to_be_noted


class Result(msgspec.Struct, frozen=True):
    """The result of a preload.

    Attributes:
        plan: the plan.
        layers: the written layers, in order.
        fat_files: the files written to FAT partitions.
        output: the finished disk image.
        partition: the data partition afterwards.
    """

    plan: Plan
    layers: tuple[WrittenLayer, ...]
    fat_files: tuple[FatFile, ...]
    output: Path
    partition: Partition

    @property
    def layer_sizes(self) -> dict[Digest, int]:
        """Bytes of the images' layers in the engine's store, by chain-id."""
        sizes = {shared.layer.chain_id: shared.size for shared in self.plan.store.shared}
        return sizes | {layer.planned.chain_id: layer.applied.size for layer in self.layers}


def preload(
    base: Path | OpenedImage,
    output: Path | Destination | None,
    request: PreloadRequest,
    *,
    fsck: bool = False,
    verify: bool = True,
    processes: int = 1,
    progress: Progress = SILENT,
) -> Result:
    """Make *output*, a copy of the disk image *base* whose engine store also holds the images of *request*.

    *base* is only read. *output* appears under its name when it is complete, and not at all if anything fails.

    Args:
        base: a disk image with an MBR or a GPT, which may be compressed: a file or block device, or an open one.
        output: the file to make, compressed by its suffix; a :class:`~drypoint.Destination` also says whether an existing file
            may be replaced, and can have a block map. None changes *base* in place; it is restored if anything fails.
        request: the images, and the options for writing them.
        fsck: whether a data partition that was not unmounted cleanly or is damaged is repaired first with e2fsck -fp: automatic
            repairs only. Without it such a base is refused.
        verify: whether what was written is read back and checked before *output* appears.
        processes: how many processes may share the work of *verify* on a large store. They are started by the standard
            library's multiprocessing, and run the caller's main module again: a script that uses more than one must guard its
            own work with ``__name__ == "__main__"``.
        progress: gets each step.

    Raises:
        SourceError, ContentError: an image is not available, or is damaged or malformed.
        StoreError: the images cannot be added to the store on the disk image.
        DiskImageError: the disk image, its table, the partition or its file system is damaged or unsuitable.
        OutputError: *output* cannot be written.
        VerificationError: verification of what was written failed.
        ToolError: libext2fs, e2fsck, resize2fs or mtools is missing; or one of the processes was killed.
        UsageError: the base cannot be changed in place.
    """
    destination = output if isinstance(output, Destination) else Destination(output)
    path = Path(base.device.name) if isinstance(base, OpenedImage) else base
    with ExitStack() as stack:
        # The output's path is checked first, so that an existing OUT is not reported after minutes of fetching.
        workspace = stack.enter_context(working_disk(path, destination, progress))
        in_place = destination.path is None
        opened = stack.enter_context(opened_base(base, workspace.scratch_dir, progress, in_place=in_place))
        repaired = _repaired(opened, request, workspace, progress) if fsck else None
        # The plan is made while the base is copied.
        copied = stack.enter_context(background(partial(_copied, workspace, opened, repaired), progress))
        job = plan_job(repaired or opened.device, request, progress)
        unchanged = job.plan.is_empty and not (
            repaired or request.fat_files or request.container_files or request.additional_space
        )
        if request.images or not job.plan.is_empty:
            progress.note(summary(job.plan))
        with fetching(job, request.limits, progress) as fetcher:
            # The first layers are fetched while the base is still copied.
            copied()
            disk = repaired or workspace.start(opened, progress, unchanged=unchanged)
            volume = open_writable(
                job.volume,
                disk,
                workspace.scratch_dir,
                progress,
                now=max(job.timestamp, 1),
                # e2fsck has checked the base while planning.
                sound=verify,
                over_data=opened.device.is_block_device,
            )
            written = carry_out(job, volume, fetcher, request.additional_space)
        if request.index is not None and written:
            plan = job.plan
            request.index.note(to_be_noted(plan.store, written, plan.block_size), plan.filesystem_kind)
        if request.shrink_to_fit:
            volume.shrink_to_fit(request.additional_space, job.plan.partition.size)
        if isinstance(volume.disk, InnerImage):
            volume.disk.put_files(request.container_files)
            if request.shrink_to_fit:
                volume.disk.shrink_outer()
        put_fat_files(PartitionedDisk(disk), request.fat_files, job.timestamp)
        # Nothing writes to the disk image any more, so it is compressed while it is read back.
        with background(partial(workspace.finish, job.timestamp), progress):
            if verify:
                _verify(job, volume, request.required_images, processes, progress)
    return Result(job.plan, written, tuple(request.fat_files), destination.path or path, volume.partition)


def _copied(workspace: Workspace, opened: OpenedImage, repaired: GrowableDevice | None, progress: Progress) -> None:
    if repaired is None:
        workspace.copy(opened, progress)


def _repaired(
    opened: OpenedImage, request: PreloadRequest, workspace: Workspace, progress: Progress
) -> GrowableDevice | None:
    """The disk image to work on, repaired; None if there is nothing to repair."""
    if not find_volume(opened.device, request.target).needs_repair():
        return None
    workspace.copy(opened, progress)
    disk = workspace.start(opened, progress)
    repair(disk, request.target, workspace.scratch_dir, progress, now=max(request.timestamp or 0, 1))
    return disk


def _verify(
    job: PlannedJob,
    volume: WritableVolume,
    required_images: RequiredImagesReader | None,
    processes: int,
    progress: Progress,
) -> None:
    plan = job.plan
    window = volume.window
    inner = volume.disk if isinstance(volume.disk, InnerImage) else None
    shared = LayerProcesses.on(window, processes)
    if shared is None and inner is not None:
        start = volume.partition.start
        shared = LayerProcesses.inside(inner.outer.window, inner.path, start, window.size, processes)
    verify_written(
        volume.reread(),
        WrittenStore(
            plan.store.root,
            tuple(reference for image in plan.images for reference in (*image.references, *image.tags)),
            frozenset(planned.chain_id for planned in plan.store.layers),
            frozenset((finding.code, finding.path) for finding in plan.state.findings),
        ),
        around=None if inner is None else inner.outer.window,
        required_images=required_images,
        processes=shared,
        progress=progress,
    )
