"""What runs that were killed leave beside their files, and how it is recognized.

``.NAME.XXXXXXXX.part`` is a result that never became NAME. A run holds a lock on its own, which the kernel gives back when the
run ends in whatever way: one that is not locked belongs to a run that was killed. ``.NAME.XXXXXXXX.before`` is what NAME held
before it was changed in place.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from .locks import try_lock

_PART = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.part(\.[0-9a-f]{8})?", re.DOTALL)
_BEFORE = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.before", re.DOTALL)
_PATIENCE_SECONDS = 5.0
_LOOK_SECONDS = 0.02


class Leftover(msgspec.Struct, frozen=True):
    """A file that was left, and the bytes that it takes."""

    path: Path
    size: int


class Unfinished(msgspec.Struct, frozen=True):
    """Unfinished results in a directory: those that were *removed*, and those of runs under way."""

    removed: tuple[Leftover, ...]
    under_way: tuple[Path, ...]


def part_name(path: Path) -> Path:
    """A new name for what is to become *path*."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def before_name(path: Path) -> Path:
    """A new name for what *path* held before it was changed in place."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.before")


def backups(path: Path) -> tuple[Path, ...]:
    """What *path*, a name without symbolic links, held before runs changed it in place that were killed; oldest first."""
    found = [entry for entry in _entries(path.parent) if _of(entry, _BEFORE, path.name)]
    return tuple(sorted(found, key=lambda entry: entry.lstat().st_mtime_ns))


def all_backups(directory: Path) -> tuple[Path, ...]:
    """All that :func:`backups` finds for any file in *directory*."""
    return tuple(entry for entry in _entries(directory) if _of(entry, _BEFORE, None))


def remove_unfinished(directory: Path, name: str | None = None) -> Unfinished:
    """Remove unfinished results that belong to no run any more: those of the file *name*, or all in *directory*."""
    removed: list[Leftover] = []
    under_way: list[Path] = []
    for entry in _entries(directory):
        if not _of(entry, _PART, name):
            continue
        try:
            fd = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            # Another user's, or a run has ended just now.
            continue
        try:
            status = os.fstat(fd)
            locked = try_lock(fd) if stat.S_ISREG(status.st_mode) else None
            if locked is False:
                under_way.append(entry)
            elif locked:
                with suppress(OSError):
                    entry.unlink()
                    removed.append(Leftover(entry, status.st_blocks * 512))
        finally:
            os.close(fd)
    return Unfinished(tuple(removed), tuple(under_way))


@contextmanager
def names_locked(directory: Path) -> Iterator[bool]:
    """Keep other runs from making files in *directory* for a moment; whether that could be had."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (locked := try_lock(fd)) is False and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        yield bool(locked)
    finally:
        os.close(fd)


def _entries(directory: Path) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            return [directory / entry.name for entry in entries if entry.name.startswith(".")]
    except OSError:
        return []


def _of(entry: Path, pattern: re.Pattern[str], name: str | None) -> bool:
    found = pattern.fullmatch(entry.name)
    return found is not None and name in (None, found["name"])
