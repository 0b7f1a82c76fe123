"""Layers as streams: compression, tar, tar-split."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from unittest.mock import patch

from drypoint.decompression import MAX_OUTPUT
from drypoint.digest import Digest, digest_of
from drypoint.errors import ContentError, LayerError
from drypoint.lanes import ENABLED
from drypoint.layers import (
    FileRecord,
    LayerReader,
    TarReader,
    TarSplitWriter,
    assemble,
    compression_of,
    decompress,
    read_tar_split,
    tar_chunks,
)
from drypoint.layers.header import BLOCK, HeaderError
from drypoint.layers.pax import parse_records, parse_time, xattrs_of
from drypoint.layers.sparse import check_fragments, is_sparse_1_0, map_of_records
from drypoint.layers.tarsplit import clean_name, crc_of
from drypoint.oci import Descriptor, Layer
from drypoint.samples.layers import LayerBuilder, TarFormat

from .material import Material, pieces, with_checksums
from .target import PropertyError, Target

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_STEPS = (1 << 20, 512, 1000, 7, 1, 513)
_ISAL_TAKES = re.compile(r"unknown header flags|invalid distances set")
"""ISA-L, like Go, ignores flags that no version of the format has given a meaning. Unlike zlib, it takes a set of distance
codes that is not complete. What comes out is checked by its diff-id."""
_MOST_CONTENT = 4 << 20
"""Content of one tar that is looked at. A sparse file can claim exabytes of zeros in a kilobyte."""
_MOST_OUTPUT = 3
"""Chunks of decompressed data that are looked at."""


def decompress_anything(data: bytes) -> None:
    step, blob = _STEPS[data[0] % len(_STEPS)] if data else 1, data[1:]
    found = _decompressed(blob, step)
    if compression_of(blob[:10]) == "gzip":
        with patch("drypoint.decompression.ISAL_ERRORS", ()):
            other = _decompressed(blob, 1 << 20)
        both_refuse = isinstance(found, str) and isinstance(other, str)
        if found != other and not both_refuse and not (isinstance(other, str) and _ISAL_TAKES.search(other)):
            raise PropertyError(
                f"ISA-L and zlib disagree; zlib: {other[:200]!r}" if other else "ISA-L and zlib disagree"
            )


def _decompressed(blob: bytes, step: int) -> bytes | str | None:
    """What *blob* holds; why not, for a damaged one; None if it is more than some megabytes."""
    output = b""
    try:
        for chunk in decompress(pieces(blob, step), "blob"):
            if len(chunk) > max(MAX_OUTPUT, len(blob)):
                raise PropertyError(f"a chunk of {len(chunk)} bytes")
            output += chunk
            if len(output) > _MOST_OUTPUT * MAX_OUTPUT:
                return None
    except LayerError as error:
        return str(error)
    return output


def _compressed() -> Iterator[bytes]:
    content = b"some content, some content, " * 20
    for pack in (lambda data: gzip.compress(data, mtime=0), zstd.compress, bz2.compress, lzma.compress):
        packed = pack(content)
        yield b"\0" + packed
        yield b"\2" + packed + pack(b"more")
        yield b"\2" + packed[:-3]
    yield b"\1" + b"\x50\x2a\x4d\x18\4\0\0\0skip" + zstd.compress(content)
    yield b"\1" + lzma.compress(content) + bytes(8)
    yield b"\1" + gzip.compress(bytes(5 << 18), mtime=0)


def read_any_tar(data: bytes) -> None:
    tar, step = _tar(data)
    whole, cut = _entries(tar, 1 << 20), _entries(tar, step)
    if whole != cut:
        raise PropertyError("the tar reads differently in other pieces")


def _entries(tar: bytes, step: int) -> list[object] | None:
    """All that a reader tells, None for no tar."""
    reader = TarReader(pieces(tar, step), "tar")
    told: list[object] = []
    left = _MOST_CONTENT
    try:
        for entry in reader:
            told.append(entry)
            if entry.size > left:
                return told
            content = b"".join(bytes(piece) for piece in reader.content())
            left -= len(content)
            told.append(content)
        told.append(reader.end + b"".join(reader.rest()))
    except LayerError:
        return None
    return told


def split_any_tar(data: bytes) -> None:
    """tar → tar-split → tar is the identity."""
    tar, step = _tar(data)
    told = _entries(tar, 1 << 20)
    if told is not None and not isinstance(told[-1], bytes):
        return
    if told is None:
        # Where the tar ends early, so does the layer; but not by reading gigabytes of a sparse file's zeros before.
        if b"GNU.sparse" in tar or any(tar[start + 156 : start + 157] == b"S" for start in range(0, len(tar), BLOCK)):
            return
        with LayerReader(pieces(tar, step), "layer") as reader:
            for _ in reader:
                pass
        raise PropertyError("a layer was read from what is not a tar")
    with LayerReader(pieces(tar, step), "layer", final_empty_segment=bool(data and data[0] & 0x80)) as reader:
        for _ in reader:
            pass
        compressed = b"".join(reader.tar_split.chunks())
    contents = {clean_name(name): content for name, content in _contents(told)}
    records = read_tar_split(pieces(compressed, 1000), "layer")
    rebuilt = b"".join(bytes(piece) for piece in assemble(records, lambda name: (contents[clean_name(name)],), "layer"))
    if b"GNU.sparse" in tar or any(tar[start + 156 : start + 157] == b"S" for start in range(0, len(tar), BLOCK)):
        # Engines do not record a sparse file's map.
        return
    # Engines do not record padding that is cut off.
    lost = len(tar) - len(rebuilt)
    if not tar.startswith(rebuilt) or lost >= BLOCK:
        raise PropertyError(f"the tar of {len(tar)} bytes came back as {len(rebuilt)} other bytes")


def compare_lane_of_tars(data: bytes) -> None:
    """A compiled lane reads a layer as Python does."""
    tar, step = _tar(data)
    if _read_layer(tar, step, lane=True) != _read_layer(tar, step, lane=False):
        raise PropertyError("the lane reads the tar otherwise than its twin")


def _read_layer(tar: bytes, step: int, *, lane: bool) -> list[object]:
    """All that a layer's reader gives, and its error; contents up to some megabytes."""
    found: list[object] = []
    left = _MOST_CONTENT
    with LayerReader(pieces(tar, step), "layer", lane=lane) as reader:
        try:
            for change, content in reader:
                found.append(change)
                for piece in content or ():
                    left -= len(piece)
                    if left < 0:
                        return found
                    found.append(bytes(piece))
            found.append(b"".join(reader.tar_split.chunks()))
        except LayerError as error:
            found.append(str(error))
        found.append((reader.entries, reader.tar_bytes))
    return found


