"""A small file that is written next to a store."""

from __future__ import annotations

import msgspec


class ExtraFile(msgspec.Struct, frozen=True):
    """A small file that goes into the partition beside the store, owned by root; one that is there already is replaced.

    Attributes:
        path: clean path from the partition's root; its directory exists.
        content: all of it.
        mode: permission bits.
    """

    path: bytes
    content: bytes
    mode: int = 0o644
