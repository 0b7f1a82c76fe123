"""Parsing of one 512-byte tar header block.

Formats: V7, ustar (POSIX.1-1988), GNU and STAR headers, distinguished, checked and read as Go's archive/tar does, since that
is the engine's reader: what it accepts is accepted here, and what it refuses is refused.
"""

from __future__ import annotations

import re
import struct
import zlib
from functools import lru_cache
from typing import NamedTuple

import msgspec

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)

_TIME = re.compile(rb"([0-7]{11})[ \0]")
"""mtime as nearly every writer encodes it."""
_WIDTH = 8
"""Bytes of the fields for mode, uid and gid."""
_FIELDS = struct.Struct("100s24s11sc12s6s2s356s")
"""A block's name; mode, uid and gid; the size's digits and what ends them; mtime; the same two of the checksum; all the rest,
which from the typeflag on is much the same for all files of a layer."""
_SUMMED = 148
"""Bytes before the checksum."""
_ENDS_OF_SIZE = frozenset((b" ", b"\0"))
_ENDS_OF_CHECKSUM = frozenset((b"\0 ", b"  ", b"\0\0", b" \0"))
_OCTAL = re.compile(rb"[0-7]+")
_USTAR = b"ustar\x0000"
_GNU = b"ustar  \0"
_NO_DEVICE = frozenset((bytes(16), b"0000000\0" * 2, b"000000 \0" * 2))
_INT64 = 1 << 63


class HeaderError(ValueError):
    """The block is not a tar header. The message has no location: the reader adds it."""


class Header(msgspec.Struct, frozen=True, gc=False):
    """The fields used, as in the block; ``mtime`` in seconds."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    typeflag: bytes
    linkname: bytes
    major: int
    minor: int
    is_gnu: bool


def parse_header(block: bytes) -> Header:
    """Read one header *block*.

    Raises:
        HeaderError: a wrong checksum, or a field that is not a number.
    """
    padded_name, three, size_digits, size_end, time, check_digits, check_end, end = _FIELDS.unpack(block)
    rest, permissions, mtime = _rest(end), mode_and_owner(three), _time(time)
    if (
        rest is None
        or permissions is None
        or mtime is None
        or not size_digits.isdigit()
        or size_end not in _ENDS_OF_SIZE
        or not check_digits.isdigit()
        or check_end not in _ENDS_OF_CHECKSUM
        or not padded_name.isascii()
    ):
        return _parse_any(block)
    try:
        size, expected = int(size_digits, 8), int(check_digits, 8)
    except ValueError:
        return _parse_any(block)
    typeflag, linkname, major, minor, is_gnu, prefix, sum_of_rest = rest
    if _sum(block[:_SUMMED]) + 8 * 0x20 + sum_of_rest != expected:
        return _parse_any(block)
    name = padded_name[: padded_name.find(0)] if not padded_name[99] else _text(padded_name)
    if prefix:
        name = prefix + b"/" + name
    mode, uid, gid = permissions
    return Header(name, mode, uid, gid, size, mtime, typeflag, linkname, major, minor, is_gnu)


def _sum(text: bytes) -> int:
    """The sum of ASCII characters, few enough that it is Adler-32's first half, which is a sum modulo 65521."""
    return (zlib.adler32(text) & 0xFFFF) - 1


class _Rest(NamedTuple):
    """The fields of a header from its typeflag on, and the sum of those bytes."""

    typeflag: bytes
    linkname: bytes
    major: int
    minor: int
    is_gnu: bool
    prefix: bytes
    sum: int


