"""The uncompressed length of a blob by its own length fields.

Formats: RFC 1952, section 2.3.1 (gzip's ISIZE: the last four bytes, modulo 4 GiB, of the last member only); RFC 8878, section
3.1.1.1 (zstd's Frame_Content_Size: optional, of the first frame only).

They may be missing or wrong: in a blob of several members or frames they are the length of one of them. Values that are
impossible for the whole blob are not returned.
"""

from __future__ import annotations

from collections.abc import Callable

GZIP_TAIL_BYTES = 4
ZSTD_HEAD_BYTES = 18
"""The longest frame header, with its magic number."""
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_GZIP_MAGIC = b"\x1f\x8b"
_MODULUS = 1 << 32
_HIGHEST_RATIO = 1030
"""Deflate has at most 258 bytes for each two bits, and some for its blocks. zstd has no bound, but no layer exceeds this."""
_USUAL_RATIO = 8
"""Of whole layers. More, together with a length beyond 4 GiB, indicates a blob of several members."""


def blob_hint(compressed: int, read: Callable[[int, int], bytes]) -> int | None:
    """The length by the fields of a blob of *compressed* bytes, or None; *read* takes an offset and a size."""
    head = read(0, min(ZSTD_HEAD_BYTES, compressed))
    if head.startswith(_GZIP_MAGIC):
        return gzip_hint(read(max(0, compressed - GZIP_TAIL_BYTES), GZIP_TAIL_BYTES), compressed)
    return zstd_hint(head, compressed)


def gzip_hint(tail: bytes, compressed: int) -> int | None:
    """The length by the last four bytes of a blob of *compressed* bytes; None if it is not plausible."""
    if len(tail) != GZIP_TAIL_BYTES:
        return None
    length = int.from_bytes(tail, "little")
    least = _least(compressed)
    if length >= least:
        return length if length <= compressed * _HIGHEST_RATIO else None
    # Either multiples of 4 GiB are missing, or there are other members.
    length += -(-(least - length) // _MODULUS) * _MODULUS
    return length if length <= compressed * _USUAL_RATIO else None


def zstd_hint(head: bytes, compressed: int) -> int | None:
    """The length by the frame header at the start of a blob of *compressed* bytes; None if it is not plausible."""
    if len(head) < ZSTD_HEAD_BYTES or not head.startswith(_ZSTD_MAGIC):
        return None
    descriptor = head[4]
    single_segment = bool(descriptor & 0x20)
    field_bytes = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
    if not field_bytes:
        return None
    start = 5 + (not single_segment) + (0, 1, 2, 4)[descriptor & 3]
    length = int.from_bytes(head[start : start + field_bytes], "little") + (256 if field_bytes == 2 else 0)
    return length if _least(compressed) <= length <= compressed * _HIGHEST_RATIO else None


def _least(compressed: int) -> int:
    """The shortest content of so many compressed bytes: incompressible content only grows by headers."""
    return compressed - compressed // 1000 - 64
