"""A result that appears under its name only when it is whole, and a file changed in place that is as before if that fails."""

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
    """Give a path to write to; publish it as *path* when the block ends well, remove it when it does not.

    The file given lies beside the target (``.NAME.XXXXXXXX.part``, empty, mode as the umask has it). On success it is
    flushed to the disk, renamed, and the rename flushed too. On any exception, an interrupt among them, it is removed, and an
    older file named *path* is as it was.

    Args:
        path: the target.
        overwrite: whether a file that exists may be replaced.
        inputs: files that the job reads; none of them may be the target.

    Raises:
        OutputError: the target is a directory, an input, or exists; its directory is missing or cannot be written; the file
            system is full (whoever raised that inside the block).
    """
    check_target(path, overwrite, inputs)
    part = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    except BaseException:
        # An interrupt comes behind the call that made the file.
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
    """Let the file *part*, empty and from :func:`whole_file`, be the nameless file *fd*: the same file, or else a sparse copy.

    What is written through *fd* from now on is seen in *part* only if it is the same file: open *part* instead.

    Args:
        fd: from :func:`.nameless_file`, in any directory. It gets the mode of *part*.

    Raises:
        OutputError: there is no room for a copy, or it cannot be written.
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
    """Let *path* be changed where it is; if the block fails, what it held before comes back under its name.

    A sparse copy is made beside it first (sharing blocks where the file system can), so the directory needs room for one. The
    file that was changed stays the same file on success (hard links to it see the change); on failure the copy is renamed
    over it, with the owner and mode of the original.

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
        OutputError: see there.
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
    # Contents before name: after a power cut the name must never stand for half a file.
    _flush(part)
    if overwrite:
        part.replace(path)
    else:
        _rename_new(part, path)
    _flush_directory(path.parent)


def _rename_new(part: Path, path: Path) -> None:
    """Rename, but never over a file that has come up meanwhile; where hard links do not exist a check has to do."""
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
    """Give a file without a name the name *path*; False if that cannot be: it lies elsewhere, or once had a name."""
    directory = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Relative to a directory, since only then does Python ask for the link behind the link in /proc to be followed.
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
            # The owner before the mode, since chown clears setuid bits. One who may not give files away cannot have changed
            # the owner's file either, unless as a member of its group.
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
        # Some network and FUSE file systems cannot flush a directory; there is nothing more that one could do there.
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(fd)


def _is_full(error: BaseException) -> bool:
    """Whether *error* is, or was raised for, a file system without room."""
    return any(
        isinstance(item, OSError) and item.errno in (errno.ENOSPC, errno.EDQUOT) for item in (error, error.__cause__)
    )


def _full(path: Path, written: Path) -> OutputError:
    """The story of a file system that is full. Told before *written* is removed, or its size would be forgotten."""
    size = written.stat().st_blocks * 512 if written.exists() else 0
    status = os.statvfs(path.parent)
    return OutputError(
        f"cannot write {path}: the file system of {path.parent} is full ({size} bytes were written, "
        f"{status.f_bavail * status.f_frsize} are left); free some room there, or choose another directory"
    )
