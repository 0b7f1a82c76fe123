"""From a fuzzer's bytes to what a target needs: numbers, choices, pieces, files, devices."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")
BLOCK = 512


class Material:
    """Bytes that are used up from the front; where none are left, zeros follow."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    def take(self, size: int) -> bytes:
        taken = self._data[self._position : self._position + size]
        self._position += size
        return taken

    def number(self, width: int = 1) -> int:
        """A number of *width* bytes, little-endian."""
        return int.from_bytes(self.take(width), "little")

    def choice(self, options: Sequence[_T]) -> _T:
        return options[self.number() % len(options)]

    def text(self) -> bytes:
        """Bytes with their length before them."""
        return self.take(self.number())

    def rest(self) -> bytes:
        return self.take(max(0, len(self._data) - self._position))


def pieces(data: bytes, step: int) -> Iterator[bytes]:
    """*data* in chunks of *step* bytes, as a network might give it."""
    for start in range(0, len(data), step):
        yield data[start : start + step]


def with_checksums(tar: bytes) -> bytes:
    """*tar* with the checksum of every header made right, so that what lies behind the check is reached."""
    repaired = bytearray(tar)
    for start in range(0, len(repaired) - BLOCK + 1, BLOCK):
        if repaired[start + 257 : start + 262] == b"ustar":
            repaired[start + 148 : start + 156] = b" " * 8
            repaired[start + 148 : start + 156] = b"%06o\0 " % sum(repaired[start : start + BLOCK])
    return bytes(repaired)


@contextmanager
def as_file(content: bytes) -> Iterator[Path]:
    """A path that reads as *content*; nothing is written to a disk."""
    descriptor = os.memfd_create("input", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def patch(content: bytearray, offset: int, material: Material) -> None:
    """Change up to eight bytes of *content* from *offset* on: an unsigned number, or a sum with what is there."""
    kind = material.number()
    width = (1, 2, 4, 8)[kind & 3]
    value = material.number(width)
    if kind & 4:
        value = (value + int.from_bytes(content[offset : offset + width], "little")) % (1 << 8 * width)
    content[offset : offset + width] = value.to_bytes(width, "little")[: len(content) - offset]
