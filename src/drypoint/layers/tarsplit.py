"""tar-split: all of a tar but its files' contents, from which the engine rebuilds the tar byte for byte.

Format: vbatts/tar-split, tar/storage; one JSON object a line as Go's encoding/json writes it, all compressed with gzip. What
is written here equals, once decompressed, what the engine writes for the same tar: it does not record a sparse file's map, and
(before tar-split 0.11.5, so in engines 20.10) it adds an empty last segment.
"""

from __future__ import annotations

import re
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator

import msgspec
from fastcrc import crc32, crc64

from ..errors import LayerError
from ..lanes.tables import new_seen

_SPOOLED = 16 << 20
BATCH = 256 << 10
"""Bytes of lines that are compressed together."""
_CHUNK = 1 << 20
_SLASH = 0x2F
# Without name or time; fastest compression; made on Unix.
_GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\x04\x03"
_GZIP_TAIL = struct.Struct("<II")
_SEGMENT = b'{"type":2,"payload":'
_PLAIN_TO_ESCAPE = bytes(range(0x20)) + b'"\\<>&'
_TO_ESCAPE = re.compile('[\0-\x1f"\\\\<>&\u2028\u2029]')
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


_base64: Callable[[bytes | bytearray], bytes] = msgspec.json.Encoder().encode
"""Encodes to a JSON string of base64. (binascii is slower by half; pybase64 releases the interpreter lock for each call.)"""

crc_of = crc64.go_iso
"""CRC-64 (ISO) of a content, continued from the CRC of what came before, its second argument; that of nothing is 0."""


def clean_name(name: bytes) -> bytes:
    """What Go's filepath.Clean makes of *name*, the form in which the engine looks for duplicates."""
    # Nearly all names need at most a leading "./" or a trailing "/" removed.
    short = name[2:] if name.startswith(b"./") else name
    # (find, because "bytes in bytes" raises and drops an error internally.)
    if short and short[0] not in b"./" and short.find(b"/.") < 0 and short.find(b"//") < 0:
        return short[:-1] if short[-1] == _SLASH else short
    rooted = name.startswith(b"/")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b".." and parts and parts[-1] != b"..":
            parts.pop()
        elif part not in (b"", b".", b"..") or (part == b".." and not rooted):
            parts.append(part)
    cleaned = b"/".join(parts)
    return b"/" + cleaned if rooted else cleaned or b"."


class TarSplit:
    """A finished tar-split.json.gz: ``size`` bytes, held in memory if it is small and in an unnamed file if not."""

    def __init__(self, spool: tempfile.SpooledTemporaryFile[bytes], size: int) -> None:
        self._spool = spool
        self.size = size

    def chunks(self) -> Iterator[bytes]:
        """The compressed bytes, from the first; may be called again."""
        self._spool.seek(0)
        while chunk := self._spool.read(_CHUNK):
            yield chunk

    def close(self) -> None:
        """Release the bytes. May be called again."""
        self._spool.close()


