"""A layer's tar as a stream of entries.

Read as Go's archive/tar reads it, because that is what unpacks layers in the engine, and as its fork in vbatts/tar-split does,
because that is what records them: an archive is accepted here when both accept it. Each entry's bytes other than its content
are kept, for tar-split.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..errors import LayerError
from .header import BLOCK, ZERO_BLOCK, Header, HeaderError, parse_header, parse_number
from .pax import parse_integer, parse_records, parse_time, xattrs_of
from .sparse import Fragments, check_fragments, is_sparse_1_0, map_of_content, map_of_header, map_of_records

REGULAR, REGULAR_V7, LINK, SYMLINK = b"0", b"\0", b"1", b"2"
CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"3", b"4", b"5", b"6"
GLOBAL_HEADER = b"g"
_EXTENDED_HEADER, _LONG_NAME, _LONG_LINK, _OLD_SPARSE = b"x", b"L", b"K", b"S"
_WITHOUT_CONTENT = frozenset((LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO))
_PLAIN = frozenset(ord(kind) for kind in (REGULAR, DIRECTORY, SYMLINK, LINK))
_TYPEFLAG = 156
_META = frozenset((_EXTENDED_HEADER, GLOBAL_HEADER, _LONG_NAME, _LONG_LINK))

END_OF_ARCHIVE = 2 * ZERO_BLOCK
MAX_SPECIAL_BYTES = 1 << 20
"""Longest extended header or long name accepted, as in Go's archive/tar."""
MAX_RAW_BYTES = 16 << 20
"""Most bytes of headers for one entry. Go has no such limit; no writer comes near it."""
MAX_SPARSE_BYTES = 1 << 40
"""Most bytes of all sparse files of one layer together. A few bytes of map can mean exabytes of zeros, and all of them go
through the checksum."""
_PIECE = 1 << 20
_ZEROS = memoryview(bytes(_PIECE))


class TarEntry(msgspec.Struct, frozen=True, gc=False):
    """One entry, with extended headers applied; nothing in it is cleaned or checked yet.

    Attributes:
        raw: all bytes of the archive between the content of the entry before and that of this one: padding and headers.
        size: from the header; for a sparse file its full length, with its holes.
        mtime: nanoseconds since the epoch, of any magnitude.
        xattrs: from PAX ``SCHILY.xattr.`` records, sorted by name.
    """

    raw: bytes
    name: bytes
    typeflag: bytes
    size: int
    mode: int
    uid: int
    gid: int
    mtime: int
    linkname: bytes
    major: int
    minor: int
    xattrs: tuple[tuple[bytes, bytes], ...]


