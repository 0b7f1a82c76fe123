"""Records of a tar entry's extended headers: extended attributes and access lists.

Formats: POSIX.1-2001 pax interchange; star's and GNU tar's ``SCHILY.xattr.`` and ``SCHILY.acl.``, libarchive's
``LIBARCHIVE.xattr.`` (name percent-encoded, value base64), GNU tar's ``RHT.security.selinux``.
"""

from __future__ import annotations

import binascii
import re
import struct
from urllib.parse import unquote_to_bytes

from ..errors import ContentError
from ..layers.header import BLOCK, HeaderError, parse_header
from ..layers.pax import parse_records

_EXTENDED_HEADER, _GLOBAL_HEADER = b"x", b"g"
_SCHILY_XATTR = b"SCHILY.xattr."
_LIBARCHIVE_XATTR = b"LIBARCHIVE.xattr."
_SELINUX = b"RHT.security.selinux"
_ACLS = {
    b"SCHILY.acl.access": b"system.posix_acl_access",
    b"SCHILY.acl.default": b"system.posix_acl_default",
}
_ACL_ENTRY = re.compile(r"(user|group|mask|other):([^:]*):([r-][w-][x-])(?::(\d{1,10}))?")
_ACL_TAGS = {
    ("user", False): 0x01,
    ("user", True): 0x02,
    ("group", False): 0x04,
    ("group", True): 0x08,
    ("mask", False): 0x10,
    ("other", False): 0x20,
}
_NO_ID = 0xFFFFFFFF
_MINIMAL_ACL = 3


def records_of(raw: bytes, *, is_global: bool = False) -> dict[bytes, bytes]:
    """The records of the last extended header in an entry's *raw* bytes (padding and headers), as the tar reader returns them.

    Args:
        is_global: the entry is a global header, whose own padding belongs to the next entry.

    Raises:
        ContentError: they are malformed.
    """
    # Padding is less than a block of zeros; everything else is whole blocks.
    position = len(raw) - len(raw.lstrip(b"\0")) if is_global else len(raw) % BLOCK
    records: dict[bytes, bytes] = {}
    try:
        while position + BLOCK <= len(raw):
            header = parse_header(raw[position : position + BLOCK])
            position += BLOCK
            if header.typeflag in (_EXTENDED_HEADER, _GLOBAL_HEADER):
                records = parse_records(raw[position : position + header.size])
            if position == len(raw):
                break
            position += header.size + -header.size % BLOCK
    except HeaderError as error:
        raise ContentError(str(error)) from error
    return records


def xattrs_of(records: dict[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """The extended attributes in *records*, sorted by name.

    Raises:
        ValueError: one is malformed; the message says why.
    """
    found: dict[bytes, bytes] = {}
    for key, value in records.items():
        if key.startswith(_LIBARCHIVE_XATTR):
            name = unquote_to_bytes(key[len(_LIBARCHIVE_XATTR) :])
            try:
                # libarchive omits the padding.
                found[name] = binascii.a2b_base64(value + b"=" * (-len(value) % 4), strict_mode=True)
            except binascii.Error as error:
                raise ValueError(f"the value of its extended attribute {name[:100]!r} is not base64") from error
        elif key == _SELINUX:
            found[b"security.selinux"] = value + b"\0"
        elif key in _ACLS:
            acl = _acl(value)
            if acl is not None:
                found[_ACLS[key]] = acl
    # After the others: bsdtar writes each attribute twice, this time without encoding.
    for key, value in records.items():
        if key.startswith(_SCHILY_XATTR):
            found[key[len(_SCHILY_XATTR) :]] = value
    return tuple(sorted(found.items()))


def _acl(text: bytes) -> bytes | None:
    """A POSIX access list in its xattr form; None for one that only repeats the mode."""
    entries: list[tuple[int, int, int]] = []
    for part in re.split(r"[,\n]", text.decode("utf-8", "replace")):
        entry = re.sub(r"\s+|#.*", "", part)
        if not entry:
            continue
        match = _ACL_ENTRY.fullmatch(entry)
        tag = None if match is None else _ACL_TAGS.get((match[1], bool(match[2] or match[4])))
        if match is None or tag is None:
            raise ValueError(f"its access list has the entry {entry[:100]!r}, which is not understood")
        number = _NO_ID
        if tag in (_ACL_TAGS["user", True], _ACL_TAGS["group", True]):
            digits = match[4] or match[2]
            if not digits.isdecimal() or int(digits) >= _NO_ID:
                raise ValueError(
                    f"its access list names {digits[:100]!r} without a number: make it with --numeric-owner"
                )
            number = int(digits)
        bits = sum(bit for bit, letter in zip((4, 2, 1), match[3], strict=True) if letter != "-")
        entries.append((tag, bits, number))
    if len(entries) <= _MINIMAL_ACL:
        return None
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in sorted(entries))
