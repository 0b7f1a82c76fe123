"""The compiled lane of the ext4 sink against its Python twin: the same file system, byte for byte, and the same errors."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tests.support.ext4_images import judge_ext4, make_ext4

from drypoint.disk import FileDevice
from drypoint.disk.ext4.write.allocation import Shortage
from drypoint.errors import FilesystemError, NoSpaceError
from drypoint.fstree import Directory, Fifo, HardLink, Metadata, Regular, Symlink
from drypoint.lanes import ENABLED
from drypoint.samples.applications import sample_content
from drypoint.samples.tools import run_tool
from drypoint.sinks import Ext4Sink

pytestmark = [
    pytest.mark.needs("mkfs.ext4", "e2fsck", "resize2fs"),
    pytest.mark.skipif(not ENABLED, reason="no compiled lanes here"),
]

NOW = 1_700_000_000
MIB = 1 << 20
DIR = Metadata(0o755)
FEATURES = {
    "balena": ["-T", "default", "-b", "4096", "-i", "8192"],
    "no-csum": ["-O", "^metadata_csum,^64bit"],
    "inode-128": ["-I", "128", "-O", "^metadata_csum"],
    "inode-128-csum": ["-I", "128"],
    "1k": ["-b", "1024"],
    "csum-seed": ["-O", "metadata_csum_seed"],
    "ext3": ["-t", "ext3"],
    "no-filetype": ["-O", "^filetype"],
}
CONTENT = bytes(range(1, 251)) * 300

Work = Callable[[Ext4Sink], None]


def written(image: Path, work: Work, *, lane: bool, root: bytes = b"", growing: bool = False) -> tuple[str, object]:
    """What went wrong, and what the meter read."""

    def grow(shortage: Shortage) -> FileDevice:
        with open(image, "r+b") as file:
            file.truncate(image.stat().st_size + 8 * MIB)
        run_tool("resize2fs", "-f", image, extra_environment={"E2FSPROGS_FAKE_TIME": str(NOW)})
        return device

    with FileDevice(image, writable=True) as device:
        on_full = grow if growing else None
        with Ext4Sink(device, now=NOW, root=root, on_full=on_full, lane=lane) as sink:
            try:
                work(sink)
                sink.finish()
            except (FilesystemError, NoSpaceError) as error:
                return str(error), None
            return "", sink.meter.read()


def assert_same(blank: Path, work: Work, *, growing: bool = False, root: bytes = b"") -> str:
    """Do *work* on copies of *blank* both ways, and compare all; gives the error."""
    by_lane, by_twin = blank.with_name("lane"), blank.with_name("twin")
    results = []
    for image in (by_lane, by_twin):
        shutil.copy(blank, image)
        outcome = written(image, work, lane=image is by_lane, growing=growing, root=root)
        results.append((outcome, image.read_bytes()))
    error = results[0][0][0]
    assert error.replace(str(by_lane), "IMAGE") == results[1][0][0].replace(str(by_twin), "IMAGE")
    assert results[0][0][1] == results[1][0][1]
    assert results[0][1] == results[1][1]
    if not error:
        judge_ext4(by_lane)
    return error


metadata = st.builds(
    Metadata,
    mode=st.sampled_from([0o644, 0o4755, 0o777, 0o10000]),
    uid=st.sampled_from([0, 1000, 70_000, 1 << 32]),
    gid=st.sampled_from([0, 80_000]),
    mtime=st.sampled_from([0, 1_600_000_000_123_456_789, -5, 1 << 62]),
    xattrs=st.sampled_from([(), (), ((b"user.note", b"v"),)]),
) | st.just(Metadata(0o644))
paths = st.lists(
    st.sampled_from([b"a", b"b", b"cc", b"...", b".", b"..", b"n" * 255, b"n" * 256, b"\0"]), min_size=1, max_size=3
)
sizes = st.sampled_from([0, 1, 59, 1024, 4095, 4096, 4097, 5000, 16384, 17000, 65535, 65536, 70_000])


def add_regular(path: bytes, metadata: Metadata, size: int, given: int, pieces: int) -> Work:
    content: list[bytes | memoryview] = [CONTENT[:given]]
    if pieces == 2:
        content = [CONTENT[: given // 2], memoryview(CONTENT)[given // 2 : given]]
    return lambda sink: sink.add(Regular(path, metadata, size), content)


joined = paths.map(b"/".join)
regulars = st.builds(
    lambda path, metadata, size, more, pieces: add_regular(path, metadata, size, max(0, size + more), pieces),
    joined, metadata, sizes, st.sampled_from([0, 0, 0, 0, 0, 0, -1, 1]), st.sampled_from([1, 1, 1, 2]),
)  # fmt: skip
symlinks = st.builds(
    lambda path, metadata, target: lambda sink: sink.add(Symlink(path, metadata, target)),
    joined, metadata, st.sampled_from([b"t", b"t" * 59, b"t" * 60, b"t" * 2000, b"", b"\0"]),
)  # fmt: skip
others = st.one_of(
    st.builds(lambda path, metadata: lambda sink: sink.add(Directory(path, metadata)), joined, metadata),
    st.builds(lambda path, metadata: lambda sink: sink.add(Fifo(path, metadata)), joined, metadata),
    st.builds(lambda path, target: lambda sink: sink.add(HardLink(path, target)), joined, joined),
    st.builds(lambda path, metadata: lambda sink: sink.amend(path, metadata), joined, metadata),
    st.builds(lambda path: lambda sink: sink.remove(path), joined),
    st.builds(lambda path: lambda sink: sink.settle(path), joined),
)


@pytest.fixture(scope="module")
def blanks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An empty file system of each kind, in a directory of its own."""
    return {
        name: make_ext4(tmp_path_factory.mktemp(name) / "blank", 2 * MIB, *options)
        for name, options in FEATURES.items()
    }


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    works=st.lists(regulars | symlinks | others, max_size=25),
    tolerant=st.booleans(),
    features=st.sampled_from(sorted(FEATURES)),
)
def test_any_work_leaves_the_same_file_system(
    blanks: dict[str, Path], works: list[Work], tolerant: bool, features: str
) -> None:
    def all_of_it(sink: Ext4Sink) -> None:
        refused = ""
        for work in [add_directory(b"a"), add_directory(b"b"), add_directory(b"a/cc"), *works]:
            try:
                work(sink)
            except FilesystemError as error:
                # Refused before anything is changed, most often: go on as a caller would who passes over it.
                refused = str(error)
                if not tolerant or "content" in refused:
                    raise

    event("error" if assert_same(blanks[features], all_of_it) else "written")


