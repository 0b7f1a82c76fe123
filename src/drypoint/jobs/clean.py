"""Removing what runs left that were killed."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..disk.host.leftovers import Unfinished, all_backups, remove_unfinished
from ..disk.host.undo_log import all_logs
from ..errors import UsageError


class Cleaned(msgspec.Struct, frozen=True):
    """What was found at a path.

    Attributes:
        unfinished: results of killed runs, removed, and of runs under way, kept.
        backups: kept: the only way back for disk images that were changed in place.
    """

    unfinished: Unfinished
    backups: tuple[Path, ...] = ()


def clean(path: Path) -> Cleaned:
    """Remove unfinished results of killed runs: all in the directory *path*, or those of the output *path*.

    Raises:
        UsageError: there is no such directory.
    """
    is_directory = path.is_dir()
    directory, name = (path, None) if is_directory else (path.parent, path.name)
    if not directory.is_dir():
        raise UsageError(f"the directory {directory} does not exist")
    return Cleaned(remove_unfinished(directory, name), all_backups(directory) if is_directory else ())


def device_backups() -> tuple[Path, ...]:
    """The ways back for block devices that were changed in place."""
    return all_logs()
