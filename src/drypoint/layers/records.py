"""What a tar-split records of a tar, in order. Format: see :mod:`drypoint.layers.tarsplit`."""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class FileRecord(msgspec.Struct, frozen=True, gc=False):
    """An entry's place in the tar.

    Attributes:
        name: as the tar has it, not cleaned.
        path: the same cleaned.
        size: bytes of content; 0 or less for none.
        crc: CRC-64 of the content; None if there is none.
    """

    name: bytes
    path: bytes
    size: int
    crc: int | None


Record: TypeAlias = bytes | FileRecord
"""Bytes of the tar that are no file's content, or an entry's place."""
