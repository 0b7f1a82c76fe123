"""A small file to write in addition to a store."""

from __future__ import annotations

import msgspec


class ExtraFile(msgspec.Struct, frozen=True):
    """A small file to write to the partition in addition to the store, owned by root; it replaces an existing one.

    Attributes:
        path: clean path from the partition's root; its directory must exist.
        content: the whole content.
        mode: permission bits.
    """

    path: bytes
    content: bytes
    mode: int = 0o644