@lru_cache(maxsize=1024)
def _rest(block: bytes) -> _Rest | None:
    """The part of a header that nearly all files of a layer share, cached; None if it is uncommon."""
    magic = block[101:109]
    is_gnu = magic == _GNU
    if not block.isascii() or (not is_gnu and (magic != _USTAR or block[352:] == b"tar\0")):
        return None
    if is_gnu and (block[189] or block[201]):
        return None
    major = minor = 0
    if block[173:189] not in _NO_DEVICE:
        try:
            major, minor = parse_number(block[173:181]), parse_number(block[181:189])
        except HeaderError:
            return None
    linkname = _text(block[1:101]) if block[1] else b""
    prefix = _text(block[189:344]) if block[189] and not is_gnu else b""
    return _Rest(block[:1], linkname, major, minor, is_gnu, prefix, _sum(block))


@lru_cache(maxsize=1024)
def mode_and_owner(field: bytes) -> tuple[int, int, int] | None:
    """Mode, uid and gid, cached: a layer has few combinations; None if one of them is malformed."""
    try:
        return parse_number(field[:_WIDTH]), parse_number(field[_WIDTH:-_WIDTH]), parse_number(field[-_WIDTH:])
    except HeaderError:
        return None


@lru_cache(maxsize=1024)
def _time(field: bytes) -> int | None:
    """A time, cached: it is mostly that of the entry before; None if it is written in an uncommon way."""
    match = _TIME.fullmatch(field)
    return None if match is None else int(match[1], 8)


def _parse_any(block: bytes) -> Header:
    """:func:`parse_header` without shortcuts: any format, any encoding of numbers."""
    _check_sum(block)
    magic = block[257:263]
    is_ustar = magic == b"ustar\0"
    is_star = is_ustar and block[508:] == b"tar\0"
    is_gnu = block[257:265] == _GNU
    name = _text(block[:100])
    major = minor = 0
    # The numbers of every field are read, used or not: Go refuses a header with a malformed one.
    size = parse_number(block[124:136])
    mode = parse_number(block[100:108])
    uid, gid = parse_number(block[108:116]), parse_number(block[116:124])
    mtime = parse_number(block[136:148])
    prefix = b""
    if is_ustar or is_gnu:
        major, minor = parse_number(block[329:337]), parse_number(block[337:345])
        if is_star:
            prefix = _text(block[345:476])
            parse_number(block[476:488])
            parse_number(block[488:500])
        elif is_ustar:
            prefix = _text(block[345:500])
        else:
            prefix = _prefix_of_gnu(block)
    if prefix:
        name = prefix + b"/" + name
    return Header(name, mode, uid, gid, size, mtime, block[156:157], _text(block[157:257]), major, minor, is_gnu)


def _check_sum(block: bytes) -> None:
    field = block[148:156]
    expected = _octal(field)
    unsigned = sum(block) - sum(field) + 8 * 0x20
    if expected == unsigned:
        return
    counted = block[:148] + block[156:]
    signed = unsigned - 256 * sum(byte >= 0x80 for byte in counted)
    if expected != signed:
        raise HeaderError(f"the header's checksum is {expected}, but its bytes sum to {unsigned}")


def _prefix_of_gnu(block: bytes) -> bytes:
    """The prefix that Go before 1.8 wrote in GNU headers, in the place of their times; empty if there are times."""
    try:
        for field in (block[345:357], block[357:369]):
            if field[0]:
                parse_number(field)
    except HeaderError:
        prefix = _text(block[345:500])
        return prefix if prefix.isascii() else b""
    return b""


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def parse_number(field: bytes) -> int:
    """A number in base 256 (first bit set, two's complement) or octal; no digits at all are 0.

    Raises:
        HeaderError: it is neither, or over 64 bits.
    """
    if not field[0] & 0x80:
        return _octal(field)
    negative = bool(field[0] & 0x40)
    value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    if negative:
        value = value - (1 << (8 * len(field) - 1))
    if not -_INT64 <= value < _INT64:
        raise HeaderError("a number in the header does not fit 64 bits")
    return value


def _octal(field: bytes) -> int:
    digits = _text(field.strip(b" \0"))
    if not digits:
        return 0
    if _OCTAL.fullmatch(digits) is None:
        raise HeaderError(f"{digits!r} in the header is not an octal number")
    return int(digits, 8)
