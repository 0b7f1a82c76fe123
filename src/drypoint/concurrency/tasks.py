"""Threads, and one rule for ending them: closing waits at most a second, whatever the other side does.

A thread runs under a :class:`Task`. Cancelling the task ends the thread's waits, because each wait registers how to wake it: a
socket is shut down, a child process killed, a condition notified. Long work without waits checks its task. Both raise
:exc:`Cancelled`. A task under another one is cancelled with it, so that closing the outermost object ends all threads below.

Two waits cannot be woken: resolving a host's name, and connecting. Therefore the threads are daemons: such a thread ends at its
own timeout, and does not block the exit of the program.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from ..errors import ResourceError

FAREWELL_SECONDS = 0.8
"""Seconds that closing waits for cancelled threads."""

_LOOK_SECONDS = 0.1


class Cancelled(BaseException):
    """Unwinds work whose result is no longer needed. Not an Exception, so that nothing takes it for a failure and retries."""


class Task:
    """The task of one or more threads. It is cancelled with its *parent*."""

    def __init__(self, parent: Task | None = None) -> None:
        # Held while wakers run: a waker must not be called after its wait, because its socket may serve another request.
        self._lock = threading.RLock()
        self._wakers: dict[object, Callable[[], object]] = {}
        self._parent = parent
        self.cancelled = False
        if parent is not None:
            parent._add(self, self.cancel)

    def cancel(self) -> None:
        """Cancel this task and all below, and wake their waits. Idempotent."""
        with self._lock:
            if self.cancelled:
                return
            self.cancelled = True
            for wake in list(self._wakers.values()):
                wake()
            self._wakers.clear()

    def end(self) -> None:
        """Remove the task from its parent: its work is done."""
        if self._parent is not None:
            self._parent._remove(self)

    def check(self) -> None:
        """Raise Cancelled if the task is cancelled."""
        if self.cancelled:
            raise Cancelled

    @contextmanager
    def waker(self, wake: Callable[[], object]) -> Iterator[None]:
        """Call *wake* from another thread if the task is cancelled while the block runs; at once if it is cancelled already.

        *wake* must not raise, and may take a lock that the block takes and releases inside.
        """
        key = object()
        self._add(key, wake)
        try:
            yield
        finally:
            self._remove(key)

    def _add(self, key: object, wake: Callable[[], object]) -> None:
        with self._lock:
            if not self.cancelled:
                self._wakers[key] = wake
                return
        wake()

    def _remove(self, key: object) -> None:
        with self._lock:
            self._wakers.pop(key, None)


_ROOT = Task()
_threads = threading.local()


def current() -> Task:
    """The task of the calling thread. That of a thread not started here is never cancelled."""
    task: Task = getattr(_threads, "task", _ROOT)
    return task


def wait_for(event: threading.Event, seconds: float) -> bool:
    """Wait until *event* is set, at most *seconds*; returns whether it is. Raises Cancelled if the task is cancelled."""
    task = current()
    if task is _ROOT:
        return event.wait(seconds)
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and not event.wait(min(left, _LOOK_SECONDS)):
        task.check()
    return event.is_set()


def wait_readable(fd: int) -> None:
    """Wait until a read of *fd*, a pipe, socket or terminal, would not block; raises Cancelled if the task is cancelled."""
    task = current()
    wanted, want = os.pipe()
    try:
        with task.waker(lambda: os.write(want, b"\0")):
            poll = select.poll()
            for one in (fd, wanted):
                poll.register(one, select.POLLIN)
            poll.poll()
    finally:
        os.close(wanted)
        os.close(want)
    task.check()


def spawn(work: Callable[[], None], name: str, task: Task) -> threading.Thread:
    """Run *work* under *task* in a thread of its own, which has started when this returns."""

    def run() -> None:
        _threads.task = task
        with suppress(Cancelled):
            work()

    thread = threading.Thread(target=run, name=f"drypoint-{name}", daemon=True)
    start(thread)
    return thread


def start(thread: threading.Thread) -> None:
    """Start *thread*.

    Raises:
        ResourceError: the system starts no more threads.
    """
    try:
        thread.start()
    except RuntimeError as error:
        raise ResourceError(
            "the system starts no more threads for this user, or has no memory for one: end other programs, or raise the "
            "limits (ulimit -u, ulimit -v)"
        ) from error


def farewell(task: Task, threads: Sequence[threading.Thread], seconds: float | None = FAREWELL_SECONDS) -> None:
    """Cancel *task*, and wait for *threads* to end, together at most *seconds*; None for no limit."""
    task.cancel()
    deadline = None if seconds is None else time.monotonic() + seconds
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
    task.end()
