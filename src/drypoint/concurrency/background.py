"""Work in the background of a block, which ends with the block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from ..progress import Progress, Step
from .tasks import Task, current, spawn


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
    stopping = _StoppingProgress(progress)
    done: Future[None] = Future()
    task = Task(current())

    def run() -> None:
        try:
            work(stopping)
        except BaseException as error:  # noqa: BLE001 - it is raised again, where the work is waited for
            done.set_exception(error)
        else:
            done.set_result(None)

    thread: threading.Thread | None = None
    try:
        thread = spawn(run, "background", task)
        yield done.result
        # An interrupt may well come here, where all that is left is to wait.
        done.result()
    except BaseException:
        task.cancel()
        raise
    finally:
        task.end()
        if thread is not None:
            thread.join()
