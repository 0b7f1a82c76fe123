"""Layers that are fetched ahead: their time together, and whose turn it is to take memory."""

from __future__ import annotations

import lzma
import sys
import time
from collections.abc import Iterator

import pytest

from drypoint.digest import digest_of
from drypoint.errors import ContentError, TransferError
from drypoint.jobs.fetch import LayerFetcher, LayerJob
from drypoint.limits import Limits
from drypoint.oci import Descriptor, Image, Layer, parse_reference
from drypoint.oci.image import parse_config
from drypoint.progress import SILENT
from drypoint.samples.layers import LayerBuilder

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TARS = [LayerBuilder().file(f"f{number}", b"x" * 100_000).finish() for number in range(4)]


def large_window(tar: bytes, log: int) -> bytes:
    """*tar* as a zstd stream that claims to refer to 2 ** *log* bytes of history."""
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: log})
    return compressor.compress(tar) + compressor.flush()


class Blobs:
    def __init__(self, blobs: list[bytes]) -> None:
        self.opened: list[int] = []
        self._blobs = {digest_of(blob): blob for blob in blobs}

    def open_layer(self, image: Image, layer: Layer) -> Iterator[bytes]:
        self.opened.append(len(self.opened))
        return iter([self._blobs[layer.blob.digest]])


def jobs_of(blobs: list[bytes]) -> list[LayerJob]:
    source = Blobs(blobs)
    config = parse_config(
        b'{"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}}', "x"
    )
    image = Image((parse_reference("x:1"),), config, (), None)
    return [
        LayerJob(
            image, Layer(Descriptor("x", digest_of(blob), len(blob)), digest_of(tar), digest_of(tar), None), source
        )
        for blob, tar in zip(blobs, TARS, strict=True)
    ]


def read(jobs: list[LayerJob], limits: Limits) -> int:
    step = SILENT.begin("")
    with LayerFetcher(jobs, step, limits=limits) as fetcher:
        fetcher.prefetch()
        entries = 0
        for _ in jobs:
            with fetcher.next_layer() as reader:
                for _change in reader:
                    entries += 1
        return entries


def test_layers_take_large_windows_one_after_the_other() -> None:
    """Those ahead wait for their turn, and no layer waits for ever."""
    jobs = jobs_of([large_window(tar, 24) for tar in TARS])
    assert read(jobs, Limits(zstd_window=16 << 20)) == 4


def test_xz_takes_memory_one_after_the_other() -> None:
    jobs = jobs_of([lzma.compress(tar) for tar in TARS])
    assert read(jobs, Limits()) == 4


def test_a_window_that_is_too_large_is_refused() -> None:
    jobs = jobs_of([large_window(tar, 24) for tar in TARS])
    with pytest.raises(ContentError, match=r"8388608 bytes of history.*--limit zstd-window=NUMBER"):
        read(jobs, Limits(zstd_window=(16 << 20) - 1))


def test_all_layers_together_have_a_time() -> None:
    jobs = jobs_of([large_window(tar, 20) for tar in TARS])
    start = time.monotonic()
    with pytest.raises(TransferError, match=r"is not whole 0 seconds after the first request; --limit seconds=NUMBER"):
        read(jobs, Limits(seconds=0))
    assert time.monotonic() - start < 5


def test_a_tar_has_a_length() -> None:
    jobs = jobs_of([large_window(tar, 20) for tar in TARS])
    assert read(jobs, Limits(tar_bytes=len(TARS[0]))) == 4
    with pytest.raises(
        ContentError, match=rf"its tar has more than {len(TARS[0]) - 1} bytes; --limit tar-bytes=NUMBER"
    ):
        read(jobs, Limits(tar_bytes=len(TARS[0]) - 1))
