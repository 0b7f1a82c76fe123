"""The command line. One module a command; :mod:`.render` alone prints and exits."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from contextlib import suppress

__all__ = ["main"]

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals of Ctrl-C, of a service manager that stops the program, and of a terminal that closes."""
KILLED_BY = 128
"""The number that shells add to a signal's for an exit status."""


def main() -> None:
    """Entry point of the ``drypoint`` program."""
    # Before anything that takes time is imported: Python would answer Ctrl-C with a traceback.
    for number in ENDING:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, end_at_once)
    # Objects made for each file of a layer are in no cycle: collecting after every 700 objects takes 1 % of the time, and
    # one collection of 100,000 takes 30 ms.
    gc.set_threshold(1_000_000)
    # What is registered first is called last.
    atexit.register(_leave, statuses := [])

    from .app import run

    try:
        run()
    except SystemExit as end:
        statuses.append(end.code)
        raise


def end_at_once(number: int, _: object) -> None:
    """A signal handler for the time before there is anything to clean up."""
    os._exit(KILLED_BY + number)


def _leave(statuses: list[int]) -> None:
    """End at once: a thread may still wait for a registry, and what it uses must not be taken down under it; that can crash.

    Nor does looking for cycles once more, which is part of the usual end, do anything for a process that ends.
    """
    if statuses:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(statuses[0])
