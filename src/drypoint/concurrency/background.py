"""Work in the background of a block, which ends with the block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..progress import Progress, Step
from .pool import thread_pool
from .tasks import current


class _StoppingProgress:
    """Passes progress on, and raises Cancelled at the next step once the work's task is cancelled."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def begin(self, what: str, total: int | None = None) -> Step:
        return _StoppingStep(self._progress.begin(what, total))

    def note(self, text: str) -> None:
        self._progress.note(text)


class _StoppingStep:
    def __init__(self, step: Step) -> None:
        self._step = step

    def advance(self, amount: int) -> None:
        current().check()
        self._step.advance(amount)

    def end(self) -> None:
        self._step.end()


@contextmanager
def background(work: Callable[[Progress], None], progress: Progress) -> Iterator[Callable[[], None]]:
    """Run *work* in a thread of its own while the block runs; both have ended when the block is left.

    Yields a function that waits for the work and raises what it raised, for a block that goes on with the work's result.

    When the block raises, the work is cancelled: it ends where it next reports progress or checks its task, and its own error
    is dropped. It is waited for, since it uses files that are closed or removed behind the block. Otherwise what the work
    raises is raised at the block's end.
    """
    with thread_pool(1, "background") as pool:
        done = pool.submit(work, _StoppingProgress(progress))
        yield done.result
        # An interrupt may well come here, where all that is left is to wait.
        done.result()
