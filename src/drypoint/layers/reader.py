"""Reading a layer's tar as changes, with its tar-split made in the same pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, count
from types import TracebackType

from ..fstree import Content, Regular
from ..lanes import ENABLED
from ..limits import DEFAULT_LIMITS, Limits
from .change import Add, Change, change_of
from .pipeline import TarChunks
from .read_ends import WINDOW, ReadEnds, windows
from .tar import END_OF_ARCHIVE, TarReader
from .tarsplit import BATCH, TarSplit, TarSplitWriter, clean_name, crc_of

if ENABLED:
    from ._plain_lane import PlainEntries

_HELD = 8 << 20
"""Most bytes after an archive's end, all of which are held in memory. No writer comes near it."""


class LayerReader:
    """Iterates over a layer's changes, in the tar's order; each regular file comes with its content.

    A content must be read before the next change; what is left of it then is skipped (but still checked and recorded). The
    iteration reads the tar to its very end, so what the stream of chunks raises there is raised too.

    Use as a context manager: exiting it closes the tar-split.

    Args:
        chunks: the layer's tar, as :func:`~drypoint.layers.pipeline.tar_chunks` gives it. Any other iterator counts as an
            uncompressed tar; only into which pieces the tar-split divides padding depends on it.
        what: how errors name the layer.
        final_empty_segment: end the tar-split with an empty segment, as engines up to 24 do; from 25 on they do not.
                Either reads either.
        in_memory: keep the tar-split in memory whatever its size, where no file may be made.
        from_store: record the tar as an engine does when it reads it from a layer just stored, not from the blob; that is how
            it handles a blob that a lower layer of the image has already.
        limits: for the consumer of the changes, see :class:`drypoint.stores.LayerStream`.
        lane: whether a compiled lane takes plain entries; it must be installed then (:data:`drypoint.lanes.ENABLED`).

    Raises, while iterating:
        LayerError: not a tar, or an entry that the engine would refuse.
    """

    def __init__(
        self,
        chunks: Iterator[bytes],
        what: str,
        *,
        final_empty_segment: bool = True,
        in_memory: bool = False,
        from_store: bool = False,
        limits: Limits = DEFAULT_LIMITS,
        lane: bool = ENABLED,
    ) -> None:
        self.limits = limits
        self._chunks = chunks
        self._tar = TarReader(chunks, what)
        self._what = what
        self._final_empty_segment = final_empty_segment
        self._from_store = from_store
        self._writer = TarSplitWriter(what, in_memory=in_memory)
        self._lane = PlainEntries(self._writer.seen) if lane else None
        self._result: TarSplit | None = None

    @property
    def entries(self) -> int:
        """Tar entries read so far, including those that make no change."""
        return self._tar.entries

    @property
    def tar_bytes(self) -> int:
        """Bytes of the tar read so far."""
        return self._tar.bytes_read

    @property
    def tar_split(self) -> TarSplit:
        """The finished tar-split, available after the last change. It is closed with the reader."""
        if self._result is None:
            raise ValueError("the layer has not been read to its end")
        return self._result

    def __iter__(self) -> Iterator[tuple[Change, Content | None]]:
        tar, writer, lane = self._tar, self._writer, self._lane
        if lane is not None:
            yield from self._plain(lane)
        for entry in tar:
            cleaned = clean_name(entry.name)
            change = change_of(entry, self._what, cleaned)
            whole = tar.buffered_content()
            content: Content
            streamed: _StreamedContent | None = None
            if whole is not None:
                # tar-split records files of any size, but a checksum only for those with bytes.
                writer.entry(entry.raw, entry.name, entry.size, crc_of(whole) if entry.size > 0 else None, cleaned)
                content = (whole,)
            else:
                writer.segment(entry.raw)
                content = streamed = _StreamedContent(tar.content())
            if change is not None:
                yield change, content if isinstance(change, Add) and isinstance(change.entry, Regular) else None
            if streamed is not None:
                writer.file(entry.name, entry.size, streamed.finish() if entry.size > 0 else None, cleaned)
            if lane is not None:
                yield from self._plain(lane)
        self._finish()

    def _plain(self, lane: PlainEntries) -> Iterator[tuple[Change, Content | None]]:
        """The changes of the plain entries that come next in the chunk."""
        tar, writer = self._tar, self._writer
        while (at_hand := tar.at_hand()) is not None:
            taken = lane.take(*at_hand, writer.position, writer.pending, BATCH)
            if taken is None:
                return
            changes, lines, position, padding, pending, size, name = taken
            tar.passed(len(changes), position, padding, size, name)
            writer.written(lines, 2 * len(changes), pending)
            yield from changes

    def _finish(self) -> None:
        if self._tar.end:
            self._writer.segment(self._tar.end)
        if self._record_rest() or self._from_store:
            # tar-split before 0.11.5 records this when a read returns only the end.
            self._record([b""])
        self._result = self._writer.finish()

    def _record_rest(self) -> bool:
        """Record what follows the archive's end, in the pieces in which the engine's reader returns it.

        Returns whether the end of the tar came after the last of them, and not with it.
        """
        start = self._tar.bytes_read
        rest = self._tar.rest()
        held: list[bytes] = []
        for chunk in rest:
            held.append(chunk)
            if self._tar.bytes_read - start > _HELD:
                # Where reads end is only known at the end of the tar.
                positions: Iterable[int] = count(start - start % WINDOW + WINDOW, WINDOW)
                self._record(_cut(chain(held, rest), start, positions))
                ends = self._read_ends(start)
                break
        else:
            ends = self._read_ends(start)
            self._record(_cut(held, start, ends.positions))
        # Read from the store, a segment of no bytes is a read of no bytes; one before the archive has ended goes unnoticed.
        if self._from_store and not ends.with_end and self._tar.end.endswith(END_OF_ARCHIVE):
            self._record([b""])
        return not ends.with_end

    def _record(self, segments: Iterable[bytes | bytearray]) -> None:
        for segment in segments:
            if segment or self._final_empty_segment:
                self._writer.segment(segment)

    def _read_ends(self, start: int) -> ReadEnds:
        if isinstance(self._chunks, TarChunks):
            return self._chunks.trace.read_ends(start, self._tar.bytes_read)
        return windows(start, self._tar.bytes_read)

    def close(self) -> None:
        """Close the tar-split, finished or not. May be called again."""
        self._writer.close()

    def __enter__(self) -> LayerReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _cut(chunks: Iterable[bytes], start: int, ends: Iterable[int]) -> Iterator[bytearray]:
    """*chunks*, which begin at *start* of the tar, in pieces that end at *ends*; the last one with the chunks."""
    following = iter(ends)
    end = next(following, None)
    pending = bytearray()
    for chunk in chunks:
        pending += chunk
        done = 0
        while end is not None and end - start <= len(pending) - done:
            yield pending[done : done + end - start]
            done += end - start
            start, end = end, next(following, None)
        del pending[:done]
    if pending:
        yield pending


class _StreamedContent:
    """A content that is not in the chunk in one piece; its checksum is computed as it is read."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self._crc = 0

    def __iter__(self) -> Iterator[memoryview]:
        for piece in self._pieces:
            self._crc = crc_of(piece, self._crc)
            yield piece

    def finish(self) -> int:
        """Skip what was not read; returns the checksum of all."""
        for _ in self:
            pass
        return self._crc
