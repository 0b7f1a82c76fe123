"""Where the engine's reads of a layer's tar end, for the bytes after the archive's end.

tar-split records those bytes in the pieces in which the engine's reader returns them. Go's inflater returns what it has

- when its window of 32 KiB is full, counted from the beginning of the gzip member,
- at a stored block of no bytes, which is what a flush leaves (Z_SYNC_FLUSH, Z_FULL_FLUSH; klauspost/pgzip, and with it skopeo,
  podman, buildah and umoci, flush every MiB and at the end),
- at the end of a member.

The last bytes of the last member come together with the end of the stream, unless one of the first two has returned them.

zlib and ISA-L do not report where blocks end. So the last compressed bytes are kept, and searched when a layer has bytes
after its archive's end. For most layers the only cost is keeping references to chunks.

Sources: Go 1.19, compress/flate/inflate.go and compress/gzip/gunzip.go; moby v20.10.24, pkg/archive/archive.go
(DecompressStream); vbatts/tar-split v0.11.2, tar/asm/disassemble.go.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

WINDOW = 32 << 10
_KEPT = 1 << 20
"""Compressed bytes kept. A flush before them is not found: the tar-split then has fewer pieces than the engine's, but the same
bytes."""
_TRAILER = 8
_FLUSH = b"\0\0\xff\xff"
"""Length of a stored block of no bytes, and its complement: what follows is the beginning of a block, at a whole byte."""
_LAST_BLOCK = b"\x01" + _FLUSH
_NO_HISTORY = bytes(WINDOW)
BUDGET = 128 << 20
"""Most bytes, in and out, that the search for a member's flushes may inflate; each try counts as 4 KiB more."""
_COST_OF_A_TRY = 4 << 10
_LONGEST_READ = 1 << 20
"""Bytes that the engine requests at once."""


class ReadEnds(NamedTuple):
    """Where reads of the tar end.

    Attributes:
        positions: in the tar, sorted; those after the beginning and before the end of the range.
        with_end: whether the last read returns both the last bytes and the end of the stream.
    """

    positions: list[int]
    with_end: bool


class _Member(NamedTuple):
    """Where a member begins and ends in the blob, and where its content begins and ends in the tar."""

    begin: int
    end: int
    first: int
    last: int


