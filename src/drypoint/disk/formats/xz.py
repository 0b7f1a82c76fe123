"""Parallel xz: one stream of independent blocks, which `xz -T0` can also decompress in parallel.

Format: "The .xz File Format" 1.1.0. Each block's header has both sizes; its check is CRC-64, xz's default.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache

import fastcrc
import msgspec

from ...concurrency.pool import ordered_map
from ...concurrency.tasks import current
from .sparse import image_chunks

BLOCK_SIZE = 24 << 20
"""Bytes of a block before compression: three times the largest dictionary of the usual levels, as in xz."""
_PIECE_SIZE = 1 << 20
_MOST_WORKERS = 8
"""Each takes up to 160 MiB of memory, which a build machine may not have for more."""
_FLAGS = b"\x00\x04"
_LZMA2 = 0x21
_SIZES_PRESENT = 0xC0
_DICTIONARY_BITS = {0: 18, 1: 20, 2: 21, 3: 22, 4: 22, 5: 23, 6: 23, 7: 24, 8: 25, 9: 26}


class _Block(msgspec.Struct, frozen=True):
    content: bytes | None
    length: int
    level: int


def xz_stream(source_fd: int, size: int, level: int, workers: int) -> Iterator[tuple[bytes, int]]:
    """A sparse file's first *size* bytes as an xz stream: pieces, each with the number of the file's bytes in it.

    Raises:
        DiskImageError: the file cannot be read, or is shorter.
    """
    yield b"\xfd7zXZ\0" + _FLAGS + _crc32(_FLAGS), 0
    # The index stays small: a TiB has 45,000 blocks.
    index: list[tuple[int, int]] = []
    blocks = (_Block(content, length, level) for content, length in image_chunks(source_fd, size, BLOCK_SIZE))
    workers = min(workers, _MOST_WORKERS)
    for block, unpadded_size, length in ordered_map(_compress, blocks, workers, "compress", ahead=2 * workers):
        index.append((unpadded_size, length))
        yield block, length
    records = b"".join(_number(unpadded_size) + _number(length) for unpadded_size, length in index)
    listed = _padded(b"\0" + _number(len(index)) + records)
    listed += _crc32(listed)
    tail = struct.pack("<I", len(listed) // 4 - 1) + _FLAGS
    yield listed + _crc32(tail) + tail + b"YZ", 0


def _compress(block: _Block) -> tuple[bytes, int, int]:
    if block.content is None:
        return *_zero_block(block.length, block.level), block.length
    return *_packed(block.content, block.level), block.length


@lru_cache(maxsize=4)
def _zero_block(length: int, level: int) -> tuple[bytes, int]:
    """A block of zeros, cached: most of a disk image is holes."""
    return _packed(bytes(length), level)


def _packed(content: bytes, level: int) -> tuple[bytes, int]:
    """A block, and its size without the padding."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": level}]
    compressor = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=filters)
    pieces = []
    for start in range(0, len(content), _PIECE_SIZE):
        # A block takes seconds: check for the end of the job in between.
        current().check()
        pieces.append(compressor.compress(content[start : start + _PIECE_SIZE]))
    data = b"".join((*pieces, compressor.flush()))
    # The dictionary's size in the format's encoding: two values for each power of two.
    dictionary = 2 * (_DICTIONARY_BITS[level] - 12)
    fields = bytes([_SIZES_PRESENT]) + _number(len(data)) + _number(len(content)) + bytes([_LZMA2, 1, dictionary])
    header = _padded(b"\0" + fields)
    header = bytes([len(header) // 4]) + header[1:]
    header += _crc32(header)
    check = struct.pack("<Q", fastcrc.crc64.xz(content))
    return header + _padded(data) + check, len(header) + len(data) + len(check)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _crc32(data: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(data))


def _number(value: int) -> bytes:
    """A multibyte integer: seven bits a byte, lowest first."""
    coded = bytearray()
    while value > 0x7F:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    coded.append(value)
    return bytes(coded)
