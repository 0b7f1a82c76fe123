"""Work that writes, for callers that rather read."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeAlias

from .tasks import Cancelled, Task, current, farewell, spawn

Write: TypeAlias = Callable[[bytes | memoryview], object]

_BUFFERED_BYTES = 4 << 20


class Pulled(Iterator[bytes]):
    """What *produce* writes, chunk by chunk, as it comes; it runs in a thread, at most 4 MiB ahead of its consumer.

    What *produce* raises is raised where the end would be. Closing early stops it where it writes next, or in
    what it waits for: a registry, a pipe, a program. Use as a context manager.

        with drypoint.pulled(lambda write: drypoint.pack(base, write, request)) as chunks:
            for chunk in chunks:
                ...
    """

    def __init__(self, produce: Callable[[Write], object]) -> None:
        self._produce = produce
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._changed = threading.Condition()
        self._ended = False
        self._closed = False
        self._error: BaseException | None = None
        self._task: Task | None = None
        self._thread: threading.Thread | None = None

    def __next__(self) -> bytes:
        if self._thread is None and not self._closed:
            self._task = Task(current())
            self._thread = spawn(self._run, "pull", self._task)
        with current().waker(self._stop), self._changed:
            while not self._chunks and not self._ended and not self._closed:
                self._changed.wait()
            if self._chunks and not self._closed:
                chunk = self._chunks.popleft()
                self._buffered -= len(chunk)
                self._changed.notify_all()
                return chunk
            error, self._error = self._error, None
        current().check()
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        """Stop *produce*, whatever it waits for, and wait until it has ended, a second at most. Harmless if repeated."""
        self._stop()
        if self._task is not None and self._thread is not None:
            farewell(self._task, [self._thread])

    def _stop(self) -> None:
        with self._changed:
            self._closed = True
            self._chunks.clear()
            self._changed.notify_all()

    def __enter__(self) -> Pulled:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._produce(self._write)
        except Cancelled:
            error = None
        except BaseException as raised:  # noqa: BLE001 - it is raised again, where the chunks are taken
            error = raised
        with self._changed:
            # What failed because it was stopped is no news.
            self._error = None if self._closed else error
            self._ended = True
            self._changed.notify_all()

    def _write(self, data: bytes | memoryview) -> None:
        chunk = bytes(data)
        with self._changed:
            while self._buffered >= _BUFFERED_BYTES and not self._closed:
                self._changed.wait()
            if self._closed:
                raise Cancelled
            self._chunks.append(chunk)
            self._buffered += len(chunk)
            self._changed.notify_all()


def pulled(produce: Callable[[Write], object]) -> Pulled:
    """See :class:`Pulled`."""
    return Pulled(produce)
