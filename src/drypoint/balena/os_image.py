"""A balenaOS disk image's own description: the OS, the device type, what a flasher installs, and the boot configuration.

Sources: meta-balena, os-release.bbappend (fields of os-release), balena-supervisor.bb (supervisor.conf),
balena-image-flasher.bb (the image to install is in /opt, next to its signature), resin-init-flasher
(installer.secureboot), and os-config's and the Supervisor's keys of config.json.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from ..decoders import json_decoder
from ..disk import Device
from ..errors import DrypointError, FilesystemError
from ..fstree import Directory, Regular, TreeReader, join
from ..inspection import InspectedPartition
from ..system import root_directories
from ..volumes.partitioned_disk import PartitionedDisk
from .boot_config import CONFIG_FILE, MAX_CONFIG_BYTES
from .boot_partition import BOOT_LABELS, boot_partitions, read_boot_file
from .device_type import DeviceType, read_device_type
from .os_root import ROOT_LABELS, assignments, find_supervisor_conf, small_file

_OTHER_LABELS = ("resin-state", "resin-data", "flash-state", "flash-data", "balena-state", "balena-data")
_FLASHER_PREFIX = "flash-"
_RELEASE_FILES = (b"etc/os-release", b"usr/lib/os-release")
_IMAGE_SUFFIXES = (b".balenaos-img", b".resinos-img", b".img")
_MAX_NAMES = 4096
_MAX_TEXT = 200
_ISSUE = re.compile(r"(balenaOS|Resin OS|resinOS)\s+(\S+)")


class OperatingSystem(msgspec.Struct, frozen=True):
    """The OS in one root partition.

    Attributes:
        partition: the partition's label.
        name: ``balenaOS``.
        version: with revision, such as ``2.98.12+rev1``.
        variant: such as ``Production``; empty if unknown.
        path: of the file with these.
        supervisor: the version of the Supervisor that the OS was built with, without a v; None if unknown.
    """

    partition: str
    name: str
    version: str
    variant: str
    path: bytes
    supervisor: str | None


class InnerImage(msgspec.Struct, frozen=True):
    """A disk image that a flasher installs, a file of *size* bytes.

    *signed* if it has a signature, which is only checked with secure boot.
    """

    partition: str
    path: bytes
    size: int
    signed: bool


class BootConfig(msgspec.Struct, frozen=True):
    """The values of config.json that are not secret; None for missing ones.

    Attributes:
        has_api_key: whether a provisioning key or a device's key is set.
        secure_boot: whether the installer sets up secure boot.
    """

    application_id: int | None
    device_type: str | None
    hostname: str | None
    has_api_key: bool
    secure_boot: bool


class OsImage(msgspec.Struct, frozen=True):
    """A balenaOS disk image.

    Attributes:
        systems: the systems in the root partitions that have an OS.
        device_type: None if the boot partition does not name it.
        flasher: whether it installs another image.
        inner_images: the images that it installs.
        config: config.json, None if there is no readable one.
        notes: what could not be read, a sentence each.
    """

    systems: tuple[OperatingSystem, ...]
    device_type: DeviceType | None
    flasher: bool
    inner_images: tuple[InnerImage, ...]
    config: BootConfig | None
    notes: tuple[str, ...]

    @property
    def secure_boot(self) -> bool:
        """Whether it is installed with secure boot: then a changed inner image is refused."""
        return self.config is not None and self.config.secure_boot


def inspect_os(disk: PartitionedDisk, partitions: tuple[InspectedPartition, ...]) -> OsImage | None:
    """Find balenaOS on *disk* with *partitions*; None if none of them has one of balenaOS's labels.

    Damage becomes a note.
    """
    labels = {label.lower() for label in (*ROOT_LABELS, *_OTHER_LABELS, *BOOT_LABELS)}
    if not any(one.label.lower() in labels for one in partitions):
        return None
    notes: list[str] = []
    systems: list[OperatingSystem] = []
    inner_images: list[InnerImage] = []
    for volume in disk.volumes():
        if volume.label not in ROOT_LABELS:
            continue
        try:
            reader = volume.reader(allow_dirty=True)
            roots = tuple(root_directories(reader))
            systems += _systems(reader, roots, volume.label)
            inner_images += _inner_images(reader, roots, volume.label)
        except FilesystemError as error:
            notes.append(f"{volume.label} cannot be read: {error}")
    device_type = None
    try:
        device_type = _bounded(read_device_type(disk.device))
    except DrypointError as error:
        notes.append(str(error))
    return OsImage(
        tuple(systems),
        device_type,
        any(one.label.startswith(_FLASHER_PREFIX) for one in partitions),
        tuple(inner_images),
        _boot_config(disk.device, partitions, notes),
        tuple(notes),
    )


def _bounded(device_type: DeviceType | None) -> DeviceType | None:
    return device_type and DeviceType(device_type.slug[:_MAX_TEXT], device_type.arch[:_MAX_TEXT])


def _systems(reader: TreeReader, roots: tuple[bytes, ...], label: str) -> Iterator[OperatingSystem]:
    """The OS in the first of *roots* that has one."""
    conf = find_supervisor_conf(reader, roots, label)
    supervisor = conf.version.removeprefix("v") or None if conf is not None else None
    for root in roots:
        for path in _RELEASE_FILES:
            fields = assignments(small_file(reader, join(root, path)))
            if "NAME" in fields or "VERSION" in fields:
                version = fields.get("VERSION") or fields.get("VERSION_ID", "")
                variant = fields.get("VARIANT", "")
                name = fields.get("NAME", "")
                yield OperatingSystem(label, name, version, variant, join(root, path), supervisor)
                return
        issue = _ISSUE.search(small_file(reader, join(root, b"etc/issue")))
        if issue is not None:
            name, version = issue[1], issue[2][:_MAX_TEXT]
            yield OperatingSystem(label, name, version, "", join(root, b"etc/issue"), supervisor)
            return


def _inner_images(reader: TreeReader, roots: tuple[bytes, ...], label: str) -> Iterator[InnerImage]:
    if not label.startswith(_FLASHER_PREFIX):
        return
    for root in roots:
        stat = reader.lookup(join(root, b"opt"))
        if stat is None or not isinstance(stat.entry, Directory):
            continue
        files: dict[bytes, int] = {}
        for child in reader.children(stat.entry):
            if isinstance(child.entry, Regular):
                files[child.entry.path] = child.entry.size
            if len(files) > _MAX_NAMES:
                raise FilesystemError(f"/opt holds more than {_MAX_NAMES} files")
        for path, size in sorted(files.items()):
            if path.endswith(_IMAGE_SUFFIXES):
                yield InnerImage(label, path, size, path + b".sig" in files)


class _Config(msgspec.Struct, rename="camel"):
    application_id: object = None
    device_type: object = None
    hostname: object = None
    api_key: object = None
    device_api_key: object = None
    installer: object = None


def _boot_config(device: Device, partitions: tuple[InspectedPartition, ...], notes: list[str]) -> BootConfig | None:
    for one in boot_partitions(partitions):
        try:
            content = read_boot_file(device, one.partition, CONFIG_FILE, MAX_CONFIG_BYTES)
        except DrypointError as error:
            notes.append(str(error))
            continue
        if content is None:
            continue
        try:
            return _parse_config(content)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            # Without the decoder's message: it may quote a key.
            notes.append(f"config.json in {one.label} is not well formed")
    return None


def _parse_config(content: bytes) -> BootConfig:
    raw = json_decoder(_Config).decode(content)
    installer = raw.installer if isinstance(raw.installer, dict) else {}
    return BootConfig(
        application_id=_number(raw.application_id),
        device_type=_text(raw.device_type),
        hostname=_text(raw.hostname),
        has_api_key=bool(raw.api_key) or bool(raw.device_api_key),
        secure_boot=installer.get("secureboot") is True,
    )


def _number(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value[:_MAX_TEXT] if isinstance(value, str) and value else None
