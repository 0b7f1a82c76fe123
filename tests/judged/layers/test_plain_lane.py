"""The compiled lane against its Python twin: the same changes, contents and tar-split, byte for byte, or the same error."""

from __future__ import annotations

import random

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from tests.support.random_tars import BLOCK, Member, cut, members, tar_of

from drypoint.errors import LayerError
from drypoint.fstree import Metadata
from drypoint.lanes import ENABLED
from drypoint.lanes.tables import new_seen
from drypoint.layers import LayerReader
from drypoint.layers.change import Change
from drypoint.samples.layers import LayerBuilder, TarFormat, with_checksum

pytestmark = pytest.mark.skipif(not ENABLED, reason="no compiled lanes here")

if ENABLED:
    from drypoint.layers._plain_lane import PlainEntries

Read = tuple[list[tuple[Change, bytes | None]], bytes, int, int, str]


def read(tar: bytes, step: int, *, lane: bool) -> Read:
    found: list[tuple[Change, bytes | None]] = []
    split, error = b"", ""
    with LayerReader(cut(tar, step), "layer", lane=lane) as reader:
        try:
            for change, content in reader:
                found.append((change, None if content is None else b"".join(bytes(piece) for piece in content)))
            split = b"".join(reader.tar_split.chunks())
        except LayerError as caught:
            error = str(caught)
        return found, split, reader.entries, reader.tar_bytes, error


def same(tar: bytes, step: int) -> Read:
    by_lane = read(tar, step, lane=True)
    assert by_lane == read(tar, step, lane=False)
    return by_lane


def taken(tar: bytes) -> int:
    """How many entries at the front the lane takes."""
    result = PlainEntries(new_seen()).take(tar, 0, 0, 0, 0, 1 << 18)
    return 0 if result is None else len(result[0])


names = st.one_of(
    st.sampled_from(
        [b"a", b"./b", b"c/", b"./d/", b"d/e", b".f", b"g/.h", b"..i", b"./", b".", b"/j", b"k//l", b"m//"]
    ),
    st.sampled_from(
        [b"n/./o", b"n/../o", b"n/..", b".wh.p", b"q/.wh.r", b"q/.wh..wh..opq", b".wh.s/t", b"a&b", b'"', b"\x7f"]
    ),
    st.text("ab/.", min_size=1, max_size=12).map(str.encode),
    st.integers(90, 260).map(lambda size: (b"long/" * 60)[:size]),
)
plain_members = st.builds(
    Member,
    kind=st.sampled_from([b"0", b"2", b"5"]),
    name=names,
    content=st.binary(max_size=1500),
    link=st.sampled_from([b"", b"t", b"../t", b"l" * 99, b"l" * 100, b"l" * 101]),
    metadata=st.builds(
        Metadata,
        mode=st.integers(0, 0o7777),
        uid=st.sampled_from([0, 1000, (1 << 21) - 1, 1 << 21]),
        gid=st.sampled_from([0, 1000]),
        mtime=st.integers(0, 1 << 34).map(lambda seconds: seconds * 1_000_000_000),
    ),
    tar_format=st.sampled_from(TarFormat),
    touched=st.none(),
)


@settings(max_examples=400)
@given(
    wanted=st.lists(plain_members | members, max_size=8),
    tail=st.sampled_from([b"", bytes(512), bytes(1024), bytes(1024) + b"more", b"\0" * 700]),
    length=st.none() | st.integers(0, 8000),
    step=st.sampled_from([1 << 20, 700, 1536, 5000]),
)
def test_any_tar_reads_the_same(wanted: list[Member], tail: bytes, length: int | None, step: int) -> None:
    tar = (tar_of(wanted) + tail)[:length]
    found, _, _, _, error = same(tar, step)
    event(
        f"plain entries at the front: {min(taken(tar), 3)}; {'refused' if error else 'read'}; changes: {min(len(found), 3)}"
    )


@settings(max_examples=400)
@given(
    is_gnu=st.booleans(),
    kind=st.sampled_from(b"0125\0"),
    touched=st.lists(
        st.tuples(st.integers(100, 511), st.sampled_from(b"\0 0178/ar\x7f\x80\xff")),
        max_size=6,
        unique_by=lambda one: one[0],
    ),
)
@example(is_gnu=False, kind=ord("0"), touched=[(106, ord("0")), (107, ord("0"))])
def test_any_spelling_of_a_header_reads_the_same(is_gnu: bool, kind: int, touched: list[tuple[int, int]]) -> None:
    tar_format = TarFormat.GNU if is_gnu else TarFormat.PAX
    raw = bytearray(LayerBuilder(tar_format=tar_format).symlink("name", "target").finish(end_of_archive=False))
    raw[156] = kind
    for place, value in touched:
        raw[place] = value
    same(with_checksum(bytes(raw)) + bytes(1024), 1 << 20)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 79, 80, 127, 128, 129, 191, 4095, (32 << 10) - 1, 32 << 10, 70_001])
def test_checksums_of_contents_of_any_size(size: int) -> None:
    tar = LayerBuilder().file("f", random.Random(size).randbytes(size)).finish()
    assert taken(tar) == 1
    same(tar, 1 << 20)


def test_a_batch_ends_where_the_twin_compresses() -> None:
    builder = LayerBuilder().directory("d")
    for number in range(3000):
        builder.file(f"d/{number}", random.Random(number).randbytes(number % 700))
    tar = builder.finish()
    assert taken(tar) < 3001
    same(tar, 1 << 20)
    same(tar, 300_000)


def test_a_second_entry_of_a_name_is_refused_as_by_the_twin() -> None:
    tar = LayerBuilder().file("a", b"1").file("b").file("./a", b"2").finish()
    assert taken(tar) == 2
    assert "two entries" in same(tar, 1 << 20)[-1]


def test_metadata_that_two_entries_share_is_one_object() -> None:
    with LayerReader(cut(LayerBuilder().file("a").file("b").finish(), 1 << 20), "layer", lane=True) as reader:
        first, second = (change for change, _ in reader)
    assert first.entry.metadata is second.entry.metadata  # type: ignore[union-attr]


@pytest.mark.parametrize(("position", "padding"), [(-1, 0), (1025, 0), (0, -1), (0, BLOCK)])
def test_a_place_outside_the_chunk_is_an_error(position: int, padding: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        PlainEntries(new_seen()).take(bytes(1024), position, padding, 0, 0, 1)
