"""The mounts of a system by its fstab(5)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from ..disk import PartitionTable, ProbedPartition
from ..fstree import TreeReader
from ..text import printable
from .files import text_of

_SHOWN = 200
_OCTAL = re.compile(r"\\([0-7]{3})")
_BY_NUMBER = re.compile(r"/dev/(?:[a-z]+?|(?:mmcblk|nvme|loop)\d+(?:n\d+)?p)(\d+)")
_NOT_A_PARTITION = ("tmpfs", "proc", "sysfs", "devpts", "devtmpfs", "overlay", "cgroup", "cgroup2", "swap", "ramfs")


class Mount(msgspec.Struct, frozen=True):
    """A line of fstab.

    Attributes:
        source: its first field.
        point: the mount point, a clean path from the system's root.
        partition: the number of the disk image's partition that *source* names; None if it is not one of them.
    """

    source: str
    point: bytes
    partition: int | None


def read_mounts(
    reader: TreeReader, root: bytes, table: PartitionTable, probed: Sequence[ProbedPartition]
) -> tuple[Mount, ...]:
    """The mounts of partitions in the system whose ``/`` is the directory *root*, without the root itself."""
    found: list[Mount] = []
    for line in (text_of(reader, root, b"etc/fstab") or "").splitlines():
        fields = line.split()
        if len(fields) < 3 or fields[0].startswith("#") or fields[2] in _NOT_A_PARTITION:
            continue
        source, point, kind = (_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), field) for field in fields[:3])
        options = fields[3].split(",") if len(fields) > 3 else []
        parts = [part for part in point.split("/") if part not in ("", ".")]
        if not point.startswith("/") or not parts or ".." in parts or kind == "none" or "bind" in options:
            continue
        path = "/".join(parts).encode("utf-8", "replace")
        found.append(Mount(printable(source)[:_SHOWN], path, _partition(source, table, probed)))
    return tuple(found)


def covering(mounts: Sequence[Mount], path: bytes) -> Mount | None:
    """The mount with *path*, a clean path from the system's root; None for the root file system."""
    holding = [one for one in mounts if (path + b"/").startswith(one.point + b"/")]
    return max(holding, key=lambda one: len(one.point), default=None)


def _partition(source: str, table: PartitionTable, probed: Sequence[ProbedPartition]) -> int | None:
    tag, equals, value = source.partition("=")
    value = value.strip('"')
    if not equals:
        by = re.fullmatch(r"/dev/disk/by-(label|uuid|partuuid|partlabel)/(.+)", source)
        if by is None:
            number = _BY_NUMBER.fullmatch(source)
            numbers = {one.partition.number for one in probed}
            return int(number[1]) if number is not None and int(number[1]) in numbers else None
        tag, value = by[1].upper(), by[2]
    for one in probed:
        if value and value.lower() in _names(tag, one, table):
            return one.partition.number
    return None


def _names(tag: str, one: ProbedPartition, table: PartitionTable) -> tuple[str, ...]:
    """The names of *one* for the tag, in lower case: no two file systems differ by case alone."""
    partition, filesystem = one.partition, one.filesystem
    match tag:
        case "LABEL":
            return () if filesystem is None else (filesystem.label.lower(),)
        case "UUID":
            return () if filesystem is None else (filesystem.uuid.lower(),)
        case "PARTLABEL":
            return (partition.name.lower(),)
        case "PARTUUID":
            mbr = f"{table.disk_id.removeprefix('0x').lower()}-{partition.number:02x}"
            return (partition.guid.lower() or mbr,)
        case _:
            return ()
