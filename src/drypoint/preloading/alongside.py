"""A piece of work beside another, which ends with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from ..progress import Progress, Step


class _UnwantedError(Exception):
    """Nobody wants the work any more."""


class _StoppingProgress:
    """Passes on how far the work is, and ends it at the next step once :attr:`stopped` is set."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.stopped = threading.Event()

    def begin(self, what: str, total: int | None = None) -> Step:
        return _StoppingStep(self._progress.begin(what, total), self.stopped)

    def note(self, text: str) -> None:
        self._progress.note(text)


class _StoppingStep:
    def __init__(self, step: Step, stopped: threading.Event) -> None:
        self._step = step
        self._stopped = stopped

    def advance(self, amount: int) -> None:
        if self._stopped.is_set():
            raise _UnwantedError
        self._step.advance(amount)

    def end(self) -> None:
        self._step.end()


@contextmanager
def alongside(work: Callable[[Progress], None], progress: Progress) -> Iterator[Callable[[], None]]:
    """Run *work* in a thread of its own while the block runs; both are done when the block is left.

    Gives what waits for the work, and raises what it raised, for a block that goes on with what the work has made.

    When the block raises, the work ends where it next tells how far it is, and what it came to does not matter. What the work
    itself raises is raised at the block's end.
    """
    told = _StoppingProgress(progress)
    with ThreadPoolExecutor(1, "drypoint-alongside") as thread:
        try:
            under_way = thread.submit(work, told)
            yield under_way.result
            # An interrupt may well come here, where all that is left is to wait.
            under_way.result()
        except BaseException:
            told.stopped.set()
            raise
