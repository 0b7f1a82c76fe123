"""The boot partition of a balenaOS disk image: finding it, and the files for the user's changes.

On a flasher image it is the outer one, flash-boot: the flasher copies config.json (without ``installer``), ``splash/`` and
``system-connections/`` to the device that it installs (meta-balena, resin-init-flasher).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..disk import Device, ProbedPartition, describe
from ..errors import PartitionTableError
from ..volumes.fat_files import FatFile
from ..volumes.fat_volume import FatVolume
from ..volumes.partitioned_disk import PartitionedDisk
from .boot_config import CONFIG_FILE, MAX_CONFIG_BYTES, Setting, merge_config
from .boot_partition import BOOT_LABELS
from .network import CONNECTIONS_DIRECTORY, NetworkConnection, check_distinct
from .splash import SPLASH_DIRECTORY, splash_path


@dataclass(frozen=True, slots=True)
class BootChanges:
    """Checked changes of the boot partition; None or empty changes nothing.

    Attributes:
        config: a whole config.json that replaces the existing one.
        settings: set in that one, or in the existing one.
        splash_image: a PNG.
        connections: network connections to add; an existing one of the same file name is replaced.
    """

    config: bytes | None = field(default=None, repr=False)
    settings: tuple[Setting, ...] = ()
    splash_image: bytes | None = None
    connections: tuple[NetworkConnection, ...] = ()

    @property
    def is_empty(self) -> bool:
        return self == BootChanges()


def boot_partition_files(device: Device, changes: BootChanges, *, os_version: str | None = None) -> tuple[FatFile, ...]:
    """The files to write for *changes* on the disk image *device*, which is only read.

    Args:
        os_version: of the disk image, if known; it may decide the splash image's name.

    Raises:
        PartitionTableError: there is no boot partition, or more than one.
        FilesystemError: it is not FAT, or damaged.
        DiskImageError: its config.json is not a JSON object, and there are settings for it.
        UsageError: the changes contradict each other, or config.json.
        ToolError: mtools is missing.
    """
    check_distinct(changes.connections)
    if changes.is_empty:
        return ()
    volume = find_boot_partition(device)
    number = volume.number
    files: list[FatFile] = []
    if changes.config is not None or changes.settings:
        present = volume.read(CONFIG_FILE, MAX_CONFIG_BYTES) if changes.config is None else changes.config
        files.append(FatFile(number, CONFIG_FILE, merge_config(present, changes.settings)))
    if changes.splash_image is not None:
        names = [entry.name for entry in volume.list(SPLASH_DIRECTORY) or ()]
        files.append(FatFile(number, splash_path(names, os_version), changes.splash_image))
    files += [
        FatFile(number, f"{CONNECTIONS_DIRECTORY}/{connection.name}", connection.content)
        for connection in changes.connections
    ]
    return tuple(files)


def read_config(device: Device) -> bytes | None:
    """config.json of the disk image *device*; None if it, or the boot partition, is missing.

    Raises:
        PartitionTableError: there is more than one boot partition, or the table is damaged.
        FilesystemError: the boot partition is not FAT, or damaged, or the file is too large.
        ToolError: mtools is missing.
    """
    disk = PartitionedDisk(device)
    found = _boot_partitions(disk.partitions)
    return _the_one(disk, found).read(CONFIG_FILE, MAX_CONFIG_BYTES) if found else None


def find_boot_partition(device: Device) -> FatVolume:
    """The boot partition, by its file system's label or, where no file system has one of the labels, its GPT name.

    Raises:
        PartitionTableError: there is none, or more than one.
        FilesystemError: it is not FAT.
        DiskImageError: the device cannot be read.
    """
    disk = PartitionedDisk(device)
    found = _boot_partitions(disk.partitions)
    if not found:
        raise PartitionTableError(
            f"{device.name} has no boot partition (label {', '.join(BOOT_LABELS[:-1])} or {BOOT_LABELS[-1]}); it has "
            f"{describe(disk.partitions)}"
        )
    return _the_one(disk, found)


def _boot_partitions(partitions: tuple[ProbedPartition, ...]) -> list[ProbedPartition]:
    """The partitions with the first of the labels that any partition has."""
    by_label = [(probed.filesystem.label if probed.filesystem else "", probed) for probed in partitions]
    by_name = [(probed.partition.name, probed) for probed in partitions]
    for named in (by_label, by_name):
        for label in BOOT_LABELS:
            found = [probed for name, probed in named if name.lower() == label]
            if found:
                return found
    return []


def _the_one(disk: PartitionedDisk, found: list[ProbedPartition]) -> FatVolume:
    if len(found) > 1:
        raise PartitionTableError(
            f"{disk.device.name} has {len(found)} boot partitions with the same label: {describe(tuple(found))}; expected one"
        )
    return disk.fat_volume_in(found[0], "the boot partition")
