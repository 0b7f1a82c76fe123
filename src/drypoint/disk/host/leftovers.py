"""The leftovers of killed runs next to their files, and how they are recognized.

``.NAME.XXXXXXXX.part`` is an output that never became NAME. A run holds a lock on its own, which the kernel releases when the
run ends in any way: an unlocked one belongs to a killed run. ``.NAME.XXXXXXXX.before`` is the content of NAME before it was
changed in place.
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
    """A leftover file, and the bytes that it takes."""

    path: Path
    size: int


class Unfinished(msgspec.Struct, frozen=True):
    """Unfinished outputs in a directory: those that were *removed*, and those of running jobs."""

    removed: tuple[Leftover, ...]
    under_way: tuple[Path, ...]


def part_name(path: Path) -> Path:
    """A new name for the unfinished output *path*."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def before_name(path: Path) -> Path:
    """A new name for the old content of *path* while it is changed in place."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.before")


def backups(path: Path) -> tuple[Path, ...]:
    """The old contents of *path*, a path without symbolic links, from killed runs that changed it in place; oldest first."""
    found = [entry for entry in _entries(path.parent) if _of(entry, _BEFORE, path.name)]
    return tuple(sorted(found, key=lambda entry: entry.lstat().st_mtime_ns))


def all_backups(directory: Path) -> tuple[Path, ...]:
    """The results of :func:`backups` for all files in *directory*."""
    return tuple(entry for entry in _entries(directory) if _of(entry, _BEFORE, None))


def remove_unfinished(directory: Path, name: str | None = None) -> Unfinished:
    """Remove unfinished outputs of killed runs: those of the file *name*, or all in *directory*."""
    removed: list[Leftover] = []
    under_way: list[Path] = []
    for entry in _entries(directory):
        if not _of(entry, _PART, name):
            continue
        try:
            fd = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            # It is another user's, or a run has just ended.
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
    """Prevent other runs from making files in *directory* inside the block; yields whether that is possible."""
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
