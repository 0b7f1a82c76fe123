"""A tree sink that writes a stream of PAX tar entries, in the order of the calls.

Format: POSIX.1-2001 pax interchange (ustar headers, extended headers where ustar cannot hold a value); extended attributes as
``SCHILY.xattr.NAME`` records, which GNU tar, bsdtar, Go and Python agree on. Changes and removals of existing entries are
in records of drypoint's own, ``DRYPOINT.*``, which other programs ignore. The same calls give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, assert_never

import msgspec

from ..errors import FilesystemError
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
    join,
)

BLOCK: Final = 512
END_OF_ARCHIVE: Final = bytes(2 * BLOCK)
BEFORE_RECORD: Final = b"DRYPOINT.before"
"""Calls to make before the entry: ``remove PATH`` and ``settle PATH``, in order, each with a NUL after it."""
AMEND_RECORD: Final = b"DRYPOINT.amend"
"""The entry only changes the metadata of what is at its path. A directory is repeated for that, as other programs understand
it; anything else is a hard link to itself, which they ignore."""
MAX_BEFORE_BYTES: Final = 512 << 10
_NO_RECORDS: Final[Mapping[bytes, bytes]] = {}
_NAME_BYTES: Final = 100
_MAX_OCTAL_7: Final = 0o7777777
_MAX_OCTAL_11: Final = 0o77777777777
_NANOSECONDS: Final = 1_000_000_000
_NO_METADATA: Final = Metadata(mode=0)


def padding(size: int) -> bytes:
    """The zeros that fill *size* bytes of content up to a whole block."""
    return bytes(-size % BLOCK)


class UstarHeader(msgspec.Struct, frozen=True):
    """The fields of a 512-byte header.

    Attributes:
        seconds: modification time, in seconds since the epoch.
        magic: the 8 bytes of magic and version; GNU's are ``b"ustar  \\0"``.
    """

    name: bytes
    typeflag: bytes
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    seconds: int = 0
    linkname: bytes = b""
    major: int = 0
    minor: int = 0
    magic: bytes = b"ustar\x0000"

    def pack(self) -> bytes:
        """The header's bytes.

        Raises:
            ValueError: a value does not fit in its field.
        """
        if len(self.name) > _NAME_BYTES or len(self.linkname) > _NAME_BYTES:
            raise ValueError(f"a ustar header has {_NAME_BYTES} bytes for a name")
        numbers = b"".join(
            (
                _octal(self.mode, 8),
                _octal(self.uid, 8),
                _octal(self.gid, 8),
                _octal(self.size, 12),
                _octal(self.seconds, 12),
                b" " * 8,
            )
        )
        devices = _octal(self.major, 8) + _octal(self.minor, 8) if self.typeflag in (b"3", b"4") else bytes(16)
        names = self.typeflag + self.linkname.ljust(100, b"\0") + self.magic
        header = (self.name.ljust(100, b"\0") + numbers + names + bytes(64) + devices).ljust(BLOCK, b"\0")
        return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def pax_header(records: dict[bytes, bytes], name: bytes, typeflag: bytes = b"x") -> bytes:
    """The extended header with *records*, in their order, that goes before the header of the entry *name*."""
    body = b"".join(_pax_record(key, value) for key, value in records.items())
    own_name = b"PaxHeaders/" + name.rstrip(b"/").rpartition(b"/")[2][: _NAME_BYTES - len(b"PaxHeaders/")]
    return UstarHeader(own_name, typeflag, mode=0o644, size=len(body)).pack() + body + padding(len(body))


def entry_header(entry: Entry, prefix: bytes = b"", records: Mapping[bytes, bytes] = _NO_RECORDS) -> bytes:
    """All header blocks of *entry*, its path and the target of a hard link put under *prefix*.

    Args:
        records: further records of the extended header, besides those that the entry needs.

    Raises:
        FilesystemError: a tar archive cannot hold it (a socket), or a number or name of that size.
    """
    name = join(prefix, entry.path)
    linkname, size, major, minor = b"", 0, 0, 0
    metadata = _NO_METADATA
    match entry:
        case Directory():
            typeflag, name, metadata = b"5", name + b"/" if name else b"./", entry.metadata
        case Regular():
            typeflag, size, metadata = b"0", entry.size, entry.metadata
        case Symlink():
            typeflag, linkname, metadata = b"2", entry.target, entry.metadata
        case HardLink():
            typeflag, linkname = b"1", join(prefix, entry.target)
        case CharDevice():
            typeflag, major, minor, metadata = b"3", entry.major, entry.minor, entry.metadata
        case BlockDevice():
            typeflag, major, minor, metadata = b"4", entry.major, entry.minor, entry.metadata
        case Fifo():
            typeflag, metadata = b"6", entry.metadata
        case Socket():
            raise FilesystemError(f"/{_shown(entry.path)} is a socket, which a tar archive cannot hold")
        case _:
            assert_never(entry)
    try:
        return pax_entry_header(
            name, typeflag, metadata, size=size, linkname=linkname, major=major, minor=minor,
            more={**records, **_charset(name, linkname)},
        )  # fmt: skip
    except ValueError as error:
        raise FilesystemError(f"/{_shown(entry.path)} cannot be put into a tar archive: {error}") from error


def pax_entry_header(
    name: bytes,
    typeflag: bytes,
    metadata: Metadata,
    *,
    size: int = 0,
    linkname: bytes = b"",
    major: int = 0,
    minor: int = 0,
    more: Mapping[bytes, bytes] = _NO_RECORDS,
) -> bytes:
    """The header blocks of an entry: a ustar header, after an extended header if something does not fit into it.

    *more* are further records of the extended header.

    Raises:
        ValueError: an extended attribute's name holds a ``=``, or a device number is over 2,097,151.
    """
    records: dict[bytes, bytes] = dict(more)
    seconds, fraction = divmod(metadata.mtime, _NANOSECONDS)
    if fraction or not 0 <= seconds <= _MAX_OCTAL_11:
        records[b"mtime"] = _decimal_seconds(metadata.mtime)
    if len(name) > _NAME_BYTES:
        records[b"path"] = name
    if len(linkname) > _NAME_BYTES:
        records[b"linkpath"] = linkname
    for key, number, limit in (
        (b"size", size, _MAX_OCTAL_11),
        (b"uid", metadata.uid, _MAX_OCTAL_7),
        (b"gid", metadata.gid, _MAX_OCTAL_7),
    ):
        if number > limit:
            records[key] = b"%d" % number
    for attribute, value in metadata.xattrs:
        if b"=" in attribute:
            raise ValueError(f"the name of its extended attribute {_shown(attribute)} holds a '='")
        records[b"SCHILY.xattr." + attribute] = value
    header = UstarHeader(
        name[:_NAME_BYTES],
        typeflag,
        mode=metadata.mode,
        uid=metadata.uid if b"uid" not in records else 0,
        gid=metadata.gid if b"gid" not in records else 0,
        size=size if b"size" not in records else 0,
        seconds=min(max(seconds, 0), _MAX_OCTAL_11),
        linkname=linkname[:_NAME_BYTES],
        major=major,
        minor=minor,
    ).pack()
    return pax_header(dict(sorted(records.items())), name) + header if records else header


class TarSink:
    """Writes a tree as tar entries through *write*, in one pass.

    The entries and their records hold all calls in their order: a reader that repeats them makes the same tree. Only the
    paths of directories that may still be amended are held in memory, until they are settled.

    Args:
        write: takes the next bytes of the archive, and does not use them after it returns; what it raises goes to the caller.
        prefix: a clean path below which all entries go.
        end_of_archive: whether :meth:`finish` writes the two zero blocks that end an archive.
    """

    def __init__(
        self, write: Callable[[bytes | memoryview], object], prefix: bytes = b"", *, end_of_archive: bool = True
    ) -> None:
        self._write = write
        self._prefix = prefix
        self._end_of_archive = end_of_archive
        self._before: list[bytes] = []
        self._directories: set[bytes] = set()

    def add(self, entry: Entry, content: Content | None = None) -> None:
        size = entry.size if isinstance(entry, Regular) else 0
        self._write(entry_header(entry, self._prefix, self._records()))
        if isinstance(entry, Directory):
            self._directories.add(entry.path)
        written = 0
        for chunk in content or ():
            written += len(chunk)
            if written > size:
                break
            self._write(chunk)
        if written != size:
            more = "more" if written > size else f"only {written}"
            raise FilesystemError(f"/{_shown(entry.path)}: expected {size} bytes of content, got {more}")
        if size:
            self._write(padding(size))

    def amend(self, path: bytes, metadata: Metadata) -> None:
        name = join(self._prefix, path)
        records = {**self._records(), AMEND_RECORD: b"1"}
        try:
            if path in self._directories:
                header = pax_entry_header(name + b"/", b"5", metadata, more={**records, **_charset(name, b"")})
            else:
                header = pax_entry_header(name, b"1", metadata, linkname=name, more={**records, **_charset(name, name)})
        except ValueError as error:
            raise FilesystemError(f"/{_shown(path)} cannot be put into a tar archive: {error}") from error
        self._write(header)

    def remove(self, path: bytes) -> None:
        self._note(b"remove", path)
        if path in self._directories:
            self._forget(path)

    def settle(self, path: bytes) -> None:
        self._note(b"settle", path)
        self._forget(path)

    def finish(self) -> None:
        """End the archive.

        Raises:
            FilesystemError: nothing was added after a removal, so that no entry can hold its record.
        """
        removed = next((one for one in self._before if one.startswith(b"remove ")), None)
        if removed is not None:
            raise FilesystemError(f"/{_shown(removed[7:])} is removed last of all, which a tar archive cannot express")
        if self._end_of_archive:
            self._write(END_OF_ARCHIVE)

    def _note(self, what: bytes, path: bytes) -> None:
        self._before.append(what + b" " + join(self._prefix, path))

    def _records(self) -> dict[bytes, bytes]:
        """The records that go with the next entry."""
        if not self._before:
            return {}
        text = b"".join(one + b"\0" for one in self._before)
        if len(text) > MAX_BEFORE_BYTES:
            raise FilesystemError(
                f"more is removed at once than the {MAX_BEFORE_BYTES} bytes that a tar entry can hold"
            )
        self._before.clear()
        return {BEFORE_RECORD: text}

    def _forget(self, path: bytes) -> None:
        if not path:
            self._directories.clear()
            return
        below = path + b"/"
        self._directories = {one for one in self._directories if one != path and not one.startswith(below)}


def _charset(name: bytes, linkname: bytes) -> dict[bytes, bytes]:
    """The record that marks long names as bytes; without it, readers may decode them as UTF-8."""
    for text in (name, linkname):
        if len(text) > _NAME_BYTES and not text.isascii():
            try:
                text.decode("utf-8")
            except UnicodeDecodeError:
                return {b"hdrcharset": b"BINARY"}
    return {}


def _decimal_seconds(nanoseconds: int) -> bytes:
    """A PAX time: ``1.5`` for 1,500,000,000 and ``-0.25`` for -250,000,000."""
    sign = b"-" if nanoseconds < 0 else b""
    seconds, fraction = divmod(abs(nanoseconds), _NANOSECONDS)
    return (sign + b"%d" % seconds) if not fraction else sign + (b"%d.%09d" % (seconds, fraction)).rstrip(b"0")


def _pax_record(key: bytes, value: bytes) -> bytes:
    """``LENGTH KEY=VALUE\\n``, where LENGTH counts its own digits too."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _octal(number: int, width: int) -> bytes:
    digits = b"%0*o" % (width - 1, number)
    if number < 0 or len(digits) >= width:
        raise ValueError(f"the number {number} does not fit in a header field of {width} bytes")
    return digits + b"\0"


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
