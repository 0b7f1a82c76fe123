"""How far the partition will grow, foretold."""

from __future__ import annotations

import msgspec

from ..disk import Device, Partition, PartitionTable, plan_growth
from ..disk.ext4.resize.geometry import Geometry, needed_size
from ..disk.tables.leftover import check_nothing_overwritten
from .space import Space


class Growth(msgspec.Struct, frozen=True):
    """Bytes of the partition and of the whole disk image when space was made.

    Attributes:
        for_inodes: whether blocks alone would take less: ext4 makes inodes with the file system's size.
    """

    partition_size: int
    disk_size: int
    for_inodes: bool = False


class OuterForecast(msgspec.Struct, frozen=True):
    """What becomes of the partition that holds, as a file, the disk image which is written to.

    Attributes:
        partition: as it is, with its number in the outer disk image.
        growth: its own and the outer disk image's; None where it depends on what is removed before.
    """

    partition: Partition
    growth: Growth | None


def forecast(table: PartitionTable, disk: Device, partition: Partition, geometry: Geometry, space: Space) -> Growth:
    """What making *space* comes to, as :class:`~drypoint.volumes.writable_volume.WritableVolume` does it.

    Raises:
        DiskImageError: the partition or its file system cannot grow so far, or would over data that belongs to no partition.
    """
    size = needed_size(geometry, space.blocks, space.inodes)
    if size <= geometry.size:
        return Growth(partition.size, disk.size)
    plan = plan_growth(table, disk.size, partition, size)
    check_nothing_overwritten(disk, table, partition, plan)
    return Growth(plan.partition.size, plan.device_size, needed_size(geometry, space.blocks, 0) < size)
