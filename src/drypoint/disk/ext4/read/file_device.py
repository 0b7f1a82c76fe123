"""A file in an ext4 file system as a device, through its blocks; for example a disk image inside another one."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path

from ....errors import DiskImageError, FilesystemError
from ....fstree import Regular
from ...device import Device
from .block_maps import Extent
from .reader import Ext4Reader

MAX_EXTENTS = 1 << 18
"""The most extents: a real disk image with that many would be in fragments of a block or two."""


class Ext4FileDevice:
    """*size* bytes of *outer*, the device with the file system, in the order of a file's *extents*.

    What no extent covers, or one at block 0, is a hole: it reads as zeros, and cannot be written.

    Args:
        path: of the file, for messages.
        block_size: bytes of the file system's blocks, the unit of *extents*.
        extents: in order, and inside the file system.

    Raises:
        FilesystemError: there are more than :data:`MAX_EXTENTS`.
    """

    def __init__(self, outer: Device, path: bytes, size: int, block_size: int, extents: Iterable[Extent]) -> None:
        self._outer = outer
        self._size = size
        self._padded_size = 0
        self._name = f"/{path.decode('utf-8', 'backslashreplace')} in {outer.name}"
        # The start of each run in the file and on the outer device, and its length, in bytes.
        self._starts, self._places, self._lengths = array("Q"), array("Q"), array("Q")
        for extent in extents:
            start = extent.logical * block_size
            if start >= size or not extent.physical:
                continue
            if len(self._starts) == MAX_EXTENTS:
                raise FilesystemError(f"{self._name} has more than {MAX_EXTENTS} extents; copy it to a new file")
            self._starts.append(start)
            self._places.append(extent.physical * block_size)
            self._lengths.append(min(extent.length * block_size, size - start))

    @property
    def size(self) -> int:
        return max(self._size, self._padded_size)

    @property
    def is_padded(self) -> bool:
        """Whether the device is longer than the file."""
        return self._padded_size > self._size

    def pad(self, size: int) -> None:
        """Read as if a hole followed the file up to *size* bytes. The file itself stays as long as it is."""
        self._padded_size = size

    @property
    def name(self) -> str:
        return self._name

    @property
    def location(self) -> tuple[Path, int] | None:
        outer = self._outer.location
        if outer is None or len(self._starts) != 1 or self._starts[0] or self._lengths[0] != self._size:
            return None
        return outer[0], outer[1] + self._places[0]

    @property
    def pieces(self) -> int:
        """The number of contiguous runs of blocks."""
        return len(self._starts)

    def runs(self, offset: int, length: int) -> Iterator[tuple[int, int, int | None]]:
        """The (offset, length, offset on the outer device) of the pieces that make up a range; the last is None for holes.

        Raises:
            DiskImageError: the range reaches out of the file.
        """
        end = offset + length
        if offset < 0 or length < 0 or end > self.size:
            raise DiskImageError(f"bytes {offset} to {end} lie outside the {self.size} bytes of {self._name}")
        index = max(bisect_right(self._starts, offset) - 1, 0)
        position = offset
        while position < end:
            start = self._starts[index] if index < len(self._starts) else end
            if position < start:
                hole = min(start, end) - position
                yield position, hole, None
                position += hole
                continue
            inside = position - start
            if inside < self._lengths[index]:
                piece = min(self._lengths[index] - inside, end - position)
                yield position, piece, self._places[index] + inside
                position += piece
            index += 1

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        for position, piece, place in self.runs(offset, length):
            if place is not None:
                for start, size in self._outer.data_extents(place, piece):
                    yield start - place + position, size

    def read(self, offset: int, length: int) -> bytes:
        pieces = [
            bytes(piece) if place is None else self._outer.read(place, piece)
            for _, piece, place in self.runs(offset, length)
        ]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write *data* at *offset*.

        Raises:
            DiskImageError: as :meth:`drypoint.disk.Device.write`, or there is a hole; then nothing is written.
        """
        view = memoryview(data).cast("B")
        pieces: list[tuple[int, int, int]] = []
        for position, piece, place in self.runs(offset, len(view)):
            if place is None:
                raise DiskImageError(
                    f"bytes {position} to {position + piece} of {self._name} have no blocks to write to"
                )
            pieces.append((position, piece, place))
        for position, piece, place in pieces:
            self._outer.write(place, view[position - offset : position - offset + piece])


def open_ext4_file(outer: Device, path: bytes, *, allow_dirty: bool = False) -> Ext4FileDevice:
    """The regular file at the clean *path* in the file system that fills *outer*. Symbolic links are not followed.

    Args:
        allow_dirty: whether the file system may be one that was not unmounted cleanly; its journal is not replayed.

    Raises:
        FilesystemError: there is no such file; or the file system is damaged, or was not unmounted cleanly.
        DiskImageError: *outer* cannot be read.
    """
    return ext4_file(Ext4Reader(outer, allow_dirty=allow_dirty), outer, path)


def ext4_file(reader: Ext4Reader, outer: Device, path: bytes) -> Ext4FileDevice:
    """The same, by the *reader* of the file system on *outer*."""
    shown = path.decode("utf-8", "backslashreplace")
    stat = reader.lookup(path)
    if stat is None:
        raise FilesystemError(f"there is no file /{shown} in {outer.name}")
    if not isinstance(stat.entry, Regular):
        raise FilesystemError(f"/{shown} in {outer.name} is not a regular file")
    return Ext4FileDevice(outer, path, stat.entry.size, reader.superblock.block_size, reader.extents(stat))
