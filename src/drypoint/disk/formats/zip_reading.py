"""Reading the one disk image in a zip archive.

Format: PKWARE's APPNOTE.TXT 6.3.10. The central directory is checked: the member's own header must agree with it, and its
sizes and CRC with the content.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import msgspec

from ...decompression import members
from ...errors import DiskImageError
from ...text import printable
from ..device import Device

_CHUNK = 128 << 10
_END = struct.Struct("<4sHHHHIIH")
_END64_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_LONGEST_COMMENT = 0xFFFF
_MOST_DIRECTORY = 4 << 20
"""The most bytes of a central directory. An archive with one disk image needs a few hundred."""
_MASK32 = 0xFFFFFFFF
_ENCRYPTED = 1 << 0
_UTF8 = 1 << 11
_ZIP64_EXTRA = 1
_STORED, _DEFLATED = 0, 8
_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz"}
_SHOWN = 120
_IMAGE_SUFFIXES = (".img", ".raw", ".bin", ".wic")


class ZipMember(msgspec.Struct, frozen=True):
    """One file in an archive, as the central directory has it. Sizes and the offset of its own header are bytes."""

    name: str
    method: int
    flags: int
    crc: int
    compressed_size: int
    size: int
    offset: int


def find_image(archive: Device) -> ZipMember:
    """The disk image in *archive*: its only file, or the only file whose name is that of a disk image.

    Directories do not count, nor do the files that macOS adds in any directory: ``__MACOSX/`` and ``._NAME``.

    Raises:
        DiskImageError: the archive is damaged, has several parts, no disk image or more than one, or that one is encrypted or
            compressed in an unsupported way.
    """
    files = [one for one in _members(archive) if not one.name.endswith("/") and not _is_from_macos(one.name)]
    images = [one for one in files if one.name.lower().endswith(_IMAGE_SUFFIXES)]
    if len(files) != 1 and len(images) != 1:
        if not files:
            raise DiskImageError(
                f"{archive.name}: the zip archive holds no disk image; use the one that it was made for"
            )
        found = ", ".join(one.name for one in (images or files)[:3])
        raise DiskImageError(
            f"{archive.name}: one disk image is expected in a zip archive, but there are {len(images or files)} files"
            f"{f' ({found}, ...)' if found else ''}; unpack the right one and use that"
        )
    member = files[0] if len(files) == 1 else images[0]
    if member.flags & _ENCRYPTED:
        raise DiskImageError(f"{archive.name}: {member.name} is encrypted; unpack it first")
    if member.method not in (_STORED, _DEFLATED):
        method = _METHODS.get(member.method, f"method {member.method}")
        raise DiskImageError(
            f"{archive.name}: {member.name} is compressed with {method}, but only Deflate is supported; unpack it first"
        )
    return member


def _is_from_macos(name: str) -> bool:
    *directories, last = name.replace("\\", "/").split("/")
    return "__MACOSX" in directories or last.startswith("._") or last == ".DS_Store"


def member_content(archive: Device, member: ZipMember) -> Iterator[tuple[bytes, int]]:
    """The bytes of *member*, each piece with the number of compressed bytes read so far.

    Raises:
        DiskImageError: their size or CRC is not that of the archive's directory.
    """
    what = f"{archive.name}: {member.name}"
    start = _content_offset(archive, member, what)
    taken = 0

    def compressed() -> Iterator[bytes]:
        nonlocal taken
        while taken < member.compressed_size:
            piece = archive.read(start + taken, min(_CHUNK, member.compressed_size - taken))
            taken += len(piece)
            yield piece

    stream = compressed()
    size = crc = 0
    for content in stream if member.method == _STORED else members(stream, "deflate", what, DiskImageError):
        size += len(content)
        if size > member.size:
            break
        crc = zlib.crc32(content, crc)
        yield content, taken
    if size != member.size:
        more = "more than" if size > member.size else f"{size} instead of"
        raise DiskImageError(f"{what} is damaged: it holds {more} the {member.size} bytes that the archive says")
    if crc != member.crc:
        raise DiskImageError(f"{what} is damaged: its CRC-32 is {crc:08x}, but the archive says {member.crc:08x}")


def _content_offset(archive: Device, member: ZipMember, what: str) -> int:
    """The offset of the content, after the member's own header, which must agree with the directory's."""
    header = _read(archive, member.offset, _LOCAL.size, what)
    magic, _, flags, method, _, _, _, _, _, name_length, extra_length = _LOCAL.unpack(header)
    name = _read(archive, member.offset + _LOCAL.size, name_length, what)
    if magic != b"PK\3\4" or method != member.method or flags & _ENCRYPTED or _text(name, flags) != member.name:
        raise DiskImageError(f"{what} is damaged: its header does not agree with the archive's directory")
    start: int = member.offset + _LOCAL.size + name_length + extra_length
    if start + member.compressed_size > archive.size:
        raise DiskImageError(f"{what} is damaged: it goes beyond the end of the archive")
    return start


def _members(archive: Device) -> Iterator[ZipMember]:
    offset, size, count = _directory(archive)
    what = archive.name
    if size > _MOST_DIRECTORY:
        raise DiskImageError(f"{what} has a directory of {size} bytes; an archive with one disk image is expected")
    content = _read(archive, offset, size, what)
    position = 0
    for _ in range(count):
        if position + _CENTRAL.size > size:
            raise DiskImageError(f"{what}: the archive's directory is damaged: it ends before its {count} entries do")
        fields = _CENTRAL.unpack_from(content, position)
        magic, _, _, flags, method, _, _, crc, packed, unpacked, name_size, extra_size, comment_size = fields[:13]
        name_at = position + _CENTRAL.size
        extra_at = name_at + name_size
        position = extra_at + extra_size + comment_size
        if magic != b"PK\1\2" or position > size:
            raise DiskImageError(f"{what}: the archive's directory is damaged at byte {offset + name_at}")
        wide = _wide(content[extra_at : extra_at + extra_size])
        sizes = []
        for value in (unpacked, packed, fields[16]):
            # The 64-bit values follow in this order, each only if it does not fit its 32-bit field.
            sizes.append(next(wide, _MASK32) if value == _MASK32 else value)
        yield ZipMember(_text(content[name_at:extra_at], flags), method, flags, crc, sizes[1], sizes[0], sizes[2])


def _directory(archive: Device) -> tuple[int, int, int]:
    """Offset and size in bytes of the central directory, and the number of its entries."""
    what = archive.name
    tail_size = min(archive.size, _END.size + _LONGEST_COMMENT)
    tail = archive.read(archive.size - tail_size, tail_size)
    at = tail.rfind(b"PK\5\6")
    while at >= 0 and (at + _END.size > tail_size or at + _END.size + _comment_size(tail, at) != tail_size):
        at = tail.rfind(b"PK\5\6", 0, at)
    if at < 0:
        raise DiskImageError(
            f"{what} is not a whole zip archive: its directory is missing; was its download cut short?"
        )
    _, disk, first_disk, _, count, size, offset, _ = _END.unpack_from(tail, at)
    locator = at - _END64_LOCATOR.size
    if locator >= 0 and tail.startswith(b"PK\6\7", locator):
        _, _, end64, _ = _END64_LOCATOR.unpack_from(tail, locator)
        record = _END64.unpack(_read(archive, end64, _END64.size, what))
        if record[0] != b"PK\6\6":
            raise DiskImageError(f"{what}: the archive's 64-bit directory record is damaged")
        disk, first_disk, count, size, offset = record[4], record[5], record[7], record[8], record[9]
    if disk or first_disk:
        raise DiskImageError(f"{what} is one part of a split zip archive; join the parts first")
    return offset, size, count


def _comment_size(tail: bytes, at: int) -> int:
    return int.from_bytes(tail[at + 20 : at + 22], "little")


def _wide(extra: bytes) -> Iterator[int]:
    """The 64-bit values among a member's extra fields."""
    position = 0
    while position + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, position)
        if kind == _ZIP64_EXTRA:
            field = extra[position + 4 : position + 4 + size]
            for start in range(0, len(field) - 7, 8):
                yield int.from_bytes(field[start : start + 8], "little")
            return
        position += 4 + size


def _text(name: bytes, flags: int) -> str:
    text = printable(name.decode("utf-8" if flags & _UTF8 else "cp437", "backslashreplace"))
    return text if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]}…{text[-_SHOWN:]}"


def _read(archive: Device, offset: int, length: int, what: str) -> bytes:
    if offset + length > archive.size:
        raise DiskImageError(f"{what} is damaged: it refers to bytes beyond the end of the archive")
    return archive.read(offset, length)
