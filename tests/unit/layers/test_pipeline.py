"""The threads between a blob and its verified tar: right, wrong, and left early."""

from __future__ import annotations

import gzip
import random
import threading
import time
from collections.abc import Iterator

import pytest

from drypoint.digest import Digest, digest_of
from drypoint.errors import ContentError, DigestMismatchError, LayerError, NoSpaceError, TransferError
from drypoint.layers import tar_chunks, verified
from drypoint.oci import Descriptor, Layer

TAR = random.Random(3).randbytes(3 << 20) + bytes(20 << 20)
BLOB = gzip.compress(TAR, 1)
WRONG = digest_of(b"something else")


def cut(blob: bytes, step: int = 100_000) -> Iterator[bytes]:
    for start in range(0, len(blob), step):
        yield blob[start : start + step]


def layer_of(
    blob: bytes = BLOB,
    tar: bytes = TAR,
    *,
    digest: Digest | None = None,
    diff_id: Digest | None = None,
    size: int | None = None,
) -> Layer:
    diff_id = diff_id or digest_of(tar)
    descriptor = Descriptor("x", digest or digest_of(blob), len(blob) if size is None else size)
    return Layer(descriptor, diff_id, diff_id, None)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Watched(Iterator[bytes]):
    """A blob that tells how far it was read and whether it was closed."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks
        self.taken = 0
        self.closed = False

    def __next__(self) -> bytes:
        self.taken += 1
        return next(self.chunks)

    def close(self) -> None:
        self.closed = True


def test_verified_passes_what_is_right() -> None:
    assert list(verified(iter([b"a", b"b"]), digest_of(b"ab"), "x", 2)) == [b"a", b"b"]
    assert list(verified(iter([]), digest_of(b""), "x")) == []


def test_verified_names_both_digests() -> None:
    with pytest.raises(DigestMismatchError) as caught:
        list(verified(iter([b"ab"]), WRONG, "the config"))
    assert "the config" in str(caught.value)
    assert WRONG in str(caught.value)
    assert digest_of(b"ab") in str(caught.value)


def test_verified_stops_at_the_first_byte_too_many() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"12345"

    chunks = verified(endless(), WRONG, "x", 12)
    assert [next(chunks), next(chunks)] == [b"12345"] * 2
    with pytest.raises(ContentError, match="more than the 12 bytes"):
        next(chunks)


def test_verified_wants_all_bytes() -> None:
    with pytest.raises(ContentError, match="only 2 were received"):
        list(verified(iter([b"ab"]), digest_of(b"ab"), "x", 3))


def test_a_good_layer_comes_through_whole() -> None:
    blob = Watched(cut(BLOB))
    with tar_chunks(blob, layer_of(), "layer") as chunks:
        assert b"".join(chunks) == TAR
        assert chunks.trace.compression == "gzip"
        assert list(chunks) == []
    assert blob.closed


def test_one_pass_gives_the_blob_and_its_tar() -> None:
    copied: list[bytes] = []
    blob = Watched(cut(BLOB))
    with tar_chunks(blob, layer_of(), "layer", copied.append) as chunks:
        assert b"".join(chunks) == TAR
    assert b"".join(copied) == BLOB
    assert blob.taken == len(copied) + 1
    assert blob.closed


def test_a_blob_is_only_vouched_for_by_a_clean_end() -> None:
    copied: list[bytes] = []
    with tar_chunks(cut(BLOB), layer_of(digest=WRONG), "layer", copied.append) as chunks:
        with pytest.raises(DigestMismatchError):
            list(chunks)
    assert b"".join(copied) == BLOB


def test_bytes_beyond_the_announced_size_reach_nobody() -> None:
    copied: list[bytes] = []
    with tar_chunks(cut(BLOB), layer_of(size=150_000), "layer", copied.append) as chunks:
        with pytest.raises(ContentError, match="more than the 150000 bytes"):
            list(chunks)
    assert b"".join(copied) == BLOB[:100_000]


def test_a_blob_that_cannot_be_kept_ends_the_reading() -> None:
    def full(chunk: bytes) -> None:
        raise NoSpaceError("no space for the blob")

    blob = Watched(cut(BLOB))
    with tar_chunks(blob, layer_of(), "layer", full) as chunks:
        with pytest.raises(NoSpaceError):
            list(chunks)
    assert blob.closed


def test_a_bare_tar_comes_through_whole() -> None:
    with tar_chunks(cut(TAR), layer_of(TAR), "layer") as chunks:
        assert b"".join(chunks) == TAR
        assert chunks.trace.compression is None


@pytest.mark.parametrize(
    ("layer", "error", "says"),
    [
        (layer_of(digest=WRONG), DigestMismatchError, "layer 1: expected"),
        (layer_of(diff_id=WRONG), DigestMismatchError, "layer 1, uncompressed: expected"),
        (layer_of(size=len(BLOB) - 1), ContentError, "more than"),
        (layer_of(size=len(BLOB) + 1), ContentError, "only"),
    ],
)
def test_what_is_wrong_is_told_before_the_end(layer: Layer, error: type[Exception], says: str) -> None:
    with tar_chunks(cut(BLOB), layer, "layer 1") as chunks, pytest.raises(error, match=says):
        for _ in chunks:
            pass


def test_damage_on_the_way_is_told_as_a_wrong_digest() -> None:
    damaged = bytearray(BLOB)
    damaged[1_000_000] ^= 0x55
    with (
        tar_chunks(cut(bytes(damaged)), layer_of(), "layer") as chunks,
        pytest.raises(DigestMismatchError, match="layer: "),
    ):
        for _ in chunks:
            pass


def test_a_blob_that_is_itself_damaged_is_told_so() -> None:
    damaged = BLOB[:-3]
    with tar_chunks(cut(damaged), layer_of(damaged), "layer") as chunks, pytest.raises(LayerError, match="truncated"):
        for _ in chunks:
            pass


def test_what_the_source_raises_arrives_after_what_it_gave() -> None:
    def broken() -> Iterator[bytes]:
        yield TAR[: 2 << 20]
        raise TransferError("the registry hung up")

    with tar_chunks(broken(), layer_of(TAR), "layer") as chunks:
        assert len(next(chunks)) == 2 << 20
        with pytest.raises(TransferError, match="hung up"):
            next(chunks)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_leaving_early_stops_everything(error: type[BaseException]) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(1 << 20)

    def use(chunks: Iterator[bytes]) -> None:
        next(chunks)
        raise error

    blob = Watched(endless())
    with pytest.raises(error), tar_chunks(blob, layer_of(size=1 << 40), "layer") as chunks:
        use(chunks)
    assert blob.closed


def test_a_generator_is_closed_by_its_own_thread() -> None:
    closed_by: list[str] = []

    def blob() -> Iterator[bytes]:
        try:
            while True:
                yield bytes(1 << 20)
        finally:
            closed_by.append(threading.current_thread().name)

    with tar_chunks(blob(), layer_of(size=1 << 40), "layer") as chunks:
        next(chunks)
    assert closed_by == ["drypoint-fetch"]


def test_closing_does_not_wait_for_a_blob_that_stalls() -> None:
    goes_on = threading.Event()
    closed = threading.Event()

    def stalling() -> Iterator[bytes]:
        try:
            yield bytes(1 << 20)
            goes_on.wait(30)
            yield bytes(1 << 20)
        finally:
            closed.set()

    started = time.monotonic()
    with tar_chunks(stalling(), layer_of(size=1 << 40), "layer") as chunks:
        next(chunks)
    assert time.monotonic() - started < 10
    assert not closed.is_set()
    goes_on.set()
    assert closed.wait(10)


def test_a_slow_consumer_bounds_what_is_read_ahead() -> None:
    blob = Watched(cut(bytes(400 << 20), 1 << 20))
    with tar_chunks(blob, layer_of(size=400 << 20), "layer") as chunks:
        next(chunks)
        time.sleep(0.3)
        assert blob.taken < 25


def test_closing_twice_and_unused_is_harmless() -> None:
    chunks = tar_chunks(cut(BLOB), layer_of(), "layer")
    chunks.close()
    chunks.close()
    with pytest.raises(ValueError, match="after they were closed"):
        next(chunks)
