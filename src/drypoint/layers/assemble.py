"""Rebuilding a layer's tar from its tar-split and the files' contents.

Format: see :mod:`drypoint.layers.tarsplit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from ..decoders import json_decoder
from ..errors import LayerError
from ..go_json import JsonError, decode_go
from ..lanes import ENABLED
from ..lanes.tables import Seen, new_seen
from .compression import decompress
from .records import FileRecord, Record
from .tar import MAX_RAW_BYTES
from .tarsplit import clean_name, crc_of

if ENABLED:
    from ._records_lane import PlainRecords

MAX_LINE_BYTES = 2 * MAX_RAW_BYTES
"""Longest line accepted: more than the base64 of the longest run of headers."""
_FILE, _SEGMENT = 1, 2


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    type: int = 0
    position: int = 0
    payload: bytes | None = None
    name: str = ""
    name_raw: bytes = b""
    size: int = 0


def read_tar_split(chunks: Iterator[bytes], what: str, *, lane: bool = ENABLED) -> Iterator[Record]:
    """The records of a tar-split.json.gz, in order.

    Args:
        chunks: the compressed file, in pieces of any size.
        what: how errors name it.
        lane: whether a compiled lane reads plain lines; it must be installed then (:data:`drypoint.lanes.ENABLED`).

    Raises:
        LayerError: it is damaged, or has a path twice, which engines refuse.
    """
    seen = new_seen()
    decoder = json_decoder(_Line)
    plain = PlainRecords(seen) if lane else None
    position = 0
    for text in _whole_lines(decompress(chunks, what), what):
        at = 0
        while at < len(text):
            if plain is not None:
                records, at = plain.take(text, at, position)
                yield from records
                position += len(records)
                if at == len(text):
                    break
            end = text.index(b"\n", at)
            yield _record(decoder, text[at:end], position, seen, what)
            position, at = position + 1, end + 1


def _record(decoder: msgspec.json.Decoder[_Line], text: bytes, position: int, seen: Seen, what: str) -> Record:
    try:
        line = _line(decoder, text)
    except JsonError as error:
        raise LayerError(f"{what}: line {position + 1} of the tar-split is not well formed: {error}") from error
    if line.position != position:
        raise LayerError(f"{what}: the tar-split has position {line.position} where {position} is expected")
    if line.type == _SEGMENT:
        return line.payload or b""
    if line.type == _FILE:
        return _file_record(line, seen, what)
    raise LayerError(f"{what}: line {position + 1} of the tar-split has the unknown type {line.type}")


def _line(decoder: msgspec.json.Decoder[_Line], text: bytes) -> _Line:
    try:
        # Ten times as fast, with the same result for keys as the engine writes them.
        return decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return decode_go(text, _Line)


def assemble(
    records: Iterable[Record], open_file: Callable[[bytes], Iterable[bytes | memoryview]], what: str
) -> Iterator[bytes | memoryview]:
    """The tar that *records* describe.

    Args:
        records: from :func:`read_tar_split`.
        open_file: returns the content of the file with the name in its record.
        what: how errors name the layer.

    Raises:
        LayerError: a file's content does not have the length or the checksum in its record.
    """
    for record in records:
        if isinstance(record, bytes):
            if record:
                yield record
        elif record.size > 0:
            yield from _checked_content(record, open_file(record.name), what)


def _checked_content(
    record: FileRecord, content: Iterable[bytes | memoryview], what: str
) -> Iterator[bytes | memoryview]:
    crc = size = 0
    for piece in content:
        crc = crc_of(piece, crc)
        size += len(piece)
        if size > record.size:
            break
        yield piece
    if size != record.size or crc != record.crc:
        raise LayerError(
            f"{what}: the content of {record.name[:300]!r} is not what the tar-split recorded: "
            f"{size} bytes with CRC {crc:016x}, expected {record.size} bytes with CRC {record.crc or 0:016x}"
        )


def _file_record(line: _Line, seen: Seen, what: str) -> FileRecord:
    name = line.name_raw or line.name.encode("utf-8")
    cleaned = clean_name(name)
    if not seen.add(cleaned):
        raise LayerError(f"{what}: the tar-split names {name[:300]!r} twice")
    if line.payload is None:
        return FileRecord(name, cleaned, line.size, None)
    if len(line.payload) != 8:
        raise LayerError(f"{what}: the tar-split has a checksum of {len(line.payload)} bytes for {name[:300]!r}")
    return FileRecord(name, cleaned, line.size, int.from_bytes(line.payload, "big"))


def _whole_lines(chunks: Iterator[bytes], what: str) -> Iterator[bytes]:
    """The text in pieces that each end at the end of a line."""
    rest = b""
    for chunk in chunks:
        text = rest + chunk
        end = text.rfind(b"\n") + 1
        rest = text[end:]
        if len(rest) > MAX_LINE_BYTES:
            raise LayerError(f"{what}: a line of the tar-split has more than {MAX_LINE_BYTES} bytes")
        if end:
            yield text[:end]
    if rest:
        raise LayerError(f"{what}: the tar-split's last line is cut off")
