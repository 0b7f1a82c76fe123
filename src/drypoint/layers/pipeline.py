"""From a blob to verified tar bytes, each stage in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeAlias

from ..concurrency.stage import Stage, Stages, Write
from ..errors import LayerError
from ..oci import Layer
from .compression import decompress
from .read_ends import InflateTrace
from .verify import verified

OnBlob: TypeAlias = Callable[[bytes], None]
"""Takes the chunks of a blob, in order, in a thread of the pipeline; as long as it takes, nothing more is fetched."""


class TarChunks(Stages):
    """A layer's tar, verified on its way: see :func:`tar_chunks`.

    Attributes:
        trace: what is noted of the blob while it is inflated; whole when all chunks were taken.
    """

    def __init__(self, blob: Iterator[bytes], layer: Layer, what: str, on_blob: OnBlob | None = None) -> None:
        self.trace = InflateTrace()
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
            yield from decompress(blob, what, self.trace)
        except LayerError:
            # Damage on the way breaks the compression too. Read on to the blob's end, so that a wrong digest, the cause, is
            # what gets told; only a blob that is what its digest says is itself to blame.
            deque(blob, maxlen=0)
            raise


def _copied(chunks: Iterator[bytes], on_blob: OnBlob) -> Iterator[bytes]:
    for chunk in chunks:
        on_blob(chunk)
        yield chunk


def _passing(*chunks: Iterator[bytes]) -> Callable[[Write], None]:
    """Writes the first of *chunks*, and closes all: a generator does not close what it iterates over.

    By the thread that ran them and no other, and only those that can be closed.
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


def tar_chunks(blob: Iterator[bytes], layer: Layer, what: str, on_blob: OnBlob | None = None) -> TarChunks:
    """The bytes of *layer*'s tar, from the chunks of its *blob*; an iterator, and a context manager that must be left.

    Leaving it early stops the threads, and in any case closes *blob* if it is a generator or has ``close``, if it waits for
    something as soon as that comes. What the blob itself raises is passed on unchanged.

    Args:
        on_blob: receives the compressed bytes too, in the same pass. They are the blob's only if the iteration ends cleanly,
            and all have come by then. What it raises is raised to the reader.

    Raises, from ``next()``, at the latest where the end would be:
        ContentError: the blob has not the size that its descriptor announces.
        DigestMismatchError: blob or tar hash to something else than the descriptor's digest and the layer's diff-id.
        LayerError: the blob cannot be decompressed, though it is the one that the digest names.
    """
    return TarChunks(blob, layer, what, on_blob)
