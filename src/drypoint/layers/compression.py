"""Undo a layer blob's compression, whatever its media type says: the first bytes decide.

Formats: gzip (RFC 1952), zstd (RFC 8878), bzip2, xz, and the bare tar. What is recognised, and how further
members and bytes after the end are taken, is as in the engine (moby, pkg/archive), which reads with Go's compress packages.
Engines before 23.0 know no zstd: they refuse such a layer when they pull it, but run an image that holds it well.
"""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from ..errors import LayerError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

try:
    from isal import igzip_lib
except ImportError:  # only built for x86-64 and arm64
    _ISAL_ERRORS: tuple[type[Exception], ...] = ()
else:
    _ISAL_ERRORS = (igzip_lib.IsalError,)  # type: ignore[assignment] # its stub calls the class an instance

MAX_OUTPUT = 1 << 20
"""Most bytes that one step yields, however well they were compressed."""
_PEEK = 10
"""As many bytes as the engine looks at."""
_ZSTD_WINDOW_LOG = 29
"""512 MiB, the engine's own limit (klauspost/compress, zstd.MaxWindowSize)."""
_XZ_MEMORY = 256 << 20
"""Four times what `xz -9` asks for."""
_FALLBACK_STEP = 64 << 10


class _Decompressor(Protocol):
    """One member's worth of decompression, as bz2, lzma, zstd and igzip_lib all offer it."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /, max_length: int) -> bytes: ...


class _ZlibGzip:
    """gzip by zlib, for machines without ISA-L."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self._pending = memoryview(b"")
        self._full = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._full and not self._pending and not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data + self._pending.tobytes()

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if data:
            self._pending = memoryview(self._pending.tobytes() + data)
        # zlib hands back what it could not take, copying it each time: small steps keep that cheap.
        step = self._inner.unconsumed_tail
        if not step:
            step, self._pending = self._pending[:_FALLBACK_STEP].tobytes(), self._pending[_FALLBACK_STEP:]
        output = self._inner.decompress(step, max_length)
        self._full = len(output) == max_length and not self._inner.eof
        return output


def _gzip() -> _Decompressor:
    if not _ISAL_ERRORS:
        return _ZlibGzip()
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _zstd() -> _Decompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


_ERRORS: tuple[type[Exception], ...] = (
    zlib.error,
    zstd.ZstdError,
    lzma.LZMAError,
    OSError,
    ValueError,
    EOFError,
    *_ISAL_ERRORS,
)


def compression_of(start: bytes) -> str | None:
    """The compression that a blob's first bytes announce: ``gzip``, ``zstd``, ``bzip2``, ``xz``, or None for none.

    Args:
        start: the first ten bytes, fewer only if the blob has no more.
    """
    if start.startswith(b"BZh"):
        return "bzip2"
    if start.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if start.startswith(b"\xfd7zXZ\0"):
        return "xz"
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    if len(start) >= 8 and 0x50 <= start[0] <= 0x5F and start[1:4] == b"\x2a\x4d\x18":  # a skippable frame
        return "zstd"
    return None


def decompress(
    chunks: Iterator[bytes], what: str, found: Callable[[str | None], None] | None = None
) -> Iterator[bytes]:
    """The bytes that *chunks* hold when decompressed, at most 1 MiB at a time.

    Args:
        chunks: the blob, in pieces of any size.
        what: how errors name the blob.
        found: told the compression, as :func:`compression_of` has it, before the first bytes are given.

    Raises:
        LayerError: damaged, truncated, followed by bytes that are no further member, or wanting absurd memory.
    """
    start = b""
    for chunk in chunks:
        start += chunk
        if len(start) >= _PEEK:
            break
    kind = compression_of(start[:_PEEK])
    if found is not None:
        found(kind)
    match kind:
        case "gzip":
            yield from _members(start, chunks, _gzip, what, kind)
        case "zstd":
            yield from _members(start, chunks, _zstd, what, kind)
        case "bzip2":
            yield from _members(start, chunks, bz2.BZ2Decompressor, what, kind)
        case "xz":
            yield from _members(start, chunks, _xz, what, kind)
        case _:
            if start:
                yield start
            yield from chunks


def _members(
    start: bytes, chunks: Iterator[bytes], new: Callable[[], _Decompressor], what: str, kind: str
) -> Iterator[bytes]:
    """Member after member; anything else after a member is an error, as it is to Go's readers and to xz."""
    member = new()
    fed = 0  # bytes given to the present member: none is a clean end, once there was one
    padding = 0  # xz alone allows zeros between streams, four at a time
    data = start
    while True:
        if member.eof:
            member, fed = new(), 0
        if kind == "xz" and not fed and data:
            stripped = data.lstrip(b"\0")
            padding += len(data) - len(stripped)
            data = stripped
            if data and padding % 4:
                raise LayerError(f"{what}: {padding} zero bytes between xz streams, which is no multiple of 4")
        if data or not member.needs_input:
            fed += len(data)
            try:
                output = member.decompress(data, MAX_OUTPUT)
            except _ERRORS as error:
                raise LayerError(f"{what}: the {kind} stream is damaged: {error}") from error
            except MemoryError as error:
                raise LayerError(f"{what}: the {kind} stream wants more memory than is allowed") from error
            if output:
                yield output
            data = member.unused_data if member.eof else b""
            if data or (not member.eof and not member.needs_input):
                continue
        following = next(chunks, None)
        if following is None:
            break
        data = following
    if fed and not member.eof:
        raise LayerError(f"{what}: the {kind} stream is truncated")
    if padding % 4:
        raise LayerError(f"{what}: {padding} zero bytes after the xz stream, which is no multiple of 4")
