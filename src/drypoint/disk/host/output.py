"""Outputs that appear under their name only when complete, and files changed in place that are restored on failure."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...concurrency.uninterrupted import uninterrupted
from ...errors import OutputError
from .copies import copy_sparse

_NO_LINK = frozenset(
    {errno.EXDEV, errno.ENOENT, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
)
"""What linking a nameless file says where it cannot be done; copying it may go all the same."""


@contextmanager
def whole_file(path: Path, *, overwrite: bool = False, inputs: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield a path to write to; rename it to *path* when the block succeeds, remove it when the block fails.

    The file is in the target's directory (``.NAME.XXXXXXXX.part``, empty, mode by the umask). On success it is flushed to
    the disk, renamed, and the rename flushed. On any exception, interrupts included, it is removed, and an older file named
    *path* is unchanged.

    Args:
        path: the target.
        overwrite: whether an existing file may be replaced.
        inputs: files that the job reads; none of them may be the target.

    Raises:
        OutputError: the target is a directory, an input, or exists; its directory is missing or cannot be written; the file
            system is full (from any write inside the block).
    """
    check_target(path, overwrite, inputs)
    part = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    except BaseException:
        # An interrupt may arrive after the call that made the file.
        part.unlink(missing_ok=True)
        raise
    try:
        yield part
        _publish(part, path, overwrite)
    except BaseException as error:
        with uninterrupted():
            full = _full(path, part) if _is_full(error) else None
            part.unlink(missing_ok=True)
        if full is not None:
            raise full from error
        raise


def adopt(fd: int, part: Path) -> None:
    """Make *part*, empty and from :func:`whole_file`, the unnamed file *fd*: the same file, or else a sparse copy.

    Later writes through *fd* appear in *part* only if it is the same file: open *part* instead.

    Args:
        fd: from :func:`.nameless_file`, in any directory. It gets the mode of *part*.

    Raises:
        OutputError: there is no space for a copy, or it cannot be written.
    """
    linked = part.with_name(f"{part.name}.{secrets.token_hex(4)}")
    try:
        if not _link_nameless(fd, linked):
            target = os.open(part, os.O_RDWR | os.O_CLOEXEC)
            try:
                copy_sparse(fd, target, for_good=True)
            finally:
                os.close(target)
            return
        try:
            os.fchmod(fd, part.stat().st_mode & 0o7777)
            linked.replace(part)
        except BaseException:
            linked.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"cannot write {part}: {error.strerror}") from error


@contextmanager
def in_place(path: Path) -> Iterator[Path]:
    """Let the block change *path* in place; if it fails, *path* gets its old content back.

    A sparse copy is made in its directory first (sharing blocks where the file system can), which needs space for it. On
    success the file stays the same inode (hard links to it see the change); on failure the copy is renamed over it, with
    the owner and mode of the original.

    Raises:
        OutputError: the path is not a regular file, or the copy cannot be made.
    """
    if not path.is_file():
        raise OutputError(f"{path} cannot be changed in place: it is not a regular file")
    backup = path.parent / f".{path.name}.{secrets.token_hex(4)}.before"
    try:
        _back_up(path, backup)
    except BaseException as error:
        with uninterrupted():
            full = _full(path, backup) if _is_full(error) else None
            backup.unlink(missing_ok=True)
        if full is not None:
            raise full from error
        if isinstance(error, OSError):
            raise OutputError(f"cannot copy {path} in its directory: {error.strerror}") from error
        raise
    try:
        yield path
        _flush(path)
    except BaseException as error:
        with uninterrupted():
            full = _full(path, path) if _is_full(error) else None
            backup.replace(path)
            _flush_directory(path.parent)
        if full is not None:
            raise full from error
        raise
    backup.unlink()


def check_target(path: Path, overwrite: bool, inputs: tuple[Path, ...]) -> None:
    """Refuse a target that :func:`whole_file` would refuse.

    Raises:
        OutputError: as :func:`whole_file`.
    """
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: the directory {path.parent} does not exist; create it first")
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a directory; give the name of a file in it")
    if not path.exists():
        if path.is_symlink() and not overwrite:
            raise OutputError(f"cannot write {path}: it is a symbolic link that leads nowhere; remove it first")
        return
    for source in inputs:
        if source.exists() and path.samefile(source):
            raise OutputError(
                f"cannot write {path}: it is the input {source}, which is never modified; choose another name"
            )
    if not path.is_file():
        raise OutputError(f"cannot write {path}: it exists and is not a regular file")
    if not overwrite:
        raise OutputError(
            f"cannot write {path}: it exists; remove it, choose another name, or overwrite it (--overwrite)"
        )


def _publish(part: Path, path: Path, overwrite: bool) -> None:
    # Content before name: after a power loss the name must never lead to half a file.
    _flush(part)
    if overwrite:
        part.replace(path)
    else:
        _rename_new(part, path)
    _flush_directory(path.parent)


def _rename_new(part: Path, path: Path) -> None:
    """Rename, but never over a file made meanwhile; without hard links, only a check prevents this."""
    try:
        path.hardlink_to(part)
    except FileExistsError as error:
        raise OutputError(f"cannot write {path}: another program made it meanwhile") from error
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if path.exists():
            raise OutputError(f"cannot write {path}: another program made it meanwhile") from error
        part.replace(path)
        return
    part.unlink()


def _link_nameless(fd: int, path: Path) -> bool:
    """Give the unnamed file *fd* the name *path*; False if it is on another file system or had a name before."""
    directory = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # With a directory descriptor, because only then does Python make the kernel follow the link in /proc.
        os.link(str(fd), path, src_dir_fd=directory, follow_symlinks=True)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return False
    finally:
        os.close(directory)
    return True


def _back_up(path: Path, backup: Path) -> None:
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(source)
        target = os.open(backup, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
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


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _flush_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        # Some network and FUSE file systems cannot flush a directory.
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(fd)


def _is_full(error: BaseException) -> bool:
    """Whether *error* is, or was caused by, a full file system."""
    return any(
        isinstance(item, OSError) and item.errno in (errno.ENOSPC, errno.EDQUOT) for item in (error, error.__cause__)
    )


def _full(path: Path, written: Path) -> OutputError:
    """The error for a full file system. Made before *written* is removed, because it has its size."""
    size = written.stat().st_blocks * 512 if written.exists() else 0
    status = os.statvfs(path.parent)
    return OutputError(
        f"cannot write {path}: the file system of {path.parent} is full ({size} bytes were written, "
        f"{status.f_bavail * status.f_frsize} are left); free some room there, or choose another directory"
    )
