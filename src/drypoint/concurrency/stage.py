"""A stage: a producer in a thread of its own, a bounded distance ahead of its consumer.

Hashing, inflating, sockets and disks release the interpreter lock, so that stages run at the same time; the buffers between
them bound memory and let the slowest stage set the pace.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Self, TypeAlias

from .tasks import Cancelled, Task, current, farewell, spawn

Write: TypeAlias = Callable[[bytes | memoryview], object]

_BUFFERED_BYTES = 4 << 20
_BUFFERED_CHUNKS = 64
# A producer that was too far ahead continues when half is left: waking it for every chunk costs more than the chunk.
_LOW_BYTES = _BUFFERED_BYTES // 2
_LOW_CHUNKS = _BUFFERED_CHUNKS // 2


class Stage(Iterator[bytes]):
    """The chunks that *produce* writes, in a thread that is at most 4 MiB ahead.

    An error of *produce* is raised at the end of the chunks. Stopping ends *produce* at its next write, or in the wait for a
    registry, a pipe or a program; then ``next()`` and its ``write`` raise Cancelled.

    Attributes:
        stopped: whether it was stopped.
    """

    def __init__(self, name: str, produce: Callable[[Write], object]) -> None:
        self._name = name
        self._produce = produce
        self._buffer: deque[bytes] = deque()
        self._buffered = 0
        self._changed = threading.Condition()
        self._ended = False
        self.stopped = False
        self._error: BaseException | None = None

    def start(self, task: Task) -> threading.Thread:
        """Run it under *task*; cancelling the task stops it, as :meth:`stop` does."""
        return spawn(partial(self._run, task), self._name, task)

    def __next__(self) -> bytes:
        with self._changed:
            while not self._buffer and not self._ended and not self.stopped:
                self._changed.wait()
            if self.stopped:
                raise Cancelled
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
            self.stopped = True
            self._buffer.clear()
            self._changed.notify_all()

    def _run(self, task: Task) -> None:
        error: BaseException | None = None
        with task.waker(self.stop):
            try:
                self._produce(self._write)
            except Cancelled:
                self.stop()
            except BaseException as raised:  # noqa: BLE001 - it is raised again, where the chunks are taken
                error = raised
        with self._changed:
            self._error = error
            self._ended = True
            self._changed.notify_all()

    def _write(self, data: bytes | memoryview) -> None:
        chunk = bytes(data)
        with self._changed:
            if self._buffered >= _BUFFERED_BYTES or len(self._buffer) >= _BUFFERED_CHUNKS:
                while not (self._is_low() or self.stopped):
                    self._changed.wait()
            if self.stopped:
                raise Cancelled
            self._buffer.append(chunk)
            self._buffered += len(chunk)
            if len(self._buffer) == 1:
                self._changed.notify_all()

    def _is_low(self) -> bool:
        return self._buffered <= _LOW_BYTES and len(self._buffer) <= _LOW_CHUNKS


class Stages(Iterator[bytes]):
    """The chunks of the last of *stages*, which run and end together. Use as a context manager.

    They start with the first ``next()``. After ``close()``, ``next()`` raises ValueError, like a read of a closed file, so that
    truncated output never looks complete.
    """

    def __init__(self, *stages: Stage) -> None:
        self._stages = stages
        self._last = stages[-1]
        self._task: Task | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start them before the first ``next()``."""
        # Under the reader's task: cancelling it stops the stages and the reading.
        self._task = Task(current())
        self._threads = [stage.start(self._task) for stage in self._stages]

    def __next__(self) -> bytes:
        if self._task is None and not self._last.stopped:
            self.start()
        try:
            return next(self._last)
        except Cancelled:
            current().check()
            raise ValueError("chunks are read after they were closed") from None

    def close(self) -> None:
        """Stop all stages, whatever they wait for, and wait for their end, at most a second. Idempotent."""
        for stage in self._stages:
            stage.stop()
        if self._task is not None:
            farewell(self._task, self._threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pulled(produce: Callable[[Write], object]) -> Stages:
    """A ``write`` producer as an iterator of chunks, and a context manager.

    *produce* runs in a thread, at most 4 MiB ahead. Its error is raised at the end of the chunks. Closing early stops it at its
    next write, or in a wait; ``next()`` then raises ValueError.

        with drypoint.pulled(lambda write: drypoint.pack(base, write, request)) as chunks:
            for chunk in chunks:
                ...
    """
    return Stages(Stage("pull", produce))
