"""Parallel zstd: one frame, with the content's size and checksum. Its bytes are the same for any number of workers."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from .sparse import image_chunks

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_CHUNK = 1 << 20
_MOST_WORKERS = 16


def zstd_frame(source_fd: int, size: int, level: int, workers: int) -> Iterator[tuple[bytes, int]]:
    """A sparse file's first *size* bytes as a zstd frame: pieces, each with the number of the file's bytes that went in.

    Raises:
        DiskImageError: the file cannot be read, or is shorter.
    """
    # At least one worker: without workers the same library makes other bytes.
    _, most = zstd.CompressionParameter.nb_workers.bounds()
    compressor = zstd.ZstdCompressor(
        options={
            zstd.CompressionParameter.compression_level: level,
            zstd.CompressionParameter.checksum_flag: 1,
            zstd.CompressionParameter.nb_workers: min(max(workers, 1), most, _MOST_WORKERS),
        }
    )
    compressor.set_pledged_input_size(size)
    zeros = bytes(_CHUNK)
    for content, length in image_chunks(source_fd, size, _CHUNK):
        yield compressor.compress(zeros[:length] if content is None else content), length
    yield compressor.flush(), 0
