"""Named files in a directory or in a tar archive, read in any order, nothing unpacked.

A tar is walked once, header by header, and remembered as offsets; content is then read straight from the archive. Everything
in it is hostile: counts, header sizes and link depths are bounded, and no name leads outside.

Format: POSIX ustar and pax, and GNU's long names and base-256 numbers.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import ContentError, SourceError

CHUNK = 1 << 20
_BLOCK = 512
_MAX_MEMBERS = 100_000
_MAX_HEADER_BYTES = 1 << 20
"""Of an extended header or long name: a million bytes are far more than any path."""
_MAX_LINKS = 16
_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
}


class Files(Protocol):
    """Regular files by relative name. Reading is safe from several threads at once."""

    def size(self, name: str) -> int | None:
        """The length of the file *name* in bytes; None if there is none."""

    def stream(self, name: str) -> Iterator[bytes]:
        """The content of *name* in chunks of 1 MiB.

        Raises:
            SourceError: there is no such file, or it cannot be read.
        """

    def part(self, name: str, offset: int, size: int) -> bytes:
        """The *size* bytes of *name* from *offset* on; fewer where it ends before.

        Raises:
            SourceError: there is no such file, or it cannot be read.
        """

    def close(self) -> None:
        """Let go of descriptors."""


def open_files(path: Path) -> Files:
    """The files in *path*, a directory or an uncompressed tar archive.

    Raises:
        SourceError: it cannot be opened, or is compressed (the message has the command that mends it).
        ContentError: it is no tar archive, or a damaged one.
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
    """The whole of *name*, at most *limit* bytes.

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
    """Files below a directory. No symbolic link is followed, not even one that stays inside."""

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
                raise SourceError(f"{self._path / name} is no regular file")
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


@dataclass(frozen=True, slots=True)
class _Content:
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class _Link:
    """A symbolic or hard link, its target already a clean name in the archive; None when it leads outside."""

    target: str | None


class TarFiles:
    """Members of an uncompressed tar file. As when unpacking, a later member of the same name replaces the earlier one.

    Links are followed within the archive (``docker save`` stores a layer that two images share as a link to the first).
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._members: dict[str, _Content | _Link] = {}
        self._index()

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

    def _find(self, name: str) -> _Content | None:
        wanted: str | None = "/".join(_parts(name))
        for _ in range(_MAX_LINKS):
            member = self._members.get(wanted) if wanted is not None else None
            if not isinstance(member, _Link):
                return member
            wanted = member.target
        raise ContentError(f"{self._path}: {name} is a link that leads through more than {_MAX_LINKS} others")

    def _index(self) -> None:
        end = os.fstat(self._descriptor).st_size
        position = 0
        long: dict[str, str] = {}
        count = 0
        while position + _BLOCK <= end:
            header = self._read(position, _BLOCK, "a header")
            if not any(header):
                break
            if not _checksum_fits(header):
                raise ContentError(self._not_a_tar(position, header))
            count += 1
            if count > _MAX_MEMBERS:
                raise ContentError(f"{self._path} has more than {_MAX_MEMBERS} members")
            size = int(long.get("size", "") or _number(header[124:136], self._path))
            typeflag = header[156:157]
            body = position + _BLOCK
            if typeflag in b"123456":
                size = 0
            position = body + -(-size // _BLOCK) * _BLOCK
            if body + size > end:
                raise ContentError(
                    f"{self._path} is truncated: a member at byte {body} has {size} bytes, the file ends at {end}"
                )
            match typeflag:
                case b"x":
                    long.update(_pax_records(self._header_body(body, size), self._path))
                case b"g":
                    # Global records name no member, and nothing in a global header concerns where content lies.
                    pass
                case b"L":
                    long["path"] = _text(self._header_body(body, size).rstrip(b"\0"))
                case b"K":
                    long["linkpath"] = _text(self._header_body(body, size).rstrip(b"\0"))
                case b"S":
                    raise ContentError(f"{self._path} holds sparse members; pack it again without tar's --sparse")
                case _:
                    self._remember(header, typeflag, long, _Content(body, size))
                    long = {}
        if count == 0:
            raise ContentError(f"{self._path} is no tar archive: it is empty")

    def _remember(self, header: bytes, typeflag: bytes, long: dict[str, str], content: _Content) -> None:
        raw = header[:100].rstrip(b"\0")
        if header[257:263] == b"ustar\0" and header[345] != 0:
            raw = header[345:500].rstrip(b"\0") + b"/" + raw
        name = _clean(long.get("path", _text(raw)))
        if not name:
            return
        target = long.get("linkpath", _text(header[157:257].rstrip(b"\0")))
        match typeflag:
            case b"0" | b"\0" | b"7":
                self._members[name] = content
            case b"1":
                self._members[name] = _Link(_clean(target))
            case b"2":
                base = "" if target.startswith("/") else name.rpartition("/")[0]
                self._members[name] = _Link(_clean(f"{base}/{target}" if base else target))
            case _:
                self._members.pop(name, None)

    def _header_body(self, offset: int, size: int) -> bytes:
        if size > _MAX_HEADER_BYTES:
            raise ContentError(
                f"{self._path}: an extended header has {size} bytes, more than the {_MAX_HEADER_BYTES} allowed"
            )
        return self._read(offset, size, "an extended header") if size else b""

    def _read(self, offset: int, size: int, name: str) -> bytes:
        try:
            content = os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise SourceError(f"cannot read {self._path}: {error.strerror}") from error
        if not content or (len(content) < size and size <= _BLOCK):
            raise SourceError(f"{self._path} became shorter while {name} was read")
        return content

    def _not_a_tar(self, position: int, header: bytes) -> str:
        for magic, (kind, tool) in _COMPRESSED.items():
            if position == 0 and header.startswith(magic):
                return (
                    f"{self._path} is compressed with {kind}, but has to be read in any order: "
                    f"unpack it first, with '{tool} {self._path}'"
                )
        return f"{self._path} is no tar archive, or a damaged one: no header at byte {position}"


def _parts(name: str) -> list[str]:
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ContentError(f"{name[:200]!r} is no clean file name")
    return parts


def _clean(name: str) -> str | None:
    """*name* relative to the archive's root; None if it leads out of it."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _checksum_fits(header: bytes) -> bool:
    try:
        stored = int(header[148:156].strip(b"\0 ") or b"0", 8)
    except ValueError:
        return False
    return stored == sum(header) - sum(header[148:156]) + 8 * 32


def _number(field: bytes, path: Path) -> int:
    """A size: octal text, or GNU's base 256 when the first bit is set."""
    if field[0] & 0x80:
        number = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    else:
        try:
            number = int(field.strip(b"\0 ") or b"0", 8)
        except ValueError:
            number = -1
    if not 0 <= number < 1 << 62:
        raise ContentError(f"{path}: a header's size field is {field!r}, which is no size")
    return number


def _pax_records(body: bytes, path: Path) -> dict[str, str]:
    """The records that say where content lies and what it is called; the rest is passed over."""
    found: dict[str, str] = {}
    while body:
        digits, _, _ = body[:20].partition(b" ")
        if not digits.isdigit() or not len(digits) + 3 <= int(digits) <= len(body):
            raise ContentError(f"{path}: a malformed extended header")
        record, body = body[len(digits) + 1 : int(digits)], body[int(digits) :]
        key, equals, value = record[:-1].partition(b"=")
        if not equals or record[-1:] != b"\n":
            raise ContentError(f"{path}: a malformed extended header")
        if key in (b"path", b"linkpath"):
            found[key.decode()] = _text(value)
        elif key == b"size":
            if not value.isdigit() or len(value) > 18:
                raise ContentError(f"{path}: an extended header's size is {value[:40]!r}, which is no size")
            found["size"] = value.decode()
    return found
