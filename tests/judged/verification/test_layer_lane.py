"""A layer is verified the same with compiled lanes and without: the same findings of sound and of damaged layers."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests.support.random_tars import Member, cut, members, tar_of

from drypoint.digest import Digest, digest_of
from drypoint.errors import LayerError
from drypoint.fstree import Content, Directory, Metadata, Regular, TreeSink
from drypoint.lanes import ENABLED
from drypoint.layers import LayerReader
from drypoint.layers.change import Change
from drypoint.samples.layers import LayerBuilder
from drypoint.sinks.memory import MemoryTree
from drypoint.stores.overlay2.extraction import apply_changes
from drypoint.stores.planned import AppliedLayer
from drypoint.verification.layer import LayerResult, check_layer

pytestmark = pytest.mark.skipif(not ENABLED, reason="no compiled lanes here")

NOW = 1_700_000_000_000_000_000
OWN = Metadata(0o644, mtime=NOW)


class Layer(msgspec.Struct, frozen=True):
    """A layer of a store that has nothing else."""

    chain_id: Digest
    diff_id: Digest
    size: int | None
    files: bytes = b"diff"
    tar_split: bytes = b"tar-split"
    size_file: bytes = b"size"

    def unpack(self, changes: Iterable[tuple[Change, Content | None]], sink: TreeSink, timestamp: int) -> AppliedLayer:
        return apply_changes(changes, sink, b"", timestamp)


def stored(tar: bytes) -> tuple[MemoryTree, bytes, Layer]:
    """A tree with the layer's files, the text of its tar-split, and the layer.

    Raises:
        LayerError: engines refuse it.
    """
    tree = MemoryTree()
    tree.add(Directory(b"diff", Metadata(0o755, mtime=NOW)))
    with LayerReader(cut(tar, 1 << 20), "layer") as reader:
        applied = apply_changes(reader, tree, b"diff", NOW)
        text = gzip.decompress(b"".join(reader.tar_split.chunks()))
    return tree, text, Layer(digest_of(b"chain"), Digest(f"sha256:{hashlib.sha256(tar).hexdigest()}"), applied.size)


def same(tree: MemoryTree, text: bytes, layer: Layer) -> LayerResult:
    packed = gzip.compress(text, 1)
    tree.add(Regular(b"tar-split", OWN, len(packed)), (packed,))
    by_lane = check_layer(tree, layer, lane=True)
    assert by_lane == check_layer(tree, layer, lane=False)
    return by_lane


SAMPLE = (
    LayerBuilder()
    .directory("a")
    .file("a/one", b"1" * 700)
    .file("a/two", b"2" * 5000)
    .symlink("a/link", "one")
    .fifo("a/pipe")
    .file("a/three", b"3" * 512)
    .hardlink("a/four", "a/three")
    .file("a/" + "long" * 60, b"long")
    .whiteout("a/gone")
    .file("a/last", b"")
    .finish()
)


def test_a_sound_layer_has_no_findings() -> None:
    tree, text, layer = stored(SAMPLE)
    assert same(tree, text, layer) == LayerResult((), len(SAMPLE))


@settings(max_examples=200)
@given(st.lists(members, max_size=6))
def test_any_layer_is_verified_the_same(wanted: list[Member]) -> None:
    try:
        tree, text, layer = stored(tar_of(wanted) + bytes(1024))
    except LayerError:
        event("refused")
        return
    event(f"findings: {len(same(tree, text, layer).findings)}")


changes_of_lines = st.lists(
    st.tuples(st.sampled_from(["drop", "double", "swap", "touch"]), st.integers(0, 30), st.integers(0, 200)), max_size=3
)
paths = st.sampled_from([b"a/one", b"a/two", b"a/three", b"a/four", b"a/last", b"a/link", b"a"])
changes_of_files = st.lists(
    st.tuples(st.sampled_from(["remove", "content", "size", "mode", "extra"]), paths), max_size=3
)


@settings(max_examples=300)
@given(changes_of_lines, changes_of_files, st.none() | st.integers(0, 9999))
def test_a_damaged_layer_is_found_the_same(
    lines: list[tuple[str, int, int]], files: list[tuple[str, bytes]], size: int | None
) -> None:
    tree, text, layer = stored(SAMPLE)
    for what, path in files:
        damage(tree, what, b"diff/" + path)
    found = same(tree, spoiled(text, lines), msgspec.structs.replace(layer, size=size))
    event(f"findings: {sorted({one.code for one in found.findings})}")


def damage(tree: MemoryTree, what: str, path: bytes) -> None:
    stat = tree.lookup(path)
    if stat is None:
        return
    if what == "extra":
        if tree.lookup(path + b"-extra") is None:
            tree.add(Regular(path + b"-extra", OWN, 0), (b"",))
    elif what == "mode":
        tree.amend(path, Metadata(0o600, 7, 7, 7))
    elif what == "remove":
        tree.remove(path)
    elif isinstance(stat.entry, Regular):
        size = stat.entry.size + (what == "size")
        tree.remove(path)
        tree.add(msgspec.structs.replace(stat.entry, size=size), (b"x" * size,))


def spoiled(text: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    """Lines of a tar-split in disorder, their positions made right again; or with a byte changed."""
    lines = text.splitlines()
    for what, place, byte in changes:
        at = place % len(lines)
        if what == "drop":
            del lines[at]
        elif what == "double":
            lines.insert(at, lines[at])
        elif what == "swap":
            lines[at], lines[at - 1] = lines[at - 1], lines[at]
        elif byte < len(lines[at]):
            lines[at] = lines[at][:byte] + b"7" + lines[at][byte + 1 :]
        if not lines:
            break
    renumbered = [line[: line.rindex(b'"position"')] + b'"position":%d}' % number if b'"position"' in line else line
                  for number, line in enumerate(lines)]  # fmt: skip
    return b"".join(line + b"\n" for line in renumbered)


def test_a_tar_split_that_is_cut_off_is_reported_the_same() -> None:
    tree, text, layer = stored(SAMPLE)
    assert same(tree, text[: len(text) // 2], layer).findings[0].code == "damaged-tar-split"


def test_a_layer_without_a_tar_split_is_reported_the_same() -> None:
    tree, _, layer = stored(SAMPLE)
    by_lane, by_twin = (check_layer(tree, layer, lane=lane) for lane in (True, False))
    assert by_lane == by_twin
    assert [one.code for one in by_lane.findings] == ["damaged-tar-split"]
