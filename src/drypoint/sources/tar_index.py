"""The index of a tar file: the offsets of its members, from one pass over the headers.

Everything in it is hostile: counts and header sizes are bounded.

Format: POSIX ustar and pax, and GNU's long names and base-256 numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import msgspec

from ..errors import ContentError

BLOCK = 512
Read: TypeAlias = Callable[[int, int, str], bytes]
_MAX_MEMBERS = 100_000
_MAX_HEADER_BYTES = 1 << 20
"""Of an extended header or long name; far more than any path has."""
_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
}


class Content(msgspec.Struct, frozen=True):
    offset: int
    size: int


class Link(msgspec.Struct, frozen=True):
    """A symbolic or hard link, its target already a clean name in the archive."""

    target: str


def read_index(path: Path, end: int, read: Read) -> dict[str, Content | Link]:
    """The members of a tar of *end* bytes, by clean name. A later one of the same name replaces the earlier one.

    Args:
        path: for messages.
        read: returns *size* bytes at an offset; the third argument is their name in messages.

    Raises:
        ContentError: it is not a tar archive, or is compressed, damaged or truncated, or has too many members.
        SourceError: it cannot be read.
    """
    members: dict[str, Content | Link] = {}
    position = 0
    long: dict[str, str] = {}
    count = 0
    while position + BLOCK <= end:
        header = read(position, BLOCK, "a header")
        if not any(header):
            break
        if not _checksum_fits(header):
            raise ContentError(_not_a_tar(path, position, header))
        count += 1
        if count > _MAX_MEMBERS:
            raise ContentError(f"{path} has more than {_MAX_MEMBERS} members")
        size = int(long.get("size", "") or _number(header[124:136], path))
        typeflag = header[156:157]
        body = position + BLOCK
        if typeflag in b"123456":
            size = 0
        position = body + -(-size // BLOCK) * BLOCK
        if body + size > end:
            raise ContentError(f"{path} is truncated: a member at byte {body} has {size} bytes, the file ends at {end}")
        match typeflag:
            case b"x":
                long.update(_pax_records(_header_body(path, read, body, size), path))
            case b"g":
                # Global records name no member, and none of them changes the place of content.
                pass
            case b"L":
                long["path"] = _text(_header_body(path, read, body, size).rstrip(b"\0"))
            case b"K":
                long["linkpath"] = _text(_header_body(path, read, body, size).rstrip(b"\0"))
            case b"S":
                raise ContentError(f"{path} holds sparse members; pack it again without tar's --sparse")
            case _:
                _remember(members, header, typeflag, long, Content(body, size))
                long = {}
    if count == 0:
        raise ContentError(f"{path} is not a tar archive: it is empty")
    return members


def _remember(
    members: dict[str, Content | Link], header: bytes, typeflag: bytes, long: dict[str, str], content: Content
) -> None:
    raw = header[:100].rstrip(b"\0")
    if header[257:263] == b"ustar\0" and header[345] != 0:
        raw = header[345:500].rstrip(b"\0") + b"/" + raw
    name = _clean(long.get("path", _text(raw)))
    if not name:
        return
    target = long.get("linkpath", _text(header[157:257].rstrip(b"\0")))
    match typeflag:
        case b"0" | b"\0" | b"7":
            members[name] = content
        case b"1":
            members[name] = Link(_clean(target))
        case b"2":
            base = "" if target.startswith("/") else name.rpartition("/")[0]
            members[name] = Link(_clean(f"{base}/{target}" if base else target))
        case _:
            members.pop(name, None)


def _header_body(path: Path, read: Read, offset: int, size: int) -> bytes:
    if size > _MAX_HEADER_BYTES:
        raise ContentError(f"{path}: an extended header has {size} bytes, more than the {_MAX_HEADER_BYTES} allowed")
    return read(offset, size, "an extended header") if size else b""


def _not_a_tar(path: Path, position: int, header: bytes) -> str:
    for magic, (kind, tool) in _COMPRESSED.items():
        if position == 0 and header.startswith(magic):
            return (
                f"{path} is compressed with {kind}, but has to be read in any order: "
                f"unpack it first, with '{tool} {path}'"
            )
    return f"{path} is not a tar archive, or a damaged one: no header at byte {position}"


def _clean(name: str) -> str:
    """*name* relative to the archive's root. ``..`` at the root is the root, which docker load uses as ``/``."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _checksum_fits(header: bytes) -> bool:
    try:
        stored = int(header[148:156].strip(b"\0 ") or b"0", 8)
    except ValueError:
        return False
    return stored == sum(header) - sum(header[148:156]) + 8 * 32


def _number(field: bytes, path: Path) -> int:
    """A size: octal text, or GNU's base 256 if the first bit is set."""
    if field[0] & 0x80:
        number = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    else:
        try:
            number = int(field.strip(b"\0 ") or b"0", 8)
        except ValueError:
            number = -1
    if not 0 <= number < 1 << 62:
        raise ContentError(f"{path}: a header's size field is {field!r}, which is not a size")
    return number


def _pax_records(body: bytes, path: Path) -> dict[str, str]:
    """The records for a member's size and names; others are ignored."""
    found: dict[str, str] = {}
    while body:
        digits, _, _ = body[:20].partition(b" ")
        if not digits.isdigit() or not len(digits) + 3 <= int(digits) <= len(body):
            raise ContentError(f"{path}: a malformed extended header")
        record, body = body[len(digits) + 1 : int(digits)], body[int(digits) :]
        key, equals, value = record[:-1].partition(b"=")
        if not equals or record[-1:] != b"\n":
            raise ContentError(f"{path}: a malformed extended header")
        if key in (b"path", b"linkpath"):
            found[key.decode()] = _text(value)
        elif key == b"size":
            if not value.isdigit() or len(value) > 18:
                raise ContentError(f"{path}: an extended header's size is {value[:40]!r}, which is not a size")
            found["size"] = value.decode()
    return found
