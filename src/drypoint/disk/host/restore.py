"""Disk images that a run was changing in place when it was killed: recognized, and put back as they were."""

from __future__ import annotations

from pathlib import Path

from ...errors import OutputError
from ...progress import Progress
from ..device import FileDevice
from .in_place import backup_of, restore_file
from .undo import restore_device
from .undo_log import find_log


def restore(path: Path) -> Path:
    """Put back what the disk image *path*, a file or block device, held before a run changed it in place that was killed.

    Returns:
        The file that held it, which is gone now.

    Raises:
        OutputError: there is nothing to put back; or *path* is in use.
        DiskImageError: *path* cannot be opened or written, or what it held cannot be read.
    """
    return restore_device(path) if path.is_block_device() else restore_file(path)


def check_restored(device: FileDevice) -> None:
    """Refuse to change a disk image that a run was changing in place when it was killed.

    Raises:
        OutputError: what it held before is still there.
    """
    found = _held_before(device)
    if found is not None:
        raise OutputError(
            f"cannot change {device.name} in place: a run that was changing it was killed, and {found} holds what it was "
            f"before. drypoint restore {device.name} puts that back. If {device.name} is as you want it, remove {found}"
        )


def warn_of_half_changed(device: FileDevice, progress: Progress) -> None:
    """Warn of a disk image that a run was changing in place when it was killed."""
    found = _held_before(device)
    if found is not None:
        progress.note(
            f"warning: {device.name} may be half changed: a run that was changing it was killed, and {found} holds what it was "
            f"before. drypoint restore {device.name} puts that back"
        )


def _held_before(device: FileDevice) -> Path | None:
    return find_log(device) if device.is_block_device else backup_of(device.location[0])
