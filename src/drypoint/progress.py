"""Progress reports, from several threads."""

from __future__ import annotations

from typing import Protocol


class Step(Protocol):
    """One running step."""

    def advance(self, amount: int) -> None:
        """Report that *amount* more is done, in the step's unit."""

    def end(self) -> None:
        """Report the end of the step."""


class Progress(Protocol):
    def begin(self, what: str, total: int | None = None) -> Step:
        """Start a step: *what* in a few words, *total* in bytes, or None if unknown."""

    def note(self, text: str) -> None:
        """Report a message for the user; one line."""


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
"""A progress that ignores all reports."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def human_size(amount: int) -> str:
    """*amount* bytes with a unit: ``1.5 GiB``."""
    value = float(amount)
    unit = 0
    while abs(value) >= 1024 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{amount} B"


def counted(number: int, noun: str) -> str:
    """``1 layer``, ``2 layers``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
