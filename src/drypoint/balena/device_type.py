"""The device type of a balenaOS disk image, from its boot partition.

Format: ``device-type.json`` in the root of the boot partition (meta-balena writes it from the device type's contract).
"""

from __future__ import annotations

import msgspec

from ..decoders import json_decoder
from ..disk import Device, probe_partitions, read_table
from ..errors import DiskImageError, UsageError
from ..oci import Platform, parse_platform
from .boot_partition import boot_partitions, read_boot_file

_FILE = "device-type.json"
_MAX_BYTES = 1 << 20


class DeviceType(msgspec.Struct, frozen=True):
    """``slug`` names the device type (``raspberrypi4-64``), ``arch`` its processor in balena's words (``aarch64``)."""

    slug: str
    arch: str

    @property
    def platform(self) -> Platform:
        """The platform of the images for the device.

        Raises:
            UsageError: ``arch`` is unknown.
        """
        try:
            return parse_platform(self.arch)
        except UsageError as error:
            raise UsageError(
                f"the disk image is for the device type {self.slug[:100]!r}, of the unknown architecture {self.arch[:100]!r}; "
                "choose the images' platform with --platform"
            ) from error


class _RawDeviceType(msgspec.Struct):
    slug: str = ""
    arch: str = ""


def read_device_type(device: Device) -> DeviceType | None:
    """The device type of the disk image *device*; None if it has no boot partition with a usable device-type.json.

    Raises:
        DiskImageError: the partition table is damaged, or ``device-type.json`` is malformed.
        ToolError: mtools is missing.
    """
    for probed in boot_partitions(probe_partitions(device, read_table(device))):
        content = read_boot_file(device, probed.partition, _FILE, _MAX_BYTES)
        if content is not None:
            return parse_device_type(content, f"{_FILE} in the boot partition of {device.name}")
    return None


def parse_device_type(content: bytes, what: str) -> DeviceType | None:
    """Read a ``device-type.json``; None if it does not name the processor.

    Args:
        what: the file's name in errors.

    Raises:
        DiskImageError: it is malformed.
    """
    try:
        raw = json_decoder(_RawDeviceType).decode(content)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DiskImageError(f"{what} is not well formed: {error}") from error
    return DeviceType(raw.slug, raw.arch) if raw.arch else None
