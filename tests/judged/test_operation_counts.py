"""How many operations a fixed tree costs: a guard for speed that no busy machine upsets.

Bounds lie a little above what is counted at present. A change that goes beyond one has made something dearer for every file or
for every MiB; raise the bound only for a reason.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.ext4_images import judge_ext4, make_ext4
from tests.support.stores import fill_store

import drypoint
from drypoint.concurrency.stage import Stage
from drypoint.disk import FileDevice
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.disk.ext4.write import filesystem
from drypoint.disk.ext4.write.bindings import library as load_library
from drypoint.disk.ext4.write.inode import NewInode
from drypoint.fstree import join
from drypoint.lanes import ENABLED
from drypoint.layers import LayerReader, pipeline, tar_chunks
from drypoint.oci import Layer
from drypoint.samples.applications import sample_content
from drypoint.samples.images import BuiltLayer, build_image, build_layer
from drypoint.samples.layers import LayerBuilder
from drypoint.samples.tools import run_tool
from drypoint.sinks import Ext4Sink
from drypoint.stores import detect
from drypoint.stores.overlay2.extraction import apply_changes
from drypoint.verification.layer import LayerResult, check_layer

pytestmark = pytest.mark.needs("mkfs.ext4", "e2fsck", "debugfs")

PACKAGE = str(Path(drypoint.__file__).parent) + os.sep
NOW = 1_700_000_000
MIB = 1 << 20
DIRECTORIES, FILES_EACH = 20, 50
ENTRIES = DIRECTORIES * (FILES_EACH + 1) + 2
SMALL_BYTES = 3000
LARGE_BYTES = 8 * MIB


class CountingLibrary:
    """Passes everything on to a library, and counts the calls by name."""

    def __init__(self, inner: Any, calls: Counter[str]) -> None:
        self._inner = inner
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not name.startswith(("ext2fs_", "io_channel_")):
            return found

        def counted(*arguments: Any) -> Any:
            self._calls[name] += 1
            return found(*arguments)

        return counted


@dataclass(frozen=True, slots=True)
class Counts:
    """Calls of libext2fs by name; bytes of each ``pwritev`` of ours; chunks of the blob; bytes of each hand-off to a thread."""

    library: Counter[str]
    writes: list[int]
    blob_chunks: int
    handed: list[int]


@pytest.fixture(scope="module")
def layer() -> BuiltLayer:
    builder = LayerBuilder()
    builder.directory("srv")
    for directory in range(DIRECTORIES):
        builder.directory(f"srv/{directory:02}")
        for number in range(FILES_EACH):
            builder.file(f"srv/{directory:02}/file-{number:02}", sample_content(f"{directory} {number}", SMALL_BYTES))
    builder.file("srv/large", sample_content("large", LARGE_BYTES))
    return build_layer(builder.finish())


def calls_of_python(function: Callable[[], object]) -> int:
    """Calls of functions of ours that *function* makes in this thread, generators that go on included."""
    count = 0

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        # What makes named tuples has no file.
        if event == "call" and frame.f_code.co_filename.startswith(("<string>", PACKAGE)):
            count += 1

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def written(tar: bytes, image: Path, *, lane: bool) -> None:
    with (
        LayerReader(iter([tar]), "layer", lane=lane) as reader,
        FileDevice(image, writable=True) as device,
        Ext4Sink(device, now=NOW, lane=lane) as sink,
    ):
        apply_changes(reader, sink, b"", NOW)
        sink.finish()


@pytest.fixture(params=[False, *([True] if ENABLED else [])], ids=lambda lane: "lane" if lane else "twin")
def lane(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def counts(layer: BuiltLayer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lane: bool) -> Counts:
    image = make_ext4(tmp_path / "image", 64 * MIB, "-T", "default", "-b", "4096", "-i", "8192")
    calls: Counter[str] = Counter()
    library = load_library()
    counting = replace(
        library, ext2=CountingLibrary(library.ext2, calls), short=CountingLibrary(library.short, calls)
    )  # fmt: skip
    writes: list[int] = []
    handed: list[int] = []
    pwritev = os.pwritev

    def counted_pwritev(fd: int, parts: list[bytes | memoryview], offset: int) -> int:
        writes.append(sum(map(len, parts)))
        return pwritev(fd, parts, offset)

    class CountingStage(Stage):
        def __next__(self) -> bytes:
            chunk = super().__next__()
            handed.append(len(chunk))
            return chunk

    monkeypatch.setattr("drypoint.disk.ext4.write.filesystem.library", lambda: counting)
    monkeypatch.setattr(os, "pwritev", counted_pwritev)
    monkeypatch.setattr(pipeline, "Stage", CountingStage)
    chunks = list(blob_of(layer))
    described = Layer(layer.descriptor, layer.diff_id, layer.diff_id, None)
    with (
        tar_chunks(iter(chunks), described, "layer") as tar,
        LayerReader(tar, "layer", lane=lane) as reader,
        FileDevice(image, writable=True) as device,
        Ext4Sink(device, now=NOW, lane=lane) as sink,
    ):
        applied = apply_changes(reader, sink, b"", NOW)
        sink.finish()
    assert applied.inodes == ENTRIES
    judge_ext4(image)
    return Counts(calls, writes, len(chunks), handed)


def blob_of(layer: BuiltLayer) -> Iterator[bytes]:
    assert isinstance(layer.content, bytes)
    for start in range(0, len(layer.content), MIB):
        yield layer.content[start : start + MIB]


def test_calls_of_libext2fs_for_each_file(counts: Counts) -> None:
    # None: all that is done for each comes together by the block of inodes or the directory.
    library = counts.library
    assert library.total() - blocks_of_inodes(library) <= 2 * DIRECTORIES + 60, library


def test_inodes_are_written_by_the_block(counts: Counts) -> None:
    # 16 to a block of the table, each read once. The directories' come later, to blocks that are still at hand; all that lie
    # one after the other are written by one call.
    assert ENTRIES / 16 <= counts.library["io_channel_read_blk64"] <= ENTRIES / 16 + 4, counts.library
    assert 1 <= counts.library["io_channel_write_blk64"] <= 4, counts.library


def test_numbers_of_inodes_are_taken_in_runs(counts: Counts) -> None:
    # As many runs as groups of inodes are begun, and one more after what the file system had at first.
    assert counts.library["ext2fs_new_inode"] <= 3, counts.library
    assert counts.library["ext2fs_inode_alloc_stats2"] <= 3, counts.library


def test_calls_of_python_for_each_file(layer: BuiltLayer, tmp_path: Path, lane: bool) -> None:
    # A time would depend on the machine; this does not, and each call is a tenth of a microsecond or more.
    image = make_ext4(tmp_path / "image", 64 * MIB, "-T", "default", "-b", "4096", "-i", "8192")
    assert isinstance(layer.tar, bytes)
    tar = layer.tar
    load_library()
    calls = calls_of_python(lambda: written(tar, image, lane=lane))
    assert calls <= (10 if lane else 42) * ENTRIES, calls / ENTRIES


def test_calls_of_python_for_each_file_read_back(tmp_path: Path, lane: bool) -> None:
    image = make_ext4(tmp_path / "image", 64 * MIB, "-b", "4096")
    builder = LayerBuilder()
    for directory in range(DIRECTORIES):
        builder.directory(f"{directory:02}")
        for number in range(FILES_EACH):
            builder.file(f"{directory:02}/file-{number:02}", sample_content(f"{directory} {number}", SMALL_BYTES))
    run_tool("debugfs", "-w", "-R", "mkdir docker", image)
    with FileDevice(image, writable=True) as device:
        images = {"demo/small:1": build_image([build_layer(builder.finish())])}
        fill_store(device, b"docker", images)
        reader = Ext4Reader(device, lane=lane)
        (layer,) = detect(b"docker").read(reader).check(reader).layers
        found: list[LayerResult] = []
        calls = calls_of_python(lambda: found.append(check_layer(reader, layer, lane=lane)))
    assert found[0].findings == ()
    entries = DIRECTORIES * (FILES_EACH + 1)
    assert calls <= (31 if lane else 66) * entries, calls / entries


def blocks_of_inodes(library: Counter[str]) -> int:
    """Calls for reading and writing whole blocks of the inode table."""
    names = ("ext2fs_inode_table_loc", "io_channel_read_blk64", "io_channel_write_blk64", "ext2fs_flush_icache")
    return sum(library[name] for name in names)


def test_small_files_share_long_writes(counts: Counts) -> None:
    written = sum(counts.writes)
    expected = DIRECTORIES * FILES_EACH * 4096 + LARGE_BYTES + (DIRECTORIES + 8) * 4096
    assert expected * 0.98 <= written <= expected * 1.02
    # Half a MiB each: what a cache holds.
    assert len(counts.writes) <= 2 * written // MIB + 4, counts.writes


def test_hand_offs_between_threads(counts: Counts, layer: BuiltLayer) -> None:
    # The blob's chunks are handed on as they came, the tar's by the MiB, twice: inflated, then hashed.
    assert isinstance(layer.tar, bytes)
    assert len(counts.handed) <= counts.blob_chunks + 2 * (len(layer.tar) // MIB + 4), counts.handed


def test_calls_of_python_are_counted() -> None:
    assert calls_of_python(lambda: [join(b"a", b"b") for _ in range(7)]) == 7


def test_the_counters_count(layer: BuiltLayer, counts: Counts) -> None:
    assert counts.library.total() > 2 * ENTRIES / 16
    assert {"ext2fs_open2", "ext2fs_read_bitmaps", "ext2fs_close2"} <= counts.library.keys()
    assert sum(counts.writes) > LARGE_BYTES
    assert isinstance(layer.tar, bytes)
    assert sum(counts.handed) == layer.descriptor.size + 2 * len(layer.tar)


@pytest.mark.parametrize("lane", [False])
def test_one_call_more_for_each_file_is_seen(
    layer: BuiltLayer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, lane: bool
) -> None:
    alone = filesystem.Ext4Filesystem.write_new_inode

    def after_a_search(self: filesystem.Ext4Filesystem, ino: int, inode: NewInode) -> None:
        self.find_free_run(1, 1)
        alone(self, ino, inode)

    monkeypatch.setattr(filesystem.Ext4Filesystem, "write_new_inode", after_a_search)
    planted: Counts = request.getfixturevalue("counts")
    with pytest.raises(AssertionError):
        test_calls_of_libext2fs_for_each_file(planted)
