"""The notes of a job, and the names in a directory."""

from __future__ import annotations

from pathlib import Path

from drypoint.progress import SILENT, Step


class Notes:
    """A progress that collects notes in *texts*."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def begin(self, what: str, total: int | None = None) -> Step:
        return SILENT.begin(what, total)

    def note(self, text: str) -> None:
        self.texts.append(text)


def names(directory: Path) -> list[str]:
    """The names in *directory*, sorted."""
    return sorted(item.name for item in directory.iterdir())
