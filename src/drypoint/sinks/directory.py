"""A tree sink that writes into a directory of the host.

No symbolic link in the tree is ever followed: every path is walked name by name from the root's descriptor, and an inode is
only changed through a descriptor of its own.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import assert_never

from ..errors import FilesystemError, NoSpaceError
from ..fstree import (
    BlockDevice,
    CharDevice,
    Content,
    Directory,
    Entry,
    Fifo,
    HardLink,
    Metadata,
    Regular,
    Socket,
    Symlink,
    parent_and_name,
)

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_OPEN_DIRECTORIES = 64
_HOST_LABEL = "security.selinux"
"""Every file of a host with SELinux has one; it belongs to the host, and may not be removed."""


class DirectorySink:
    """Writes a tree below an existing directory: contents, owners, modes, times, extended attributes and devices.

    Directories have the mode 0700 until they are settled, at the latest by :meth:`finish`, and get their metadata then, since
    adding entries changes their times, and their modes may forbid it. Use as a context manager, or call :meth:`close`.

    Args:
        root: the directory; it must exist.
        ownership: give every inode its owner, which needs root. Without it everything belongs to the caller. Devices and
            extended attributes of the trusted and security classes need root in any case; the error names the path.

    Raises:
        FilesystemError: *root* is not a directory, or may not be opened.
    """

    def __init__(self, root: Path, *, ownership: bool = True) -> None:
        self._root_path = root
        self._ownership = ownership
        self._pending: dict[bytes, Metadata] = {}
        self._open: OrderedDict[bytes, int] = OrderedDict()
        try:
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise FilesystemError(f"cannot open the directory {root}: {error.strerror}") from error

    def __enter__(self) -> DirectorySink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def add(self, entry: Entry, content: Content | None = None) -> None:
        if content is not None and not isinstance(entry, Regular):
            raise FilesystemError(f"{self._shown(entry.path)}: content for what is not a regular file")
        with self._errors(entry.path):
            parent, name = self._place(entry.path)
            match entry:
                case Directory():
                    os.mkdir(name, 0o700, dir_fd=parent)
                    self._pending[entry.path] = entry.metadata
                case Regular():
                    self._write(parent, name, entry, content or ())
                case HardLink():
                    target_parent, target_name = self._place(entry.target)
                    os.link(target_name, name, src_dir_fd=target_parent, dst_dir_fd=parent, follow_symlinks=False)
                case Symlink():
                    os.symlink(entry.target, name, dir_fd=parent)
                    self._apply(parent, name, entry.metadata)
                case CharDevice():
                    os.mknod(name, stat.S_IFCHR | 0o600, os.makedev(entry.major, entry.minor), dir_fd=parent)
                    self._apply(parent, name, entry.metadata)
                case BlockDevice():
                    os.mknod(name, stat.S_IFBLK | 0o600, os.makedev(entry.major, entry.minor), dir_fd=parent)
                    self._apply(parent, name, entry.metadata)
                case Fifo():
                    os.mkfifo(name, 0o600, dir_fd=parent)
                    self._apply(parent, name, entry.metadata)
                case Socket():
                    os.mknod(name, stat.S_IFSOCK | 0o600, 0, dir_fd=parent)
                    self._apply(parent, name, entry.metadata)
                case _:
                    assert_never(entry)

    def amend(self, path: bytes, metadata: Metadata) -> None:
        with self._errors(path):
            if not path or stat.S_ISDIR(self._mode(path)):
                self._pending[path] = metadata
            else:
                self._apply(*self._place(path), metadata)

    def remove(self, path: bytes) -> None:
        with self._errors(path):
            parent, name = self._place(path)
            is_directory = stat.S_ISDIR(self._mode(path))
            self._close_below(path)
            self._pending = {kept: value for kept, value in self._pending.items() if not _is_below(kept, path)}
            if is_directory:
                shutil.rmtree(name, dir_fd=parent)
            else:
                os.unlink(name, dir_fd=parent)

    def settle(self, path: bytes) -> None:
        # Children before parents: a directory's own mode may forbid access to its entries.
        done = sorted((pending for pending in self._pending if _is_below(pending, path)), reverse=True)
        for pending in done:
            metadata = self._pending.pop(pending)
            with self._errors(pending):
                if pending:
                    self._apply(*self._place(pending), metadata)
                else:
                    self._apply(self._root, b".", metadata)
        self._close_below(path)

    def finish(self) -> None:
        self.settle(b"")

    def close(self) -> None:
        """Close the descriptors. May be called again."""
        self._close_below(b"")
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def _write(self, parent: int, name: bytes, entry: Regular, content: Content) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            written = 0
            for chunk in content:
                view = memoryview(chunk)
                written += len(view)
                if written > entry.size:
                    break
                while view:
                    view = view[os.write(descriptor, view) :]
            if written != entry.size:
                more = "more" if written > entry.size else f"only {written}"
                raise FilesystemError(f"{self._shown(entry.path)}: expected {entry.size} bytes of content, got {more}")
        finally:
            os.close(descriptor)
        self._apply(parent, name, entry.metadata)

    def _apply(self, parent: int, name: bytes, metadata: Metadata) -> None:
        """Owner first, since that removes setuid bits and capabilities; time last, since all other changes alter it."""
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            # The descriptor's path in /proc leads to the inode itself, even to a symbolic link.
            itself = f"/proc/self/fd/{descriptor}"
            if self._ownership:
                os.chown(itself, metadata.uid, metadata.gid)
            if not stat.S_ISLNK(os.fstat(descriptor).st_mode):
                os.chmod(itself, metadata.mode)  # noqa: PTH101 (a str, made for every file)
            wanted = dict(metadata.xattrs)
            for attribute in os.listxattr(itself):
                if os.fsencode(attribute) not in wanted and attribute != _HOST_LABEL:
                    os.removexattr(itself, attribute)
            for attribute_name, value in metadata.xattrs:
                os.setxattr(itself, attribute_name, value)
            os.utime(itself, ns=(metadata.mtime, metadata.mtime))
        finally:
            os.close(descriptor)

    def _mode(self, path: bytes) -> int:
        parent, name = self._place(path)
        return os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode

    def _place(self, path: bytes) -> tuple[int, bytes]:
        """A descriptor of the directory that holds *path*, and the last name."""
        if not path:
            raise FilesystemError(f"{self._shown(path)}: the root of the tree can neither be made nor removed")
        parent, name = parent_and_name(path)
        if name in (b".", b".."):
            raise FilesystemError(f"{self._shown(path)} is not a clean path")
        return self._directory(parent), name

    def _directory(self, path: bytes) -> int:
        if not path:
            return self._root
        known = self._open.get(path)
        if known is not None:
            self._open.move_to_end(path)
            return known
        descriptor = os.dup(self._root)
        try:
            for part in path.split(b"/"):
                if part in (b"", b".", b".."):
                    raise FilesystemError(f"{self._shown(path)} is not a clean path")
                below = os.open(part, _OPEN_DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
        except BaseException:
            os.close(descriptor)
            raise
        if len(self._open) >= _MAX_OPEN_DIRECTORIES:
            os.close(self._open.popitem(last=False)[1])
        self._open[path] = descriptor
        return descriptor

    def _close_below(self, path: bytes) -> None:
        for known in [known for known in self._open if _is_below(known, path)]:
            os.close(self._open.pop(known))

    def _shown(self, path: bytes) -> str:
        return f"{self._root_path}/{path.decode('utf-8', 'backslashreplace')}"

    @contextmanager
    def _errors(self, path: bytes) -> Iterator[None]:
        """Turn the operating system's errors into drypoint's, with the path."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpaceError(f"{self._shown(path)}: no space left on the host's file system") from error
            hint = ""
            if error.errno == errno.EPERM:
                hint = "; owners, devices and some extended attributes take root"
            raise FilesystemError(f"{self._shown(path)}: {error.strerror}{hint}") from error


def _is_below(path: bytes, directory: bytes) -> bool:
    return not directory or path == directory or path.startswith(directory + b"/")
