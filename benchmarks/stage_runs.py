"""The stages of a preload, each as a run of its own.

A stage is prepared first: its input is read into memory, or is a file that was just written and is in the page cache. Preparing
returns the function to time, which can be repeated.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from tests.support.ext4_images import make_ext4

from drypoint.disk import FileDevice
from drypoint.fstree import Content, Directory, Entry, Metadata, Regular
from drypoint.jobs.preload import preload
from drypoint.jobs.request import ImageRequest, PreloadRequest
from drypoint.layers import LayerReader, tar_chunks
from drypoint.layers.change import Change
from drypoint.layers.compression import decompress
from drypoint.layers.tar import TarReader
from drypoint.layers.tarsplit import TarSplitWriter, crc_of
from drypoint.layers.verify import verified
from drypoint.oci import Platform, parse_reference
from drypoint.samples.disk_images import build_disk_image
from drypoint.samples.images import blob_chunks
from drypoint.sinks.ext4 import Ext4Sink
from drypoint.sources.registry import RegistrySource
from drypoint.stores.overlay2.extraction import apply_changes

from .workloads import MIB, Workload

Run: TypeAlias = Callable[[], None]
_NOW = 1_700_000_000
_PLATFORM = Platform("linux", "amd64")


@dataclass(frozen=True, slots=True)
class Stage:
    """*prepare* returns the function to time; *counts*: whether it handles entries one by one."""

    label: str
    prepare: Callable[[], Run]
    counts: bool = False


def stages(workload: Workload, host: str, directory: Path) -> list[Stage]:
    """All stages in the order of the data; *host* is a registry with the image."""
    return [
        Stage("fetch over loopback", partial(fetch, host)),
        Stage("sha256 of the blobs", partial(hash_blobs, workload)),
        Stage("inflate gzip", partial(inflate, workload.blobs)),
        Stage("inflate zstd", partial(inflate, workload.zstd_blobs)),
        Stage("sha256 of the tars", partial(hash_tars, workload)),
        Stage("hash, inflate, hash: with its threads", partial(pipeline, workload)),
        Stage("tar parse", partial(parse, workload), counts=True),
        Stage("tar-split: CRC-64, JSON, gzip", partial(record, workload), counts=True),
        Stage("changes to index (overlay2)", partial(index, workload), counts=True),
        Stage("tar to changes, tar-split and index", partial(read_layers, workload), counts=True),
        Stage("ext4 write", partial(write_ext4, workload, directory / "alone.img"), counts=True),
    ]


def fetch(host: str) -> Run:
    def run() -> None:
        with RegistrySource() as source:
            image = source.resolve(parse_reference(f"{host}/bench:latest"), _PLATFORM)
            for layer in image.layers:
                _drain(source.open_layer(image, layer))

    return run


def hash_blobs(workload: Workload) -> Run:
    def run() -> None:
        for layer in workload.image.layers:
            _drain(verified(blob_chunks(layer.content), layer.descriptor.digest, "blob", layer.descriptor.size))

    return run


def hash_tars(workload: Workload) -> Run:
    def run() -> None:
        for layer in workload.image.layers:
            _drain(verified(blob_chunks(layer.tar), layer.diff_id, "tar"))

    return run


def inflate(blobs: tuple[Path, ...]) -> Run:
    def run() -> None:
        for blob in blobs:
            _drain(decompress(blob_chunks(blob), blob.name))

    return run


def pipeline(workload: Workload) -> Run:
    def run() -> None:
        for blob, layer in zip(workload.blobs, workload.oci_layers, strict=True):
            with tar_chunks(blob_chunks(blob), layer, blob.name) as chunks:
                _drain(chunks)

    return run


def parse(workload: Workload) -> Run:
    def run() -> None:
        for tar in workload.tars:
            reader = TarReader(blob_chunks(tar), tar.name)
            for _ in reader:
                pass
            _drain(reader.rest())

    return run


def record(workload: Workload) -> Run:
    layers = [list(_records(tar)) for tar in workload.tars]

    def run() -> None:
        for records in layers:
            writer = TarSplitWriter("layer")
            for raw, name, content in records:
                writer.segment(raw)
                writer.file(name, len(content), crc_of(content) if content else None)
            writer.finish().close()

    return run


def index(workload: Workload) -> Run:
    layers = [list(_changes(tar)) for tar in workload.tars]

    def run() -> None:
        for changes in layers:
            apply_changes(changes, _NullSink(), b"diff", 0)

    return run


def read_layers(workload: Workload) -> Run:
    def run() -> None:
        for tar in workload.tars:
            with LayerReader(blob_chunks(tar), tar.name) as reader:
                apply_changes(reader, _NullSink(), b"diff", 0)

    return run


def write_ext4(workload: Workload, image: Path) -> Run:
    layers: list[list[tuple[Entry, Content | None]]] = []
    for tar in workload.tars:
        sink = _RecordingSink()
        apply_changes(_changes(tar), sink, b"%d" % len(layers), 0)
        layers.append(sink.taken)
    size = (workload.tar_bytes + workload.entries * 4096) // MIB * MIB + 256 * MIB
    inodes = workload.entries + 4096

    def run() -> None:
        with FileDevice(image, writable=True) as device, Ext4Sink(device, now=_NOW) as sink:
            for number, entries in enumerate(layers):
                root = b"%d" % number
                sink.add(Directory(root, Metadata(0o755)))
                for entry, content in entries:
                    sink.add(entry, content)
                sink.settle(root)
            sink.finish()

    def with_fresh_image() -> None:
        image.unlink(missing_ok=True)
        make_ext4(image, size, "-T", "default", "-b", "4096", "-N", str(inodes))

    with_fresh_image()
    return Repeatable(with_fresh_image, run)


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A run with a preparation before each repetition; :attr:`before` is not timed."""

    before: Run
    run: Run

    def __call__(self) -> None:
        self.run()


