"""PAX extended headers: the records before an entry that override its header.

Format: POSIX.1-2001, pax Interchange Format; GNU tar's sparse records; star's ``SCHILY.xattr.``. Read as Go's archive/tar does.
"""

from __future__ import annotations

import re

from .header import HeaderError

_INTEGER = re.compile(rb"[+-]?[0-9]+")
_INT64 = 1 << 63
_TEXT_KEYS = frozenset((b"path", b"linkpath", b"uname", b"gname"))
_SPARSE_OFFSET = b"GNU.sparse.offset"
_SPARSE_LENGTH = b"GNU.sparse.numbytes"
SPARSE_MAP = b"GNU.sparse.map"
XATTR_PREFIX = b"SCHILY.xattr."


def parse_records(data: bytes) -> dict[bytes, bytes]:
    """The records of one extended header, ``"<length> <key>=<value>\\n"`` each; of equal keys, the last one counts.

    The offset and length pairs of GNU's sparse format 0.0 are joined into a ``GNU.sparse.map``, as in format 0.1.

    Raises:
        HeaderError: a record is malformed.
    """
    records: dict[bytes, bytes] = {}
    sparse: list[bytes] = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position)
        if space < 0:
            raise HeaderError("a PAX record has no length")
        length = parse_integer(data[position:space])
        end = position + length
        if length < 5 or end > len(data) or data[end - 1] != 0x0A:
            raise HeaderError(f"a PAX record's length is {length} bytes, but there is no record of that length")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals or not key or b"\0" in (value if key in _TEXT_KEYS else key):
            raise HeaderError(f"the PAX record {data[space + 1 : end - 1][:100]!r} is malformed")
        position = end
        if key in (_SPARSE_OFFSET, _SPARSE_LENGTH):
            if key != (_SPARSE_LENGTH if len(sparse) % 2 else _SPARSE_OFFSET) or b"," in value:
                raise HeaderError("the PAX records of a sparse file are out of order")
            sparse.append(value)
        else:
            records[key] = value
    if sparse:
        records[SPARSE_MAP] = b",".join(sparse)
    return records


def parse_integer(text: bytes) -> int:
    """A decimal number of 64 bits.

    Raises:
        HeaderError: it is not one.
    """
    if _INTEGER.fullmatch(text) is None or len(text) > 1000:
        raise HeaderError(f"{text[:100]!r} is not a decimal number")
    value = int(text)
    if not -_INT64 <= value < _INT64:
        raise HeaderError(f"{text[:100]!r} does not fit 64 bits")
    return value


def parse_time(text: bytes) -> int:
    """A time in seconds, possibly negative, possibly with a fraction, as nanoseconds since the epoch.

    Raises:
        HeaderError: it is not one.
    """
    whole, _, fraction = text.partition(b".")
    seconds = parse_integer(whole)
    if fraction and not fraction.isdigit():
        raise HeaderError(f"{text[:100]!r} is not a time")
    nanoseconds = int(fraction[:9].ljust(9, b"0"))
    return seconds * 1_000_000_000 + (-nanoseconds if whole.startswith(b"-") else nanoseconds)


def xattrs_of(records: dict[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """The extended attributes among *records*, sorted by name. Go ignores those with an empty value, and so does this."""
    prefix = len(XATTR_PREFIX)
    return tuple(
        sorted((key[prefix:], value) for key, value in records.items() if value and key.startswith(XATTR_PREFIX))
    )
