"""The compression of a disk image: detected from the content for input, chosen by the suffix for output."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from ...errors import DiskImageError, UsageError
from ..device import Device
from ..probe import probe_compressed
from .foreign import foreign_format


class ImageFormat(StrEnum):
    """The supported formats of a disk image."""

    RAW = "raw"
    GZIP = "gzip"
    XZ = "xz"
    ZSTD = "zstd"
    ZIP = "zip"


_SUFFIXES = {".gz": ImageFormat.GZIP, ".xz": ImageFormat.XZ, ".zst": ImageFormat.ZSTD, ".zip": ImageFormat.ZIP}
_NOT_WRITTEN = frozenset({".7z", ".bz2", ".lz4", ".lzma", ".lzo", ".rar", ".tar", ".tgz", ".txz", ".zstd"})
_WRITTEN = "gzip (.gz), xz (.xz), zstd (.zst), zip (.zip), or none (.img)"


def format_of_content(device: Device) -> ImageFormat:
    """The format of *device*; unknown content counts as raw until its partition table is read.

    Raises:
        DiskImageError: it is in a format that is not supported, or cannot be read.
    """
    name = probe_compressed(device)
    if name is not None and name in list(ImageFormat):
        return ImageFormat(name)
    refuse_foreign(device)
    return ImageFormat.RAW


def refuse_foreign(device: Device) -> None:
    """Refuse a *device* in a known but unsupported format.

    Raises:
        DiskImageError: it is in such a format; the message has the command that converts it.
    """
    found = foreign_format(device)
    if found is not None:
        raise DiskImageError(
            f"{device.name} is {found.name}, which is not supported; make a raw disk image of it: {found.advice(device.name)}"
        )


def refuse_packed_again(device: Device, kind: ImageFormat) -> None:
    """Refuse *device*, which was unpacked from *kind*, unless it is a raw disk image.

    Raises:
        DiskImageError: it is compressed again, or in an unsupported format.
    """
    name = probe_compressed(device)
    found = foreign_format(device)
    if name is not None or found is not None:
        inside = f"{name}-compressed" if found is None else found.name
        raise DiskImageError(
            f"{device.name}: what is packed in it by {kind} is {inside}, and not a raw disk image; unpack it by hand and use "
            "the disk image in it"
        )


def format_of_name(path: Path) -> ImageFormat:
    """The format for writing *path*, by its suffix; an unknown suffix means raw.

    Raises:
        UsageError: the suffix is that of a format that cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix in _NOT_WRITTEN:
        raise UsageError(f"{path}: a disk image cannot be written as {suffix}; choose {_WRITTEN}")
    return _SUFFIXES.get(suffix, ImageFormat.RAW)


def member_name(path: Path) -> str:
    """The name of the disk image inside *path*, and the file that unpacking makes: ``disk.img`` for ``disk.img.zip``."""
    name = path.name if format_of_name(path) is ImageFormat.RAW else path.stem
    return name if "." in name else f"{name}.img"