class TarReader:
    """Iterates over the entries of a tar, once.

    :meth:`content` gives the content of the entry until the next entry is read; what is left of it then is skipped.
    :attr:`stored_size` is how many bytes that content takes in the archive; :attr:`is_sparse` is whether a map says where
    they go.
    After the last entry, :attr:`end` holds the bytes that end the archive, and :meth:`rest` gives what follows it. In an
    archive that is cut off inside padding, :attr:`missing_padding` is how many bytes of it are missing.

    Args:
        chunks: the tar, in pieces of any size; large ones (1 MiB) are fast.
        what: how errors name it.
        headers_only: the pieces hold no contents, only what is between them, like the segments of a tar-split. Entries
            have no content then, and maps of sparse files that are part of it are not read.

    Raises, while iterating:
        LayerError: malformed or truncated.
    """

    def __init__(self, chunks: Iterator[bytes], what: str, *, headers_only: bool = False) -> None:
        self.entries = 0
        self.end = b""
        self.missing_padding = 0
        self.stored_size = 0
        self.is_sparse = False
        self._headers_only = headers_only
        self._what = what
        self._chunks = chunks
        self._chunk = b""
        self._position = 0
        self._before = 0  # bytes in the chunks before this one
        self._remaining = 0  # bytes of the present content that are still in the archive
        self._padding = 0
        self._size = 0
        self._fragments: Fragments | None = None
        self._sparse_bytes = 0
        self._last = b""

    @property
    def bytes_read(self) -> int:
        """Bytes of the tar read so far."""
        return self._before + self._position

    def __iter__(self) -> Iterator[TarEntry]:
        while True:
            try:
                entry = self._next()
            except HeaderError as error:
                raise LayerError(f"{self._place()}: {error}") from error
            if entry is None:
                return
            self.entries += 1
            self._last = entry.name
            self.stored_size, self.is_sparse = self._remaining, self._fragments is not None
            if self._headers_only:
                self._remaining, self._fragments = 0, None
            yield entry

    def at_hand(self) -> tuple[bytes, int, int] | None:
        """The present chunk, the position in it after all that was read, and how many bytes of padding precede the next header
        there; None while a content is not read to its end."""
        if self._remaining or self._fragments is not None:
            return None
        return self._chunk, self._position, self._padding

    def passed(
        self, entries: int, position: int, padding: int, size: int, name: bytes, bytes_elsewhere: int = 0
    ) -> None:
        """So many *entries* were read elsewhere, with their contents; go on behind them.

        Args:
            position: in the chunk that :meth:`at_hand` gave.
            padding: what comes before the next header.
            size: that of the last entry, and so is *name*.
            bytes_elsewhere: how many bytes were in chunks that this reader has not seen.
        """
        self.entries += entries
        self._before += bytes_elsewhere
        self._position, self._padding = position, padding
        self._size = self.stored_size = size
        self.is_sparse = False
        self._last = name

    def buffered_content(self) -> memoryview | None:
        """All of the present content, if the chunk holds it; None if not, or if it is sparse or was begun."""
        end = self._position + self._remaining
        if end > len(self._chunk) or self._fragments is not None or self._remaining != self._size:
            return None
        content = memoryview(self._chunk)[self._position : end]
        self._position = end
        self._remaining = 0
        return content

    def content(self) -> Iterator[memoryview]:
        """What is left of the present entry's content, holes filled with zeros, in pieces of up to 1 MiB."""
        if self._fragments is None:
            yield from self._data(self._remaining)
            return
        fragments, self._fragments = self._fragments, ()
        position = 0
        for offset, length in fragments:
            yield from _zeros(offset - position)
            if length > self._remaining:
                raise LayerError(f"{self._place()}: the sparse file's map names data that is not there")
            yield from self._data(length)
            position = offset + length
        yield from _zeros(self._size - position)
        if self._remaining:
            raise LayerError(f"{self._place()}: the sparse file has data that its map does not name")

    def rest(self) -> Iterator[bytes]:
        """Everything after the archive's end."""
        if self._position < len(self._chunk):
            tail = self._chunk[self._position :]
            self._position = len(self._chunk)
            yield tail
        for chunk in self._chunks:
            self._before += len(self._chunk)
            self._chunk, self._position = chunk, len(chunk)
            yield chunk

    def _next(self) -> TarEntry | None:
        if self._remaining or self._fragments is not None:
            for _ in self.content():
                pass
        padding = self._padding
        if self._headers_only:
            # A piece for each entry. The one before is used up here, so that the next one requested is this entry's.
            self._available()
        start = self._position + padding
        end = start + BLOCK
        if end <= len(self._chunk) and self._chunk[start + _TYPEFLAG] in _PLAIN:
            # Nearly all entries: one header, in one piece in the chunk.
            raw = self._chunk[start - padding : end]
            self._position = end
            header = parse_header(raw[padding:])
            self._begin(header.size, header.typeflag)
            return _as_it_stands(raw, header)
        return self._next_of_any_kind()

    def _next_of_any_kind(self) -> TarEntry | None:
        parts: list[bytes] = []
        raw_bytes = 0
        records: dict[bytes, bytes] = {}
        long_name = long_link = b""
        while True:
            padding = self._read(self._padding)
            if len(padding) < self._padding:
                # Go accepts an archive cut off inside padding as ended, and its fork does not record that piece of padding: no
                # engine can rebuild the tar. Verification can if the piece is zeros, as every writer's is.
                if padding.strip(b"\0"):
                    raise LayerError(
                        f"{self._place()}: the archive is cut off inside padding that is not zeros, and engines do not "
                        "record it: what they store could not be verified. Rebuild the image"
                    )
                self.missing_padding = self._padding - len(padding)
                self._padding = 0
                self.end = b"".join(parts)
                return None
            self._padding = 0
            if padding:
                parts.append(padding)
            block = self._read(BLOCK)
            if len(block) < BLOCK:
                if block:
                    raise LayerError(f"{self._place()}: the archive ends inside a header")
                self.end = b"".join(parts)
                return None
            parts.append(block)
            if not block[0] and block == ZERO_BLOCK:
                self.end = b"".join((*parts, self._second_zero_block()))
                return None
            header = parse_header(block)
            self._begin(header.size, header.typeflag)
            kind = header.typeflag
            if kind not in _META:
                break
            data = self._special()
            parts.append(data)
            raw_bytes += len(data) + BLOCK
            if raw_bytes > MAX_RAW_BYTES:
                raise LayerError(f"{self._place()}: more than {MAX_RAW_BYTES} bytes of headers before one entry")
            if kind == _EXTENDED_HEADER:
                records = parse_records(data)
            elif kind == GLOBAL_HEADER:
                # As in Go: an entry of its own, which also takes what came before it for the next entry.
                name = parse_records(data).get(b"path") or header.name
                return TarEntry(b"".join(parts), name, kind, 0, 0, 0, 0, 0, b"", 0, 0, ())
            elif kind == _LONG_NAME:
                long_name = data.partition(b"\0")[0]
            else:
                long_link = data.partition(b"\0")[0]
        if not records and not long_name and not long_link and kind not in (REGULAR_V7, _OLD_SPARSE):
            return _as_it_stands(parts[0] if len(parts) == 1 else b"".join(parts), header)
        return self._merge(header, block, parts, records, long_name, long_link)

    def _merge(
        self,
        header: Header,
        block: bytes,
        parts: list[bytes],
        records: dict[bytes, bytes],
        long_name: bytes,
        long_link: bytes,
    ) -> TarEntry:
        """Apply what came before the header to it, in Go's order."""
        kind = header.typeflag
        name = long_name or records.get(b"path") or header.name
        linkname = long_link or records.get(b"linkpath") or header.linkname
        size = _integer(records, b"size", header.size)
        uid = _integer(records, b"uid", header.uid)
        gid = _integer(records, b"gid", header.gid)
        mtime = _time(records, b"mtime", header.mtime * 1_000_000_000)
        # Not used, but Go refuses an entry with a malformed one.
        _time(records, b"atime", 0)
        _time(records, b"ctime", 0)
        if kind == REGULAR_V7:
            kind = DIRECTORY if name.endswith(b"/") else REGULAR
        self._begin(size, kind)
        fragments: Fragments | None = None
        if kind == _OLD_SPARSE:
            if not header.is_gnu:
                raise HeaderError("a sparse file of an unknown format")
            size = parse_number(block[483:495])
            fragments = map_of_header(block, lambda: self._recorded_block(parts))
        elif (is_1_0 := is_sparse_1_0(records)) is not None:
            name = records.get(b"GNU.sparse.name") or name
            if full_size := records.get(b"GNU.sparse.size") or records.get(b"GNU.sparse.realsize"):
                size = parse_integer(full_size)
            if is_1_0:
                fragments = () if self._headers_only else map_of_content(self._content_block)
            else:
                fragments = map_of_records(records)
        if fragments is not None:
            self._size = size
            if kind in _WITHOUT_CONTENT:
                raise HeaderError("a sparse file of a kind that has no content")
            self._fragments = check_fragments(fragments, size)
            self._sparse_bytes += size
            if self._sparse_bytes > MAX_SPARSE_BYTES and not self._headers_only:
                raise HeaderError(
                    f"the layer's sparse files have more than {MAX_SPARSE_BYTES} bytes, which is not supported"
                )
        return TarEntry(
            b"".join(parts),
            name,
            kind,
            size,
            header.mode,
            uid,
            gid,
            mtime,
            linkname,
            header.major,
            header.minor,
            xattrs_of(records),
        )

    def _begin(self, size: int, typeflag: bytes) -> None:
        """The content that follows has *size* bytes, then padding to a whole block; some kinds have none, despite it."""
        if typeflag in _WITHOUT_CONTENT:
            size = 0
        elif size < 0:
            raise HeaderError(f"the header gives a size of {size} bytes")
        self._remaining = self._size = size
        self._padding = -size % BLOCK
        self._fragments = None

    def _special(self) -> bytes:
        size = self._remaining
        if size > MAX_SPECIAL_BYTES:
            raise HeaderError(f"an extended header of {size} bytes, more than the {MAX_SPECIAL_BYTES} allowed")
        self._remaining = 0
        return self._exactly(size)

    def _recorded_block(self, parts: list[bytes]) -> bytes:
        block = self._exactly(BLOCK)
        parts.append(block)
        return block

    def _content_block(self) -> bytes:
        if self._remaining < BLOCK:
            raise HeaderError("the sparse file's map is cut off")
        self._remaining -= BLOCK
        return self._exactly(BLOCK)

    def _second_zero_block(self) -> bytes:
        """After one zero block, another one or the end of the bytes ends the archive."""
        block = self._read(BLOCK)
        if block and block != ZERO_BLOCK:
            raise LayerError(f"{self._place()}: a zero block that does not end the archive")
        return block

    def _read(self, size: int) -> bytes:
        """The next *size* bytes; fewer only at the end of the tar."""
        position = self._position
        end = position + size
        if end <= len(self._chunk):
            self._position = end
            return self._chunk[position:end]
        gathered = bytearray()
        while len(gathered) < size and self._available():
            take = min(size - len(gathered), len(self._chunk) - self._position)
            gathered += memoryview(self._chunk)[self._position : self._position + take]
            self._position += take
        return bytes(gathered)

    def _exactly(self, size: int) -> bytes:
        data = self._read(size)
        if len(data) < size:
            raise LayerError(f"{self._place()}: the archive is cut off")
        return data

    def _data(self, size: int) -> Iterator[memoryview]:
        while size:
            if not self._available():
                raise LayerError(f"{self._place()}: the archive is cut off, {size} bytes of content are missing")
            take = min(size, len(self._chunk) - self._position)
            piece = memoryview(self._chunk)[self._position : self._position + take]
            self._position += take
            self._remaining -= take
            size -= take
            yield piece

    def _available(self) -> bool:
        """Continue with the next chunk if this one is used up; False when there is none."""
        while self._position >= len(self._chunk):
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._before += len(self._chunk)
            self._chunk, self._position = chunk, 0
        return True

    def _place(self) -> str:
        after = f" after {self._last[:200]!r}" if self.entries else ""
        return f"{self._what}: entry {self.entries + 1}{after}, at byte {self.bytes_read} of the tar"


def _as_it_stands(raw: bytes, header: Header) -> TarEntry:
    """The entry of a *header* with no extended header before it."""
    return TarEntry(
        raw,
        header.name,
        header.typeflag,
        header.size,
        header.mode,
        header.uid,
        header.gid,
        header.mtime * 1_000_000_000,
        header.linkname,
        header.major,
        header.minor,
        (),
    )


def _integer(records: dict[bytes, bytes], key: bytes, default: int) -> int:
    value = records.get(key)
    return parse_integer(value) if value else default


def _time(records: dict[bytes, bytes], key: bytes, default: int) -> int:
    value = records.get(key)
    return parse_time(value) if value else default


def _zeros(count: int) -> Iterator[memoryview]:
    while count > 0:
        piece = _ZEROS[: min(count, _PIECE)]
        yield piece
        count -= len(piece)
