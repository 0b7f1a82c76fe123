"""Parallel deflate, for gzip and zip: one stream whose pieces are compressed at the same time.

Each piece is compressed with the 32 KiB before it as its dictionary and ends on a byte boundary (an empty stored block, as
zlib's sync flush makes it), so that the pieces one after another are one valid stream. Its bytes depend on the content
alone, not on the number of cores.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from ...concurrency.pool import ordered_map
from .sparse import image_chunks

PIECE_SIZE = 1 << 20
"""Bytes of a piece: large enough that its flush costs little, small enough to keep many cores busy."""
_WINDOW = 32 << 10
_ZEROS = bytes(_WINDOW)
_RAW = -15
_MEMORY_LEVEL = 9


class _Piece(msgspec.Struct, frozen=True):
    """A piece of the content (None for zeros), with its length, the bytes before it, and whether it is the last."""

    content: bytes | None
    length: int
    dictionary: bytes
    last: bool
    level: int


class Deflated(msgspec.Struct):
    """A sparse file's first *size* bytes as a deflate stream. *crc* and *compressed_size* are valid at its end."""

    source_fd: int
    size: int
    level: int
    workers: int
    crc: int = 0
    compressed_size: int = 0

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        """Pieces of the stream, each with the number of the file's bytes in it.

        Raises:
            DiskImageError: the file cannot be read, or is shorter.
        """
        pieces = ordered_map(_compress, self._pieces(), self.workers, "compress", ahead=2 * self.workers)
        for compressed, content, length in pieces:
            self.crc = zlib.crc32(_zeros(length) if content is None else content, self.crc)
            self.compressed_size += len(compressed)
            yield compressed, length

    def _pieces(self) -> Iterator[_Piece]:
        dictionary = b""
        position = 0
        for content, length in image_chunks(self.source_fd, self.size, PIECE_SIZE):
            position += length
            yield _Piece(content, length, dictionary, position == self.size, self.level)
            dictionary = _ZEROS if content is None else content[-_WINDOW:]
        if not self.size:
            yield _Piece(b"", 0, b"", last=True, level=self.level)


def _compress(piece: _Piece) -> tuple[bytes, bytes | None, int]:
    if piece.content is None and piece.dictionary in (b"", _ZEROS):
        return _deflated_zeros(piece.length, piece.dictionary, piece.last, piece.level), None, piece.length
    content = _zeros(piece.length) if piece.content is None else piece.content
    return _deflated(content, piece.dictionary, piece.last, piece.level), piece.content, piece.length


@lru_cache(maxsize=8)
def _deflated_zeros(length: int, dictionary: bytes, last: bool, level: int) -> bytes:
    """Compressed zeros, cached: most of a disk image is holes."""
    return _deflated(_zeros(length), dictionary, last, level)


def _deflated(content: bytes, dictionary: bytes, last: bool, level: int) -> bytes:
    compressor = zlib.compressobj(level, zlib.DEFLATED, _RAW, _MEMORY_LEVEL, zlib.Z_DEFAULT_STRATEGY, dictionary)
    return compressor.compress(content) + compressor.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


@lru_cache(maxsize=2)
def _zeros(length: int) -> bytes:
    return bytes(length)
