"""Ending the program on a signal: an exception in the main thread, which unwinds and cleans up like any other.

Python's own way with signals has three holes, each of which was met: a signal that comes just before the main thread begins to
wait does not wake it; an exception that comes between two lines of ``threading`` leaves a lock as it should not be; one that
comes in a destructor is shown and dropped.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from .. import may_interrupt
from ..errors import ResourceError
from . import ENDING, end_at_once

_PACKAGE = __name__.partition(".")[0]
_SPARED = (__name__, may_interrupt.__module__)
"""Modules of this package that are treated like a library's: the signal handler, and the start of uninterrupted work."""
_SECONDS_BETWEEN_LOOKS = 0.01
_MOST_LOOKS = 100


class Terminated(BaseException):
    """A signal came; unwinds like KeyboardInterrupt, and like it is not an Exception that anyone may swallow.

    Attributes:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def terminable() -> Iterator[None]:
    """While the block runs, have the signals that end a program raise :exc:`Terminated`, once, in the main thread.

    Further ones change nothing, not even after the block: what follows is cleaning up and a last word. A signal that is
    ignored already (nohup, a shell's background jobs) stays ignored. For the main thread only.
    """
    ending = _Ending()
    try:
        ending.begin()
        yield
    except (Exception, SystemExit) as error:
        # The signal may be the cause of the failure: a child got it, too.
        if ending.number:
            raise Terminated(ending.number) from error
        raise
    finally:
        ending.end()


class _Ending:
    """Raises in the main thread soon after a signal, at a place where that does no harm."""

    def __init__(self) -> None:
        self._installed: set[int] = set()
        self._settled = False
        """Whether nothing is raised any more: it has been, or it is too late."""
        self._over = False
        self._looks = 0
        self._number = 0
        self._seen: tuple[FrameType, int] | None = None
        """Frame and instruction of a library's function at the last check."""
        self._seen_at = 0.0
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._main = threading.get_ident()
        self._hook = sys.unraisablehook
        self._watcher = threading.Thread(target=self._watch, name="drypoint-signals", daemon=True)

    @property
    def number(self) -> int:
        """The number of the first signal that came; 0 if none did."""
        return self._number

    def begin(self) -> None:
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        sys.unraisablehook = self._raise_again
        try:
            self._watcher.start()
        except RuntimeError as error:
            raise ResourceError("the system starts no more threads for this user, or has no memory for one") from error
        for number in ENDING:
            now = signal.getsignal(number)
            if now in (signal.SIG_DFL, signal.default_int_handler, end_at_once) or _is_ours(now):
                signal.signal(number, self._handle)
                self._installed.add(number)

    def end(self) -> None:
        self._settled = self._over = True
        self._seen = None
        signal.set_wakeup_fd(-1)
        sys.unraisablehook = self._hook
        # One that is full has something to read anyway.
        with suppress(BlockingIOError):
            os.write(self._writer, b"\0")
        if self._watcher.ident is not None:
            self._watcher.join()
        os.close(self._reader)
        os.close(self._writer)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._settled:
            return
        # The first one counts, and another wakes the main thread as well.
        self._number = self._number or number
        if self._harmless(frame):
            self._settled = True
            self._seen = None
            raise Terminated(self._number)

    def _harmless(self, frame: FrameType | None) -> bool:
        """Whether an exception may come in *frame*, the innermost of the main thread.

        In this package's own functions it may. A library's function may be about to acquire or release a lock, or to return a
        new resource: there only where it does not move, because it waits or does not end within a second.
        """
        if not may_interrupt():
            return False
        module = _PACKAGE if frame is None else str(frame.f_globals.get("__name__"))
        if frame is None or (module.partition(".")[0] == _PACKAGE and module not in _SPARED):
            return True
        now = time.monotonic()
        if now - self._seen_at < _SECONDS_BETWEEN_LOOKS / 2:
            # Two signals at once are handled one after the other.
            return False
        here = frame, frame.f_lasti
        waits = here == self._seen
        self._seen, self._seen_at = here, now
        self._looks += 1
        return waits or self._looks >= _MOST_LOOKS

    def _watch(self) -> None:
        """Wake the main thread again and again until it has raised for a signal."""
        while not self._over:
            (number,) = os.read(self._reader, 1)
            while number in self._installed and not self._settled:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                # Also interrupts what it waits for.
                signal.pthread_kill(self._main, number)

    def _raise_again(self, unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, Terminated):
            self._hook(unraisable)
            return
        self._settled = False
        os.write(self._writer, bytes([unraisable.exc_value.number]))


def _is_ours(handler: object) -> bool:
    """Whether *handler* is that of a block that ended in this process before."""
    return isinstance(getattr(handler, "__self__", None), _Ending)
