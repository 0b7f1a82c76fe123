"""Removing the leftovers of killed runs."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..disk.host.leftovers import Unfinished, all_backups, remove_unfinished
from ..disk.host.undo_log import all_logs
from ..errors import UsageError


class Cleaned(msgspec.Struct, frozen=True):
    """The leftovers at a path.

    Attributes:
        unfinished: outputs of killed runs, which are removed, and of running jobs, which are kept.
        backups: kept, because only they can restore disk images that were changed in place.
    """

    unfinished: Unfinished
    backups: tuple[Path, ...] = ()


def clean(path: Path) -> Cleaned:
    """Remove unfinished outputs of killed runs: all in the directory *path*, or those of the output *path*.

    Raises:
        UsageError: there is no such directory.
    """
    is_directory = path.is_dir()
    directory, name = (path, None) if is_directory else (path.parent, path.name)
    if not directory.is_dir():
        raise UsageError(f"the directory {directory} does not exist")
    return Cleaned(remove_unfinished(directory, name), all_backups(directory) if is_directory else ())


def device_backups() -> tuple[Path, ...]:
    """The undo logs of block devices that were changed in place."""
    return all_logs()
