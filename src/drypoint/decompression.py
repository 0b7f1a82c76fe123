"""Decompressing streams, member after member, with bounded memory, for layers and disk images.

Formats: gzip (RFC 1952), zstd (RFC 8878), bzip2, xz, and raw deflate (RFC 1951) as in zip archives.
"""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, Protocol

from .errors import DrypointError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

try:
    from isal import igzip_lib
except ImportError:  # only built for x86-64 and arm64
    ISAL_ERRORS: tuple[type[Exception], ...] = ()
else:
    ISAL_ERRORS = (igzip_lib.IsalError,)  # type: ignore[assignment] # its stub calls the class an instance

MAX_OUTPUT = 1 << 20
"""The most bytes that one step yields, whatever the compression ratio."""
PEEK = 10
"""The bytes that :func:`compression_of` needs."""
_ENGINES_WINDOW = 512 << 20
"""The engine's own limit for layers (klauspost/compress, zstd.MaxWindowSize), and four times that of `zstd -d`."""
_SMALL_WINDOW_LOG = 23
"""8 MiB, which every decoder should support by RFC 8878."""
_ZSTD_HEADER = 18
"""Bytes of the longest frame header."""
_XZ_MEMORY = 256 << 20
"""Four times the memory for `xz -9`."""
_FALLBACK_STEP = 64 << 10


class LargeWindow(NamedTuple):
    """The limit for zstd frames that refer to more than 8 MiB of history.

    Attributes:
        limit: called before the memory is allocated; returns the maximum in bytes.
        advice: what to do about a frame that needs more, for messages.
    """

    limit: Callable[[], int]
    advice: str = ""


ENGINES_WINDOW = LargeWindow(lambda: _ENGINES_WINDOW)
"""The same limit as the engine's."""


class _Decompressor(Protocol):
    """The decompression of one member: the interface of bz2, lzma, zstd and igzip_lib."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /, max_length: int) -> bytes: ...


class _Zlib:
    """gzip or raw deflate by zlib, for machines without ISA-L."""

    def __init__(self, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits=wbits)
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
        # zlib returns a copy of the input that it did not take: small steps keep that cheap.
        step = self._inner.unconsumed_tail
        if not step:
            step, self._pending = self._pending[:_FALLBACK_STEP].tobytes(), self._pending[_FALLBACK_STEP:]
        output = self._inner.decompress(step, max_length)
        self._full = len(output) == max_length and not self._inner.eof
        return output


def _gzip() -> _Decompressor:
    if not ISAL_ERRORS:
        return _Zlib(31)
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _deflate() -> _Decompressor:
    if not ISAL_ERRORS:
        return _Zlib(-15)
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)


class _Zstd:
    """zstd that calls for the limit before it allocates much memory."""

    def __init__(self, large_window: LargeWindow) -> None:
        self._inner = _zstd(_SMALL_WINDOW_LOG)
        self._large_window: LargeWindow | None = large_window
        # The frame's first bytes while its header may be incomplete, to begin again with.
        self._start = b""

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return self._inner.needs_input

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        large_window = self._large_window
        if large_window is None:
            return self._inner.decompress(data, max_length)
        begun = self._start + data
        if len(begun) >= _ZSTD_HEADER:
            self._start, self._large_window = b"", None
        else:
            self._start = begun
        try:
            return self._inner.decompress(data, max_length)
        except zstd.ZstdError as error:
            if "memory" not in str(error):
                raise
        limit_log = large_window.limit().bit_length() - 1
        self._inner = _zstd(max(limit_log, _SMALL_WINDOW_LOG))
        self._start, self._large_window = b"", None
        try:
            return self._inner.decompress(begun, max_length)
        except zstd.ZstdError as error:
            if "memory" not in str(error):
                raise
            advice = f"; {large_window.advice}" if large_window.advice else ""
            raise MemoryError(f"more than {1 << limit_log} bytes of history{advice}") from error


def _zstd(window_log: int) -> zstd.ZstdDecompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: window_log})


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


_ERRORS: tuple[type[Exception], ...] = (
    zlib.error,
    zstd.ZstdError,
    lzma.LZMAError,
    OSError,
    ValueError,
    EOFError,
    *ISAL_ERRORS,
)
_NEW: dict[str, Callable[[], _Decompressor]] = {
    "gzip": _gzip,
    "deflate": _deflate,
    "bzip2": bz2.BZ2Decompressor,
    "xz": _xz,
}


def compression_of(start: bytes) -> str | None:
    """The compression of a stream by its first bytes: ``gzip``, ``zstd``, ``bzip2``, ``xz``, or None.

    Args:
        start: the first ten bytes, fewer only if the stream has no more.
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


