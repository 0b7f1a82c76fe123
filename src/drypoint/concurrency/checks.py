"""Checkers that run beside each other, and beside what is read meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from .tasks import thread_pool

_Result = TypeVar("_Result")

_AT_ONCE = 4
"""What e2fsck holds in memory grows with the file system."""


class Checkers:
    """Starts checkers, each in a thread that mostly waits for a child process."""

    def __init__(self, pool: ThreadPoolExecutor, stopped: threading.Event) -> None:
        self._pool = pool
        self._stopped = stopped

    def start(self, check: Callable[[threading.Event], _Result]) -> Future[_Result]:
        """Have *check* run. It is given what is set when nobody wants its result any more, and must end soon then."""
        return self._pool.submit(check, self._stopped)


@contextmanager
def checkers() -> Iterator[Checkers]:
    """For as long as the block runs. When it raises, the checkers that have not ended are stopped; else they are waited for."""
    stopped = threading.Event()
    with thread_pool(min(_AT_ONCE, os.cpu_count() or 1), "checker") as pool:
        try:
            yield Checkers(pool, stopped)
        except BaseException:
            stopped.set()
            raise
