"""Outputs that appear under their name only when complete."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ...concurrency.uninterrupted import uninterrupted
from ...errors import OutputError
from ...progress import SILENT, Progress, human_size
from .copies import copy_sparse
from .full import FULL, full_error, is_full
from .leftovers import names_locked, part_name, remove_unfinished
from .locks import try_lock

_NO_LINK = frozenset(
    {errno.EXDEV, errno.ENOENT, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
)
"""Errors of linking an unnamed file where that is not supported; copying it may still work."""
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class Part:
    """An unfinished output: ``.NAME.XXXXXXXX.part`` in its directory, locked, so that other runs see that it is in use.

    Attributes:
        path: the file to write; empty at first, mode by the umask.
        target: the output's name.
    """

    def __init__(self, target: Path, *, overwrite: bool) -> None:
        self.target = target
        self.path = part_name(target)
        self._overwrite = overwrite
        self._older: Path | None = None
        self._named = False
        self._replaced = -1
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise _cannot_write(target, error) from error
        except BaseException:
            # An interrupt may arrive after the call that made the file.
            self.path.unlink(missing_ok=True)
            raise
        try_lock(self._fd)

    def restrict(self, source: Path) -> None:
        """Restrict the rights of others to those that they have on *source*, whose content goes into it."""
        try:
            given = source.stat()
        except OSError:
            # Standard input, or a file removed meanwhile, has no rights to compare with.
            return
        own = os.fstat(self._fd)
        others = given.st_mode & 0o7
        group = others if given.st_gid != own.st_gid else given.st_mode >> 3 & 0o7
        os.fchmod(self._fd, own.st_mode & (0o7700 | group << 3 | others))

    def adopt(self, fd: int) -> None:
        """Make it the unnamed file *fd*: the same file, or else a sparse copy.

        Later writes through *fd* appear in it only if it is the same file: open :attr:`path` instead.

        Args:
            fd: from :func:`.nameless_file`, in any directory. It gets this file's mode.

        Raises:
            OutputError: there is no space for a copy, or it cannot be written.
        """
        linked = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}")
        try:
            if not _link_nameless(fd, linked):
                copy_sparse(fd, self._fd, for_good=True)
                return
            try:
                os.fchmod(fd, os.fstat(self._fd).st_mode & 0o7777)
                same = os.open(linked, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                try_lock(same)
                self._fd, same = same, self._fd
                os.close(same)
                linked.replace(self.path)
            except BaseException:
                linked.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise _cannot_write(self.target, error) from error

    def keep_replaced(self) -> None:
        """Lock the file that it replaces, so that no other run changes that in place.

        Raises:
            OutputError: another run is changing it now.
        """
        try:
            self._replaced = os.open(self.target, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            # There is none, or only its owner may read it.
            return
        if try_lock(self._replaced, exclusive=False) is False:
            raise OutputError(
                f"cannot write {self.target}: another program is changing it in place; wait until that has ended"
            )

    def flush(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise _cannot_write(self.target, error) from error

    def take_name(self, *, keep_older: bool) -> None:
        """Rename it to the output. With *keep_older*, :meth:`give_name_back` can restore the replaced file."""
        try:
            if not self._overwrite:
                _link_new(self.path, self.target)
            else:
                if keep_older and self.target.exists():
                    self._older = _second_name(self.target)
                self.path.replace(self.target)
        except OSError as error:
            raise _cannot_write(self.target, error) from error
        self._named = True

    def give_name_back(self) -> None:
        """Undo :meth:`take_name`, complete or not."""
        if self._older is not None:
            self._older.replace(self.target)
            # rename(2) between two names of one file leaves both.
            self._older.unlink(missing_ok=True)
            self._older = None
        elif self._named:
            self.target.unlink(missing_ok=True)

    def clean_up(self) -> list[str]:
        """Remove temporary files; returns warnings about those that cannot be removed."""
        faults = []
        for left in (self.path, self._older):
            try:
                if left is not None:
                    left.unlink(missing_ok=True)
            except OSError as error:
                faults.append(
                    f"warning: {left} cannot be removed: {error.strerror}; {self.target} is complete without it"
                )
        try:
            flush_directory(self.target.parent)
        except OSError as error:
            faults.append(
                f"warning: {self.target} is complete, but its name may not survive a loss of power: the directory "
                f"{self.target.parent} cannot be flushed: {error.strerror}"
            )
        return faults

    def remove(self) -> None:
        """Remove it."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._fd)
        if self._replaced >= 0:
            os.close(self._replaced)


