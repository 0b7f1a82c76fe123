"""The forecast of the growth of the partition around an inner disk image, and the space for giving that file blocks."""

from __future__ import annotations

from collections.abc import Sequence

from ..disk.ext4.read.file_device import Ext4FileDevice
from ..disk.ext4.write.file_blocks import Range
from ..sizing.growth_forecast import Growth, OuterForecast, forecast
from ..sizing.space import Space
from .volume import PartitionVolume

MARGIN_BLOCKS = 64
"""Additional blocks: the reserve of the allocation, and those of a small file."""
_EXTENT_BYTES = 12


def forecast_outer(found: PartitionVolume, growth: Growth | None, *, is_empty: bool) -> OuterForecast | None:
    """The forecast for the partition around the disk image of *found* when that grows by *growth*; None if there is none.

    Args:
        growth: the inner disk image's; None if unknown.
        is_empty: whether nothing will be written at all.

    Raises:
        DiskImageError: the partition cannot grow so far, or its file system is damaged.
    """
    within = found.disk.within
    if within is None:
        return None
    partition, device = within.partition, within.disk.device
    if is_empty:
        return OuterForecast(partition, Growth(partition.size, device.size))
    if growth is None:
        return OuterForecast(partition, None)
    file = within.disk_image_file(found.disk.path)
    start = found.partition.start
    space = space_for(file, [(start, max(growth.disk_size, file.size) - start)], within.geometry.block_size)
    return OuterForecast(partition, forecast(within.disk.table, device, partition, within.geometry, space))


def space_for(file: Ext4FileDevice, ranges: Sequence[Range], block_size: int) -> Space:
    """The space in the outer file system for giving blocks to the holes of *ranges*, which may exceed the file's end."""
    blocks = sum(_missing(file, offset, length, block_size) for offset, length in ranges)
    # At worst each block is an extent; the old tree's nodes are only freed when the new ones are written.
    nodes = 2 * (blocks + file.pieces) // (block_size // _EXTENT_BYTES - 1)
    return Space(blocks + nodes + MARGIN_BLOCKS, 0)


def _missing(file: Ext4FileDevice, offset: int, length: int, block_size: int) -> int:
    inside = max(min(offset + length, file.size) - offset, 0)
    holes = (run for run in file.runs(offset, inside) if run[2] is None) if inside else iter(())
    behind = length - inside
    return sum(size // block_size + 2 for _, size, _ in holes) + (behind // block_size + 2 if behind else 0)
