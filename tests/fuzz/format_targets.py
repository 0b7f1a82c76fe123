"""Compressed disk images: streams, and zip archives whose records cannot be trusted."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from unittest.mock import patch

from drypoint.decompression import MAX_OUTPUT
from drypoint.disk import FileDevice
from drypoint.disk.formats import ImageFormat, decompressed, format_of_content, opened_image
from drypoint.disk.formats.zip_reading import find_image, member_content
from drypoint.errors import DiskImageError

from .material import Material, as_file, pieces
from .target import PropertyError, Target

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_STREAMS = (ImageFormat.GZIP, ImageFormat.XZ, ImageFormat.ZSTD)
_STEPS = (1 << 20, 7, 1, 513)
_MOST_OUTPUT = 3 * MAX_OUTPUT
_RECORDS = (b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7")


def unpack_any_stream(data: bytes) -> None:
    material = Material(data)
    kind, step = material.choice(_STREAMS), material.choice(_STEPS)
    blob = material.rest()
    whole, cut = _unpacked(blob, kind, 1 << 20), _unpacked(blob, kind, step)
    # libzstd compares the size in a frame's header with what came, but not when it is given an empty last block by itself.
    excused = kind is ImageFormat.ZSTD and isinstance(whole, str) and "corruption" in whole
    if whole != cut and not (isinstance(whole, str) and (isinstance(cut, str) or excused)):
        raise PropertyError("the stream reads differently in other pieces")


def _unpacked(blob: bytes, kind: ImageFormat, step: int) -> bytes | str:
    """What *blob* holds, cut after some megabytes; why not, for a damaged one."""
    output = bytearray()
    try:
        for chunk in decompressed(pieces(blob, step), kind, "blob"):
            if len(chunk) > MAX_OUTPUT:
                raise PropertyError(f"a chunk of {len(chunk)} bytes")
            output += chunk
            if len(output) > _MOST_OUTPUT:
                return bytes(output[:_MOST_OUTPUT])
    except DiskImageError as error:
        return str(error)
    return bytes(output)


def _streams() -> Iterator[bytes]:
    content = b"some content, some content, " * 20
    packers: tuple[Callable[[bytes], bytes], ...] = (
        lambda data: gzip.compress(data, mtime=0),
        lzma.compress,
        zstd.compress,
    )
    for number, pack in enumerate(packers):
        packed = pack(content)
        yield bytes([number, 1]) + packed
        yield bytes([number, 2]) + packed + pack(b"more")
        yield bytes([number, 1]) + packed[:-3]
        yield bytes([number, 3]) + packed + bytes(8)
    yield b"\2\1" + b"\x50\x2a\x4d\x18\4\0\0\0skip" + zstd.compress(content)
    yield b"\0\0" + gzip.compress(bytes(5 << 18), mtime=0)


def unpack_any_zip(data: bytes) -> None:
    """What an archive gives has the size and the CRC that it says; ISA-L and zlib agree; opening it agrees with both."""
    with as_file(data) as path, FileDevice(path, name="archive") as device:
        found = _member(device)
        with patch("drypoint.decompression.ISAL_ERRORS", ()):
            other = _member(device)
        if found != other and not (isinstance(found, str) and isinstance(other, str)):
            raise PropertyError("ISA-L and zlib disagree")
        if isinstance(found, bytes) and len(found) < _MOST_OUTPUT and format_of_content(device) is ImageFormat.ZIP:
            with opened_image(path) as opened:
                if opened.device.read(0, opened.device.size) != found:
                    raise PropertyError("the scratch file holds something else")
    if isinstance(found, str):
        raise DiskImageError(found)


def _member(device: FileDevice) -> bytes | str:
    output = bytearray()
    try:
        member = find_image(device)
        for chunk, taken in member_content(device, member):
            if len(chunk) > max(MAX_OUTPUT, device.size) or taken > device.size:
                raise PropertyError(f"a chunk of {len(chunk)} bytes from {taken}")
            output += chunk
            if len(output) > _MOST_OUTPUT:
                return bytes(output[:_MOST_OUTPUT])
    except DiskImageError as error:
        return str(error)
    if len(output) != member.size:
        raise PropertyError(f"{len(output)} bytes instead of {member.size}")
    return bytes(output)


def _archives() -> Iterator[bytes]:
    content = b"some content, some content, " * 20
    for wide in (False, True):
        yield _archive(content, zipfile.ZIP_STORED, wide=wide)
        yield _archive(content, zipfile.ZIP_DEFLATED, wide=wide)
    narrow = _archive(content, zipfile.ZIP_DEFLATED, wide=False)
    end = narrow.index(b"PK\5\6")
    _, _, _, _, size, offset, _ = struct.unpack_from("<HHHHIIH", narrow, end + 4)
    record = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1, 1, size, offset)
    locator = b"PK\6\7" + struct.pack("<IQI", 0, end, 1)
    masked = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, size, 0xFFFFFFFF, 0)
    yield narrow[:end] + record + locator + masked


def _archive(content: bytes, method: int, *, wide: bool) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        info = zipfile.ZipInfo("disk.img")
        info.compress_type = method
        with archive.open(info, "w", force_zip64=wide) as member:
            member.write(content)
    return target.getvalue()


TARGETS = (
    Target(
        "image_stream",
        unpack_any_stream,
        _streams,
        ("drypoint.decompression", "drypoint.disk.formats"),
        (DiskImageError,),
        tokens=(b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"),
    ),
    Target(
        "image_zip",
        unpack_any_zip,
        _archives,
        ("drypoint.decompression", "drypoint.disk.formats"),
        (DiskImageError,),
        tokens=_RECORDS,
    ),
)
