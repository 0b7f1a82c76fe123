"""Disk images: devices, partition tables, growth, and file systems. Knows nothing of containers."""

from .device import Device, FileDevice, GrowableDevice, TrimmableDevice, Window
from .filesystem_info import FilesystemInfo, FilesystemKind
from .host.copies import copy_sparse, data_extents
from .host.in_place import in_place
from .host.output import whole_file
from .probe import probe
from .tables.growth import GrowthPlan, TableWrite, apply_growth, apply_shrink, plan_growth, plan_shrink
from .tables.moving import Move, move_range
from .tables.partitions import (
    Partition,
    PartitionKind,
    PartitionTable,
    ProbedPartition,
    choose_partition,
    describe,
    find_partition,
    probe_partitions,
)
from .tables.table_reading import read_table

__all__ = [
    "Device",
    "FileDevice",
    "FilesystemInfo",
    "FilesystemKind",
    "GrowableDevice",
    "GrowthPlan",
    "Move",
    "Partition",
    "PartitionKind",
    "PartitionTable",
    "ProbedPartition",
    "TableWrite",
    "TrimmableDevice",
    "Window",
    "apply_growth",
    "apply_shrink",
    "choose_partition",
    "copy_sparse",
    "data_extents",
    "describe",
    "find_partition",
    "in_place",
    "move_range",
    "plan_growth",
    "plan_shrink",
    "probe",
    "probe_partitions",
    "read_table",
    "whole_file",
]
