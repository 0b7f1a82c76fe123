"""Protecting cleanup from interrupts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_blocks = 0


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Request no interrupt while the block runs, because a half restored state would be damage.

    The handler of signals in the main thread must check :func:`may_interrupt`, as the command line does.
    """
    # Global, because a signal handler gets no arguments.
    global _blocks
    _blocks += 1
    try:
        yield
    finally:
        _blocks -= 1


def may_interrupt() -> bool:
    """Whether no block of :func:`uninterrupted` runs."""
    return _blocks == 0
