"""Writing file data directly to the image: small files are collected into long writes, large ones are not copied."""

from __future__ import annotations

from collections.abc import Iterable

from ....errors import FilesystemError
from .allocation import BlockAllocator
from .filesystem import Ext4Filesystem
from .mapping import Extent

# Fits a processor's cache: more would be fetched from memory again when the kernel copies it.
BUFFER_BYTES = 512 << 10
_DIRECT_BYTES = 256 << 10
HOLE_BYTES = 64 << 10
"""Each aligned range of so many bytes that is all zeros becomes a hole."""
_ZEROS = bytes(HOLE_BYTES)


class RunWriter:
    """Collects whole blocks that are consecutive on disk, and writes them with one call.

    No block may be put twice before :meth:`flush`, because the later one may reach the disk first.
    """

    def __init__(self, filesystem: Ext4Filesystem) -> None:
        self._fs = filesystem
        self._block_size = filesystem.block_size
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._first = 0
        self._used = 0

    def put(self, block: int, data: bytes | bytearray | memoryview) -> None:
        """Write *data* at *block*, with zeros up to the end of its last block; it is on disk after :meth:`flush`."""
        length = len(data)
        padding = -length % self._block_size
        used = self._used
        if length >= _DIRECT_BYTES:
            parts = [data, _ZEROS[:padding]] if padding else [data]
            if used and self._first + used // self._block_size == block:
                block, self._used = self._first, 0
                parts.insert(0, self._buffer[:used])
            self._fs.write_blocks(block, parts)
            return
        if used and (used + length + padding > BUFFER_BYTES or self._first + used // self._block_size != block):
            self.flush()
            used = 0
        if not used:
            self._first = block
        end = used + length
        self._buffer[used:end] = data
        if padding:
            self._buffer[end : end + padding] = _ZEROS[:padding]
        self._used = end + padding

    def flush(self) -> None:
        """Write what is collected."""
        if self._used:
            self._fs.write_blocks(self._first, [self._buffer[: self._used]])
            self._used = 0


class ContentWriter:
    """Writes content to blocks."""

    def __init__(self, filesystem: Ext4Filesystem, allocator: BlockAllocator, writer: RunWriter) -> None:
        self._block_size = filesystem.block_size
        self._allocator = allocator
        self._writer = writer
        self._pending = memoryview(bytearray(HOLE_BYTES))

    def store(self, path: bytes, size: int, content: Iterable[bytes | memoryview]) -> list[Extent]:
        """Write *content*, which must be exactly *size* bytes long; the holes depend on the bytes alone.

        Raises:
            FilesystemError: *content* is shorter or longer; the message names *path*.
            NoSpaceError: no block is free.
        """
        extents: list[Extent] = []
        blocks = -(-size // self._block_size)
        if self._allocator.left < blocks:
            self._allocator.reserve(blocks)
        pending, filled = self._pending, 0
        position = total = 0
        for chunk in content:
            view = chunk if isinstance(chunk, memoryview) else memoryview(chunk)
            total += len(view)
            if total > size:
                raise FilesystemError(f"{path!r}: its content is longer than its size of {size} bytes")
            if len(view) == size:
                # Nearly all contents are in one piece, and most are too short for a hole.
                if size < HOLE_BYTES:
                    self.place(0, view, extents, blocks)
                else:
                    self._store_end(0, view, extents, blocks)
                continue
            while view:
                if not filled and len(view) >= HOLE_BYTES:
                    # Long pieces only need a copy at their ends.
                    whole = len(view) - len(view) % HOLE_BYTES
                    self._store_segments(position, view[:whole], extents, blocks)
                    position += whole
                    view = view[whole:]
                    continue
                part = view[: HOLE_BYTES - filled]
                pending[filled : filled + len(part)] = part
                filled += len(part)
                view = view[len(part) :]
                if filled == HOLE_BYTES:
                    self._store_segments(position, pending, extents, blocks)
                    position += filled
                    filled = 0
        if total != size:
            raise FilesystemError(f"{path!r}: its content ends after {total} of {size} bytes")
        if filled:
            self._store_end(position, pending[:filled], extents, blocks)
        return extents

    def place(self, logical: int, view: memoryview, extents: list[Extent], blocks: int) -> None:
        """Allocate blocks for *view* from block *logical* of its file on, write it, and add its extents to *extents*.

        The file has *blocks* blocks in all: the search depends on them, and not on the parts in which its data comes.

        Raises:
            NoSpaceError: no block is free.
        """
        while view:
            wanted = -(-len(view) // self._block_size)
            start, got = self._allocator.take(wanted, blocks - logical)
            if got == wanted and not extents:
                # Most files and directories are one run.
                self._writer.put(start, view)
                extents.append(Extent(logical, start, got))
                return
            self._writer.put(start, view[: got * self._block_size])
            last = extents[-1] if extents else None
            if last and last.logical + last.length == logical and last.physical + last.length == start:
                extents[-1] = Extent(last.logical, last.physical, last.length + got)
            else:
                extents.append(Extent(logical, start, got))
            view = view[got * self._block_size :]
            logical += got

    def _store_end(self, position: int, view: memoryview, extents: list[Extent], blocks: int) -> None:
        """Store the end of a file: whole segments, and the piece after them, which is stored even if it is zeros."""
        whole = len(view) - len(view) % HOLE_BYTES
        if whole:
            self._store_segments(position, view[:whole], extents, blocks)
        if whole < len(view):
            self.place((position + whole) // self._block_size, view[whole:], extents, blocks)

    def _store_segments(self, position: int, view: memoryview, extents: list[Extent], blocks: int) -> None:
        """Store whole segments of HOLE_BYTES, except those that are all zeros."""
        first = 0
        for offset in range(0, len(view), HOLE_BYTES):
            if view[offset] or view[offset + HOLE_BYTES - 1] or view[offset + HOLE_BYTES // 2]:
                continue
            if view[offset : offset + HOLE_BYTES].tobytes() == _ZEROS:
                if first < offset:
                    self.place((position + first) // self._block_size, view[first:offset], extents, blocks)
                first = offset + HOLE_BYTES
        if first < len(view):
            self.place((position + first) // self._block_size, view[first:], extents, blocks)
