"""Finding boot partitions by balenaOS's labels: FAT, with config.json and device-type.json."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol, TypeVar

from ..disk import Device, Partition, Window
from ..disk.filesystem_info import FilesystemInfo
from ..volumes.fat_volume import FatVolume

BOOT_LABELS = ("resin-boot", "flash-boot", "balena-boot")


class _Seen(Protocol):
    """A partition and the file system in it."""

    @property
    def partition(self) -> Partition: ...

    @property
    def filesystem(self) -> FilesystemInfo | None: ...


_SeenT = TypeVar("_SeenT", bound=_Seen)


def boot_partitions(partitions: Iterable[_SeenT], labels: Collection[str] = BOOT_LABELS) -> Iterator[_SeenT]:
    """All candidates, for reading: FAT with one of *labels*, or without a label but with such a name in a GPT.

    For writing there must be exactly one: :func:`.boot.find_boot_partition`.
    """
    for seen in partitions:
        filesystem = seen.filesystem
        if filesystem is None or not filesystem.kind.is_fat:
            continue
        if (filesystem.label or seen.partition.name).lower() in labels:
            yield seen


def read_boot_file(device: Device, partition: Partition, name: str, limit: int) -> bytes | None:
    """The file *name* in the root of *partition*; None if there is none.

    Raises:
        FilesystemError: the file system is damaged, or the file has more than *limit* bytes.
        ToolError: mtools is missing.
    """
    return FatVolume(Window(device, partition.start, partition.size), partition.number).read(name, limit)
