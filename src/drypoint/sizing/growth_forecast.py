"""The forecast of the partition's growth."""

from __future__ import annotations

import msgspec

from ..disk import Device, Partition, PartitionTable, plan_growth
from ..disk.ext4.resize.geometry import Geometry, needed_size
from ..disk.tables.leftover import check_nothing_overwritten
from .space import Space


class Growth(msgspec.Struct, frozen=True):
    """Bytes of the partition and of the whole disk image after growth.

    Attributes:
        for_inodes: whether blocks alone would need less: the number of ext4's inodes grows with the file system's size.
    """

    partition_size: int
    disk_size: int
    for_inodes: bool = False


class OuterForecast(msgspec.Struct, frozen=True):
    """The forecast for the partition that holds the written disk image as a file.

    Attributes:
        partition: the current one, with its number in the outer disk image.
        growth: its own and the outer disk image's; None if it depends on what is removed first.
    """

    partition: Partition
    growth: Growth | None


def forecast(table: PartitionTable, disk: Device, partition: Partition, geometry: Geometry, space: Space) -> Growth:
    """The growth for *space*, as :class:`~drypoint.volumes.writable_volume.WritableVolume` does it.

    Raises:
        DiskImageError: the partition or its file system cannot grow so far, or would overwrite data of no partition.
    """
    size = needed_size(geometry, space.blocks, space.inodes)
    if size <= geometry.size:
        return Growth(partition.size, disk.size)
    plan = plan_growth(table, disk.size, partition, size)
    check_nothing_overwritten(disk, table, partition, plan)
    return Growth(plan.partition.size, plan.device_size, needed_size(geometry, space.blocks, 0) < size)
