"""Decompression: every kind, any chunk boundaries, and damage that must not pass."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import itertools
import lzma
import random
import sys
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint import decompression
from drypoint.decompression import LargeWindow
from drypoint.errors import LayerError
from drypoint.layers import compression_of, decompress

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstd.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
NOISE = random.Random(7).randbytes(300_000)


def cut(blob: bytes, *, step: int = 1 << 20) -> Iterator[bytes]:
    for start in range(0, len(blob), step):
        yield blob[start : start + step]


def cut_at(blob: bytes, cuts: list[int]) -> Iterator[bytes]:
    edges = [0, *sorted(min(c, len(blob)) for c in cuts), len(blob)]
    for start, end in itertools.pairwise(edges):
        yield blob[start:end]


def undo(chunks: Iterator[bytes]) -> bytes:
    return b"".join(decompress(chunks, "layer"))


@pytest.fixture(params=["isal", "zlib"], autouse=True)
def gzip_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of this holds with ISA-L and without."""
    if request.param == "zlib":
        monkeypatch.setattr(decompression, "ISAL_ERRORS", ())


@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.parametrize("content", [b"", b"a", NOISE, bytes(5 << 20)], ids=["empty", "byte", "noise", "zeros"])
@pytest.mark.parametrize("step", [1 << 20, 4099, 17])
def test_every_kind_comes_back(kind: str, content: bytes, step: int) -> None:
    blob = COMPRESSORS[kind](content)
    if len(blob) // step > 10_000:
        blob = COMPRESSORS[kind](content[:20_000])
        content = content[:20_000]
    assert compression_of(blob[:10]) == kind
    assert undo(cut(blob, step=step)) == content


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_members_follow_one_another(kind: str) -> None:
    compress = COMPRESSORS[kind]
    blob = compress(b"one ") + compress(b"") + compress(b"three")
    for step in (1, 7, len(compress(b"one ")), 1 << 20):
        assert undo(cut(blob, step=step)) == b"one three"


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_truncation_is_found_at_every_byte(kind: str) -> None:
    blob = COMPRESSORS[kind](NOISE[:200])
    for length in range(10, len(blob)):
        with pytest.raises(LayerError, match=r"layer: the .* stream is (truncated|damaged)"):
            undo(cut(blob[:length]))


@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.parametrize("garbage", [b"\0", b"\0" * 513, b"garbage", NOISE[:100]])
def test_bytes_after_the_end_are_refused(kind: str, garbage: bytes) -> None:
    with pytest.raises(LayerError):
        undo(cut(COMPRESSORS[kind](b"content") + garbage))


def test_xz_alone_takes_zeros_in_fours() -> None:
    assert undo(cut(lzma.compress(b"a") + bytes(8) + lzma.compress(b"b") + bytes(4), step=3)) == b"ab"
    with pytest.raises(LayerError, match="multiple of 4"):
        undo(cut(lzma.compress(b"a") + bytes(6) + lzma.compress(b"b")))


@pytest.mark.parametrize("position", [-8, -1])
def test_gzip_checks_its_trailer(position: int) -> None:
    blob = bytearray(gzip.compress(NOISE))
    blob[position] ^= 1
    with pytest.raises(LayerError, match="layer: the gzip stream is damaged"):
        undo(cut(bytes(blob)))


def test_zstd_may_begin_with_a_skippable_frame() -> None:
    frame = b"\x5a\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    assert compression_of(frame) == "zstd"
    assert undo(cut(frame + zstd.compress(b"content"), step=2)) == b"content"


@pytest.mark.parametrize(
    "start", [b"", b"\x1f\x8b", b"BZ", b"\x1f\x8b\x00compress", b"\x5a\x2a\x4d\x18\0\0\0", bytes(512)]
)
def test_what_is_not_recognised_is_passed_on(start: bytes) -> None:
    assert compression_of(start) is None
    assert undo(cut(start, step=1)) == start


def test_a_bomb_costs_no_memory() -> None:
    member = gzip.compress(bytes(64 << 20), 9)
    tracemalloc.start()
    total = 0
    for piece in decompress(cut(member * 4), "layer"):
        assert len(piece) <= decompression.MAX_OUTPUT
        total += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 256 << 20
    assert peak < 16 << 20


@given(
    content=st.binary(max_size=3000),
    cuts=st.lists(st.integers(0, 4000), max_size=8),
    kind=st.sampled_from([*COMPRESSORS]),
)
def test_chunk_boundaries_do_not_matter(content: bytes, cuts: list[int], kind: str) -> None:
    assert undo(cut_at(COMPRESSORS[kind](content), cuts)) == content


@given(blob=st.binary(max_size=400), kind=st.sampled_from([*COMPRESSORS]))
def test_garbage_raises_nothing_but_layer_errors(blob: bytes, kind: str) -> None:
    start = COMPRESSORS[kind](b"x")
    for keep in (3, 6, 12, len(start)):
        with contextlib.suppress(LayerError):
            undo(cut(start[:keep] + blob))


@pytest.mark.parametrize("step", [1, 5, 17, 18, 1000])
def test_a_zstd_frame_that_needs_much_memory_asks_for_it(step: int) -> None:
    asked: list[int] = []

    def limit() -> int:
        asked.append(1)
        return 32 << 20

    def stream(log: int) -> bytes:
        compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: log})
        return compressor.compress(NOISE[:5000]) + compressor.flush()

    large = LargeWindow(limit, "allow more")
    for log, times in ((20, 0), (23, 0), (24, 1), (25, 1)):
        asked.clear()
        undone = b"".join(decompress(cut(stream(log) + stream(22), step=step), "layer", large_window=large))
        assert (undone, len(asked)) == (NOISE[:5000] * 2, times)
    with pytest.raises(
        LayerError, match="layer: the zstd stream needs more than 33554432 bytes of history; allow more"
    ):
        list(decompress(cut(stream(26), step=step), "layer", large_window=large))
    # As much as the engine takes, and no more.
    assert undo(cut(stream(29), step=step)) == NOISE[:5000]
    with pytest.raises(LayerError, match="needs more than 536870912 bytes of history"):
        undo(cut(stream(30), step=step))
