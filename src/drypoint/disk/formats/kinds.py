"""How a disk image is packed: told by content where one is read, by the name where one is written."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from ...errors import DiskImageError, UsageError
from ..device import Device
from ..probe import probe_compressed


class ImageFormat(StrEnum):
    """What a file that stands for a disk image is."""

    RAW = "raw"
    GZIP = "gzip"
    XZ = "xz"
    ZSTD = "zstd"
    ZIP = "zip"


_SUFFIXES = {".gz": ImageFormat.GZIP, ".xz": ImageFormat.XZ, ".zst": ImageFormat.ZSTD, ".zip": ImageFormat.ZIP}
_NOT_WRITTEN = frozenset({".7z", ".bz2", ".lz4", ".lzma", ".lzo", ".rar", ".tar", ".tgz", ".txz", ".zstd"})
_WRITTEN = "gzip (.gz), xz (.xz), zstd (.zst), zip (.zip), or none (.img)"


def format_of_content(device: Device) -> ImageFormat:
    """What *device* starts like; all that is not compressed is a raw disk image until somebody finds otherwise.

    Raises:
        DiskImageError: it is compressed in a way that is not supported, or cannot be read.
    """
    name = probe_compressed(device)
    if name is None:
        return ImageFormat.RAW
    try:
        return ImageFormat(name)
    except ValueError:
        raise DiskImageError(
            f"{device.name} is {name}-compressed, which is not supported; decompress it first, or use one of "
            f"{', '.join(ImageFormat)}"
        ) from None


def format_of_name(path: Path) -> ImageFormat:
    """What a file that is to be written as *path* should be, by its suffix; one that means nothing stands for raw.

    Raises:
        UsageError: the suffix is that of a format that is not written.
    """
    suffix = path.suffix.lower()
    if suffix in _NOT_WRITTEN:
        raise UsageError(f"{path}: a disk image cannot be written as {suffix}; choose {_WRITTEN}")
    return _SUFFIXES.get(suffix, ImageFormat.RAW)


def member_name(path: Path) -> str:
    """What a disk image written as *path* is called inside an archive, and what unpacking makes of it: ``disk.img``."""
    name = path.name if format_of_name(path) is ImageFormat.RAW else path.stem
    return name if "." in name else f"{name}.img"
