"""Flasher images: balenaOS disk images that install another one, a file in their root file system.

Sources: meta-balena's balena-image-flasher.bb (labels; the image in /opt, next to its signature), resin-init-flasher and
resin-init-flasher.bb (which image is installed, and when its signature is checked), resin-device-register (the pinning file);
balena-preload's get_inner_image_path for images without either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from ..decoders import json_decoder
from ..disk import Device, FilesystemKind, ProbedPartition
from ..disk.probe import probe_compressed
from ..errors import DiskImageError, FilesystemError, UsageError
from ..fstree import Directory, Regular, TreeReader, join
from ..fstree.extra_file import ExtraFile
from ..volumes.partitioned_disk import INNER_IMAGE, PartitionedDisk
from ..volumes.target import Container
from ..volumes.volume import PartitionVolume
from .boot_partition import boot_partitions, read_boot_file

ROOT_LABELS = ("flash-rootA", "flash-root")
"""Labels of the partition with the image to install; the second is that of resinOS 1."""
BOOT_LABELS = ("flash-boot", "flash-conf")
"""Labels of the partition with config.json and device-type.json."""
PINNING_PATH = b"etc/resin-device-pinning.conf"
"""For the flasher's registration service: the release to which a device is pinned during installation."""

_DIRECTORY = b"opt"
_SIGNATURE = b".sig"
_CONFIGURATION = b"etc/resin-init-flasher.conf"
_CONFIGURED = re.compile(rb"""^\s*(?:BALENA|RESIN)_IMAGE=["']?([A-Za-z0-9][A-Za-z0-9._+-]*)["']?\s*$""", re.MULTILINE)
_MAX_BYTES = 1 << 20
_MAX_FILES = 1000
_SHOWN_FILES = 5
_LUKS = (FilesystemKind.LUKS1, FilesystemKind.LUKS2)
_DATA_LABEL = "resin-data"


class Flasher(msgspec.Struct, frozen=True):
    """The place of the disk image that is installed; *signed*: it has a signature, which a change invalidates."""

    container: Container
    signed: bool

    @property
    def note(self) -> str | None:
        """A warning about changing it, a sentence, or None."""
        if not self.signed:
            return None
        return (
            f"/{_shown(self.container.path)} is signed, and its signature becomes invalid: the disk image can be "
            "installed as usual, but not with secure boot"
        )


class _Yocto(msgspec.Struct):
    deploy_artifact: str = msgspec.field(default="", name="deployArtifact")


class _DeviceType(msgspec.Struct):
    yocto: _Yocto | None = None


def find_flasher(device: Device) -> Flasher | None:
    """The image that the disk image *device* installs, for changing it; None if *device* is not a flasher.

    Raises:
        DiskImageError: secure boot is configured; or there is not exactly one image to install, or it is compressed; or the
            table or a file system is damaged.
        FilesystemError: the file system that holds it, or the data partition of a disk image, is encrypted.
        ToolError: mtools is missing.
    """
    disk = PartitionedDisk(device)
    _refuse_encrypted(disk)
    root = _labelled(disk.partitions, ROOT_LABELS)
    if root is None:
        return None
    boot = tuple(boot_partitions(disk.partitions, BOOT_LABELS))
    _refuse_secure_boot(device, boot)
    volume = disk.volume_in(root, INNER_IMAGE)
    flasher = _flasher(volume, boot, allow_dirty=False)
    inner = volume.disk_image_file(flasher.container.path)
    compression = probe_compressed(inner)
    if compression is not None:
        raise DiskImageError(
            f"{inner.name}, the disk image to install, is {compression}-compressed and cannot be changed in place; "
            "use a flasher whose image is not compressed, or preload the raw disk image for this device type"
        )
    _refuse_encrypted(PartitionedDisk(inner))
    return flasher


def recognise_flasher(device: Device) -> Flasher | None:
    """The image that the disk image *device* installs, for reading it only; None if *device* is not a flasher.

    Raises:
        DiskImageError: there is not exactly one image to install; or the table or a file system is damaged.
        ToolError: mtools is missing.
    """
    disk = PartitionedDisk(device)
    root = _labelled(disk.partitions, ROOT_LABELS)
    if root is None:
        return None
    boot = tuple(boot_partitions(disk.partitions, BOOT_LABELS))
    return _flasher(disk.volume_in(root, INNER_IMAGE), boot, allow_dirty=True)


def installed_image(device: Device) -> Container | None:
    """The place of the image that *device* installs, for :func:`drypoint.verify`; None if *device* is not a flasher.

    Raises:
        DiskImageError, ToolError: as :func:`recognise_flasher`.
    """
    flasher = recognise_flasher(device)
    return None if flasher is None else flasher.container


def pinning_file(release_id: int) -> ExtraFile:
    """The file in the flasher's root file system that pins the device to a release during installation.

    Raises:
        UsageError: *release_id* is not a valid release id.
    """
    if release_id < 1:
        raise UsageError(f"a device cannot be pinned to the release {release_id}: release numbers start at 1")
    return ExtraFile(PINNING_PATH, b"RELEASE_ID=%d" % release_id)


