"""A pool of threads, and an ordered map over it."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from ..errors import ResourceError
from .tasks import Cancelled, Task, current, farewell, spawn

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


class Pool:
    """At most *workers* daemon threads, started on demand: concurrent.futures would block the interpreter's exit."""

    def __init__(self, workers: int, name: str) -> None:
        self.task = Task(current())
        self.threads: list[threading.Thread] = []
        self._workers = workers
        self._name = name
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._unfinished: set[Future[Any]] = set()
        self._given_up: BaseException | None = None

    def submit(
        self, work: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> Future[_Result]:
        """Run *work* when a thread is free. If the pool's task is cancelled first, the result is Cancelled."""
        future: Future[_Result] = Future()
        with self._lock:
            if self._given_up is not None:
                future.set_exception(self._given_up)
                return future
            self._unfinished.add(future)
            self._jobs.put(partial(self._do, future, partial(work, *args, **kwargs)))
            if len(self.threads) < self._workers:
                try:
                    self.threads.append(spawn(self._run, f"{self._name}-{len(self.threads)}", self.task))
                except ResourceError:
                    if not self.threads:
                        raise
        return future

    def give_up(self, error: BaseException) -> None:
        """Let all unfinished jobs, and all later ones, end with *error*; running ones continue until they check their task."""
        with self._lock:
            self._given_up = self._given_up or error
            for future in self._unfinished:
                future.set_exception(error)
            self._unfinished.clear()

    def end(self) -> None:
        """Let the threads end when all jobs are done."""
        for _ in self.threads:
            self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job

    def _do(self, future: Future[_Result], work: Callable[[], _Result]) -> None:
        if future.done():
            return
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is raised again, where the result is awaited
            self._settle(future, partial(future.set_exception, error))
        else:
            self._settle(future, partial(future.set_result, result))

    def _settle(self, future: Future[_Result], settle: Callable[[], None]) -> None:
        with self._lock:
            if future in self._unfinished:
                self._unfinished.discard(future)
                settle()


@contextmanager
def thread_pool(workers: int, name: str, *, patience: float | None = None) -> Iterator[Pool]:
    """A pool whose threads have ended when the block is left. If the block raises, waiting jobs are dropped, and running ones
    are cancelled.

    Args:
        patience: seconds to wait for cancelled threads, for work that waits for other machines. By default until they end, for
            work that computes or uses files that are closed after the block; it checks its task.
    """
    pool = Pool(workers, name)
    with pool.task.waker(lambda: pool.give_up(Cancelled())):
        try:
            yield pool
            pool.end()
            for thread in pool.threads:
                thread.join()
        except BaseException:
            pool.end()
            farewell(pool.task, pool.threads, patience)
            raise
        finally:
            pool.task.end()


def ordered_map(
    work: Callable[[_Item], _Result],
    items: Iterable[_Item],
    workers: int,
    name: str,
    *,
    ahead: int | None = None,
    patience: float | None = None,
) -> Iterator[_Result]:
    """The results of *work* for *items*, in their order, by *workers* threads. The first failure ends the map and is raised.

    Args:
        ahead: items in memory at a time; by default all, which keeps the threads busy if one item takes long.
        patience: as for :func:`thread_pool`.
    """
    with thread_pool(workers, name, patience=patience) as pool:

        def try_it(item: _Item) -> _Result:
            try:
                return work(item)
            except BaseException as error:
                pool.give_up(error)
                raise

        pending: deque[Future[_Result]] = deque()
        for item in items:
            current().check()
            pending.append(pool.submit(try_it, item))
            if len(pending) == ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
