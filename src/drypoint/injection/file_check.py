"""Checks of an archive's files by their content, before they are written."""

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
        limit: bytes of a file that it needs; of a larger one it gets one byte more.
    """

    @property
    def paths(self) -> Collection[bytes]: ...

    @property
    def limit(self) -> int: ...

    def on(self, device: Device, /) -> FileCheck:
        """This check for the disk image *device*, before anything is written to it.

        Raises:
            DiskImageError, StoreError: it cannot be read.
        """
        ...

    def check(self, label: str, path: bytes, content: bytes, /) -> None:
        """Check the file *path* for the file system *label*.

        Raises:
            UsageError: it must not be written.
        """
        ...


def checked(check: FileCheck | None, label: str, member: Member, content: Content | None) -> Content | None:
    """*content* of *member* for the file system *label*, after the check if *check* covers it."""
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
