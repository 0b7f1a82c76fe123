"""The splash image, which a device shows while it boots: a PNG in ``splash/`` of the boot partition.

Sources: the PNG specification (ISO/IEC 15948; W3C, third edition) for the format. plymouth reads ``splash/balena-logo.png``;
before balenaOS 2.53.0 the name was ``resin-logo.png``. `balena preload` decides by the version alone (the old name if it is
unknown), and skips a disk image without a ``splash`` directory.

The file is checked to be complete: signature, header, and the CRC of each chunk. The pixels are not decoded.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Collection, Iterator

from ..errors import UsageError

SPLASH_DIRECTORY = "splash"
MAX_SPLASH_BYTES = 16 << 20
_NEW, _OLD = "balena-logo.png", "resin-logo.png"
_RENAMED_IN = (2, 53, 0)
_VERSION = re.compile(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?:\D.*)?", re.ASCII | re.DOTALL)

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_SIDE = 8192
# Valid bit depths by colour type.
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def splash_path(present: Collection[str], os_version: str | None) -> str:
    """The path of the splash image in the boot partition.

    The existing name is used; if both or neither exist, the OS version decides; if that is unknown, the current name.

    Args:
        present: names in the splash directory.
        os_version: as in os-release, ``2.98.12+rev1``.
    """
    there = [name for name in (_NEW, _OLD) if name in {other.lower() for other in present}]
    if len(there) == 1:
        return f"{SPLASH_DIRECTORY}/{there[0]}"
    match = _VERSION.fullmatch(os_version or "")
    is_old = match is not None and (int(match[1]), int(match[2]), int(match[3])) < _RENAMED_IN
    return f"{SPLASH_DIRECTORY}/{_OLD if is_old else _NEW}"


def check_png(content: bytes, what: str) -> bytes:
    """*content*, checked to be a complete PNG image.

    Args:
        what: the file's name in errors.

    Raises:
        UsageError: it is not a PNG image, is damaged or cut off, or is larger than a splash image may be.
    """
    if len(content) > MAX_SPLASH_BYTES:
        raise UsageError(f"{what} has more than {MAX_SPLASH_BYTES} bytes, too many for a splash image")
    fault = _fault(content)
    if fault is not None:
        raise UsageError(f"{what} is not a PNG image usable as a splash image: {fault}")
    return content


def _fault(content: bytes) -> str | None:
    if not content.startswith(_SIGNATURE):
        return "it has no PNG signature; convert it to PNG"
    try:
        chunks = _chunks(content)
        _check_header(*next(chunks))
        if b"IDAT" not in {kind for kind, _ in chunks}:
            return "it has no pixels"
    except ValueError as error:
        return str(error)
    return None


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Type and data of each chunk, up to IEND, which ends the file."""
    position = len(_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        if len(content) - position < 12:
            raise ValueError("it is cut off")
        length, kind = struct.unpack_from(">I4s", content, position)
        if not kind.isalpha():
            raise ValueError(f"there is no chunk at byte {position}")
        end = position + 12 + length
        if end > len(content):
            raise ValueError("it is cut off")
        view = memoryview(content)[position + 4 : end - 4]
        if zlib.crc32(view) != int.from_bytes(content[end - 4 : end], "big"):
            raise ValueError(f"the checksum of the chunk at byte {position} is wrong")
        yield kind, view[4:]
        position = end
    if position != len(content):
        raise ValueError("there is data after its end")


def _check_header(kind: bytes, data: memoryview) -> None:
    if kind != b"IHDR" or len(data) != 13:
        raise ValueError("it does not begin with a header")
    width, height, bits, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", data)
    if not 0 < width <= _MAX_SIDE or not 0 < height <= _MAX_SIDE:
        raise ValueError(f"it is {width} × {height} pixels; expected 1 to {_MAX_SIDE} in each direction")
    if bits not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise ValueError("its header names a colour type, depth or method that the PNG specification does not have")