@contextmanager
def whole_file(
    path: Path,
    *,
    overwrite: bool = False,
    inputs: tuple[Path, ...] = (),
    secrets: tuple[Path, ...] = (),
    progress: Progress = SILENT,
) -> Iterator[Part]:
    """Yield a file to write to; rename it to *path* when the block succeeds, remove it when the block fails.

    On success it is flushed to the disk, renamed, and the rename flushed. On any exception, interrupts included, it is removed,
    and an older file named *path* is unchanged. Leftovers of killed runs for *path* are removed.

    Args:
        path: the target.
        overwrite: whether an existing file may be replaced.
        inputs: files that the job reads; none of them may be the target. Others get
            only those rights on it that they have on all of these.
        secrets: further files whose content goes into it; the same holds for them.
        progress: gets warnings about removed leftovers, and about errors after the output was complete.

    Raises:
        OutputError: the target is a directory, an input, or exists; another run is making it, or changing it in place; its
            directory is missing or cannot be written; the file system is full (from any write inside the block).
    """
    with whole_files((path,), overwrite=overwrite, inputs=inputs, secrets=secrets, progress=progress) as (part,):
        yield part


@contextmanager
def whole_files(
    paths: Sequence[Path],
    *,
    overwrite: bool = False,
    inputs: tuple[Path, ...] = (),
    secrets: tuple[Path, ...] = (),
    progress: Progress = SILENT,
) -> Iterator[tuple[Part, ...]]:
    """Like :func:`whole_file` for several files that are published together: all of them, or none.

    Raises:
        OutputError: see :func:`whole_file`.
    """
    for path in paths:
        check_target(path, overwrite, inputs)
    with ExitStack() as stack:
        parts: list[Part] = []
        try:
            for path in paths:
                part = _new_part(path, overwrite, progress)
                stack.callback(part.close)
                parts.append(part)
                for source in (*inputs, *secrets):
                    part.restrict(source)
                if overwrite:
                    part.keep_replaced()
            yield tuple(parts)
            _publish(parts)
        except BaseException as error:
            with uninterrupted():
                full = _full(parts) if is_full(error) and parts else None
                for part in parts:
                    part.remove()
            if full is not None:
                raise full from error
            raise
        for part in parts:
            for fault in part.clean_up():
                progress.note(fault)


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


def _new_part(path: Path, overwrite: bool, progress: Progress) -> Part:
    """A new file for *path*, if no other run is making it; leftovers of killed runs are removed."""
    with names_locked(path.parent) as locked:
        if locked:
            found = remove_unfinished(path.parent, path.name)
            for left in found.removed:
                progress.note(
                    f"removed {left.path} ({human_size(left.size)}), which a run left that was killed while it made {path}"
                )
            if found.under_way:
                raise OutputError(
                    f"cannot write {path}: another run is making it now ({found.under_way[0]}); wait until that has ended"
                )
        return Part(path, overwrite=overwrite)


def _publish(parts: Sequence[Part]) -> None:
    """Rename *parts* to their outputs; the first, whose name means that all are complete, is last."""
    # Contents before names: after a power loss a name must never lead to half a file.
    for part in parts:
        part.flush()
    with uninterrupted():
        try:
            for part in reversed(parts):
                part.take_name(keep_older=part is not parts[0])
        except BaseException:
            for part in parts:
                part.give_name_back()
            raise


def _link_new(part: Path, path: Path) -> None:
    """Give *part* the additional name *path*, but never over a file made meanwhile; without hard links, by a check only."""
    try:
        path.hardlink_to(part)
    except FileExistsError as error:
        raise OutputError(f"cannot write {path}: another program made it meanwhile") from error
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if path.exists():
            raise OutputError(f"cannot write {path}: another program made it meanwhile") from error
        part.replace(path)


def _second_name(path: Path) -> Path:
    """Another name for the file *path*; without hard links, its only name."""
    name = part_name(path)
    try:
        name.hardlink_to(path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        path.rename(name)
    return name


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


def flush_directory(path: Path) -> None:
    """Flush a directory, so that its names survive a power loss, if the file system supports it.

    Raises:
        OSError: it failed.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        # Some network and FUSE file systems cannot flush a directory.
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(fd)


def _cannot_write(path: Path, error: OSError) -> OutputError:
    if error.errno in FULL:
        return full_error(path, 0)
    return OutputError(f"cannot write {path}: {error.strerror}")


def _full(parts: Sequence[Part]) -> OutputError:
    """The error for a full file system. Made before the parts are removed, because it has their size."""
    part = min(parts, key=lambda part: os.statvfs(part.target.parent).f_bavail)
    return full_error(part.target, taken(part.path))


def taken(path: Path) -> int:
    """The bytes that the file *path* takes on its file system, if it exists."""
    return path.stat().st_blocks * 512 if path.exists() else 0
