"""Kinds of findings: how bad each is, what it means, and what to do about it. Each kind of store has a table of its own."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """The engine would drop an image, or a program would see other files than the image holds."""
    WARNING = "warning"
    """Something should not be there, or the engine would repair or remove it."""
    NOTE = "note"
    """A known, harmless difference, or a check that could not be made."""


class Kind(msgspec.Struct, frozen=True):
    """A kind of finding. *meaning* and *remedy* are clauses for readers."""

    severity: Severity
    meaning: str
    remedy: str


FETCH_AGAIN = "preload the image again, or let the device fetch it"
_REMOVE = "remove it; the engine does not use it"
_LEAVE = "no action needed"
E2FSCK = "run e2fsck -f on the file system, then verify again"


def error(meaning: str, remedy: str = FETCH_AGAIN) -> Kind:
    return Kind(Severity.ERROR, meaning, remedy)


def warning(meaning: str, remedy: str = _REMOVE) -> Kind:
    return Kind(Severity.WARNING, meaning, remedy)


def note(meaning: str, remedy: str = _LEAVE) -> Kind:
    return Kind(Severity.NOTE, meaning, remedy)
