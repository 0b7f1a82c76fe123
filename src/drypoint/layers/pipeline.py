"""A pipeline from a blob to verified tar bytes, each stage in a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeAlias

from ..concurrency.stage import Stage, Stages, Write
from ..concurrency.tasks import wait_for
from ..decompression import LargeWindow
from ..errors import ContentError, LayerError
from ..limits import DEFAULT_LIMITS, Limits, raise_hint
from ..oci import Layer
from .compression import decompress
from .read_ends import InflateTrace
from .verify import verified

OnBlob: TypeAlias = Callable[[bytes], None]
"""Takes the chunks of a blob, in order, in a thread of the pipeline; the next chunk is fetched when it returns."""


class TarChunks(Stages):
    """A layer's tar, verified as it is read: see :func:`tar_chunks`.

    Attributes:
        trace: the record of how the blob was inflated; complete after the last chunk.
    """

    def __init__(
        self,
        blob: Iterator[bytes],
        layer: Layer,
        what: str,
        on_blob: OnBlob | None = None,
        limits: Limits = DEFAULT_LIMITS,
        *,
        ahead: bool = False,
    ) -> None:
        self.trace = InflateTrace()
        self._limits = limits
        self._comes_next = threading.Event()
        if not ahead:
            self.comes_next()
        compressed = verified(blob, layer.blob.digest, what, layer.blob.size)
        if on_blob is not None:
            compressed = _copied(compressed, on_blob)
        fetched = Stage("fetch", _passing(compressed, blob))
        inflated = Stage("inflate", _passing(self._inflate(fetched, what)))
        checked = Stage("diff-id", _passing(verified(inflated, layer.diff_id, f"{what}, uncompressed")))
        super().__init__(fetched, inflated, checked)
        self.start()

    def _inflate(self, blob: Iterator[bytes], what: str) -> Iterator[bytes]:
        try:
            size = 0
            for chunk in decompress(blob, what, self.trace, LargeWindow(self._window, raise_hint("zstd-window"))):
                size += len(chunk)
                if size > self._limits.tar_bytes:
                    raise ContentError(
                        f"{what}: its tar has more than {self._limits.tar_bytes} bytes; {raise_hint('tar-bytes')}"
                    )
                yield chunk
        except LayerError:
            # Damage in transfer breaks the compression too. Read the blob to its end, so that the cause, a wrong digest, is
            # reported; only if the digest is right is the blob itself malformed.
            deque(blob, maxlen=0)
            raise

    def comes_next(self) -> None:
        """Allow it as much memory as it needs: only the layer that is read next has that, one at a time."""
        self._comes_next.set()

    def _window(self) -> int:
        # Layers that are fetched ahead wait here, so that all of them together do not need what one may use.
        while not wait_for(self._comes_next, 60.0):
            pass
        return self._limits.zstd_window


def _copied(chunks: Iterator[bytes], on_blob: OnBlob) -> Iterator[bytes]:
    for chunk in chunks:
        on_blob(chunk)
        yield chunk


def _passing(*chunks: Iterator[bytes]) -> Callable[[Write], None]:
    """Writes the first of *chunks*, and closes all: a generator does not close what it iterates over.

    Only the thread that ran them closes them, and only those that can be closed.
    """

    def produce(write: Write) -> None:
        with ExitStack() as stack:
            for one in reversed(chunks):
                close: Callable[[], None] | None = getattr(one, "close", None)
                if close is not None:
                    stack.callback(close)
            for chunk in chunks[0]:
                if chunk:
                    write(chunk)

    return produce


def tar_chunks(
    blob: Iterator[bytes],
    layer: Layer,
    what: str,
    on_blob: OnBlob | None = None,
    limits: Limits = DEFAULT_LIMITS,
    *,
    ahead: bool = False,
) -> TarChunks:
    """The bytes of *layer*'s tar, from the chunks of its *blob*; an iterator, and a context manager, which must be exited.

    Exiting it early stops the threads. *blob* is closed in any case if it is a generator or has ``close``; if it is waiting for
    something, as soon as that comes. What the blob itself raises is passed on unchanged.

    Args:
        on_blob: receives the compressed bytes too, in the same pass. Only when the iteration has ended without an error are
            they complete and verified. What it raises is raised to the reader.
        limits: the maximum length of the tar, and the maximum history of a zstd stream.
        ahead: whether to wait for :meth:`TarChunks.comes_next` before memory for more than 8 MiB of history is allocated.

    Raises, from ``next()``, at the latest at the end:
        ContentError: the blob does not have the size in its descriptor, or exceeds *limits*.
        DigestMismatchError: the blob does not have the descriptor's digest, or the tar not the layer's diff-id.
        LayerError: the blob cannot be decompressed, though it has the right digest.
    """
    return TarChunks(blob, layer, what, on_blob, limits, ahead=ahead)
