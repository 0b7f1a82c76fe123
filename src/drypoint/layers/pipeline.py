"""From a blob to verified tar bytes, each stage in a thread of its own.

Hashing, inflating and sockets all leave the interpreter lock, so the stages truly run side by side; bounded buffers between
them keep memory constant and let the slowest stage set the pace.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType

from ..concurrency.tasks import Cancelled, Task, current, farewell, spawn
from ..errors import LayerError
from ..oci import Layer
from .compression import decompress
from .read_ends import InflateTrace
from .verify import verified

_BUFFERED_BYTES = 4 << 20
_BUFFERED_CHUNKS = 64
# A stage that was too far ahead goes on when so little is left: to wake it for every chunk costs more than the chunk.
_LOW_BYTES = _BUFFERED_BYTES // 2
_LOW_CHUNKS = _BUFFERED_CHUNKS // 2


class _Stopped(Exception):  # noqa: N818 - no error: the consumer has left
    """Unwinds a stage whose results are no longer needed."""


class _Stage(Iterator[bytes]):
    """Runs an iterator in a thread, a bounded distance ahead of its consumer.

    What the iterator raises is raised to the taker, after all chunks that came before it.
    """

    def __init__(self, name: str, chunks: Iterator[bytes], source: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._source = source  # what *chunks* is made from: generators do not close what they iterate over
        self._buffer: deque[bytes] = deque()
        self._buffered = 0
        self._changed = threading.Condition()
        self._ended = False
        self._stopped = False
        self._error: BaseException | None = None
        self._name = name

    def start(self, task: Task) -> threading.Thread:
        """Run it under *task*; cancelling that stops it, as :meth:`stop` does."""
        return spawn(partial(self._work, task), self._name, task)

    def __next__(self) -> bytes:
        with self._changed:
            while not self._buffer and not self._ended and not self._stopped:
                self._changed.wait()
            if self._stopped:
                current().check()
                raise _Stopped
            if self._buffer:
                chunk = self._buffer.popleft()
                self._buffered -= len(chunk)
                if self._is_low():
                    self._changed.notify_all()
                return chunk
            if self._error is not None:
                raise self._error
            raise StopIteration

    def stop(self) -> None:
        """Wake the thread and its consumer; both stop. Idempotent."""
        with self._changed:
            self._stopped = True
            self._buffer.clear()
            self._changed.notify_all()

    def _work(self, task: Task) -> None:
        with task.waker(self.stop):
            self._run()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            with suppress(_Stopped, Cancelled), _closing(self._source), _closing(self._chunks):
                for chunk in self._chunks:
                    if chunk:
                        self._put(chunk)
        except BaseException as caught:  # noqa: BLE001 - it is raised again, where the chunks are taken
            error = caught
        with self._changed:
            self._error = error
            self._ended = True
            self._changed.notify_all()

    def _put(self, chunk: bytes) -> None:
        with self._changed:
            if self._buffered >= _BUFFERED_BYTES or len(self._buffer) >= _BUFFERED_CHUNKS:
                while not (self._is_low() or self._stopped):
                    self._changed.wait()
            if self._stopped:
                raise _Stopped
            self._buffer.append(chunk)
            self._buffered += len(chunk)
            if len(self._buffer) == 1:
                self._changed.notify_all()

    def _is_low(self) -> bool:
        return self._buffered <= _LOW_BYTES and len(self._buffer) <= _LOW_CHUNKS


@contextmanager
def _closing(chunks: Iterator[bytes]) -> Iterator[None]:
    """Close *chunks* at the end if it can be closed, as generators can, by the thread that ran it and no other."""
    try:
        yield
    finally:
        close: Callable[[], None] | None = getattr(chunks, "close", None)
        if close is not None:
            close()


class TarChunks(Iterator[bytes]):
    """A layer's tar, verified on its way: see :func:`tar_chunks`.

    Attributes:
        trace: what is noted of the blob while it is inflated; whole when all chunks were taken.
    """

    def __init__(self, blob: Iterator[bytes], layer: Layer, what: str) -> None:
        self.trace = InflateTrace()
        fetched = _Stage("fetch", verified(blob, layer.blob.digest, what, layer.blob.size), blob)
        inflated = _Stage("inflate", self._inflate(fetched, what), fetched)
        checked = _Stage("diff-id", verified(inflated, layer.diff_id, f"{what}, uncompressed"), inflated)
        self._stages = (fetched, inflated, checked)
        self._last = checked
        # Under the reader's task: when that is cancelled, the stages stop, and so does the reading.
        self._task = Task(current())
        self._threads = [stage.start(self._task) for stage in self._stages]

    def __next__(self) -> bytes:
        try:
            return next(self._last)
        except _Stopped:
            raise ValueError("the layer's chunks are read after they were closed") from None

    def close(self) -> None:
        """Stop all stages; when they have ended the blob iterator is closed. Harmless if repeated.

        They are waited for, but not long: a blob that waits for something that cannot be woken must not hold up an interrupt
        or the news of another layer's fault. Its thread closes the blob and ends when that wait does.
        """
        for stage in self._stages:
            stage.stop()
        farewell(self._task, self._threads)

    def _inflate(self, blob: Iterator[bytes], what: str) -> Iterator[bytes]:
        try:
            yield from decompress(blob, what, self.trace)
        except LayerError:
            # Damage on the way breaks the compression too. Read on to the blob's end, so that a wrong digest, the cause, is
            # what gets told; only a blob that is what its digest says is itself to blame.
            deque(blob, maxlen=0)
            raise

    def __enter__(self) -> TarChunks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def tar_chunks(blob: Iterator[bytes], layer: Layer, what: str) -> TarChunks:
    """The bytes of *layer*'s tar, from the chunks of its *blob*; an iterator, and a context manager that must be left.

    Leaving it early stops the threads, and in any case closes *blob* if it is a generator or has ``close``, if it waits for
    something as soon as that comes. What the blob itself raises is passed on unchanged.

    Raises, from ``next()``, at the latest where the end would be:
        ContentError: the blob has not the size that its descriptor announces.
        DigestMismatchError: blob or tar hash to something else than the descriptor's digest and the layer's diff-id.
        LayerError: the blob cannot be decompressed, though it is the one that the digest names.
    """
    return TarChunks(blob, layer, what)
