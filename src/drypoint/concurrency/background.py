"""Background work while a block runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..progress import Progress, Step
from .pool import thread_pool
from .tasks import current


class _StoppingProgress:
    """Forwards progress, and raises Cancelled at the next step once the work's task is cancelled."""

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

    Yields a function that waits for the work and raises its error, for a block that needs the work's result.

    If the block raises, the work is cancelled: it ends when it next reports progress or checks its task, and its own error is
    dropped. The block's end waits for it, because it uses files that are closed or removed afterwards. Otherwise the work's
    error is raised at the block's end.
    """
    with thread_pool(1, "background") as pool:
        done = pool.submit(work, _StoppingProgress(progress))
        yield done.result
        # An interrupt may come here, while only waiting is left.
        done.result()
