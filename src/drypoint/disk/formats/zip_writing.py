"""Writing a zip archive of one file as a stream: sizes and CRC follow the content, in a data descriptor.

Format: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3. "Made by" is Unix, so that the member has a mode.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

from .deflate import Deflated

_LIMIT = 0xFFFFFFFF
MOST_NARROW_BYTES = _LIMIT - (8 << 20)
"""The most bytes of content with 32-bit sizes: incompressible content grows by Deflate, by a thousandth at most."""
_DESCRIPTOR_FOLLOWS, _UTF8 = 1 << 3, 1 << 11
_DEFLATE = 8
_UNIX = 3 << 8
_REGULAR_0644 = 0o100644 << 16
_DOS_EPOCH, _DOS_END = 315532800, 4354819198  # 1980-01-01 and 2107-12-31 23:59:58, UTC


def zip_archive(content: Deflated, name: str, timestamp: int) -> Iterator[tuple[bytes, int]]:
    """An archive with *content* under *name*: pieces, each with the number of the content's bytes in it.

    Its records have 64-bit sizes only if the content needs them, because some old programs do not read them.

    Raises:
        DiskImageError: the content cannot be read.
    """
    encoded = name.encode("utf-8", "surrogateescape")
    wide = content.size > MOST_NARROW_BYTES
    version = 45 if wide else 20
    flags = _DESCRIPTOR_FOLLOWS | (0 if name.isascii() else _UTF8)
    common = struct.pack("<HHHHH", version, flags, _DEFLATE, *_dos_time(timestamp))
    extra = struct.pack("<HHQQ", 1, 16, 0, 0) if wide else b""
    unknown = (0, _LIMIT, _LIMIT) if wide else (0, 0, 0)
    local = b"PK\3\4" + common + struct.pack("<IIIHH", *unknown, len(encoded), len(extra)) + encoded + extra
    yield local, 0
    yield from content
    sizes = (content.compressed_size, content.size)
    descriptor = b"PK\7\10" + struct.pack("<IQQ" if wide else "<III", content.crc, *sizes)
    yield descriptor, 0
    start = len(local) + content.compressed_size + len(descriptor)
    yield _directory(content, encoded, version, common, start, wide=wide), 0


def _directory(content: Deflated, name: bytes, version: int, common: bytes, start: int, *, wide: bool) -> bytes:
    sizes = (content.compressed_size, content.size)
    extra = struct.pack("<HHQQ", 1, 16, content.size, content.compressed_size) if wide else b""
    shown = (_LIMIT, _LIMIT) if wide else sizes
    entry = b"PK\1\2" + struct.pack("<H", _UNIX | version) + common + struct.pack("<III", content.crc, *shown)
    entry += struct.pack("<HHHHHII", len(name), len(extra), 0, 0, 0, _REGULAR_0644, 0) + name + extra
    end = b""
    if wide:
        end64 = struct.pack("<QHHIIQQQQ", 44, _UNIX | version, version, 0, 0, 1, 1, len(entry), start)
        end = b"PK\6\6" + end64 + b"PK\6\7" + struct.pack("<IQI", 0, start + len(entry), 1)
    shown_start = _LIMIT if wide else start
    return entry + end + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), shown_start, 0)


def _dos_time(timestamp: int) -> tuple[int, int]:
    """Time and date in DOS format, in steps of two seconds; the format has no time zone, so UTC."""
    moment = time.gmtime(min(max(timestamp, _DOS_EPOCH), _DOS_END))
    return (
        moment.tm_hour << 11 | moment.tm_min << 5 | moment.tm_sec // 2,
        (moment.tm_year - 1980) << 9 | moment.tm_mon << 5 | moment.tm_mday,
    )
