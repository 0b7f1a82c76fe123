"""The job pack: an .etch archive of a base and the files that a preload would write to it, as a stream."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from ..concurrency.stage import Write
from ..disk import FileDevice
from ..disk.formats import ImageFormat, claim_image, format_of_content
from ..disk.tables.tail import pad_missing_tail
from ..errors import UsageError
from ..etch import EtchWriter, Manifest
from ..etch.names import INJECT, MANIFEST
from ..fstree import Metadata, Regular
from ..layers import LayerReader
from ..limits import Limits
from ..oci import Image
from ..progress import SILENT, Progress
from ..stores import PlannedLayer, StorePlan
from ..volumes.extra_files import put_file
from .base_stream import DEFAULT_NAME, BaseStream, file_stream
from .fetch import LayerFetcher, layer_jobs
from .pack_plan import Prepared, look_into, manifest_of, without_looking
from .request import PreloadRequest

_CHUNK = 1 << 20


class Packed(msgspec.Struct, frozen=True):
    """The content of an archive.

    Attributes:
        manifest: its manifest.
        images: the requested images.
        store: the plan for the engine's store.
        store_known: whether the base's store was known; if not, every layer is in the archive.
        archive_bytes: its length.
    """

    manifest: Manifest
    images: tuple[Image, ...]
    store: StorePlan
    store_known: bool
    archive_bytes: int


def pack(
    base: Path | BaseStream,
    write: Write,
    request: PreloadRequest,
    *,
    base_manifest: bytes | None = None,
    unseen: bool = False,
    progress: Progress = SILENT,
) -> Packed:
    """Write an .etch archive: *base*, and the files that :func:`~drypoint.preload` would write to it. No temporary files.

    The manifest is written before the first layer is fetched, then the base, then each layer as it is fetched, inflated and
    checked. A wrong digest is an error at the end of the layer: what was written until then is an incomplete archive, which
    :func:`~drypoint.inject` refuses.

    A plain disk image that is a file is read first, and its layers are shared. One that is compressed or a stream is passed on
    unchanged; its store must be known from *base_manifest*, or counts as unknown with *unseen*.

    Args:
        base: a disk image: a file, plain or compressed, or a stream.
        write: takes the next bytes, and is done with them when it returns; the job waits for it.
        request: the content of the archive; its *required_images* is not used.
        base_manifest: the result of :func:`~drypoint.base_manifest` for the base.
        unseen: the base may hold an unknown store: all layers go into the archive, and its names are merged by inject. Old
            copies of the same layers stay as orphans, which balenaEngine removes at start.

    Raises:
        UsageError: the base cannot be read first, and neither *base_manifest* nor *unseen* is given.
        DrypointError: as :func:`~drypoint.preload`; exceptions of *write* too.
    """
    if request.target.container is not None:
        raise UsageError(
            "the disk image inside an installer's image cannot be injected into: pack that disk image itself"
        )
    with ExitStack() as stack:
        if isinstance(base, Path):
            device = stack.enter_context(FileDevice(base))
            claim_image(device, progress, in_place=False)
            if format_of_content(device) is ImageFormat.RAW:
                pad_missing_tail(device, progress)
                stream = BaseStream(_content(device), device.size, base.name)
                return _pack(look_into(device, request, progress), stream, request, write, progress)
            base = stack.enter_context(file_stream(base))
        prepared = without_looking(base, request, base_manifest, unseen, progress)
        return _pack(prepared, base, request, write, progress)


def _pack(prepared: Prepared, base: BaseStream, request: PreloadRequest, write: Write, progress: Progress) -> Packed:
    manifest = manifest_of(prepared, base, request)
    written = 0

    def count(data: bytes | memoryview) -> None:
        nonlocal written
        write(data)
        written += len(data)

    writer = EtchWriter(count, prepared.timestamp)
    writer.manifest(manifest)
    with _fetching(prepared, request.limits, progress) as fetcher:
        _write_image(writer, base, progress)
        if not prepared.is_empty:
            _write_store(writer, prepared, manifest.injections[0].directory, fetcher)
    for file in request.fat_files:
        sink = writer.sink(str(file.partition).encode("ascii"))
        metadata = Metadata(0o644, mtime=prepared.timestamp * 1_000_000_000)
        sink.add(
            Regular(file.path.encode("utf-8"), metadata, len(file.content)), (file.content,) if file.content else ()
        )
        sink.finish()
    writer.finish()
    return Packed(manifest, prepared.images, prepared.store, prepared.known, written)


@contextmanager
def _fetching(prepared: Prepared, limits: Limits, progress: Progress) -> Iterator[LayerFetcher]:
    store = prepared.store
    jobs = layer_jobs(store.layers, prepared.sources)
    step = progress.begin(f"packing {len(jobs)} layers", store.fetch_bytes) if jobs else SILENT.begin("")
    with LayerFetcher(jobs, step, in_memory=True, limits=limits) as fetcher:
        fetcher.prefetch()
        yield fetcher
    step.end()


def _write_image(writer: EtchWriter, base: BaseStream, progress: Progress) -> None:
    step = progress.begin("packing the disk image", base.size)

    def counted_chunks() -> Iterator[bytes]:
        for chunk in base.chunks:
            yield chunk
            step.advance(len(chunk))

    writer.image(_member_name(base.name), base.size, counted_chunks())
    step.end()


def _write_store(writer: EtchWriter, prepared: Prepared, directory: bytes, fetcher: LayerFetcher) -> None:
    sink = writer.sink(directory)

    @contextmanager
    def open_layer(_: PlannedLayer) -> Iterator[LayerReader]:
        with fetcher.next_layer() as reader:
            yield reader

    # Removals are in the manifest, because inject does them before it makes space.
    prepared.store.write(sink, open_layer)
    for file, exists in prepared.files:
        put_file(sink, file, prepared.timestamp, exists=exists)
    sink.finish()


def _content(device: FileDevice) -> Iterator[bytes]:
    """All bytes of *device*; holes are not read."""
    size = device.size
    zeros = bytes(_CHUNK)
    position = 0
    for start, length in device.data_extents(0, size):
        for hole in range(position, start, _CHUNK):
            yield zeros[: min(_CHUNK, start - hole)]
        for offset in range(start, start + length, _CHUNK):
            yield device.read(offset, min(_CHUNK, start + length - offset))
        position = start + length
    for hole in range(position, size, _CHUNK):
        yield zeros[: min(_CHUNK, size - hole)]


def _member_name(name: str) -> bytes:
    """The disk image's name in the archive: its own, unless that has a meaning there."""
    encoded = os.fsencode(name)
    return os.fsencode(DEFAULT_NAME) if encoded in (MANIFEST, INJECT, b"", b".", b"..") else encoded
