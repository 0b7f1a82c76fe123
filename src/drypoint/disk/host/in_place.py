"""Changing a file in place: restored if that fails, and restorable if the run is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...concurrency.uninterrupted import uninterrupted
from ...errors import DiskImageError, OutputError
from ...progress import SILENT, Progress
from ..device import FileDevice
from .copies import copy_sparse
from .full import full_error, is_full
from .leftovers import backups, before_name, part_name
from .locks import try_lock
from .output import flush_directory, taken


@contextmanager
def in_place(path: Path, *, progress: Progress = SILENT) -> Iterator[Path]:
    """Let the block change *path* in place; if it fails, *path* gets its old content back.

    A sparse copy is made in its directory first (``.NAME.XXXXXXXX.before``, sharing blocks where the file system can), which
    needs space for it. On success the file stays the same inode (hard links to it see the change). On failure the copy, with
    owner and mode of the original, is renamed over it; if it has other names, the content is copied back, so that all of
    them have it. If the process is killed, the copy stays: :func:`restore_file` restores it.

    Args:
        path: may have symbolic links; the file at their end is changed, and the block gets its real path.
        progress: gets warnings about errors after the change was complete.

    Raises:
        OutputError: the path is not a regular file, or the copy cannot be made.
    """
    if not path.is_file():
        raise OutputError(f"{path} cannot be changed in place: it is not a regular file")
    shown, path = path, path.resolve()
    backup = _backed_up(path, shown)
    try:
        yield path
        _flush(path, shown)
    except BaseException as error:
        with uninterrupted():
            full = full_error(shown, taken(path)) if is_full(error) else None
            _put_back(backup, path, shown, error)
        if full is not None:
            raise full from error
        raise
    try:
        backup.unlink()
    except OSError as error:
        progress.note(
            f"warning: {shown} is changed, and complete; but {backup}, which holds what it was before, cannot be removed: "
            f"{error.strerror}. Remove it"
        )


def restore_file(path: Path) -> Path:
    """Restore the content of the file *path* from before a killed run changed it in place; returns the file that held it.

    Raises:
        OutputError: there is nothing to restore; another run uses *path*; or it cannot be written.
        DiskImageError: *path* cannot be opened, or its old content cannot be read.
    """
    real = path.resolve()
    with FileDevice(path) as device:
        device.lock(exclusive=True)
        found = backup_of(path)
        if found is None:
            raise OutputError(f"there is nothing to put back: there is no .{real.name}.XXXXXXXX.before next to {real}")
        with uninterrupted():
            _put_back(found, real, path, None)
    return found


def backup_of(path: Path) -> Path | None:
    """The file with the content of *path* from before a killed run changed it in place, or None.

    Of several, the oldest: a later one was copied from a file that was already half changed.
    """
    return next(iter(backups(path.resolve())), None)


def _backed_up(path: Path, shown: Path) -> Path:
    """A copy of *path* in its directory, which gets its name when it is complete."""
    part, backup = part_name(path), before_name(path)
    try:
        _copy(path, part)
        part.rename(backup)
        flush_directory(path.parent)
    except BaseException as error:
        with uninterrupted():
            full = full_error(shown, taken(part)) if is_full(error) else None
            part.unlink(missing_ok=True)
            backup.unlink(missing_ok=True)
        if full is not None:
            raise full from error
        if isinstance(error, OSError):
            raise OutputError(f"cannot copy {shown} in its directory: {error.strerror}") from error
        raise
    return backup


def _copy(path: Path, copy: Path) -> None:
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(source)
        target = os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try_lock(target)
            copy_sparse(source, target, for_good=True)
            # The owner before the mode, because chown clears setuid bits. A user without the right to chown can only have
            # written another owner's file as a member of its group.
            with suppress(PermissionError):
                os.fchown(target, status.st_uid, status.st_gid)
            os.fchmod(target, status.st_mode & 0o7777)
            os.fsync(target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _put_back(backup: Path, path: Path, shown: Path, failed: BaseException | None) -> None:
    """Restore *path* from *backup*.

    Raises:
        DiskImageError: that failed; the message also names the first failure, *failed*.
    """
    try:
        if path.stat().st_nlink > 1 or not _renamed(backup, path):
            _copy_back(backup, path)
            backup.unlink()
        flush_directory(path.parent)
    except (OSError, DiskImageError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        first = "" if failed is None else f". What failed first: {failed}"
        if backup.exists():
            raise DiskImageError(
                f"{shown} cannot be put back as it was, and is damaged now: {what}. {backup} holds what it was before; "
                f"drypoint restore {shown} tries again{first}"
            ) from error
        raise DiskImageError(
            f"{shown} is as it was before, but that may not survive a loss of power: {path.parent} cannot be flushed: {what}"
            f"{first}"
        ) from error


def _renamed(backup: Path, path: Path) -> bool:
    try:
        backup.replace(path)
    except OSError:
        # A file that is mounted over another one cannot be replaced, but it can be written.
        return False
    return True


def _copy_back(backup: Path, path: Path) -> None:
    source = os.open(backup, os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.ftruncate(target, 0)
            copy_sparse(source, target)
            os.fsync(target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _flush(path: Path, shown: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        raise OutputError(f"cannot write {shown}: {error.strerror}") from error
    finally:
        os.close(fd)
