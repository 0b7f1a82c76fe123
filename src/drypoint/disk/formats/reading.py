"""Opening a disk image: a raw one directly, a compressed one unpacked to an unnamed sparse file."""

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
from ..host.restore import check_restored, warn_of_half_changed
from ..host.scratch import nameless_file, path_of, scratch_directory
from ..tables.tail import pad_missing_tail
from .kinds import ImageFormat, format_of_content, refuse_packed_again
from .sparse import write_sparse
from .zip_reading import find_image, member_content

_CHUNK = 128 << 10


class OpenedImage(msgspec.Struct, frozen=True):
    """A disk image that can be read at any offset.

    Attributes:
        device: its bytes, named by the path that the user gave. Read-only, unless it is scratch. Padded if zeros are missing at
            its end, see :func:`.pad_missing_tail`.
        format: its compression.
        is_scratch: whether the device is an unnamed file of this process, which may be written to.
    """

    device: FileDevice
    format: ImageFormat
    is_scratch: bool


@contextmanager
def opened_image(
    path: Path,
    *,
    directory: Path | None = None,
    name: str | None = None,
    in_place: bool = False,
    progress: Progress = SILENT,
) -> Iterator[OpenedImage]:
    """Open the disk image *path*, which may be a block device or compressed; the content decides, not the name.

    It is locked while it is open: other runs may read it, but not change it.

    Args:
        directory: where a compressed one is unpacked; default: :func:`.scratch_directory`.
        name: for messages; default: its path.
        in_place: whether it will be changed: then no other run may read it either.
        progress: gets the bytes of a compressed one that have been read.

    Raises:
        DiskImageError: it cannot be read, another run is changing it, it is damaged, truncated, compressed in an unsupported
            way, or an archive with more or less than one disk image.
        OutputError: there is no space to unpack it; or, with *in_place*, another run uses it, or a killed run was changing it.
    """
    with FileDevice(path, name=name) as file:
        claim_image(file, progress, in_place=in_place)
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


def claim_image(device: FileDevice, progress: Progress, *, in_place: bool) -> None:
    """Lock an open disk image, for readers or *in_place* for changing it, and check that no killed run was changing it.

    Raises:
        DiskImageError, OutputError: as :func:`opened_image`.
    """
    device.lock(exclusive=in_place)
    if in_place:
        check_restored(device)
    else:
        warn_of_half_changed(device, progress)


def decompressed(chunks: Iterable[bytes], kind: ImageFormat, name: str, progress: Progress = SILENT) -> Iterator[bytes]:
    """The bytes of the disk image in the stream *chunks*, at most 1 MiB at a time if it is compressed.

    Several gzip members, xz streams or zstd frames make one image, as for gzip, xz and zstd. Zeros may follow the last;
    anything else there, such as the metadata behind every OpenWrt image, is ignored with a warning, as gzip does.

    Args:
        name: the stream's name in messages.
        progress: gets the warning.

    Raises:
        DiskImageError: it is damaged, truncated, needs too much memory, or is a zip archive, whose directory is at its end.
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
        reported = 0
        for content, taken in member_content(file, find_image(file)):
            step.advance(taken - reported)
            reported = taken
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
        full = OutputError(
            f"cannot unpack {name}: the file system of {where} is full ({written} bytes were written); free some space "
            f"there, or {way_out}"
        )
        full.full = where
        return full
    return OutputError(f"cannot unpack {name} to a scratch file in {where}: {error.strerror}")