def add_directory(path: bytes) -> Work:
    return lambda sink: sink.add(Directory(path, DIR))


@pytest.mark.parametrize("features", FEATURES)
def test_files_of_any_size_below_a_root(blanks: dict[str, Path], features: str) -> None:
    def work(sink: Ext4Sink) -> None:
        for name in (b"x", b"y"):
            sink.add(Directory(name, DIR))
            for number in range(40):
                content = sample_content(f"{name!r} {number}", number * number * 7)
                sink.add(Regular(b"%b/file-%d" % (name, number), DIR, len(content)), (memoryview(content),))
                sink.add(Symlink(b"%b/link-%d" % (name, number), DIR, b"file-%d" % number))

    assert assert_same(blanks[features], work) == ""


@pytest.mark.parametrize("block_size", ["4096", "1024"])
def test_growth_in_the_middle(tmp_path: Path, block_size: str) -> None:
    def work(sink: Ext4Sink) -> None:
        for number in range(1500):
            if number % 300 == 0:
                sink.add(Directory(b"d%d" % number, DIR))
            content = CONTENT[: number % 9000]
            sink.add(Regular(b"d%d/%d" % (number - number % 300, number), DIR, len(content)), (content,))

    blank = make_ext4(tmp_path / "blank", 4 * MIB, "-b", block_size, "-N", "2048")
    assert assert_same(blank, work, growing=True) == ""


def test_the_lane_takes_plain_entries_and_no_others(blanks: dict[str, Path]) -> None:
    image = blanks["balena"].with_name("taken")
    shutil.copy(blanks["balena"], image)
    with FileDevice(image, writable=True) as device, Ext4Sink(device, now=NOW, lane=True) as sink:
        lane = sink._lane
        assert lane is not None
        # The first file of all finds no blocks reserved, and no numbers of inodes taken.
        sink.add(Regular(b"first", DIR, 1), (b"1",))
        assert lane.add(Regular(b"plain", DIR, 5), (b"plain",))
        assert lane.add(Symlink(b"link", DIR, b"plain"), None)
        for entry, content in (
            (Regular(b"plain", DIR, 5), (b"plain",)),
            (Regular(b"nowhere/plain", DIR, 5), (b"plain",)),
            (Regular(b"short", DIR, 6), (b"plain",)),
            (Regular(b"pieces", DIR, 5), (b"pla", b"in")),
            (Regular(b"large", DIR, 1 << 16), (bytes(1 << 16),)),
            (Regular(b"xattrs", Metadata(0o644, xattrs=((b"user.a", b"b"),)), 1), (b"1",)),
            (Symlink(b"long", DIR, b"t" * 60), None),
            (Directory(b"directory", DIR), None),
        ):
            assert not lane.add(entry, content)
