"""The compiled lane that reads tar-splits against its Python twin: the same records, or the same error."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from tests.support.random_tars import cut, members, tar_of

from drypoint.errors import LayerError
from drypoint.lanes import ENABLED
from drypoint.lanes.tables import new_seen
from drypoint.layers import LayerReader, read_tar_split
from drypoint.layers.records import FileRecord, Record

pytestmark = pytest.mark.skipif(not ENABLED, reason="no compiled lanes here")

if ENABLED:
    from drypoint.layers._records_lane import PlainRecords

SEGMENT = b'{"type":2,"payload":"AAAA","position":0}\n'
FILE = b'{"type":1,"name":"d/f","size":10,"payload":"AAAAAAAAAAE=","position":1}\n'
INSERTED = [b"", b"\n", b"\xc3\xa9", *(bytes([byte]) for byte in b'"\\01-=AB/.} <n')]
EMPTY = b'{"type":1,"name":"./e/","payload":null,"position":2}\n'


def read(text: bytes, step: int, *, lane: bool) -> tuple[list[Record], str]:
    records: list[Record] = []
    try:
        records.extend(read_tar_split(cut(gzip.compress(text, 1), step), "layer", lane=lane))
    except LayerError as error:
        return records, str(error)
    return records, ""


def same(text: bytes, step: int = 1 << 20) -> str:
    by_lane = read(text, step, lane=True)
    assert by_lane == read(text, step, lane=False)
    return by_lane[1]


def test_plain_lines_are_taken() -> None:
    records, end = PlainRecords(new_seen()).take(SEGMENT + FILE + EMPTY + b"{", 0, 0)
    assert records == [bytes(3), FileRecord(b"d/f", b"d/f", 10, 1), FileRecord(b"./e/", b"e", 0, None)]
    assert end == len(SEGMENT + FILE + EMPTY)


@pytest.mark.parametrize(("start", "position"), [(-1, 0), (99, 0), (0, -1)])
def test_a_place_outside_the_text_is_an_error(start: int, position: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        PlainRecords(new_seen()).take(SEGMENT, start, position)


@settings(max_examples=150)
@given(wanted=st.lists(members, max_size=6), step=st.sampled_from([1 << 20, 100]))
def test_what_is_recorded_of_any_tar_reads_the_same(wanted: list[object], step: int) -> None:
    tar = tar_of(wanted) + bytes(1024)  # type: ignore[arg-type]
    try:
        with LayerReader(cut(tar, 1 << 20), "layer") as reader:
            for _ in reader:
                pass
            text = gzip.decompress(b"".join(reader.tar_split.chunks()))
    except LayerError:
        event("refused")
        return
    assert same(text, step) == ""


@settings(max_examples=600)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(SEGMENT + FILE + EMPTY) - 1),
            st.sampled_from(INSERTED),
            st.integers(0, 2),
        ),
        max_size=4,
    )
)
@example([(SEGMENT.index(b"AAAA") + 2, b"=", 1), (SEGMENT.index(b"AAAA") + 3, b"=", 1)])
@example(
    [
        (SEGMENT.index(b"AAAA") + 1, b"B", 1),
        (SEGMENT.index(b"AAAA") + 2, b"=", 1),
        (SEGMENT.index(b"AAAA") + 3, b"=", 1),
    ]
)
def test_any_spelling_reads_the_same(changes: list[tuple[int, bytes, int]]) -> None:
    text = SEGMENT + FILE + EMPTY
    for place, inserted, removed in sorted(changes, reverse=True):
        text = text[:place] + inserted + text[place + removed :]
    same(text)


@pytest.mark.parametrize(
    "line",
    [
        SEGMENT.replace(b"AAAA", b""),
        SEGMENT.replace(b"AAAA", b"A" * 4096),
        SEGMENT.replace(b"AAAA", b"A" * 4100),
        FILE.replace(b"10", b"010").replace(b"1}", b"0}"),
        FILE.replace(b"10", b"-1").replace(b"1}", b"0}"),
        FILE.replace(b"10", b"9223372036854775807").replace(b"1}", b"0}"),
        FILE.replace(b'"size":10,', b"").replace(b"1}", b"0}"),
        FILE.replace(b"d/f", b"n" * 255).replace(b"1}", b"0}"),
        FILE.replace(b"d/f", b"n" * 256).replace(b"1}", b"0}"),
        FILE.replace(b"d/f", b"d/.wh.f").replace(b"1}", b"0}"),
        EMPTY.replace(b"2}", b"0}") + FILE.replace(b"d/f", b"e"),
        EMPTY.replace(b"2}", b"0} "),
        b"\n",
        b"{}\n",
    ],
)
def test_lines_at_the_edge_of_plain_read_the_same(line: bytes) -> None:
    same(line)
