"""The picture that a device shows while it boots: a PNG in ``splash/`` of the boot partition.

Sources: the PNG specification (ISO/IEC 15948; W3C, third edition) for the format. plymouth reads ``splash/balena-logo.png``;
before balenaOS 2.53.0 the name was ``resin-logo.png``. `balena preload` goes by the version alone (and takes the old name where
it cannot tell it), and passes over a disk image that has no ``splash`` directory.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Collection, Iterator

import msgspec

from ..errors import UsageError

SPLASH_DIRECTORY = "splash"
MAX_SPLASH_BYTES = 16 << 20
_NEW, _OLD = "balena-logo.png", "resin-logo.png"
_RENAMED_IN = (2, 53, 0)
_VERSION = re.compile(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?:\D.*)?", re.ASCII | re.DOTALL)

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_SIDE = 8192
_MAX_PIXEL_BYTES = 256 << 20
_CHUNK = 64 << 10
# The bits a sample may have, and samples a pixel, by colour type.
_COLOUR_TYPES = {0: ((1, 2, 4, 8, 16), 1), 2: ((8, 16), 3), 3: ((1, 2, 4, 8), 1), 4: ((8, 16), 2), 6: ((8, 16), 4)}
_PALETTE = 3
# Adam7: first column and row, and steps, of each pass.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_LAST_FILTER = 4


class _Header(msgspec.Struct, frozen=True):
    width: int
    height: int
    bits: int
    colour: int
    interlaced: bool

    def rows(self) -> Iterator[tuple[int, int]]:
        """How many rows of how many bytes each, pass by pass; the byte that names a row's filter is counted."""
        for column, row, across, down in _PASSES if self.interlaced else ((0, 0, 1, 1),):
            width, height = -(-(self.width - column) // across), -(-(self.height - row) // down)
            if width > 0 and height > 0:
                yield height, 1 + -(-width * self.bits * _COLOUR_TYPES[self.colour][1] // 8)


def splash_path(present: Collection[str], os_version: str | None) -> str:
    """Where the splash image goes.

    The name that is there decides; if both are, or none is, the OS version does; if that is not known, the name of today.

    Args:
        present: names in the splash directory.
        os_version: as os-release has it, ``2.98.12+rev1``.
    """
    there = [name for name in (_NEW, _OLD) if name in {other.lower() for other in present}]
    if len(there) == 1:
        return f"{SPLASH_DIRECTORY}/{there[0]}"
    match = _VERSION.fullmatch(os_version or "")
    is_old = match is not None and (int(match[1]), int(match[2]), int(match[3])) < _RENAMED_IN
    return f"{SPLASH_DIRECTORY}/{_OLD if is_old else _NEW}"


def check_png(content: bytes, what: str) -> bytes:
    """*content*, which is a PNG image that can be decoded.

    Args:
        what: how errors name the file.

    Raises:
        UsageError: it is none, is damaged or cut off, or is larger than a splash image may be.
    """
    if len(content) > MAX_SPLASH_BYTES:
        raise UsageError(f"{what} has more than {MAX_SPLASH_BYTES} bytes, too many for a splash image")
    fault = _fault(content)
    if fault is not None:
        raise UsageError(f"{what} is no PNG image that a splash can be: {fault}")
    return content


def _fault(content: bytes) -> str | None:
    if not content.startswith(_SIGNATURE):
        return "it does not begin as PNG files do; convert it to PNG"
    try:
        _read(content)
    except ValueError as error:
        return str(error)
    return None


def _read(content: bytes) -> None:
    """Go through all chunks; ValueError says what is wrong."""
    chunks = _chunks(content)
    kind, data = next(chunks)
    header = _header(kind, data)
    pixels = _Pixels(header)
    previous, has_palette = kind, False
    for kind, data in chunks:
        match kind:
            case b"PLTE":
                if has_palette or pixels.begun or header.colour in (0, 4):
                    raise ValueError("it has a palette where none belongs")
                if not data or len(data) % 3 or len(data) > 3 << (header.bits if header.colour == _PALETTE else 8):
                    raise ValueError("its palette has a length that cannot be")
                has_palette = True
            case b"IDAT":
                if pixels.begun and previous != b"IDAT":
                    raise ValueError("its pixels are interrupted by something else")
                if header.colour == _PALETTE and not has_palette:
                    raise ValueError("its palette is missing")
                pixels.feed(data)
            case b"IEND":
                if data:
                    raise ValueError("its last chunk is not empty")
            case _ if not kind[0] & 0x20:
                raise ValueError("it has a chunk that decoders must know and that is none of the PNG specification's")
            case _:
                pass
        previous = kind
    pixels.end()


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Type and data of each chunk, up to IEND, which ends the file."""
    position = len(_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        if len(content) - position < 12:
            raise ValueError("it is cut off")
        length, kind = struct.unpack_from(">I4s", content, position)
        if not kind.isalpha() or not kind.isascii():
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
        raise ValueError("something follows its end")


def _header(kind: bytes, data: memoryview) -> _Header:
    if kind != b"IHDR" or len(data) != 13:
        raise ValueError("it does not begin with a header")
    width, height, bits, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", data)
    if not 0 < width <= _MAX_SIDE or not 0 < height <= _MAX_SIDE:
        raise ValueError(f"it is {width} × {height} pixels; expected 1 to {_MAX_SIDE} each way")
    if colour not in _COLOUR_TYPES or bits not in _COLOUR_TYPES[colour][0] or compression or filtering or interlace > 1:
        raise ValueError("its header names a colour type, depth or method that the PNG specification does not have")
    header = _Header(width, height, bits, colour, interlace == 1)
    if sum(rows * length for rows, length in header.rows()) > _MAX_PIXEL_BYTES:
        raise ValueError(f"its pixels take more than {_MAX_PIXEL_BYTES} bytes")
    return header


class _Pixels:
    """The image data: inflated bit by bit, counted, and thrown away."""

    def __init__(self, header: _Header) -> None:
        self._inflate = zlib.decompressobj()
        self._rows = (length for count, length in header.rows() for _ in range(count))
        self._left_in_row = 0
        self.begun = False

    def feed(self, data: memoryview) -> None:
        self.begun = True
        pending: bytes | memoryview = data
        while pending and not self._inflate.eof:
            try:
                inflated = self._inflate.decompress(pending, _CHUNK)
            except zlib.error as error:
                raise ValueError("its pixels cannot be decompressed") from error
            self._count(inflated)
            pending = self._inflate.unconsumed_tail
        if self._inflate.eof and (pending or self._inflate.unused_data):
            raise ValueError("something follows its pixels")

    def end(self) -> None:
        if not self.begun:
            raise ValueError("it has no pixels")
        while not self._inflate.eof:
            try:
                inflated = self._inflate.decompress(self._inflate.unconsumed_tail, _CHUNK)
            except zlib.error as error:
                raise ValueError("its pixels cannot be decompressed") from error
            if not inflated:
                raise ValueError("its pixels are cut off")
            self._count(inflated)
        if self._left_in_row or next(self._rows, 0):
            raise ValueError("it has fewer pixels than its header says")

    def _count(self, inflated: bytes) -> None:
        position = 0
        while position < len(inflated):
            if not self._left_in_row:
                self._left_in_row = next(self._rows, 0)
                if not self._left_in_row:
                    raise ValueError("it has more pixels than its header says")
                if inflated[position] > _LAST_FILTER:
                    raise ValueError("a row of pixels has a filter that the PNG specification does not have")
            step = min(self._left_in_row, len(inflated) - position)
            self._left_in_row -= step
            position += step
