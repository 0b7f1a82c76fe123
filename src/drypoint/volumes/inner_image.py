"""Writing in place to a disk image that is a file in an ext4 partition of another one, such as an installer's image.

Reading needs nothing but the file's extents. Writing into holes needs blocks, and growing needs space in the outer file system,
which grows first. The outer file system is only open for writing for a moment each time, and is complete and closed again
before the next byte of the inner image is written: it never depends on work in progress.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..disk.ext4.read.file_device import open_ext4_file
from ..disk.ext4.write.file_blocks import Range, allocate_file, truncate_file
from ..fstree.extra_file import ExtraFile
from ..sizing.space import Space
from .extra_files import put_file, to_be_written
from .outer_forecast import MARGIN_BLOCKS, space_for
from .writable_volume import WritableVolume

# Bytes around a write into an unplanned hole that get blocks.
_STEP = 1 << 20


class InnerImage:
    """The file *path* in the volume *outer*, as a device that can be written, grow and shrink.

    Holes from byte *planned_from* on get all their blocks at the first write into one of them: so the place of the blocks only
    depends on the file, and the outer file system grows for them once. Zeros written into a hole leave it a hole.

    Args:
        now: modification time of the file in seconds since the epoch, at least 1.

    Raises:
        FilesystemError: there is no such file, or the file system is damaged or was not unmounted cleanly.
    """

    def __init__(self, outer: WritableVolume, path: bytes, *, planned_from: int, now: int) -> None:
        self._outer = outer
        self._path = path
        self._planned_from = planned_from
        self._now = now
        self._outer_size = outer.partition.size
        self._file = outer.reread().disk_image_file(path)

    @property
    def outer(self) -> WritableVolume:
        """The volume that holds the file."""
        return self._outer

    @property
    def path(self) -> bytes:
        """The path of the file in that volume."""
        return self._path

    @property
    def size(self) -> int:
        return self._file.size

    @property
    def name(self) -> str:
        return self._file.name

    @property
    def location(self) -> tuple[Path, int] | None:
        return self._file.location

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        return self._file.data_extents(offset, length)

    def read(self, offset: int, length: int) -> bytes:
        return self._file.read(offset, length)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """See :meth:`drypoint.disk.Device.write`.

        Raises:
            DiskImageError: also if the outer partition must grow, and cannot.
        """
        view = memoryview(data).cast("B")
        pieces: list[Range] = []
        for position, length, place in self._file.runs(offset, len(view)):
            if place is not None or view[position - offset : position - offset + length].tobytes().strip(b"\0"):
                pieces.append((position, length))
        if pieces and self._file.is_padded:
            self._allocate([(self._planned_from, self.size - self._planned_from)], self.size)
        for position, length in pieces:
            part = view[position - offset : position - offset + length]
            if any(place is None for _, _, place in self._file.runs(position, length)):
                self._fill_holes(position, length)
            self._file.write(position, part)

    def extend(self, size: int) -> None:
        """See :meth:`drypoint.disk.GrowableDevice.extend`."""
        if size > self.size:
            self._allocate([(self._planned_from, size - self._planned_from)], size)

    def truncate(self, size: int) -> None:
        """See :meth:`drypoint.disk.TrimmableDevice.truncate`. Freed blocks stay in the outer file system."""
        if size < self.size:
            truncate_file(self._outer.window, self._path, size, now=self._now)
            self._file = open_ext4_file(self._outer.window, self._path)

    def shrink_outer(self) -> None:
        """Give back the outer partition's unused space, but not below its original size.

        Raises:
            DiskImageError: the outer file system is damaged, or the disk image cannot be read or written.
            ToolError: e2fsck or resize2fs is missing or took too long.
            OutputError: no space for the copy that resize2fs works on.
        """
        self._outer.shrink_to_fit(0, self._outer_size)

    def put_files(self, files: Sequence[ExtraFile]) -> None:
        """Write *files* to the outer file system, except those that exist already with the same content and metadata.

        Raises:
            DiskImageError: the outer partition must grow, and cannot.
            FilesystemError: the directory of one of them is missing.
        """
        reader = self._outer.reread().reader()
        missing = to_be_written(reader, files)
        if not missing:
            return
        block_size = self._outer.block_size
        blocks = sum(len(file.content) // block_size + 1 for file in missing)
        self._outer.make_space(Space(blocks + MARGIN_BLOCKS, len(missing)))
        with self._outer.sink(self._now) as sink:
            for file in missing:
                put_file(sink, file, self._now, exists=reader.lookup(file.path) is not None)
            sink.finish()

    def _fill_holes(self, offset: int, length: int) -> None:
        """Give blocks to the holes of a range, and to all planned ones if it touches one of them."""
        end = offset + length
        ranges: list[Range] = []
        if offset < self._planned_from:
            first = offset // _STEP * _STEP
            last = min(-(-end // _STEP) * _STEP, self._planned_from, self.size)
            ranges.append((first, last - first))
        if end > self._planned_from:
            ranges.append((self._planned_from, self.size - self._planned_from))
        self._allocate(ranges, self.size)

    def _allocate(self, ranges: Sequence[Range], size: int) -> None:
        self._outer.make_space(space_for(self._file, ranges, self._outer.block_size))
        allocate_file(self._outer.window, self._path, ranges, size, now=self._now)
        self._file = open_ext4_file(self._outer.window, self._path)
