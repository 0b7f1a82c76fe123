"""Unsupported formats of disk images, recognised by their first or last bytes, with the commands that convert them.

Formats: QEMU's docs/interop (qcow2, qed, parallels) and block drivers (vmdk, vdi, vpc, vhdx); POSIX ustar; LZ4's frame format;
LZMA_Alone as in liblzma's lzma-file-format.txt; lzip's manual; Android's libsparse; Apple's UDIF trailer ("koly").
"""

from __future__ import annotations

import shlex
from pathlib import Path

import msgspec

from ...decompression import compression_of
from ..device import Device

_HEAD = 32776 + 8
_TRAILER = 512
_QEMU = "qemu-img convert -O raw {path} {raw}"


class ForeignFormat(msgspec.Struct, frozen=True):
    """A format: its name, and the command that makes a raw disk image, with ``{path}`` and ``{raw}`` in it."""

    name: str
    command: str

    def advice(self, name: str) -> str:
        """The command for the file *name*."""
        return self.command.format(path=shlex.quote(name), raw=shlex.quote(_raw_name(name)))


_UNPACKS = {
    "bzip2": ForeignFormat("bzip2-compressed", "bunzip2 --keep {path}"),
    "lz4": ForeignFormat("lz4-compressed", "lz4 -d {path} {raw}"),
    "lzma": ForeignFormat("lzma-compressed", "xz --format=lzma -dc {path} > {raw}"),
    "lzip": ForeignFormat("lzip-compressed", "lzip -dc {path} > {raw}"),
    "lzop": ForeignFormat("lzop-compressed", "lzop -d {path}"),
    "compress": ForeignFormat("compressed by compress (.Z)", "gzip -dc {path} > {raw}"),
}
_AT_START: tuple[tuple[bytes, ForeignFormat], ...] = (
    (b"QFI\xfb\0\0\0\1", ForeignFormat("a qcow image", _QEMU)),
    (b"QFI\xfb", ForeignFormat("a qcow2 image", _QEMU)),
    (b"QED\0", ForeignFormat("a QED image", _QEMU)),
    (b"KDMV", ForeignFormat("a VMDK image", _QEMU)),
    (b"COWD", ForeignFormat("a VMDK image", _QEMU)),
    (b"# Disk DescriptorFile", ForeignFormat("the descriptor of a VMDK image", _QEMU)),
    (b"vhdxfile", ForeignFormat("a VHDX image", _QEMU)),
    (b"conectix", ForeignFormat("a VHD image", _QEMU)),
    (b"WithoutFreeSpace", ForeignFormat("a Parallels image", _QEMU)),
    (b"WithouFreSpacExt", ForeignFormat("a Parallels image", _QEMU)),
    (b"\x3a\xff\x26\xed", ForeignFormat("an Android sparse image", "simg2img {path} {raw}")),
    (b"7z\xbc\xaf\x27\x1c", ForeignFormat("a 7z archive", "7z x {path}")),
    (b"Rar!\x1a\x07", ForeignFormat("a RAR archive", "unrar x {path}")),
    (b"\x04\x22\x4d\x18", _UNPACKS["lz4"]),
    (b"\x02\x21\x4c\x18", _UNPACKS["lz4"]),
    (b"LZIP", _UNPACKS["lzip"]),
    (b"\x89LZO\0\r\n\x1a\n", _UNPACKS["lzop"]),
    (b"\x1f\x9d", _UNPACKS["compress"]),
    (b"070701", ForeignFormat("a cpio archive", "cpio -id < {path}")),
    (b"070702", ForeignFormat("a cpio archive", "cpio -id < {path}")),
)
_VDI = ForeignFormat("a VDI image", _QEMU)
_VHD = ForeignFormat("a VHD image", _QEMU)
_DMG = ForeignFormat("a UDIF (.dmg) image", "dmg2img {path} {raw}")
_TAR = ForeignFormat("a tar archive", "tar -xf {path}")
_ETCH = ForeignFormat("an .etch archive", "drypoint inject {path} -o {raw}")
_ISO = ForeignFormat(
    "an ISO 9660 image without a partition table, which is read-only",
    "install it, and use a disk image of the installed system instead of {path}",
)
_VDI_SIGNATURE = b"\x7f\x10\xda\xbe"
"""At byte 64; the text before it names the program."""
_ETCH_FIRST = b"manifest.json"


def foreign_format(device: Device) -> ForeignFormat | None:
    """The format of *device* if it is known but not supported; None for a raw disk image or a supported format.

    Raises:
        DiskImageError: it cannot be read.
    """
    head = device.read(0, min(_HEAD, device.size))
    found = foreign_start(head)
    if found is not None or device.size < _TRAILER:
        return found
    trailer = device.read(device.size - _TRAILER, _TRAILER)
    if trailer.startswith(b"conectix"):
        return _VHD
    return _DMG if trailer.startswith(b"koly\0\0\0\4\0\0\2\0") else None


def foreign_start(head: bytes) -> ForeignFormat | None:
    """Like :func:`foreign_format`, for a stream that starts with *head*; misses formats with marks after its end."""
    if compression_of(head[:10]) == "bzip2":
        return _UNPACKS["bzip2"]
    for magic, found in _AT_START:
        if head.startswith(magic):
            return found
    if _is_lzma(head):
        return _UNPACKS["lzma"]
    if head[64:68] == _VDI_SIGNATURE and head.startswith(b"<<<"):
        return _VDI
    if _is_tar(head):
        return _ETCH if head[: len(_ETCH_FIRST) + 1] == _ETCH_FIRST + b"\0" and b'"format"' in head else _TAR
    if head[32769:32774] == b"CD001" and head[510:512] != b"\x55\xaa":
        return _ISO
    return None


def _is_lzma(head: bytes) -> bool:
    """Whether *head* is an LZMA_Alone header as liblzma's encoders write it; the format has no magic number."""
    if len(head) < 13 or head[0] >= 225:
        return False
    dictionary, size = int.from_bytes(head[1:5], "little"), int.from_bytes(head[5:13], "little")
    bits = dictionary.bit_length()
    plausible = dictionary >= 1 << 12 and dictionary in (1 << bits - 1, 3 << bits - 2, (1 << 32) - 1)
    # The first byte of the range coder's data is always zero.
    return (
        plausible
        and (size == (1 << 64) - 1 or 0 < size < 1 << 38)
        and head[13:14] == b"\0"
        and head[510:512] != b"\x55\xaa"
    )


def _is_tar(head: bytes) -> bool:
    block = head[:512]
    if len(block) < 512 or block[510:512] == b"\x55\xaa":
        return False
    try:
        stored = int(block[148:156].strip(b"\0 ") or b"x", 8)
    except ValueError:
        return False
    return bool(block[0]) and stored == sum(block) - sum(block[148:156]) + 8 * 32


def _raw_name(name: str) -> str:
    path = Path(name)
    raw = path.with_suffix("" if path.stem.endswith((".img", ".raw", ".bin", ".wic")) else ".img")
    return str(path.with_suffix(".raw.img") if raw == path else raw)