def members(
    chunks: Iterator[bytes],
    kind: str,
    what: str,
    error: type[DrypointError],
    *,
    ended: Callable[[int], None] | None = None,
    on_trailing: Callable[[], None] | None = None,
    large_window: LargeWindow = ENGINES_WINDOW,
) -> Iterator[bytes]:
    """The decompressed bytes of *chunks*, at most 1 MiB at a time.

    A deflate stream has no second member.

    Args:
        chunks: the stream, in pieces of any size.
        kind: a name from :func:`compression_of`, or ``deflate``.
        what: the stream's name in errors.
        error: the class to raise.
        ended: called when a member has ended and was yielded, with the number of bytes that follow it in the chunks read so
            far.
        on_trailing: called if the data after the last member is not another one; it is then read and ignored, as by gzip
            and bzip2, and zeros alone are silently ignored. None makes both an error, as in Go's readers.
        large_window: the maximum for zstd frames that need more than 8 MiB of history. For xz, the limit is only called.

    Raises:
        DrypointError: of class *error*: damaged, truncated, followed by other data, or needing too much memory.
    """
    if kind == "xz":
        # Only each block's own header gives the memory that it needs, too late to call for the limit.
        large_window.limit()
    new = _NEW[kind] if kind != "zstd" else partial(_Zstd, large_window)
    member = new()
    index = 1
    fed = 0  # bytes given to the present member: none is a clean end, once there was one
    padding = 0
    data = b""
    while True:
        if member.eof:
            member, fed = new(), 0
            index += 1
            if on_trailing is not None:
                found = _next_member(data, chunks, kind, what, error)
                if found is None:
                    on_trailing()
                    for _ in chunks:
                        pass
                if not found:
                    return
                data = found
        if data and not fed and index > 1 and kind == "xz":
            data, padding = _skip_padding(data, padding, what, error)
        if data or not member.needs_input:
            if data and index > 1 and kind == "deflate":
                raise error(f"{what}: the deflate stream ends before its compressed size")
            fed += len(data)
            preceding = index - 1 if fed == len(data) else 0
            output = _decompressed(member, data, kind, what, error, preceding)
            if output:
                yield output
            data = member.unused_data if member.eof else b""
            if ended is not None and member.eof:
                ended(len(data))
            if data or (not member.eof and not member.needs_input):
                continue
        following = next(chunks, None)
        if following is None:
            break
        data = following
    if fed and not member.eof:
        raise error(f"{what}: the {kind} stream is truncated")
    if kind == "xz" and padding % 4:
        raise error(f"{what}: {padding} zero bytes after the xz stream, which is not a multiple of 4")


def _decompressed(
    member: _Decompressor, data: bytes, kind: str, what: str, error: type[DrypointError], preceding: int
) -> bytes:
    """At most 1 MiB from *member*, which has *preceding* members before it if *data* is its first piece, else 0."""
    try:
        return member.decompress(data, MAX_OUTPUT)
    except _ERRORS as cause:
        where = f", or something else follows its part {preceding}" if preceding else ""
        raise error(f"{what}: the {kind} stream is damaged{where}: {cause}") from cause
    except MemoryError as cause:
        needed = str(cause) or "more memory than is allowed"
        raise error(f"{what}: the {kind} stream needs {needed}") from cause


def _next_member(
    data: bytes, chunks: Iterator[bytes], kind: str, what: str, error: type[DrypointError]
) -> bytes | None:
    """The start of the next member, without zeros before it; b"" at the end, None before other data."""
    padding = 0
    while True:
        rest = data.lstrip(b"\0")
        padding += len(data) - len(rest)
        data = rest
        following = next(chunks, None) if len(data) < PEEK else None
        if following is None:
            break
        data += following
    if not data:
        return None if kind == "xz" and padding % 4 else b""
    if compression_of(data[:PEEK]) != kind:
        return None
    if not padding or (kind == "xz" and padding % 4 == 0):
        return data
    if kind == "gzip":
        # gzip ignores any data after zeros.
        return None
    raise error(f"{what}: another {kind} stream follows {padding} zero bytes, and {kind} does not read on there")


def _skip_padding(data: bytes, padding: int, what: str, error: type[DrypointError]) -> tuple[bytes, int]:
    """*data* without the zeros at its start, and the number of zeros so far."""
    rest = data.lstrip(b"\0")
    padding += len(data) - len(rest)
    if rest and padding % 4:
        raise error(f"{what}: {padding} zero bytes between xz streams, which is not a multiple of 4")
    return rest, padding