class InflateTrace:
    """A record of how a blob was inflated; :meth:`read_ends` may be called when all of it has been.

    Attributes:
        compression: that of the blob, as :func:`.compression_of` gives it; known with the first bytes.
    """

    def __init__(self) -> None:
        self.compression: str | None = None
        self._chunks: deque[bytes] = deque()
        self._dropped = 0  # bytes of the blob before the first chunk that is kept
        self._taken = 0  # bytes of the blob
        self._given = 0  # bytes of the tar
        self._ends: deque[tuple[int, int]] = deque([(0, 0)])

    def blob(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass the blob's *chunks* on, keeping the last of them."""
        for chunk in chunks:
            self._taken += len(chunk)
            self._chunks.append(chunk)
            while self._taken - self._dropped - len(self._chunks[0]) >= _KEPT:
                self._dropped += len(self._chunks.popleft())
            # One member's end before the kept bytes stays: it is where the next member begins.
            while len(self._ends) > 1 and self._ends[1][0] <= self._dropped:
                self._ends.popleft()
            yield chunk

    def tar(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass on the *chunks* that the blob inflates to."""
        for chunk in chunks:
            self._given += len(chunk)
            yield chunk

    def member_ended(self, unused: int) -> None:
        """Note that a member has ended, before the last *unused* bytes of the blob so far."""
        self._ends.append((self._taken - unused, self._given))

    def read_ends(self, start: int, end: int) -> ReadEnds:
        """The ends of the engine's reads of the tar from *start*, the end of its archive, to *end*, the end of the tar.

        For xz, which another process inflates, they depend on timing, as for zstd, which engines from 23.0 on inflate in
        other threads; ends of windows are returned there.
        """
        if self.compression == "gzip":
            return self._ends_of_gzip(start, end)
        if self.compression == "bzip2":
            return self._ends_of_bzip2(start, end)
        return windows(start, end)

    def _ends_of_gzip(self, start: int, end: int) -> ReadEnds:
        found: set[int] = set()
        kept = b"".join(self._chunks)
        returned_before = True
        for member in self._members(start):
            inner = {*windows(max(start, member.first), member.last + 1, member.first).positions}
            inner.update(self._flushes(kept, member, start))
            returned_before = member.last in inner or member.first == member.last
            found |= inner | {member.last}
        return ReadEnds(sorted(one for one in found if start < one < end), start < end and not returned_before)

    def _ends_of_bzip2(self, start: int, end: int) -> ReadEnds:
        """A stream's blocks count as one, which is right unless a tar has hundreds of KiB after its archive's end."""
        found: list[int] = []
        for member in self._members(start):
            found.extend(range(max(start, member.first) + _LONGEST_READ, member.last, _LONGEST_READ))
            found.append(member.last)
        return ReadEnds(sorted(one for one in set(found) if start < one < end), with_end=False)

    def _members(self, start: int) -> Iterator[_Member]:
        """The members with something after *start*, and the last one."""
        ends = list(self._ends)
        for (begin, first), (end, last) in pairwise(ends):
            if last > start or end == ends[-1][0]:
                yield _Member(begin, end, first, last)

    def _flushes(self, kept: bytes, member: _Member, start: int) -> Iterator[int]:
        """Positions in the tar, from *start* on, at which *member* was flushed; the last first.

        Candidates are the bytes that a flush leaves. Between a real flush and the next one, which is already confirmed, there
        are whole blocks; the length that they inflate to is the distance between the two in the tar.
        """
        begin, end = max(0, member.begin - self._dropped), member.end - _TRAILER - self._dropped
        position, target = member.last, end
        confirmed: int | None = None
        budget = BUDGET
        candidate = kept.rfind(_FLUSH, begin, end - 1)
        while candidate >= 0 and position > start and budget > 0:
            piece = kept[candidate + len(_FLUSH) : target]
            sizes = sizes_of_blocks(piece, position - start, is_last=target == end)
            budget -= _COST_OF_A_TRY + len(piece) + sum(sizes or ())
            if sizes is not None:
                if confirmed is not None and not sizes[1]:
                    yield confirmed
                position -= sum(sizes)
                confirmed, target = position, candidate + len(_FLUSH)
            candidate = kept.rfind(_FLUSH, begin, candidate)
        if confirmed is not None:
            yield confirmed


def windows(start: int, end: int, first: int = 0) -> ReadEnds:
    """The ends of reads by windows of 32 KiB that begin at *first* in the tar.

    An uncompressed tar that is pulled passes through a pipe in such pieces. (One that is loaded comes in larger ones.)
    """
    ends = range(first + (start - first) // WINDOW * WINDOW + WINDOW, end, WINDOW)
    return ReadEnds(list(ends), with_end=False)


def sizes_of_blocks(piece: bytes, limit: int, *, is_last: bool) -> tuple[int, int] | None:
    """How many bytes a piece of a deflate stream inflates to before its last four bytes, and by them.

    None if it is not one or more whole blocks, and the last ones if *is_last*; or if they come to more than *limit* bytes.
    """
    # Blocks may copy from bytes before them. Only their size matters here, so any history will do.
    inflater = zlib.decompressobj(-zlib.MAX_WBITS, zdict=_NO_HISTORY)
    parts = (piece, b"") if is_last else (piece[: -len(_FLUSH)], piece[-len(_FLUSH) :] + _LAST_BLOCK)
    sizes: list[int] = []
    try:
        for part in parts:
            sizes.append(len(inflater.decompress(part, limit - sum(sizes) + 1)))
            if sum(sizes) > limit:
                return None
    except zlib.error:
        return None
    return (sizes[0], sizes[1]) if inflater.eof and not inflater.unused_data else None
