"""Threads, and one rule for ending them: closing waits at most a second, whatever the other side does.

A thread runs under a :class:`Task`. Cancelling the task wakes what the thread waits in, since each wait says how to end it: a
socket is shut down, a child process killed, a condition notified. Work that takes long without a wait checks its task. Both
raise :exc:`Cancelled`. A task that is begun under another one is cancelled with it, so that closing the outermost thing ends
all threads below.

Two waits cannot be woken: the lookup of a host's name, and the attempt to connect. The threads are daemons for their sake:
such a thread ends when its own timeout does, and keeps no program from ending.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

FAREWELL_SECONDS = 0.8
"""How long closing waits for a thread that has been cancelled."""

_LOOK_SECONDS = 0.1


class Cancelled(BaseException):
    """Unwinds work whose result is not wanted any more. Not an Exception: nothing is to take it for a failure and retry."""


class Task:
    """What a thread works for. *parent*: it is cancelled with that one."""

    def __init__(self, parent: Task | None = None) -> None:
        # Held while wakers run: one whose wait has ended must not be called, since its socket may serve another request.
        self._lock = threading.RLock()
        self._wakers: dict[object, Callable[[], object]] = {}
        self._parent = parent
        self.cancelled = False
        if parent is not None:
            parent._add(self, self.cancel)

    def cancel(self) -> None:
        """Wake all that waits under this task, and below. Harmless if repeated."""
        with self._lock:
            if self.cancelled:
                return
            self.cancelled = True
            for wake in list(self._wakers.values()):
                wake()
            self._wakers.clear()

    def end(self) -> None:
        """Forget the task: what it was begun for is done."""
        if self._parent is not None:
            self._parent._remove(self)

    def check(self) -> None:
        """Raise Cancelled if it is so."""
        if self.cancelled:
            raise Cancelled

    @contextmanager
    def waker(self, wake: Callable[[], object]) -> Iterator[None]:
        """Have *wake* called if the task is cancelled while the block runs, by another thread; at once if it was before.

        *wake* may take a lock that the block takes and releases inside, and must not raise.
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
    """The task of the calling thread. That of a thread which is not ours is never cancelled."""
    task: Task = getattr(_threads, "task", _ROOT)
    return task


def wait_for(event: threading.Event, seconds: float) -> bool:
    """Wait until *event* is set, *seconds* at most; whether it is. Cancelled if the thread's task is cancelled first."""
    task = current()
    if task is _ROOT:
        return event.wait(seconds)
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and not event.wait(min(left, _LOOK_SECONDS)):
        task.check()
    return event.is_set()


def wait_readable(fd: int) -> None:
    """Wait until a read of *fd*, a pipe, socket or terminal, would not wait; Cancelled if the task is cancelled first."""
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
    """Run *work* under *task* in a thread of its own, which has begun when this returns."""

    def run() -> None:
        _threads.task = task
        with suppress(Cancelled):
            work()

    thread = threading.Thread(target=run, name=f"drypoint-{name}", daemon=True)
    thread.start()
    return thread


def farewell(task: Task, threads: Sequence[threading.Thread], seconds: float | None = FAREWELL_SECONDS) -> None:
    """Cancel *task*, and wait for *threads* to end, all together no longer than *seconds*; None: as long as they take."""
    task.cancel()
    deadline = None if seconds is None else time.monotonic() + seconds
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
    task.end()
