"""Recognizing and restoring disk images that a killed run was changing in place."""

from __future__ import annotations

from pathlib import Path

from ...errors import OutputError
from ...progress import Progress
from ..device import FileDevice
from .in_place import backup_of, restore_file
from .undo import restore_device
from .undo_log import find_log


def restore(path: Path) -> Path:
    """Restore the content of the disk image *path*, a file or block device, from before a killed run changed it in place.

    Returns:
        The file that held it, which is removed.

    Raises:
        OutputError: there is nothing to restore; or *path* is in use.
        DiskImageError: *path* cannot be opened or written, or its old content cannot be read.
    """
    return restore_device(path) if path.is_block_device() else restore_file(path)


def check_restored(device: FileDevice) -> None:
    """Refuse a disk image that a killed run was changing in place.

    Raises:
        OutputError: its old content can still be restored.
    """
    found = _held_before(device)
    if found is not None:
        raise OutputError(
            f"cannot change {device.name} in place: a run that was changing it was killed, and {found} holds what it was "
            f"before. drypoint restore {device.name} puts that back. If {device.name} is as you want it, remove {found}"
        )


def warn_of_half_changed(device: FileDevice, progress: Progress) -> None:
    """Warn of a disk image that a killed run was changing in place."""
    found = _held_before(device)
    if found is not None:
        progress.note(
            f"warning: {device.name} may be half changed: a run that was changing it was killed, and {found} holds what it was "
            f"before. drypoint restore {device.name} puts that back"
        )


def _held_before(device: FileDevice) -> Path | None:
    return find_log(device) if device.is_block_device else backup_of(device.location[0])
