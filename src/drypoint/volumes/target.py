"""The place of the store on a disk image."""

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
    """The place of the store on the disk image; the default is that of balenaOS.

    Attributes:
        partition: the partition's file-system label, GPT name or number.
        data_root: the engine's data root, a clean path in that partition; None for the one configured on the disk image, else
            ``docker``.
        container: the file with the disk image that *partition* belongs to; None for the given one itself.
    """

    partition: str | int = DEFAULT_PARTITION
    data_root: bytes | None = None
    container: Container | None = None
