"""Unnamed temporary files."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from ...errors import DiskImageError, OutputError
from ..device import Device
from .full import FULL, scratch_space
from .read_write import write_all

_CHUNK = 1 << 20


def scratch_directory() -> Path:
    """The directory for large temporary files: ``TMPDIR``, else /var/tmp, because /tmp is in memory on many machines."""
    chosen = os.environ.get("TMPDIR")
    return Path(chosen) if chosen else Path("/var/tmp")


@contextmanager
def nameless_file(directory: Path) -> Iterator[int]:
    """An unnamed file, open for reading and writing; the kernel removes it when the process ends, whatever ends it.

    Raises:
        OutputError: it cannot be made in *directory*.
    """
    try:
        try:
            fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:
            # Some file systems do not support O_TMPFILE: make a file and remove its name at once.
            fd = _opened_and_unnamed(directory / f".drypoint.{secrets.token_hex(8)}")
    except OSError as error:
        named = OutputError(
            f"cannot make a temporary file in {directory}: {error.strerror}"
            + ("; set TMPDIR to another directory" if directory == scratch_directory() else "")
        )
        named.full = directory if error.errno in FULL else None
        raise named from error
    try:
        # For other directories the caller adds a message of its own.
        with scratch_space(directory) if directory == scratch_directory() else nullcontext():
            yield fd
    finally:
        with suppress(OSError):
            os.close(fd)


def _opened_and_unnamed(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    finally:
        # In any case: an interrupt may arrive after the call that made the file.
        path.unlink(missing_ok=True)


def path_of(fd: int) -> Path:
    """A path by which this process and its children can open the file *fd* again, named or unnamed."""
    return Path(f"/proc/{os.getpid()}/fd/{fd}")


@contextmanager
def in_one_piece(device: Device, directory: Path | None = None) -> Iterator[tuple[Path, int]]:
    """A file that holds the device's bytes contiguously, and their offset in it: the device's own file, or a sparse copy.

    Writes to a copy are lost.

    Args:
        directory: of the copy; default: :func:`scratch_directory`.

    Raises:
        OutputError: there is no space for the copy.
        DiskImageError: the device cannot be read.
    """
    location = device.location
    if location is not None:
        yield location
        return
    with nameless_file(directory or scratch_directory()) as fd:
        copy_out(device, 0, device.size, fd)
        yield path_of(fd), 0


@contextmanager
def opened_in_one_piece(device: Device, directory: Path | None = None) -> Iterator[tuple[int, int]]:
    """The same as a descriptor, open for reading, which programs can inherit.

    Raises:
        OutputError, DiskImageError: as :func:`in_one_piece`; or the file cannot be opened.
    """
    with in_one_piece(device, directory) as (path, offset):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DiskImageError(f"cannot open {device.name}: {error.strerror}") from error
        try:
            yield fd, offset
        finally:
            os.close(fd)


def copy_out(device: Device, offset: int, length: int, fd: int) -> None:
    """Copy a range of *device* to the start of the empty file *fd*, holes as holes.

    Raises:
        OutputError: there is no space for it.
        DiskImageError: the device cannot be read.
    """
    try:
        for start, size in device.data_extents(offset, length):
            for chunk in range(start, start + size, _CHUNK):
                data = device.read(chunk, min(_CHUNK, start + size - chunk))
                if data.count(0) != len(data):
                    write_all(fd, data, chunk - offset)
        os.ftruncate(fd, length)
    except OSError as error:
        raise OutputError(f"cannot copy {length} bytes of {device.name} to a scratch file: {error.strerror}") from error
