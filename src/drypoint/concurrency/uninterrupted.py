"""Cleaning up that an interrupt shall not cut off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_blocks = 0


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ask for no interrupt while the block runs: it puts something back, and half of that would be damage.

    It is a wish: whoever handles signals in the main thread looks at :func:`may_interrupt`, as the command line does.
    """
    # Of the whole process, since a signal handler is called with nothing at hand.
    global _blocks
    _blocks += 1
    try:
        yield
    finally:
        _blocks -= 1


def may_interrupt() -> bool:
    """Whether no block of :func:`uninterrupted` runs."""
    return _blocks == 0
