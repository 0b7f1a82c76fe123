"""Files of an archive that are checked before they are written, by who knows what they mean."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Protocol

from ..disk import Device
from ..etch import Member
from ..fstree import Content, Regular


class FileCheck(Protocol):
    """Checks files by their content.

    Attributes:
        paths: the paths in a partition of the files that are checked.
        limit: bytes of a file that it wants to see; a larger one is passed on with one byte more.
    """

    @property
    def paths(self) -> Collection[bytes]: ...

    @property
    def limit(self) -> int: ...

    def on(self, device: Device, /) -> FileCheck:
        """The same, for the disk image *device* as it is before anything is written to it.

        Raises:
            DiskImageError, StoreError: it cannot be read.
        """
        ...

    def check(self, label: str, path: bytes, content: bytes, /) -> None:
        """Check the file *path* for the file system called *label*.

        Raises:
            UsageError: it must not be written.
        """
        ...


def checked(check: FileCheck | None, label: str, member: Member, content: Content | None) -> Content | None:
    """*content* of *member*, which goes to the file system called *label*, once it is checked if it has to be."""
    entry = member.entry
    if check is None or content is None or not isinstance(entry, Regular) or entry.path not in check.paths:
        return content
    kept: list[bytes] = []
    missing = check.limit + 1
    rest = iter(content)
    for chunk in rest:
        kept.append(bytes(chunk))
        missing -= len(chunk)
        if missing <= 0:
            break
    check.check(label, entry.path, b"".join(kept)[: check.limit + 1])
    return _chained(kept, rest)


def _chained(kept: list[bytes], rest: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    yield from kept
    yield from rest