def whole_job(base: Path, out: Path, host: str, *, verify: bool) -> Run:
    def run() -> None:
        with RegistrySource() as source:
            request = ImageRequest(parse_reference(f"{host}/bench:latest"), source)
            preload(base, out, PreloadRequest([request], _PLATFORM), verify=verify)

    return Repeatable(lambda: out.unlink(missing_ok=True), run)


def make_base(path: Path) -> None:
    """A disk image like a fresh balenaOS, whose small data partition must grow."""
    build_disk_image(path)


def _drain(chunks: Iterable[object]) -> None:
    for _ in chunks:
        pass


@contextmanager
def _mapped(tar: Path) -> Iterator[memoryview]:
    with tar.open("rb") as file:
        # Not closed: views of it outlive this block.
        mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=mmap.PROT_READ)
    yield memoryview(mapped)


def _records(tar: Path) -> Iterator[tuple[bytes, bytes, memoryview]]:
    """Headers, name and content of each entry."""
    with _mapped(tar) as whole:
        reader = TarReader(blob_chunks(tar), tar.name)
        for entry in reader:
            start = reader.bytes_read
            yield entry.raw, entry.name, whole[start : start + entry.size]


def _changes(tar: Path) -> Iterator[tuple[Change, Content | None]]:
    """The changes, their content in memory."""
    with _mapped(tar) as whole, LayerReader(blob_chunks(tar), tar.name) as reader:
        for change, content in reader:
            if content is None:
                yield change, None
                continue
            size = sum(len(piece) for piece in content)
            yield change, (whole[reader.tar_bytes - size : reader.tar_bytes],)


class _NullSink:
    def add(self, entry: Entry, content: Content | None = None) -> None:
        return

    def amend(self, path: bytes, metadata: Metadata) -> None:
        return

    def remove(self, path: bytes) -> None:
        return

    def settle(self, path: bytes) -> None:
        return

    def finish(self) -> None:
        return


class _RecordingSink(_NullSink):
    def __init__(self) -> None:
        self.taken: list[tuple[Entry, Content | None]] = []

    def add(self, entry: Entry, content: Content | None = None) -> None:
        whole = entry.size > 0 if isinstance(entry, Regular) else False
        self.taken.append((entry, content if whole or content is None else ()))
