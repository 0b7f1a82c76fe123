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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TypeVar

FAREWELL_SECONDS = 0.8
"""How long closing waits for a thread that has been cancelled."""

_LOOK_SECONDS = 0.1

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


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


def farewell(task: Task, threads: Sequence[threading.Thread], seconds: float = FAREWELL_SECONDS) -> None:
    """Cancel *task*, and wait for *threads* to end, all together no longer than *seconds*."""
    task.cancel()
    deadline = time.monotonic() + seconds
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
    task.end()


@contextmanager
def thread_pool(workers: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """A pool for work that computes, or reads and writes local files, and checks its task. When the block raises, what waits
    is dropped, and what runs is cancelled; it has ended in any case when the block is left.
    """
    task = Task(current())

    def adopt() -> None:
        _threads.task = task

    with ThreadPoolExecutor(workers, f"drypoint-{name}", adopt) as pool:
        try:
            yield pool
        except BaseException:
            task.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            task.end()


def ask_at_once(ask: Callable[[_Item], _Result], items: Sequence[_Item], workers: int, name: str) -> list[_Result]:
    """What *ask* answers to each of *items*, in their order, asked by *workers* threads. For what waits for other machines.

    An interrupt or the first failure ends it within a second, and is raised.
    """
    changed = threading.Condition()
    waiting = list(reversed(range(len(items))))
    answers: dict[int, _Result] = {}
    failures: list[BaseException] = []
    task = Task(current())

    def work() -> None:
        while not task.cancelled:
            with changed:
                if not waiting:
                    return
                number = waiting.pop()
            try:
                answer = ask(items[number])
            except BaseException as error:  # noqa: BLE001 - it is raised again, where the answers are awaited
                with changed:
                    failures.append(error)
                    changed.notify_all()
                return
            with changed:
                answers[number] = answer
                changed.notify_all()

    def wake() -> None:
        with changed:
            changed.notify_all()

    threads = [spawn(work, f"{name}-{number}", task) for number in range(min(workers, len(items)))]
    try:
        with current().waker(wake), changed:
            while len(answers) < len(items) and not failures and not task.cancelled:
                changed.wait()
        current().check()
        if failures:
            raise failures[0]
    finally:
        farewell(task, threads)
    return [answers[number] for number in range(len(items))]
