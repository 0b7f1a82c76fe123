"""The compiled lane of the ext4 reader against its Python twin: the same entries, contents and errors, damaged or not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.fuzz.disk_targets import compare_lane_of_ext4
from tests.support.ext4_images import make_ext4

from drypoint.disk import FileDevice
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.fstree import Directory, Entry, Metadata, Regular, Symlink
from drypoint.lanes import ENABLED
from drypoint.samples.applications import sample_content
from drypoint.sinks import Ext4Sink

pytestmark = [
    pytest.mark.needs("mkfs.ext4", "debugfs"),
    pytest.mark.skipif(not ENABLED, reason="no compiled lanes here"),
]

MIB = 1 << 20
NOW = 1_700_000_000
FEATURES = {
    "default": [],
    "no-csum": ["-O", "^metadata_csum,^64bit"],
    "inode-128": ["-I", "128"],
    "inode-512": ["-I", "512"],
    "1k": ["-b", "1024"],
    "ext3": ["-t", "ext3"],
    "no-filetype": ["-O", "^filetype"],
}
SIZES = (0, 1, 4095, 4096, 4097, 65536, 65537, 300_000)
TIMES = (0, 1, 1_600_000_000_123_456_789, -5_000_000_001, (1 << 31) * 10**9, (1 << 33) * 10**9)


def tree() -> list[tuple[Entry, bytes | None]]:
    note = ((b"user.note", b"v" * 20),)
    items: list[tuple[Entry, bytes | None]] = [(Directory(b"d", Metadata(0o755)), None)]
    for size in SIZES:
        items.append(
            (Regular(b"d/%d" % size, Metadata(0o4755, 70_000, 1 << 31, 5), size), sample_content(f"{size}", size))
        )
    for number, time in enumerate(TIMES):
        items.append((Regular(b"d/time-%d" % number, Metadata(0o644, mtime=time), 1), b"t"))
    items.append((Regular(b"d/xattrs", Metadata(0o644, xattrs=note), 1), b"x"))
    items.append((Symlink(b"d/link", Metadata(0o777), b"to"), None))
    return items


def all_of(image: Path, *, lane: bool) -> list[object]:
    found: list[object] = []
    with FileDevice(image) as device:
        reader = Ext4Reader(device, lane=lane)
        for stat in reader.children(Directory(b"d", Metadata(0o755))):
            found.append(stat)
            if isinstance(stat.entry, Regular):
                found.append(b"".join(bytes(chunk) for chunk in reader.read(stat)))
    return found


@pytest.mark.parametrize("features", FEATURES)
def test_what_was_written_reads_the_same(tmp_path: Path, features: str) -> None:
    image = make_ext4(tmp_path / "image", 8 * MIB, *FEATURES[features])
    with FileDevice(image, writable=True) as device, Ext4Sink(device, now=NOW) as sink:
        for entry, content in tree():
            sink.add(entry, None if content is None else (content,))
        sink.finish()
    found = all_of(image, lane=True)
    assert found == all_of(image, lane=False)
    assert len(found) == len(tree()) - 1 + sum(isinstance(entry, Regular) for entry, _ in tree())


def test_the_lane_takes_plain_files_and_no_others(tmp_path: Path) -> None:
    image = make_ext4(tmp_path / "image", 8 * MIB)
    with FileDevice(image, writable=True) as device, Ext4Sink(device, now=NOW) as sink:
        for entry, content in tree():
            sink.add(entry, None if content is None else (content,))
        sink.finish()
    with FileDevice(image) as device:
        reader = Ext4Reader(device, lane=True)
        lane = reader._plain
        assert lane is not None
        taken = set()
        for stat in reader.children(Directory(b"d", Metadata(0o755))):
            if lane.stat(stat.entry.path, stat.inode) is not None:
                taken.add(stat.entry.path)
        for number in (0, -1, 1, 1 << 40):
            assert lane.stat(b"none", number) is None
            assert lane.place(number) is None
    late = {b"d/time-4", b"d/time-5"}
    assert taken == {entry.path for entry, _ in tree() if isinstance(entry, Regular)} - late - {b"d/xattrs"}


@settings(max_examples=150)
@given(st.binary(max_size=120))
@example(bytes([4]) + bytes(20))
def test_any_damage_reads_the_same(edits: bytes) -> None:
    compare_lane_of_ext4(edits)