def _flasher(volume: PartitionVolume, boot: Sequence[ProbedPartition], *, allow_dirty: bool) -> Flasher:
    path, signed = _find_image(volume.disk.device, volume.reader(allow_dirty=allow_dirty), boot)
    return Flasher(Container(volume.number, path), signed)


def _refuse_encrypted(disk: PartitionedDisk) -> None:
    for item in disk.partitions:
        if item.filesystem is None or item.filesystem.kind not in _LUKS:
            continue
        name = item.partition.name or item.filesystem.label
        if name in (*ROOT_LABELS, _DATA_LABEL):
            raise FilesystemError(
                f"{disk.device.name}: partition {item.partition.number} ({name}) is encrypted ({item.filesystem.kind.value}), "
                "and only its device has the key; preload the disk image as it was downloaded, before it is "
                "installed with secure boot"
            )


def _refuse_secure_boot(device: Device, boot: Sequence[ProbedPartition]) -> None:
    for item in boot:
        content = read_boot_file(device, item.partition, "config.json", _MAX_BYTES)
        if content is None:
            continue
        if _asks_for_secure_boot(content, f"config.json in partition {item.partition.number} of {device.name}"):
            raise DiskImageError(
                f"{device.name} is to be installed with secure boot (config.json in partition {item.partition.number} says "
                "installer.secureboot), so the image in it must be exactly as it was signed and cannot be preloaded; "
                "configure the disk image without secure boot, or let the device download its release"
            )


def _asks_for_secure_boot(content: bytes, what: str) -> bool:
    """Whether secure boot is configured: as in the flasher's ``jq .installer.secureboot``, only true counts."""
    try:
        config = msgspec.json.decode(content)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DiskImageError(f"{what} is not well formed: {error}") from error
    installer = config.get("installer") if isinstance(config, dict) else None
    return isinstance(installer, dict) and installer.get("secureboot") is True


def _find_image(device: Device, reader: TreeReader, boot: Sequence[ProbedPartition]) -> tuple[bytes, bool]:
    """The path of the image to install, and whether it is signed."""
    names = _files(reader, device)
    wanted = [name for name in (*_configured(reader), *_deployed(device, boot)) if name in names]
    if not wanted:
        others = [name for name in sorted(names) if not name.endswith(_SIGNATURE) and not name.startswith(b".")]
        if len(others) != 1:
            shown = ", ".join(_shown(name) for name in others[:_SHOWN_FILES]) or "nothing else"
            raise DiskImageError(
                f"{device.name} is a flasher, but the image that it installs is unknown: neither "
                f"/{_shown(_CONFIGURATION)} nor device-type.json names a file in /{_shown(_DIRECTORY)}, and there is {shown}"
            )
        wanted = others
    return join(_DIRECTORY, wanted[0]), wanted[0] + _SIGNATURE in names


def _files(reader: TreeReader, device: Device) -> frozenset[bytes]:
    """The names of the regular files in /opt."""
    stat = reader.lookup(_DIRECTORY)
    if stat is None or not isinstance(stat.entry, Directory):
        return frozenset()
    names: set[bytes] = set()
    for child in reader.children(stat.entry):
        if isinstance(child.entry, Regular):
            names.add(child.entry.path.rpartition(b"/")[2])
        if len(names) > _MAX_FILES:
            raise DiskImageError(
                f"{device.name}: /{_shown(_DIRECTORY)} of the flasher has more than {_MAX_FILES} files"
            )
    return frozenset(names)


def _configured(reader: TreeReader) -> list[bytes]:
    """The name of the image in the flasher's own configuration."""
    stat = reader.lookup(_CONFIGURATION)
    if stat is None or not isinstance(stat.entry, Regular) or stat.entry.size > _MAX_BYTES:
        return []
    content = b"".join(bytes(chunk) for chunk in reader.read(stat))
    # The file is a shell script: the last assignment counts.
    return _CONFIGURED.findall(content)[-1:]


def _deployed(device: Device, boot: Sequence[ProbedPartition]) -> list[bytes]:
    """The name of the image by device-type.json: the flasher's name without ``flasher-``."""
    for item in boot:
        content = read_boot_file(device, item.partition, "device-type.json", _MAX_BYTES)
        if content is None:
            continue
        try:
            yocto = json_decoder(_DeviceType).decode(content).yocto
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise DiskImageError(
                f"device-type.json in partition {item.partition.number} of {device.name} is not well formed: {error}"
            ) from error
        if yocto is not None and yocto.deploy_artifact:
            return [yocto.deploy_artifact.replace("flasher-", "", 1).encode("utf-8", "surrogatepass")]
    return []


def _labelled(probed: Sequence[ProbedPartition], labels: Sequence[str]) -> ProbedPartition | None:
    for label in labels:
        for item in probed:
            if _label(item) == label:
                return item
    return None


def _label(item: ProbedPartition) -> str:
    return item.filesystem.label if item.filesystem is not None else ""


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
