"""A layer, from tar bytes to changes, with its tar-split made on the way."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from ..fstree import Content, Regular
from .change import Add, Change, change_of
from .pipeline import TarChunks
from .tar import TarReader
from .tarsplit import TarSplit, TarSplitWriter, clean_name, crc_of

_WINDOW = 32 << 10


class LayerReader:
    """Iterates over a layer's changes, in the tar's order; each regular file comes with its content.

    A content must be taken before the next change is asked for; what is left of it then is passed over (and still checked
    and recorded). The iteration reads the tar to its very end, so what the stream of chunks raises there is raised too.

    Use as a context manager: leaving it lets go of the tar-split.

    Args:
        chunks: the layer's tar, as :func:`~drypoint.layers.pipeline.tar_chunks` gives it. From any other iterator it counts as
            a tar that was not compressed; only how the tar-split spells padding depends on it.
        what: how errors name the layer.
        final_empty_segment: end the tar-split with an empty segment, as engines up to 24 do; from 25 on they do not.
            Both read both.
        in_memory: keep the tar-split in memory whatever its size, where no file may be made.

    Raises, while iterating:
        LayerError: no tar, or an entry that the engine would refuse.
    """

    def __init__(
        self, chunks: Iterator[bytes], what: str, *, final_empty_segment: bool = True, in_memory: bool = False
    ) -> None:
        self._chunks = chunks
        self._tar = TarReader(chunks, what)
        self._what = what
        self._final_empty_segment = final_empty_segment
        self._writer = TarSplitWriter(what, in_memory=in_memory)
        self._result: TarSplit | None = None

    @property
    def entries(self) -> int:
        """Tar entries read so far, those included that mean no change."""
        return self._tar.entries

    @property
    def tar_bytes(self) -> int:
        """Bytes of the tar read so far."""
        return self._tar.bytes_read

    @property
    def tar_split(self) -> TarSplit:
        """The finished tar-split; only there after the last change. It is closed with the reader."""
        if self._result is None:
            raise ValueError("the layer has not been read to its end")
        return self._result

    def __iter__(self) -> Iterator[tuple[Change, Content | None]]:
        tar, writer = self._tar, self._writer
        for entry in tar:
            cleaned = clean_name(entry.name)
            change = change_of(entry, self._what, cleaned)
            whole = tar.buffered_content()
            content: Content
            streamed: _StreamedContent | None = None
            if whole is not None:
                # Files are recorded whatever their size, but a checksum only goes with bytes.
                writer.entry(entry.raw, entry.name, entry.size, crc_of(whole) if entry.size > 0 else None, cleaned)
                content = (whole,)
            else:
                writer.segment(entry.raw)
                content = streamed = _StreamedContent(tar.content())
            if change is not None:
                yield change, content if isinstance(change, Add) and isinstance(change.entry, Regular) else None
            if streamed is not None:
                writer.file(entry.name, entry.size, streamed.finish() if entry.size > 0 else None, cleaned)
        self._finish()

    def _finish(self) -> None:
        if self._tar.end:
            self._writer.segment(self._tar.end)
        padding = self._record_rest()
        # An empty segment is what tar-split before 0.11.5 records when its last read gives nothing. Go's gzip reader gives the
        # last bytes and the end in one, unless the last bytes filled its window.
        if self._final_empty_segment and not (self._is_gzip() and padding and self._tar.bytes_read % _WINDOW):
            self._writer.segment(b"")
        self._result = self._writer.finish()

    def _record_rest(self) -> int:
        """Record what follows the archive's end, in the pieces in which the engine's reader gives it; their total length.

        These are windows of 32 KiB from the tar's beginning: those of Go's gzip reader, or of the pipe through which a pull
        hands on a tar that is not compressed. (A tar that was loaded, not pulled, comes in larger pieces.)
        """
        total = 0
        pending = bytearray()
        limit = _WINDOW - self._tar.bytes_read % _WINDOW
        for chunk in self._tar.rest():
            pending += chunk
            total += len(chunk)
            start = 0
            while len(pending) - start >= limit:
                self._writer.segment(pending[start : start + limit])
                start += limit
                limit = _WINDOW
            del pending[:start]
        if pending:
            self._writer.segment(pending)
        return total

    def _is_gzip(self) -> bool:
        return isinstance(self._chunks, TarChunks) and self._chunks.compression == "gzip"

    def close(self) -> None:
        """Let go of the tar-split, finished or not. Harmless if repeated."""
        self._writer.close()

    def __enter__(self) -> LayerReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _StreamedContent:
    """A content that is not at hand in one piece; its checksum grows as it passes."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self._crc = 0

    def __iter__(self) -> Iterator[memoryview]:
        for piece in self._pieces:
            self._crc = crc_of(piece, self._crc)
            yield piece

    def finish(self) -> int:
        """Pass over what was not taken; the checksum of all."""
        for _ in self:
            pass
        return self._crc
