"""The records of a tar-split. Format: see :mod:`drypoint.layers.tarsplit`."""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class FileRecord(msgspec.Struct, frozen=True, gc=False):
    """An entry, in its place in the tar.

    Attributes:
        name: as in the tar, not cleaned.
        path: the cleaned name.
        size: bytes of content; 0 or less for none.
        crc: CRC-64 of the content; None if there is none.
    """

    name: bytes
    path: bytes
    size: int
    crc: int | None


Record: TypeAlias = bytes | FileRecord
"""Bytes of the tar that are not a file's content, or an entry."""
