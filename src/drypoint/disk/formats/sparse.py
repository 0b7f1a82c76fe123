"""Streams and sparse files: zeros become holes when written, holes become zeros when read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from ...errors import DiskImageError
from ..host.copies import data_extents
from ..host.read_write import write_all

HOLE_SIZE = 4096
"""Bytes of the smallest hole, aligned: a block of most file systems."""
_ZEROS = bytes(1 << 20)
_ZERO_BLOCK = bytes(HOLE_SIZE)


def write_sparse(chunks: Iterable[bytes], fd: int) -> int:
    """Write *chunks* to the empty file *fd*, aligned blocks of zeros as holes.

    Returns:
        The file's size in bytes.

    Raises:
        OSError: it cannot be written, for example ENOSPC.
    """
    position = 0
    for chunk in chunks:
        for start, end in _runs(chunk, position):
            write_all(fd, memoryview(chunk)[start:end], position + start)
        position += len(chunk)
    os.ftruncate(fd, position)
    return position


def _runs(chunk: bytes, position: int) -> Iterator[tuple[int, int]]:
    """The (start, end) runs of *chunk*, which starts at *position* of the file, that must be written."""
    size = len(chunk)
    if _is_zero(chunk, 0, size):
        return
    first: int | None = None
    start = 0
    while start < size:
        end = min(size, start + HOLE_SIZE - (position + start) % HOLE_SIZE)
        # A piece of a block may be left out, too: the file reads as zeros where nothing was written.
        if _is_zero(chunk, start, end):
            if first is not None:
                yield first, start
                first = None
        elif first is None:
            first = start
        start = end
    if first is not None:
        yield first, size


def _is_zero(chunk: bytes, start: int, end: int) -> bool:
    size = end - start
    if size == HOLE_SIZE:
        return chunk.startswith(_ZERO_BLOCK, start)
    if size <= len(_ZEROS):
        return chunk[start:end] == _ZEROS[:size]
    return chunk.count(0) == size


def image_chunks(fd: int, size: int, chunk_size: int) -> Iterator[tuple[bytes | None, int]]:
    """A sparse file's first *size* bytes in order, as (content, length) of *chunk_size* each, the last shorter.

    The content is None if the whole chunk is a hole; holes are not read.

    Raises:
        DiskImageError: the file cannot be read, or is shorter.
    """
    try:
        extents = data_extents(fd, 0, size)
        extent = next(extents, None)
        for start in range(0, size, chunk_size):
            end = min(start + chunk_size, size)
            while extent is not None and sum(extent) <= start:
                extent = next(extents, None)
            if extent is None or extent[0] >= end:
                yield None, end - start
            else:
                yield read_exactly(fd, start, end - start), end - start
    except OSError as error:
        raise DiskImageError(f"cannot read the disk image to be compressed: {error.strerror}") from error


def read_exactly(fd: int, offset: int, length: int) -> bytes:
    """*length* bytes at *offset*.

    Raises:
        DiskImageError: the file ends before that.
        OSError: it cannot be read.
    """
    content = os.pread(fd, length, offset)
    while len(content) < length:
        more = os.pread(fd, length - len(content), offset + len(content))
        if not more:
            raise DiskImageError(
                f"the disk image ends at byte {offset + len(content)}; did it change while it was read?"
            )
        content += more
    return content
