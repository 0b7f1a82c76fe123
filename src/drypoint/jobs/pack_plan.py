"""The plan of an archive, from what is known of the base: everything before the first byte is written."""

from __future__ import annotations

import msgspec

from ..digest import Digest
from ..disk import FileDevice
from ..errors import UsageError
from ..etch import FORMAT, Injection, Manifest, PackedImage, PackedStore, SpaceNeeded
from ..etch.base_manifest import parse_base_manifest
from ..fstree.extra_file import ExtraFile
from ..oci import Image
from ..progress import Progress
from ..sources import ImageSource
from ..stores import StorePlan, detect
from ..version import __version__
from ..volumes.target import DEFAULT_DATA_ROOT
from .base_stream import BaseStream
from .deltas import refuse_deltas
from .plan import look_up, plan_job
from .request import PreloadRequest
from .timestamps import newest_creation

# For a store that cannot be measured first: the ratio of gzip layers, with rounding up to blocks.
_RATIO = 3.2
_BYTES_PER_INODE = 8 << 10
_INODES_PER_LAYER = 16
_BLOCK = 4096


class Prepared(msgspec.Struct, frozen=True):
    """The content for the data partition, and the known facts about it.

    Attributes:
        partition: its number; None if only the label is known.
        files: each with whether its path is known to exist.
        known: whether the base's store was known.
    """

    images: tuple[Image, ...]
    sources: dict[Digest, ImageSource]
    store: StorePlan
    files: tuple[tuple[ExtraFile, bool], ...]
    partition: int | None
    label: str
    space: SpaceNeeded
    timestamp: int
    known: bool

    @property
    def is_empty(self) -> bool:
        return self.store.is_empty and not self.files


def look_into(device: FileDevice, request: PreloadRequest, progress: Progress) -> Prepared:
    """Plan for a base that can be read.

    Raises:
        DrypointError: as :func:`~drypoint.plan`.
    """
    job = plan_job(device, request, progress)
    plan = job.plan
    reader = job.volume.reader()
    return Prepared(
        plan.images,
        job.sources,
        plan.store,
        tuple((file, reader.lookup(file.path) is not None) for file in plan.files),
        job.volume.number,
        job.volume.label,
        SpaceNeeded(plan.space.blocks * plan.block_size, plan.space.inodes, not plan.is_exact),
        job.timestamp,
        known=True,
    )


def without_looking(
    base: BaseStream, request: PreloadRequest, base_manifest: bytes | None, unseen: bool, progress: Progress
) -> Prepared:
    """Plan for a base that cannot be read, from its manifest if there is one.

    Raises:
        UsageError: there is neither a manifest nor *unseen*, or the request needs a base that can be read.
        DrypointError: as :func:`~drypoint.plan`.
    """
    if request.replaced is not None:
        raise UsageError(
            f"{base.name} cannot be read before it is passed on, so the images to replace are not known: pack a "
            "plain disk image file, or omit --replace"
        )
    target = request.target
    partition: int | None = None
    if base_manifest is not None:
        known = parse_base_manifest(base_manifest, "the base's manifest")
        present, partition, label = known.store, known.partition, known.label
        wanted = present.contents.root if target.data_root is None else target.data_root
        if str(target.partition) not in (label, str(partition)) or wanted != present.contents.root:
            raise UsageError(
                f"the base's manifest names the store {_shown(present.contents.root)!r} in partition {partition} ({label!r}), "
                f"but the images are for {_shown(wanted)!r} in {target.partition!r}"
            )
    elif unseen:
        present = detect(DEFAULT_DATA_ROOT if target.data_root is None else target.data_root).unread()
        label = ""
        if str(target.partition).isdecimal():
            partition = int(target.partition)
        else:
            label = str(target.partition)
    else:
        raise UsageError(
            f"{base.name} cannot be read while it streams by, so the images that it holds are not known. Either give "
            "--base-manifest FILE, which drypoint inspect --base-manifest FILE has written of the plain disk image: layers are "
            "shared with it then. Or give --supervisor-image REF: the Supervisor is preloaded again, over the existing one"
        )
    images, sources = look_up(request.images, request.platform, progress)
    refuse_deltas(images, present.contents)
    if request.check_images is not None:
        request.check_images(images)
    seconds = newest_creation(images) if request.timestamp is None else request.timestamp
    store = present.plan(images, timestamp=seconds * 1_000_000_000)
    space = _rough_space(store, request)
    files = tuple((file, False) for file in request.files)
    return Prepared(images, sources, store, files, partition, label, space, seconds, known=base_manifest is not None)


def _rough_space(store: StorePlan, request: PreloadRequest) -> SpaceNeeded:
    layers = int(sum(planned.layer.blob.size for planned in store.layers) * _RATIO)
    small = len(store.directories) + len(store.files) + len(request.files) + len(store.layers) * _INODES_PER_LAYER
    contents = [file.content for file in store.files] + [file.content for file in request.files]
    return SpaceNeeded(
        layers + sum(map(len, contents)) + small * _BLOCK + request.additional_space,
        layers // _BYTES_PER_INODE + small,
        estimated=True,
    )


def manifest_of(prepared: Prepared, base: BaseStream, request: PreloadRequest) -> Manifest:
    """The manifest of the archive.

    Raises:
        UsageError: the partition's name is not valid in an archive.
    """
    store = prepared.store
    directory = prepared.label if prepared.partition is None else str(prepared.partition)
    if "/" in directory or "\0" in directory or directory in ("", ".", ".."):
        raise UsageError(f"a partition called {directory!r} cannot be named in an archive; give its number")
    replace = {file.path for file, _ in prepared.files}
    replace.update(store.merged_paths if prepared.known else store.own_paths())
    injections = [
        Injection(
            directory=directory.encode("utf-8"),
            partition=prepared.partition,
            label=prepared.label,
            remove=store.removal.paths,
            space=None if prepared.is_empty else prepared.space,
            replace=frozenset(replace),
            merge=frozenset() if prepared.known else store.merged_paths,
            additional_space=request.additional_space,
            shrink=request.shrink_to_fit and not prepared.is_empty,
            store=PackedStore(
                store.root,
                tuple(
                    PackedImage(
                        image.image_id,
                        tuple(str(reference) for reference in (*image.references, *image.tags)),
                        tuple(layer.diff_id for layer in image.layers),
                    )
                    for image in prepared.images
                ),
                tuple(planned.chain_id for planned in store.layers),
            ),
        )
    ]
    by_partition: dict[int, set[bytes]] = {}
    for file in request.fat_files:
        by_partition.setdefault(file.partition, set()).add(file.path.encode("utf-8"))
    injections += [
        Injection(str(number).encode("ascii"), number, replace=frozenset(paths))
        for number, paths in by_partition.items()
    ]
    return Manifest(
        base.name,
        tuple(injections),
        FORMAT,
        __version__,
        prepared.timestamp,
        base.size,
    )


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
