"""Where reads end behind a tar's end, against an inflater written for it here, which hands out its output as Go's does.

What the real engine makes of the same framings, tests/engine/test_tar_split_ends.py asks it.
"""

from __future__ import annotations

import bz2
import random
import struct
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.gzip_framings import Cut, Framing, framed, like_pgzip, random_framing

from drypoint.digest import digest_of
from drypoint.layers import LayerReader, read_ends, read_tar_split, tar_chunks
from drypoint.layers.compression import decompress
from drypoint.layers.read_ends import InflateTrace, ReadEnds
from drypoint.layers.records import FileRecord
from drypoint.oci import Descriptor, Layer
from drypoint.samples.layers import LayerBuilder

WINDOW = 32768
LENGTHS = [(3 + n, 0) for n in range(8)]
for bits in range(1, 6):
    for _ in range(4):
        base, extra = LENGTHS[-1]
        LENGTHS.append((base + (1 << extra), bits))
LENGTHS[-1:] = [(227, 5), (258, 0)]
DISTANCES = [(1, 0), (2, 0), (3, 0), (4, 0)]
for bits in range(1, 14):
    for _ in range(2):
        base, extra = DISTANCES[-1]
        DISTANCES.append((base + (1 << extra), bits))
ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)


class SlowInflater:
    """gzip, bit by bit (RFC 1951, 1952): only sizes are kept, and where Go's reader would return."""

    def __init__(self, blob: bytes) -> None:
        self.blob = blob
        self.bit = 0
        self.size = 0  # of all
        self.member = 0  # of the present member
        self.returned = 0
        self.ends: list[int] = []
        self.with_end = False

    def run(self) -> None:
        while self.bit // 8 < len(self.blob):
            self.bit += 80
            self.member = 0
            while not self.block():
                pass
            self.bit = -(-self.bit // 8) * 8 + 64
            self.with_end = self.returned != self.size
            self.give()

    def give(self) -> None:
        if self.returned != self.size:
            self.ends.append(self.size)
            self.returned = self.size

    def out(self, count: int) -> None:
        while count:
            step = min(count, WINDOW - self.member % WINDOW)
            self.size += step
            self.member += step
            count -= step
            if self.member % WINDOW == 0:
                self.give()

    def take(self, count: int) -> int:
        value = 0
        for place in range(count):
            value |= (self.blob[self.bit >> 3] >> (self.bit & 7) & 1) << place
            self.bit += 1
        return value

    def block(self) -> bool:
        final, kind = self.take(1), self.take(2)
        if kind == 0:
            self.bit = -(-self.bit // 8) * 8
            length = self.take(16)
            assert length ^ self.take(16) == 0xFFFF
            self.bit += 8 * length
            self.out(length)
            if not length and not final:
                self.give()
        else:
            literals, distances = self.fixed() if kind == 1 else self.dynamic()
            while (symbol := self.symbol(literals)) != 256:
                if symbol < 256:
                    self.out(1)
                else:
                    base, extra = LENGTHS[symbol - 257]
                    length = base + self.take(extra)
                    self.take(DISTANCES[self.symbol(distances)][1])
                    self.out(length)
        return bool(final)

    def symbol(self, codes: dict[tuple[int, int], int]) -> int:
        code = length = 0
        while (length, code) not in codes:
            code = code << 1 | self.take(1)
            length += 1
        return codes[length, code]

    def fixed(self) -> tuple[dict[tuple[int, int], int], dict[tuple[int, int], int]]:
        return codes_of([8] * 144 + [9] * 112 + [7] * 24 + [8] * 8), codes_of([5] * 30)

    def dynamic(self) -> tuple[dict[tuple[int, int], int], dict[tuple[int, int], int]]:
        literals, distances, count = self.take(5) + 257, self.take(5) + 1, self.take(4) + 4
        first = [0] * 19
        for place in ORDER[:count]:
            first[place] = self.take(3)
        codes = codes_of(first)
        lengths: list[int] = []
        while len(lengths) < literals + distances:
            symbol = self.symbol(codes)
            if symbol < 16:
                lengths.append(symbol)
            elif symbol == 16:
                lengths += [lengths[-1]] * (3 + self.take(2))
            else:
                lengths += [0] * (3 + self.take(3) if symbol == 17 else 11 + self.take(7))
        return codes_of(lengths[:literals]), codes_of(lengths[literals:])


def codes_of(lengths: list[int]) -> dict[tuple[int, int], int]:
    codes: dict[tuple[int, int], int] = {}
    code = 0
    for length in range(1, 16):
        for symbol, one in enumerate(lengths):
            if one == length:
                codes[length, code] = symbol
                code += 1
        code <<= 1
    return codes


def slowly(blob: bytes, start: int) -> ReadEnds:
    inflater = SlowInflater(blob)
    inflater.run()
    inner = [end for end in inflater.ends if start < end < inflater.size]
    return ReadEnds(inner, inflater.with_end and start < inflater.size)


def quickly(blob: bytes, start: int, step: int = 1 << 16) -> ReadEnds:
    trace = InflateTrace()
    size = sum(map(len, decompress((blob[at : at + step] for at in range(0, len(blob), step)), "blob", trace)))
    return trace.read_ends(start, size)


framings = st.tuples(
    st.integers(0, 80_000), st.integers(0, 40_000), st.sampled_from([0, 1, 6, 9]), st.randoms(use_true_random=False)
)


@settings(max_examples=60, deadline=None)
@given(framings, st.sampled_from([1 << 16, 1000, 7]))
def test_reads_end_where_the_slow_inflater_returns(drawn: tuple[int, int, int, random.Random], step: int) -> None:
    size, behind, level, chance = drawn
    content = chance.randbytes(size // 8) + bytes(size - size // 8)
    start = max(0, len(content) - behind)
    blob = framed(content, random_framing(size, start, chance), level)
    assert quickly(blob, start, step) == slowly(blob, start)


@pytest.mark.parametrize(
    ("framing", "inner", "with_end"),
    [
        # 9,216 bytes behind the archive's end, as dockerd 20.10.24 recorded them when it pulled.
        ([], [], True),
        ([(10_000, Cut.SYNC_FLUSH)], [10_000], True),
        ([(10_000, Cut.FULL_FLUSH), (12_000, Cut.SYNC_FLUSH)], [10_000, 12_000], True),
        ([(10_000, Cut.PARTIAL_FLUSH), (11_000, Cut.BLOCK)], [], True),
        ([(10_000, Cut.MEMBER)], [10_000], True),
        ([(18_433, Cut.SYNC_FLUSH)], [], False),
        ([(18_433, Cut.MEMBER)], [], False),
        ([(10_000, Cut.MEMBER), (18_433, Cut.EMPTY_MEMBER)], [10_000], False),
        ([(9_217, Cut.SYNC_FLUSH)], [], True),
        ([(9_217, Cut.SYNC_FLUSH), (9_218, Cut.SYNC_FLUSH)], [9_218], True),
    ],
)
def test_what_a_writer_does_behind_the_end(framing: Framing, inner: list[int], with_end: bool) -> None:
    content = b"x" * 9_217 + bytes(9_216)
    assert quickly(framed(content, framing), 9_217) == slowly(framed(content, framing), 9_217) == (inner, with_end)


@pytest.mark.parametrize("step", [1 << 20, 100_000])
def test_a_large_blob_is_traced_by_its_end(step: int) -> None:
    content = random.Random(1).randbytes(5 << 20) + bytes(9_216)
    start = len(content) - 9_216
    blob = like_pgzip(content)
    assert quickly(blob, start, step) == slowly(blob, start) == ([], False)
    blob = framed(content, [(start + 5000, Cut.SYNC_FLUSH)])
    assert quickly(blob, start, step) == slowly(blob, start) == ([start + 5000], True)
    trace = InflateTrace()
    for _ in decompress((blob[at : at + step] for at in range(0, len(blob), step)), "blob", trace):
        kept = sum(map(len, trace._chunks))
        assert kept < (1 << 20) + step


def test_a_flush_in_a_stored_blocks_content_is_none() -> None:
    content = b"x" * 5000 + b"\0\0\0\xff\xff" * 400 + bytes(2000)
    blob = framed(content, [(8000, Cut.SYNC_FLUSH)], level=0)
    assert blob.count(b"\0\0\xff\xff") > 400
    assert quickly(blob, 5000) == ([8000], True) == slowly(blob, 5000)


def test_a_stored_block_that_ends_as_a_flush_does_is_none() -> None:
    def stored(content: bytes, final: int = 0) -> bytes:
        return struct.pack("<BHH", final, len(content), len(content) ^ 0xFFFF) + content

    content = bytes(3000)
    parts = [content[:1000], content[:500] + b"\0\0\xff\xff", content]
    deflated = stored(parts[0]) + stored(b"") + stored(parts[1]) + stored(parts[2], 1)
    whole = b"".join(parts)
    blob = b"\x1f\x8b\x08" + bytes(7) + deflated + struct.pack("<II", zlib.crc32(whole), len(whole))
    assert quickly(blob, 100) == ([1000], True) == slowly(blob, 100)


def test_the_search_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []
    alone = read_ends.sizes_of_blocks

    def counted(piece: bytes, limit: int, *, is_last: bool) -> tuple[int, int] | None:
        tries.append(len(piece))
        return alone(piece, limit, is_last=is_last)

    monkeypatch.setattr(read_ends, "sizes_of_blocks", counted)
    blob = framed(b"\0\0\xff\xff" * 250_000 + bytes(10), [], level=0)
    assert quickly(blob, 1000) == slowly(blob, 1000)
    assert sum(tries) + len(tries) * (4 << 10) < read_ends.BUDGET + (2 << 20)


def test_bzip2_is_read_by_the_stream_and_mebibyte() -> None:
    content = bytes(3 << 20)
    blob = bz2.compress(content[: 1 << 20]) + bz2.compress(content[1 << 20 :])
    assert quickly(blob, 1000) == ([1 << 20, 2 << 20], False)


def segments_behind(tar: bytes, blob: bytes, *, from_store: bool = False) -> list[int]:
    layer = Layer(Descriptor("x", digest_of(blob), len(blob)), digest_of(tar), digest_of(tar), None)
    with tar_chunks(iter([blob]), layer, "x") as chunks, LayerReader(chunks, "x", from_store=from_store) as reader:
        for _ in reader:
            pass
        records = list(read_tar_split(reader.tar_split.chunks(), "layer"))
    last = max(index for index, record in enumerate(records) if isinstance(record, FileRecord))
    return [len(record) for record in records[last + 1 :] if isinstance(record, bytes)]


def ends() -> Iterator[tuple[bytes, list[int], list[int]]]:
    """What ends a tar, and the pieces that dockerd 20.10.24 records: read from a gzip blob; read from the store."""
    yield bytes(1024), [1024, 0], [1024, 0, 0]
    yield bytes(10_240), [1024, 9216], [1024, 9216, 0]
    yield bytes(512), [512, 0], [512, 0]
    yield b"", [0], [0]


@pytest.mark.parametrize(("end", "blob", "store"), list(ends()))
def test_a_blob_that_an_image_has_twice_is_read_from_the_store(end: bytes, blob: list[int], store: list[int]) -> None:
    tar = LayerBuilder().file("file").finish(end_of_archive=False) + end
    gzip = framed(tar, [])
    assert segments_behind(tar, gzip) == blob
    assert segments_behind(tar, gzip, from_store=True) == store


def test_more_than_is_held_is_cut_by_windows() -> None:
    tar = LayerBuilder().file("file").finish() + bytes(9 << 20)
    blob = framed(tar, [(len(tar), Cut.SYNC_FLUSH)])
    sizes = segments_behind(tar, blob)
    assert sizes[:3] == [1024, WINDOW - 1536, WINDOW]
    assert sizes[-2:] == [1536, 0]
    assert sum(sizes) == 1024 + (9 << 20)
