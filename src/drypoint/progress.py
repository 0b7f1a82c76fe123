"""Progress reports of long work. Steps are reported from several threads."""

from __future__ import annotations

from typing import Protocol


class Step(Protocol):
    """One piece of work under way."""

    def advance(self, amount: int) -> None:
        """*amount* more of it is done, in the step's unit."""

    def end(self) -> None:
        """The step is done; nothing more is reported of it."""


class Progress(Protocol):
    def begin(self, what: str, total: int | None = None) -> Step:
        """A step begins: *what* in a few words, *total* in bytes, or None when it is not known."""

    def note(self, text: str) -> None:
        """Something happened that the user may want to know; one line."""


class _Nothing:
    def begin(self, what: str, total: int | None = None) -> Step:
        return self

    def note(self, text: str) -> None:
        return

    def advance(self, amount: int) -> None:
        return

    def end(self) -> None:
        return


SILENT: Progress = _Nothing()
"""For callers that want to hear nothing."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def human_size(amount: int) -> str:
    """*amount* bytes for people: ``1.5 GiB``."""
    value = float(amount)
    unit = 0
    while abs(value) >= 1024 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{amount} B"


def counted(number: int, noun: str) -> str:
    """``1 layer``, ``2 layers``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
