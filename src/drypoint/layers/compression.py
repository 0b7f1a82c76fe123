"""Decompressing layer blobs. The first bytes give the compression, not the media type.

Formats: gzip, zstd, bzip2, xz, and uncompressed tar. What is recognised, and how further members and bytes after the end
are handled, is as in the engine (moby, pkg/archive), which reads with Go's compress packages.
Engines before 23.0 do not support zstd: they refuse such a layer when they pull it, but run an image that has one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from ..decompression import ENGINES_WINDOW, PEEK, LargeWindow, compression_of, members
from ..errors import LayerError
from .read_ends import InflateTrace


def decompress(
    chunks: Iterator[bytes],
    what: str,
    trace: InflateTrace | None = None,
    large_window: LargeWindow = ENGINES_WINDOW,
) -> Iterator[bytes]:
    """Yield *chunks* decompressed, at most 1 MiB at a time.

    Args:
        chunks: the blob, in pieces of any size.
        what: how errors name the blob.
        trace: records the compression before the first bytes are yielded, and then what is inflated.
        large_window: see :func:`drypoint.decompression.members`.

    Raises:
        LayerError: damaged, truncated, followed by bytes that are not a further member, or needing too much memory.
    """
    if trace is None:
        yield from _decompress(chunks, what, None, large_window)
    else:
        yield from trace.tar(_decompress(trace.blob(chunks), what, trace, large_window))


def _decompress(
    chunks: Iterator[bytes], what: str, trace: InflateTrace | None, large_window: LargeWindow
) -> Iterator[bytes]:
    start = b""
    for chunk in chunks:
        start += chunk
        if len(start) >= PEEK:
            break
    kind = compression_of(start[:PEEK])
    if trace is not None:
        trace.compression = kind
    whole = chain((start,), chunks) if start else chunks
    if kind is None:
        yield from whole
    else:
        ended = None if trace is None else trace.member_ended
        yield from members(whole, kind, what, LayerError, ended=ended, large_window=large_window)
