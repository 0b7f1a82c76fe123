"""The checksum at the end of an archive, computed while it streams by."""

from __future__ import annotations

from collections.abc import Iterator

from fastcrc import crc64


class RunningSum:
    """An iterator of chunks that computes the CRC-64 (XZ) of all it has yielded."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._before = 0  # the sum of what came before the present chunk
        self._start = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self._before = crc64.xz(self._chunk, self._before)
        self._start += len(self._chunk)
        self._chunk = chunk
        return chunk

    def up_to(self, position: int) -> int:
        """The sum of the first *position* bytes, the last of which is in the current chunk."""
        return crc64.xz(self._chunk[: position - self._start], self._before)
