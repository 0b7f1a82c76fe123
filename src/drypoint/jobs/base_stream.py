"""A base disk image as a stream, which is passed on unchanged and cannot be read first."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from ..concurrency.tasks import wait_readable
from ..errors import ContentError, DiskImageError, UsageError

_CHUNK = 1 << 20
DEFAULT_NAME = "disk.img"


class BaseStream(msgspec.Struct, frozen=True):
    """The bytes of a disk image, plain or compressed, in order.

    Attributes:
        chunks: exactly *size* bytes; an exception from them ends the job.
        name: the disk image's name in the archive.
    """

    chunks: Iterator[bytes]
    size: int
    name: str = DEFAULT_NAME


def read_stream(file: BinaryIO, size: int | None, name: str = DEFAULT_NAME) -> BaseStream:
    """A base from an open file, such as a pipe.

    Args:
        size: its length in bytes; may be None for a regular file.

    Raises:
        UsageError: the length is unknown.
    """
    if size is None:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(
                "how long the disk image on standard input is has to be known before it is there: give --base-size BYTES"
            )
        size = max(0, status.st_size - os.lseek(file.fileno(), 0, os.SEEK_CUR))
    return BaseStream(_read(file, size, name), size, name)


@contextmanager
def file_stream(path: Path) -> Iterator[BaseStream]:
    """A base from a file.

    Raises:
        DiskImageError: it cannot be read.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise DiskImageError(f"cannot open {path}: {error.strerror}") from error
    with file:
        size = os.fstat(file.fileno()).st_size
        yield BaseStream(_read(file, size, str(path)), size, path.name)


def _read(file: BinaryIO, size: int, name: str) -> Iterator[bytes]:
    left = size
    while left:
        try:
            chunk = _read_some(file, min(_CHUNK, left))
        except OSError as error:
            raise DiskImageError(f"cannot read {name}: {error.strerror}") from error
        if not chunk:
            raise ContentError(f"{name} ends {left} bytes before the {size} that it should have")
        left -= len(chunk)
        yield chunk


def _read_some(file: BinaryIO, most: int) -> bytes:
    """The next bytes of *file*, at most *most*. Cancelling the task ends the wait for the writer of a pipe."""
    try:
        waits = not stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (OSError, AttributeError):
        waits = False
    if not waits or not isinstance(file, io.BufferedReader):
        return file.read(most)
    wait_readable(file.fileno())
    return file.read1(most)
