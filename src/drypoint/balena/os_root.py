"""The root file system of a balenaOS disk image: its place, its small files, and supervisor.conf.

Sources: meta-balena, balena-supervisor.bb, supervisor.conf and start-balena-supervisor: SUPERVISOR_IMAGE names the image that
is started. SUPERVISOR_VERSION is its version; before 2022 it was SUPERVISOR_TAG, also the image's tag.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from ..disk import Device
from ..errors import FilesystemError
from ..fstree import Regular, TreeReader, join
from ..system import root_directories
from ..volumes.partitioned_disk import PartitionedDisk

ROOT_LABELS = ("resin-rootA", "resin-rootB", "flash-rootA", "flash-rootB", "balena-rootA", "balena-rootB")
_CONF_DIRECTORIES = (b"etc/balena-supervisor", b"etc/resin-supervisor")
_MAX_SMALL_BYTES = 64 << 10
_MAX_TEXT = 200
_ASSIGNMENT = re.compile(r"""\s*([A-Za-z_][A-Za-z0-9_]*)=(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|(\S*))\s*""")


class SupervisorConf(msgspec.Struct, frozen=True):
    """supervisor.conf, which names the Supervisor that is started.

    Attributes:
        place: the file and its partition, for messages.
        image: the name of the image, with the tag if the file has one.
        version: with its v; empty if the file has none.
    """

    place: str
    image: str
    version: str


def read_supervisor_conf(device: Device) -> SupervisorConf | None:
    """supervisor.conf of the balenaOS on *device*; None if there is none, or its partition cannot be read.

    Raises:
        DiskImageError: the partition table is damaged.
    """
    roots = [volume for volume in PartitionedDisk(device).volumes() if volume.filesystem.label in ROOT_LABELS]
    for volume in sorted(roots, key=lambda one: ROOT_LABELS.index(one.filesystem.label)):
        try:
            reader = volume.reader(allow_dirty=True)
            found = find_supervisor_conf(reader, tuple(root_directories(reader)), volume.filesystem.label)
        except FilesystemError:
            # The store is the fallback.
            continue
        if found is not None:
            return found
    return None


def find_supervisor_conf(reader: TreeReader, roots: Iterable[bytes], label: str) -> SupervisorConf | None:
    """supervisor.conf in the first of *roots* that has it.

    Raises:
        FilesystemError: the file system is damaged.
    """
    for root in roots:
        for directory in _CONF_DIRECTORIES:
            path = join(root, directory, b"supervisor.conf")
            fields = assignments(small_file(reader, path))
            tag = fields.get("SUPERVISOR_TAG", "")
            image, version = fields.get("SUPERVISOR_IMAGE", ""), fields.get("SUPERVISOR_VERSION", "") or tag
            if image or version:
                image += f":{tag}" if image and tag and "@" not in image else ""
                return SupervisorConf(f"/{directory.decode()}/supervisor.conf in {label}", image, version)
    return None


def small_file(reader: TreeReader, path: bytes) -> str:
    """The text of a small file; empty if it does not exist or is too large."""
    stat = reader.lookup(path)
    if stat is None or not isinstance(stat.entry, Regular) or stat.entry.size > _MAX_SMALL_BYTES:
        return ""
    return b"".join(bytes(chunk) for chunk in reader.read(stat)).decode("utf-8", "replace")


def assignments(text: str) -> dict[str, str]:
    """``NAME=value`` lines in the format of os-release(5): shell quoting, and the last value of a name counts."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        match = _ASSIGNMENT.fullmatch(line)
        if match is not None:
            double, single, bare = match[2], match[3], match[4]
            value = re.sub(r"\\(.)", r"\1", double) if double is not None else single if single is not None else bare
            fields[match[1]] = (value or "")[:_MAX_TEXT]
    return fields
