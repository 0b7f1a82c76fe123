"""Tables with an entry for each file of a layer: compact ones with compiled lanes, Python's own without."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from . import ENABLED

if ENABLED:
    from ._tables import NameTable, SeenNames


class Names(Protocol):
    """Inode number and file type by name, such as a dict. :meth:`items` gives them in the order in which they were added."""

    def __len__(self) -> int: ...
    def __contains__(self, name: bytes, /) -> bool: ...
    def __setitem__(self, name: bytes, value: tuple[int, int], /) -> None: ...
    def get(self, name: bytes, /) -> tuple[int, int] | None: ...
    def pop(self, name: bytes, /) -> tuple[int, int]: ...
    def items(self) -> Iterable[tuple[bytes, tuple[int, int]]]: ...


class Seen(Protocol):
    """A set of names."""

    def __len__(self) -> int: ...
    def add(self, name: bytes, /) -> bool:
        """Add *name*; returns whether it is new."""


class SeenSet:
    """The twin of :class:`~drypoint.lanes._tables.SeenNames`."""

    def __init__(self) -> None:
        self._names: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: bytes) -> bool:
        """See :meth:`Seen.add`."""
        before = len(self._names)
        self._names.add(name)
        return len(self._names) != before


def new_names() -> Names:
    """A new, empty table of names."""
    return NameTable() if ENABLED else {}


def new_seen() -> Seen:
    """A new, empty set of names."""
    return SeenNames() if ENABLED else SeenSet()
