"""Where on a disk image a job works."""

from __future__ import annotations

import msgspec

DEFAULT_PARTITION = "resin-data"
DEFAULT_DATA_ROOT = b"docker"


class Container(msgspec.Struct, frozen=True):
    """A file that is a disk image itself, in the ext4 file system of a partition, as in an installer's image.

    Attributes:
        partition: the outer disk image's partition, by file-system label, GPT name or number.
        path: the file, a clean path in that partition.
    """

    partition: str | int
    path: bytes


class Target(msgspec.Struct, frozen=True):
    """Where on the disk image the store lies; the default is balenaOS's.

    Attributes:
        partition: the partition's file-system label, GPT name or number.
        data_root: the engine's data root, a clean path in that partition; None for what the system on the disk image tells its
            engine, else ``docker``.
        container: the file that is the disk image which *partition* belongs to; None if that is the given one itself.
    """

    partition: str | int = DEFAULT_PARTITION
    data_root: bytes | None = None
    container: Container | None = None
