"""A disk image opened, whatever it is packed in: where it is when it is raw, else unpacked to a sparse nameless file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import assert_never

import msgspec

from ...decompression import members
from ...errors import DiskImageError, OutputError
from ...progress import SILENT, Progress, Step
from ..device import FileDevice
from ..host.scratch import nameless_file, path_of, scratch_directory
from ..tables.tail import pad_missing_tail
from .kinds import ImageFormat, format_of_content, refuse_packed_again
from .sparse import write_sparse
from .zip_reading import find_image, member_content

_CHUNK = 128 << 10


class OpenedImage(msgspec.Struct, frozen=True):
    """A disk image that can be read at any offset.

    Attributes:
        device: its bytes; its name is the path that the user gave. Only read from, unless it is scratch. Padded if zeros are
            missing at its end, see :func:`.pad_missing_tail`.
        format: what it was packed in.
        is_scratch: whether the device is a file without a name that nobody else knows, which may be written to.
    """

    device: FileDevice
    format: ImageFormat
    is_scratch: bool


@contextmanager
def opened_image(
    path: Path, *, directory: Path | None = None, name: str | None = None, progress: Progress = SILENT
) -> Iterator[OpenedImage]:
    """Open the disk image *path*, which may be a block device, or compressed: its content tells, not its name.

    Args:
        directory: where a compressed one is unpacked to; default: :func:`.scratch_directory`.
        name: how messages name it; default: its path.
        progress: is given how much of a compressed one has been read.

    Raises:
        DiskImageError: it cannot be read, is damaged, cut short, compressed in a way that is not supported, or an archive with
            more or less than one disk image.
        OutputError: there is no room to unpack it.
    """
    with FileDevice(path, name=name) as file:
        kind = format_of_content(file)
        if kind is ImageFormat.RAW:
            pad_missing_tail(file, progress)
            yield OpenedImage(file, kind, is_scratch=False)
            return
        with nameless_file(directory or scratch_directory()) as fd:
            _unpack(file, kind, fd, directory, progress)
            with FileDevice(path_of(fd), writable=True, name=file.name) as device:
                refuse_packed_again(device, kind)
                pad_missing_tail(device, progress)
                yield OpenedImage(device, kind, is_scratch=True)


def decompressed(chunks: Iterable[bytes], kind: ImageFormat, name: str, progress: Progress = SILENT) -> Iterator[bytes]:
    """The bytes of the disk image that the stream *chunks* holds, at most 1 MiB at a time where it is compressed.

    Several gzip members, xz streams or zstd frames are one image, as they are to gzip, xz and zstd. Zeros may follow the last;
    anything else there, such as the metadata behind every OpenWrt image, is ignored with a warning, as gzip does.

    Args:
        name: how messages name the stream.
        progress: is given the warning.

    Raises:
        DiskImageError: it is damaged, truncated, wants absurd memory, or is a zip archive, whose directory is at its end.
    """
    trailing = f"warning: {name} goes on after the end of its {kind} data; what follows is not part of the disk image"
    match kind:
        case ImageFormat.RAW:
            yield from chunks
        case ImageFormat.GZIP | ImageFormat.XZ | ImageFormat.ZSTD:
            yield from members(iter(chunks), kind, name, DiskImageError, on_trailing=lambda: progress.note(trailing))
        case ImageFormat.ZIP:
            raise DiskImageError(f"{name} is a zip archive, which cannot be read as a stream; save it to a file first")
        case _:
            assert_never(kind)


def _unpack(file: FileDevice, kind: ImageFormat, fd: int, directory: Path | None, progress: Progress) -> None:
    step = progress.begin("unpacking the disk image", file.size)
    try:
        write_sparse(_content(file, kind, step, progress), fd)
    except OSError as error:
        raise _cannot_unpack(file.name, directory, os.fstat(fd).st_blocks * 512, error) from error
    step.end()


def _content(file: FileDevice, kind: ImageFormat, step: Step, progress: Progress) -> Iterator[bytes]:
    if kind is ImageFormat.ZIP:
        told = 0
        for content, taken in member_content(file, find_image(file)):
            step.advance(taken - told)
            told = taken
            yield content
    else:
        yield from decompressed(_chunks(file, step), kind, file.name, progress)


def _chunks(file: FileDevice, step: Step) -> Iterator[bytes]:
    size = file.size
    for start in range(0, size, _CHUNK):
        chunk = file.read(start, min(_CHUNK, size - start))
        step.advance(len(chunk))
        yield chunk


def _cannot_unpack(name: str, directory: Path | None, written: int, error: OSError) -> OutputError:
    where = directory or scratch_directory()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        way_out = "set TMPDIR to another directory" if directory is None else "write to another directory"
        return OutputError(
            f"cannot unpack {name}: the file system of {where} is full ({written} bytes were written); free some room "
            f"there, or {way_out}"
        )
    return OutputError(f"cannot unpack {name} to a scratch file in {where}: {error.strerror}")
