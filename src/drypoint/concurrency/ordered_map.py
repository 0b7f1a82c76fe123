"""Work on the pieces of a stream by all cores at once, its results in the order of the pieces."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from .tasks import current, thread_pool

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def in_order(work: Callable[[_Item], _Result], items: Iterable[_Item], workers: int) -> Iterator[_Result]:
    """What *work* makes of each item, in order. For work that leaves the interpreter's lock.

    At most two items for each of the *workers* are in memory at a time.
    """
    pending: deque[Future[_Result]] = deque()
    with thread_pool(workers, "compress") as pool:
        for item in items:
            current().check()
            pending.append(pool.submit(work, item))
            if len(pending) >= 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
