"""GNU's sparse files: maps of where an entry's data goes, in four historical formats.

Format: GNU tar manual, "Storing Sparse Files"; checked and read as Go's archive/tar does.
"""

from __future__ import annotations

from collections.abc import Callable

from .header import BLOCK, HeaderError, parse_number
from .pax import SPARSE_MAP, parse_integer

MAX_MAP_BYTES = 1 << 20
"""Longest map accepted: 1 MiB, as Go's archive/tar limits all that describes an entry."""

Fragments = tuple[tuple[int, int], ...]
"""The ranges of data: pairs of offset and length in bytes, in order, not overlapping."""


def is_sparse_1_0(records: dict[bytes, bytes]) -> bool | None:
    """Whether PAX *records* announce a sparse file of format 1.0 (True) or 0.0 and 0.1 (False); None: not a sparse file."""
    version = (records.get(b"GNU.sparse.major", b""), records.get(b"GNU.sparse.minor", b""))
    if version in ((b"0", b"0"), (b"0", b"1")):
        return False
    if version == (b"1", b"0"):
        return True
    if version == (b"", b"") and records.get(SPARSE_MAP):
        return False
    return None


def map_of_records(records: dict[bytes, bytes]) -> Fragments:
    """The map of format 0.1, which PAX records hold.

    Raises:
        HeaderError: malformed.
    """
    count = parse_integer(records.get(b"GNU.sparse.numblocks", b""))
    text = records.get(SPARSE_MAP, b"")
    numbers = text.split(b",") if text else []
    if count < 0 or len(numbers) != 2 * count:
        raise HeaderError(f"a sparse file's map has {len(numbers)} numbers for {count} fragments")
    return _pairs([parse_integer(part) for part in numbers])


def map_of_content(read_block: Callable[[], bytes]) -> Fragments:
    """The map of format 1.0, which precedes the content: decimal numbers, one a line, in whole blocks.

    Args:
        read_block: returns the next 512 bytes of the content.

    Raises:
        HeaderError: malformed, or too long.
    """
    lines: list[bytes] = []
    rest = b""
    read = 0

    def need(count: int) -> None:
        nonlocal rest, read
        while len(lines) < count:
            if read >= MAX_MAP_BYTES:
                raise HeaderError(f"a sparse file's map has more than {MAX_MAP_BYTES} bytes")
            *whole, rest = (rest + read_block()).split(b"\n")
            read += BLOCK
            lines.extend(whole)

    need(1)
    count = parse_integer(lines[0])
    if count < 0:
        raise HeaderError(f"a sparse file's map has {count} fragments")
    need(1 + 2 * count)
    return _pairs([parse_integer(line) for line in lines[1 : 1 + 2 * count]])


def map_of_header(block: bytes, read_block: Callable[[], bytes]) -> Fragments:
    """The map of the old GNU format, which begins in the header *block* and continues in blocks after it.

    Raises:
        HeaderError: malformed, or too long.
    """
    numbers: list[int] = []
    table, read = block[386:483], 0
    while True:
        for start in range(0, len(table) - 1, 24):
            if not table[start]:
                break
            numbers.append(parse_number(table[start : start + 12]))
            numbers.append(parse_number(table[start + 12 : start + 24]))
        if not table[-1]:
            return _pairs(numbers)
        read += BLOCK
        if read > MAX_MAP_BYTES:
            raise HeaderError(f"a sparse file's map has more than {MAX_MAP_BYTES} bytes")
        table = read_block()[:505]


def check_fragments(fragments: Fragments, size: int) -> Fragments:
    """*fragments* without the empty ones.

    Raises:
        HeaderError: they overlap, are out of order, or are outside a file of *size* bytes.
    """
    if size < 0:
        raise HeaderError(f"a sparse file has a size of {size} bytes")
    end = 0
    for offset, length in fragments:
        if offset < end or length < 0 or offset + length > size:
            raise HeaderError(
                f"a sparse file's fragment of {length} bytes at {offset} does not fit in its {size} bytes"
            )
        end = offset + length
    return tuple(fragment for fragment in fragments if fragment[1])


def _pairs(numbers: list[int]) -> Fragments:
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))