def _contents(told: list[object]) -> Iterator[tuple[bytes, bytes]]:
    for entry, content in zip(told[::2], told[1::2], strict=False):
        yield entry.name, content  # type: ignore[attr-defined, misc]


def _tar(data: bytes) -> tuple[bytes, int]:
    head = data[0] if data else 0
    return (with_checksums(data[1:]) if head & 0x40 else data[1:]), _STEPS[head % 0x40 % len(_STEPS)]


def tars() -> Iterator[bytes]:
    """Small tars of every kind of entry, without the target's first byte."""
    plain = LayerBuilder().directory("d").file("d/f", b"content").symlink("d/s", "f").hardlink("d/h", "d/f")
    yield plain.char_device("c", 1, 3).fifo("p").whiteout("d/gone").opaque("d").finish()
    yield LayerBuilder().file("é" * 80, b"x", mtime=-1_500_000_000, xattrs={b"user.a": b"1"}).finish() + b"after"
    yield (
        LayerBuilder(tar_format=TarFormat.GNU).file("n" * 150, b"x" * 600, uid=1 << 30).symlink("l", "t" * 150).finish()
    )
    yield LayerBuilder().pax_global({b"comment": b"all"}).file("f", b"").finish(end_of_archive=False)
    yield LayerBuilder().file("cut", b"content").finish(end_of_archive=False)[:700]
    records = {b"GNU.sparse.map": b"0,1,512,1", b"GNU.sparse.numblocks": b"2", b"GNU.sparse.size": b"1024"}
    yield _pax_entry(records, b"ab")
    map_1_0 = b"1\n1024\n4\n".ljust(BLOCK, b"\0") + b"data"
    yield _pax_entry({b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.realsize": b"2048"}, map_1_0)
    yield old_sparse_tar()
    yield _pax_entry({b"size": b"3", b"uid": b"70000", b"mtime": b"1.5", b"path": b"p/q", b"linkpath": b"r"}, b"abc")


def _pax_entry(records: dict[bytes, bytes], content: bytes) -> bytes:
    tar = LayerBuilder().pax_global(records)
    built = bytearray(tar.file("f", content).finish())
    built[156:157] = b"x"
    return with_checksums(bytes(built))


def old_sparse_tar() -> bytes:
    """A GNU sparse file of the oldest format, whose map lies in its header."""
    tar = bytearray(LayerBuilder(tar_format=TarFormat.GNU).file("s", b"data").finish())
    tar[156:157] = b"S"
    tar[386:410] = b"%011o\0%011o\0" % (1024, 4)
    tar[483:495] = b"%011o\0" % 2048
    return with_checksums(bytes(tar))


def _tar_inputs() -> Iterator[bytes]:
    for number, tar in enumerate(tars()):
        yield bytes([0x40 | number % len(_STEPS)]) + tar
    yield b"\0"


def read_any_tar_split(data: bytes) -> None:
    head, text = data[:1], data[1:]
    blob = text if head and head[0] & 1 else gzip.compress(text, 1, mtime=0)
    records = list(read_tar_split(pieces(blob, 100), "tar-split"))
    sizes = {record.name: record.size for record in records if isinstance(record, FileRecord)}
    for piece in assemble(iter(records), lambda name: (bytes(max(0, min(sizes[name], 1 << 16))),), "tar-split"):
        if len(piece) > max(1 << 16, len(text)):
            raise PropertyError(f"a piece of {len(piece)} bytes")


def compare_lane_of_tar_splits(data: bytes) -> None:
    """A compiled lane reads a tar-split as Python does."""
    step, blob = _STEPS[data[0] % len(_STEPS)] if data else 1, data[1:]
    if _records_of(blob, step, lane=True) != _records_of(blob, step, lane=False):
        raise PropertyError("the lane reads the tar-split otherwise than its twin")


def _records_of(blob: bytes, step: int, *, lane: bool) -> list[object]:
    found: list[object] = []
    packed = gzip.compress(blob, 1, mtime=0)
    try:
        found.extend(read_tar_split(pieces(packed, max(step, len(packed) // 50)), "tar-split", lane=lane))
    except LayerError as error:
        found.append(str(error))
    return found


def _tar_splits() -> Iterator[bytes]:
    for final in (True, False):
        writer = TarSplitWriter("seed")
        writer.segment(b"header")
        writer.file(b"name", 3, crc_of(bytes(3)))
        writer.file(b"caf\xe9 <&>", 0, None)
        if final:
            writer.segment(b"")
        packed = b"".join(writer.finish().chunks())
        writer.close()
        yield b"\1" + packed
        yield b"\0" + gzip.decompress(packed)


def read_any_pax(data: bytes) -> None:
    material = Material(data)
    size = material.number(8)
    records = parse_records(material.rest())
    for name, value in xattrs_of(records):
        if not value:
            raise PropertyError(f"an empty attribute {name!r}")
    for key in (b"mtime", b"atime"):
        if key in records:
            parse_time(records[key])
    if is_sparse_1_0(records) is False:
        fragments = check_fragments(map_of_records(records), size % (1 << 63))
        if sum(length for _, length in fragments) > size:
            raise PropertyError("the fragments are longer than the file")


def _pax_headers() -> Iterator[bytes]:
    size = (4096).to_bytes(8, "little")
    yield size + b"30 mtime=1350244992.023960108\n"
    yield size + b"26 SCHILY.xattr.user.a=xy\n\n"
    sparse = [(b"GNU.sparse.numblocks", b"2"), (b"GNU.sparse.offset", b"0"), (b"GNU.sparse.numbytes", b"3")]
    sparse += [(b"GNU.sparse.offset", b"1024"), (b"GNU.sparse.numbytes", b"9")]
    yield size + b"".join(_record(key, value) for key, value in sparse)
    yield size + _record(b"GNU.sparse.numblocks", b"1") + _record(b"GNU.sparse.map", b"5,10") + _record(b"path", b"p")
    yield size + _record(b"mtime", b"-1.5") + _record(b"SCHILY.xattr.user.a", b"v\0\n") + _record(b"size", b"+7")


def _record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while len(b"%d" % length) + len(key) + len(value) + 3 != length:
        length = len(b"%d" % length) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (length, key, value)


def pipe_any_blob(data: bytes) -> None:
    """The threads of a layer end, whatever is wrong with it and wherever its reader leaves."""
    material = Material(data)
    lies, leave, step = material.number(), material.number(), material.choice(_STEPS)
    blob = material.rest()
    size = len(blob) - 1 if lies & 1 and blob else len(blob)
    digest = Digest("sha256:" + "0" * 64) if lies & 2 else digest_of(blob)
    diff_id = Digest("sha256:" + "0" * 64)
    if not lies & 4:
        with suppress(LayerError):
            diff_id = digest_of(b"".join(islice(decompress(pieces(blob, 1000), "blob"), _MOST_OUTPUT)))
    layer = Layer(Descriptor("", digest, size), diff_id, diff_id, None)
    with tar_chunks(pieces(blob, max(step, len(blob) // 200)), layer, "layer") as chunks:
        # An odd number leaves early.
        for _ in islice(chunks, leave // 2 if leave & 1 else 2 * _MOST_OUTPUT):
            pass


def _blobs() -> Iterator[bytes]:
    tar = next(tars())
    for head in (b"\0\0\0", b"\1\0\1", b"\2\0\1", b"\4\0\1", b"\0\3\3"):
        yield head + gzip.compress(tar, mtime=0)
    yield b"\0\0\1" + tar
    yield b"\0\0\1" + zstd.compress(tar)


TARGETS = (
    Target("decompress", decompress_anything, _compressed, ("drypoint.layers",), longest=8192, megabytes=2048),
    Target("tar", read_any_tar, _tar_inputs, ("drypoint.layers",), longest=8192, tokens=(b"ustar\x0000", b"ustar  \0")),
    Target(
        "layer",
        split_any_tar,
        _tar_inputs,
        ("drypoint.layers",),
        longest=8192,
        tokens=(b"ustar\x0000", b"ustar  \0", b".wh."),
    ),
    Target(
        "tar_split",
        read_any_tar_split,
        _tar_splits,
        ("drypoint.layers",),
        tokens=(b'"position":', b'"payload":', b'"name_raw":', b"\\u"),
    ),
    Target(
        "pax",
        read_any_pax,
        _pax_headers,
        ("drypoint.layers",),
        (HeaderError,),
        tokens=(b"GNU.sparse.", b"SCHILY.xattr.", b"mtime="),
    ),
    *(
        [
            Target(
                "layer_lane",
                compare_lane_of_tars,
                _tar_inputs,
                ("drypoint.layers",),
                longest=8192,
                tokens=(b"ustar\x0000", b"ustar  \0", b".wh.", b"0000644\0", b"000644 \0"),
            ),
            Target(
                "tar_split_lane",
                compare_lane_of_tar_splits,
                _tar_splits,
                ("drypoint.layers",),
                tokens=(b'"position":', b'"payload":', b'"size":', b'{"type":1,"name":"'),
            ),
        ]
        if ENABLED
        else []
    ),
    Target("pipeline", pipe_any_blob, _blobs, ("drypoint.layers",), (ContentError,), longest=8192),
)