class TarSplitWriter:
    """Takes the segments and files of one tar in order, and makes its :class:`TarSplit`.

    Args:
        what: how errors name the layer.
        in_memory: keep it in memory at any size, where no file may be made; else one over 16 MiB goes to a temporary file.
    """

    def __init__(self, what: str, *, in_memory: bool = False) -> None:
        self._what = what
        self.position = 0
        """Number of records so far."""
        self.seen = new_seen()
        """The cleaned names of all entries."""
        self.pending = 0
        """Bytes not yet compressed, which happens when they reach :data:`BATCH`; the beginnings of segments do not count."""
        self._lines: list[bytes] = []
        self._gzip = _Gzip()
        limit = 0 if in_memory else _SPOOLED  # 0 is none
        self._spool: tempfile.SpooledTemporaryFile[bytes] = tempfile.SpooledTemporaryFile(limit)  # noqa: SIM115

    def segment(self, payload: bytes | bytearray) -> None:
        """Record bytes of the tar that are not a file's content."""
        self._add(b'%b%b,"position":%d}\n' % (_SEGMENT, _base64(payload), self.position))

    def file(self, name: bytes, size: int, crc: int | None, cleaned: bytes | None = None) -> None:
        """Record an entry; *crc* is that of its content, None if it has none.

        Args:
            cleaned: :func:`clean_name` of its name, if already computed.

        Raises:
            LayerError: the tar has an entry of that name already, which the engine refuses.
        """
        self._note_name(name, clean_name(name) if cleaned is None else cleaned)
        self._add(_file_line(name, size, crc, self.position))

    def entry(self, headers: bytes, name: bytes, size: int, crc: int | None, cleaned: bytes) -> None:
        """Record *headers* with :meth:`segment`, then the rest with :meth:`file`."""
        self._note_name(name, cleaned)
        position = self.position
        encoded = _base64(headers)
        rest = b',"position":%d}\n%b' % (position, _file_line(name, size, crc, position + 1))
        self.position = position + 2
        self._lines += (_SEGMENT, encoded, rest)
        self.pending += len(encoded) + len(rest)
        if self.pending >= BATCH:
            self._flush()

    def written(self, lines: bytes, records: int, pending: int) -> None:
        """Add *lines* of so many *records* that were made elsewhere; :attr:`seen` has their names."""
        self.position += records
        self._lines.append(lines)
        self.pending = pending
        if pending >= BATCH:
            self._flush()

    def finish(self) -> TarSplit:
        """End the tar-split and return it."""
        self._flush()
        self._spool.write(self._gzip.finish())
        return TarSplit(self._spool, self._spool.tell())

    def close(self) -> None:
        """Release what was written, and with it the result."""
        self._spool.close()

    def _note_name(self, name: bytes, cleaned: bytes) -> None:
        if not self.seen.add(cleaned):
            raise LayerError(
                f"{self._what}: the tar has two entries called {name[:200]!r}; engines refuse duplicate paths in a layer"
            )

    def _add(self, line: bytes) -> None:
        self.position += 1
        self._lines.append(line)
        self.pending += len(line)
        if self.pending >= BATCH:
            self._flush()

    def _flush(self) -> None:
        self._spool.write(self._gzip.compress(b"".join(self._lines)))
        self._lines.clear()
        self.pending = 0


class _Gzip:
    """One gzip member (RFC 1952), byte for byte as zlib makes it, but its checksum is computed faster than zlib does it."""

    def __init__(self) -> None:
        # Level 1: base64 of mostly zero headers compresses well at any level, and this is the busiest thread.
        self._deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._head = _GZIP_HEAD
        self._crc = 0
        self._size = 0

    def compress(self, data: bytes) -> bytes:
        self._crc = crc32.iso_hdlc(data, self._crc)
        self._size += len(data)
        head, self._head = self._head, b""
        return head + self._deflate.compress(data)

    def finish(self) -> bytes:
        return self._head + self._deflate.flush() + _GZIP_TAIL.pack(self._crc, self._size & 0xFFFFFFFF)


def _file_line(name: bytes, size: int, crc: int | None, position: int) -> bytes:
    if crc is None:
        size_field = b'"size":%d,' % size if size else b""
        return b'{"type":1,%b%b"payload":null,"position":%d}\n' % (_name_field(name), size_field, position)
    encoded = _base64(crc.to_bytes(8, "big"))
    if not size:
        return b'{"type":1,%b"payload":%b,"position":%d}\n' % (_name_field(name), encoded, position)
    return b'{"type":1,%b"size":%d,"payload":%b,"position":%d}\n' % (_name_field(name), size, encoded, position)


def _name_field(name: bytes) -> bytes:
    if not name:
        return b""
    if name.isascii() and len(name.translate(None, _PLAIN_TO_ESCAPE)) == len(name):
        return b'"name":"%b",' % name
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return b'"name_raw":%b,' % _base64(name)
    return b'"name":"%b",' % _TO_ESCAPE.sub(_escape, text).encode()


def _escape(match: re.Match[str]) -> str:
    """As Go's encoding/json does, safe for HTML."""
    character = match[0]
    return _SHORT_ESCAPES.get(character) or f"\\u{ord(character):04x}"
