"""Writing a disk image as a stream in any format, on all cores. Equal content gives equal bytes on any number of cores."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from typing import assert_never

import msgspec

from ...concurrency.pool import usable_cores
from ...errors import OutputError, UsageError
from ...progress import SILENT, Progress
from ..host.copies import copy_sparse
from .deflate import Deflated
from .kinds import ImageFormat
from .sparse import image_chunks
from .xz import xz_stream
from .zip_writing import zip_archive
from .zstandard import zstd_frame

_CHUNK = 1 << 20
_LEVELS = {
    # Measured: docs/formats.md.
    ImageFormat.GZIP: (range(1, 10), 4),
    ImageFormat.XZ: (range(10), 1),
    ImageFormat.ZSTD: (range(1, 20), 3),
    ImageFormat.ZIP: (range(1, 10), 4),
}
_UNIX = 3


class Encoding(msgspec.Struct, frozen=True):
    """How a disk image is written.

    Attributes:
        member_name: its name in a zip archive, see :func:`.member_name`. gzip's name field stays empty.
        timestamp: seconds since the epoch, for the time fields of gzip and zip.
        level: of compression: 1 to 9 for gzip and zip, 0 to 9 for xz, 1 to 19 for zstd. Default: a fast one.
    """

    kind: ImageFormat
    member_name: str
    timestamp: int = 0
    level: int | None = None


def write_image(
    source_fd: int,
    size: int,
    target_fd: int,
    encoding: Encoding,
    *,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> None:
    """Write a disk image, the first *size* bytes of a file, to the start of a file or into a pipe.

    Holes are not read. A raw image in a regular file keeps its holes.

    Args:
        source_fd: the disk image, open for reading.
        target_fd: where it goes, open for writing and empty.
        encoding: the format, and what it says of the disk image.
        workers: threads to use, at most; default: one for each usable core. The result does not depend on it.
        progress: gets the number of the disk image's bytes that are done.

    Raises:
        UsageError: there is no such level.
        DiskImageError: the disk image cannot be read, or is shorter than *size*.
        OutputError: the target cannot be written. Its cause is the OSError.
    """
    kind = encoding.kind
    step = progress.begin("copying the disk image" if kind is ImageFormat.RAW else f"compressing with {kind}", size)
    try:
        if kind is ImageFormat.RAW and stat.S_ISREG(os.fstat(target_fd).st_mode):
            copy_sparse(source_fd, target_fd, length=size, progress=step.advance, for_good=True)
        else:
            for piece, length in _stream(source_fd, size, encoding, max(1, workers or usable_cores())):
                _write(target_fd, piece)
                step.advance(length)
    except OSError as error:
        raise OutputError(f"cannot write the disk image as {kind}: {error.strerror}") from error
    step.end()


def _level(kind: ImageFormat, level: int | None) -> int:
    if kind is ImageFormat.RAW:
        return 0
    levels, default = _LEVELS[kind]
    if level is not None and level not in levels:
        raise UsageError(f"{kind} has no compression level {level}; choose one from {levels[0]} to {levels[-1]}")
    return default if level is None else level


def _stream(source_fd: int, size: int, encoding: Encoding, workers: int) -> Iterator[tuple[bytes, int]]:
    """Pieces of the output, each with the number of the disk image's bytes in it."""
    level = _level(encoding.kind, encoding.level)
    match encoding.kind:
        case ImageFormat.RAW:
            zeros = bytes(_CHUNK)
            for content, length in image_chunks(source_fd, size, _CHUNK):
                yield zeros[:length] if content is None else content, length
        case ImageFormat.GZIP:
            yield from _gzip(Deflated(source_fd, size, level, workers), encoding.timestamp)
        case ImageFormat.XZ:
            yield from xz_stream(source_fd, size, level, workers)
        case ImageFormat.ZSTD:
            yield from zstd_frame(source_fd, size, level, workers)
        case ImageFormat.ZIP:
            yield from zip_archive(Deflated(source_fd, size, level, workers), encoding.member_name, encoding.timestamp)
        case _:
            assert_never(encoding.kind)


def _gzip(content: Deflated, timestamp: int) -> Iterator[tuple[bytes, int]]:
    """One member (RFC 1952). Its length field is modulo 4 GiB; a time that does not fit is written as 0, which means none."""
    seconds = timestamp if 0 <= timestamp < 1 << 32 else 0
    yield b"\x1f\x8b\x08\0" + struct.pack("<IBB", seconds, 0, _UNIX), 0
    yield from content
    yield struct.pack("<II", content.crc, content.size & 0xFFFFFFFF), 0


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
