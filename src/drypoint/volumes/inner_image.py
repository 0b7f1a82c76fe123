"""A disk image that is a file in an ext4 partition of another one, worked on in place: an installer's image, say.

Readers take the file as the device that it is. Writing needs blocks for what has none yet, and growing needs space in the outer
file system, which is made larger first. That file system is opened for writing for a moment each time, and is whole and closed
again before the next byte of the inner image is written: it never depends on work that goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ..disk import (
    Device,
    GrowableDevice,
    Partition,
    PartitionTable,
    Window,
    find_partition,
    read_table,
)
from ..disk.ext4.read.file_device import Ext4FileDevice, open_ext4_file
from ..disk.ext4.read.reader import Ext4Reader
from ..disk.ext4.resize.geometry import read_geometry
from ..disk.ext4.resize.grow import check_unmounted
from ..disk.ext4.write.file_blocks import Range, allocate_file, truncate_file
from ..disk.tables.tail import open_disk_image_file
from ..errors import FilesystemError
from ..fstree.extra_file import ExtraFile
from ..progress import Progress
from ..sinks.ext4 import Ext4Sink
from ..sizing.growth_forecast import Growth, OuterForecast, forecast
from ..sizing.space import Space
from .extra_files import put_file, to_be_written
from .growing_partition import GrowingPartition
from .target import Container, Target

# What a write into a hole that nobody planned for gets blocks for, around it.
_STEP = 1 << 20
# Beside the blocks that a file gets: the reserve of whoever looks for them, and what a small file takes.
_MARGIN_BLOCKS = 64
_EXTENT_BYTES = 12


class _Outer(msgspec.Struct, frozen=True):
    """Where the file lies."""

    table: PartitionTable
    partition: Partition


class InnerImage:
    """The file *path* in the file system of the partition *outer*, as a device that can be written to, grow and get shorter.

    Holes from byte *planned_from* on get their blocks all at once, at the first need of one: so it depends on nothing but the
    file where they lie, and the outer file system grows for them once. Zeros written into a hole leave it one.

    Args:
        now: seconds since the epoch that the file is modified at, at least 1.

    Raises:
        FilesystemError: there is no such file, or the file system is damaged or was not unmounted in order.
    """

    def __init__(self, outer: GrowingPartition, path: bytes, *, planned_from: int, now: int) -> None:
        self._outer = outer
        self._path = path
        self._planned_from = planned_from
        self._now = now
        self._outer_size = outer.partition.size
        self._file = open_disk_image_file(outer.window, path)

    @property
    def outer(self) -> GrowingPartition:
        """The partition that holds the file."""
        return self._outer

    @property
    def path(self) -> bytes:
        """The file's, in that partition."""
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
            DiskImageError: also when the outer partition would have to grow, and cannot.
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
        """See :meth:`drypoint.disk.TrimmableDevice.truncate`. What becomes free stays with the outer file system."""
        if size < self.size:
            truncate_file(self._outer.window, self._path, size, now=self._now)
            self._file = open_ext4_file(self._outer.window, self._path)

    def shrink_outer(self) -> None:
        """Give back what the outer partition has more than it needs, but nothing that it had at first.

        Raises:
            DiskImageError: the outer file system is damaged, or the disk image cannot be read or written.
            ToolError: e2fsck or resize2fs is missing or took too long.
            OutputError: no room for the copy that resize2fs works on.
        """
        self._outer.shrink_to_fit(0, self._outer_size)

    def put_files(self, files: Sequence[ExtraFile]) -> None:
        """Put *files* beside the inner image, into the outer file system; those that are there already just so are left alone.

        Raises:
            DiskImageError: the outer partition would have to grow, and cannot.
            FilesystemError: the directory of one of them is missing.
        """
        reader = Ext4Reader(self._outer.window)
        missing = to_be_written(reader, files)
        if not missing:
            return
        block_size = read_geometry(self._outer.window).block_size
        blocks = sum(len(file.content) // block_size + 1 for file in missing)
        self._outer.make_space(Space(blocks + _MARGIN_BLOCKS, len(missing)))
        with Ext4Sink(self._outer.window, now=self._now, on_full=self._outer.on_full) as sink:
            for file in missing:
                put_file(sink, file, self._now, exists=reader.lookup(file.path) is not None)
            sink.finish()

    def _fill_holes(self, offset: int, length: int) -> None:
        """Give blocks to the holes of a range, and to those that will need some as well."""
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
        block_size = read_geometry(self._outer.window).block_size
        self._outer.make_space(_space_for(self._file, ranges, block_size))
        allocate_file(self._outer.window, self._path, ranges, size, now=self._now)
        self._file = open_ext4_file(self._outer.window, self._path)


def open_inner(device: Device, container: Container) -> Ext4FileDevice:
    """The inner disk image that *container* means in the disk image *device*, to be read.

    Raises:
        DiskImageError: there is no such partition or file, or the table or the file system is damaged.
    """
    partition = _find(device, container).partition
    return open_disk_image_file(Window(device, partition.start, partition.size), container.path)


def target_disk(device: Device, target: Target) -> Device:
    """The disk image that the store of *target* lies in, to be read: *device*, or the one inside it.

    Raises:
        DiskImageError: as :func:`open_inner`.
    """
    return device if target.container is None else open_inner(device, target.container)


def open_target(
    disk: GrowableDevice, target: Target, scratch_dir: Path, progress: Progress, *, now: int
) -> InnerImage | None:
    """The inner disk image that *target* means in the disk image *disk*, to be written; None if it means *disk* itself.

    Args:
        scratch_dir: where copies live that growing takes.
        now: seconds since the epoch, at least 1.

    Raises:
        DiskImageError: there is no such partition or file, or a table or the file system is damaged.
    """
    if target.container is None:
        return None
    found = _find(disk, target.container)
    inner = open_inner(disk, target.container)
    start = find_partition(inner, read_table(inner), target.partition).partition.start
    outer = GrowingPartition(disk, found.table, found.partition, scratch_dir, progress)
    return InnerImage(outer, target.container.path, planned_from=start, now=now)


def forecast_outer(device: Device, target: Target, inner_size: int) -> Growth | None:
    """How far the outer partition, and with it the disk image *device*, grows when the inner one is *inner_size* bytes long.

    That is when anything is written to the inner image's partition; None if *target* means *device* itself.

    Raises:
        DiskImageError: as :func:`open_target`, or the partition cannot grow so far.
    """
    if target.container is None:
        return None
    found = _find(device, target.container)
    inner = open_inner(device, target.container)
    start = find_partition(inner, read_table(inner), target.partition).partition.start
    geometry = read_geometry(Window(device, found.partition.start, found.partition.size))
    space = _space_for(inner, [(start, max(inner_size, inner.size) - start)], geometry.block_size)
    return forecast(found.table, device, found.partition, geometry, space)


def forecast_around(
    device: Device, target: Target, container: Container, growth: Growth | None, *, is_empty: bool
) -> OuterForecast:
    """What becomes of the partition around *target*'s *container* when the inner disk image grows as *growth* says.

    Args:
        growth: the inner image's; None where it cannot be told.
        is_empty: whether nothing will be written at all.

    Raises:
        DiskImageError: as :func:`forecast_outer`.
    """
    partition = _find(device, container).partition
    if is_empty:
        return OuterForecast(partition, Growth(partition.size, device.size))
    return OuterForecast(partition, growth and forecast_outer(device, target, growth.disk_size))


def _space_for(file: Ext4FileDevice, ranges: Sequence[Range], block_size: int) -> Space:
    """What giving blocks to the holes of *ranges*, which may reach behind the file's end, takes of the outer file system."""
    blocks = sum(_missing(file, offset, length, block_size) for offset, length in ranges)
    # At worst each block lies by itself; the old tree's nodes are given back only when the new ones stand.
    nodes = 2 * (blocks + file.pieces) // (block_size // _EXTENT_BYTES - 1)
    return Space(blocks + nodes + _MARGIN_BLOCKS, 0)


def _missing(file: Ext4FileDevice, offset: int, length: int, block_size: int) -> int:
    inside = max(min(offset + length, file.size) - offset, 0)
    holes = (run for run in file.runs(offset, inside) if run[2] is None) if inside else iter(())
    behind = length - inside
    return sum(size // block_size + 2 for _, size, _ in holes) + (behind // block_size + 2 if behind else 0)


def _find(device: Device, container: Container) -> _Outer:
    table = read_table(device)
    found = find_partition(device, table, container.partition)
    kind = found.filesystem.kind if found.filesystem else None
    if kind is None or not kind.is_ext:
        raise FilesystemError(
            f"{device.name}: partition {found.partition.number}, which should hold a disk image as a file, holds "
            f"{kind.value if kind else 'no known file system'} and not ext4"
        )
    partition = found.partition
    geometry = read_geometry(Window(device, partition.start, partition.size))
    check_unmounted(geometry, f"{device.name}: the file system of partition {partition.number}")
    return _Outer(table, partition)
