"""Random access to the files of a directory or a tar archive, without unpacking.

A tar is indexed once; then content is read directly from the archive. Everything in it is hostile: sizes and link depths are
bounded, and no name leads outside.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ..errors import ContentError, SourceError
from .tar_index import BLOCK, Content, Link, read_index

CHUNK = 1 << 20
_MAX_LINKS = 16


class Files(Protocol):
    """Regular files by relative name. Thread-safe."""

    def size(self, name: str) -> int | None:
        """The length of the file *name* in bytes; None if it does not exist."""

    def stream(self, name: str) -> Iterator[bytes]:
        """The content of *name* in chunks of 1 MiB.

        Raises:
            SourceError: there is no such file, or it cannot be read.
        """

    def part(self, name: str, offset: int, size: int) -> bytes:
        """The *size* bytes of *name* from *offset* on; fewer if the file ends before.

        Raises:
            SourceError: there is no such file, or it cannot be read.
        """

    def close(self) -> None:
        """Close the descriptors."""


def open_files(path: Path) -> Files:
    """The files in *path*, a directory or an uncompressed tar archive.

    Raises:
        SourceError: it cannot be opened, or is compressed (the message has the command that decompresses it).
        ContentError: it is not a tar archive, or a damaged one.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SourceError(f"cannot open {path}: {error.strerror}") from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        return DirectoryFiles(path, descriptor)
    try:
        if not stat.S_ISREG(mode):
            raise SourceError(f"{path} is neither a directory nor a file: an archive has to be read in any order")
        return TarFiles(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def read_file(files: Files, name: str, limit: int, what: str) -> bytes:
    """The content of *name*, at most *limit* bytes.

    Raises:
        SourceError: there is no such file.
        ContentError: it is larger.
    """
    size = files.size(name)
    if size is None:
        raise SourceError(f"{what} has no file {name}")
    if size > limit:
        raise ContentError(f"{what}: {name} has {size} bytes, more than the {limit} allowed")
    return b"".join(files.stream(name))


class DirectoryFiles:
    """Files below a directory. Symbolic links are not followed, not even those that stay inside."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._root = descriptor

    def size(self, name: str) -> int | None:
        descriptor = self._open(name)
        if descriptor is None:
            return None
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def stream(self, name: str) -> Iterator[bytes]:
        descriptor = self._open(name)
        if descriptor is None:
            raise SourceError(f"{self._path} has no file {name}")
        try:
            while chunk := os.read(descriptor, CHUNK):
                yield chunk
        except OSError as error:
            raise SourceError(f"cannot read {self._path / name}: {error.strerror}") from error
        finally:
            os.close(descriptor)

    def part(self, name: str, offset: int, size: int) -> bytes:
        descriptor = self._open(name)
        if descriptor is None:
            raise SourceError(f"{self._path} has no file {name}")
        try:
            return os.pread(descriptor, size, offset)
        except OSError as error:
            raise SourceError(f"cannot read {self._path / name}: {error.strerror}") from error
        finally:
            os.close(descriptor)

    def close(self) -> None:
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def _open(self, name: str) -> int | None:
        *directories, last = _parts(name)
        descriptor = os.dup(self._root)
        try:
            for part, flags in [*((part, os.O_DIRECTORY) for part in directories), (last, os.O_NONBLOCK)]:
                below = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SourceError(f"{self._path / name} is not a regular file")
        except OSError as error:
            os.close(descriptor)
            if error.errno == errno.ENOENT:
                return None
            linked = error.errno in (errno.ELOOP, errno.ENOTDIR)
            why = "a part of it is a symbolic link or no directory, which is not followed" if linked else error.strerror
            raise SourceError(f"cannot open {self._path / name}: {why}") from error
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


class TarFiles:
    """Members of an uncompressed tar file. As when unpacking, a later member of the same name replaces the earlier one.

    Links are followed within the archive (``docker save`` stores a layer that two images share as a link to the first).
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._members = read_index(path, os.fstat(descriptor).st_size, self._read)

    def size(self, name: str) -> int | None:
        member = self._find(name)
        return None if member is None else member.size

    def stream(self, name: str) -> Iterator[bytes]:
        member = self._find(name)
        if member is None:
            raise SourceError(f"{self._path} has no file {name}")
        done = 0
        while done < member.size:
            chunk = self._read(member.offset + done, min(CHUNK, member.size - done), name)
            done += len(chunk)
            yield chunk

    def part(self, name: str, offset: int, size: int) -> bytes:
        member = self._find(name)
        if member is None:
            raise SourceError(f"{self._path} has no file {name}")
        size = min(size, member.size - offset)
        return self._read(member.offset + offset, size, name) if size > 0 else b""

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _find(self, name: str) -> Content | None:
        pending = _parts(name)[::-1]
        done = ""
        links = 0
        while pending:
            done = f"{done}/{pending.pop()}" if done else pending.pop()
            member = self._members.get(done)
            if isinstance(member, Link):
                links += 1
                if links > _MAX_LINKS:
                    raise ContentError(f"{self._path}: {name} leads through more than {_MAX_LINKS} links")
                pending.extend(filter(None, member.target.split("/")[::-1]))
                done = ""
            elif not pending:
                return member
        return None

    def _read(self, offset: int, size: int, name: str) -> bytes:
        try:
            content = os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise SourceError(f"cannot read {self._path}: {error.strerror}") from error
        if not content or (len(content) < size and size <= BLOCK):
            raise SourceError(f"{self._path} became shorter while {name} was read")
        return content


def _parts(name: str) -> list[str]:
    """The parts of *name*, which is relative to the archive even if it starts with a slash, as for docker load."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                raise ContentError(f"{name[:200]!r} leads out of the archive")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if not parts or "\0" in name:
        raise ContentError(f"{name[:200]!r} is not the name of a file")
    return parts
