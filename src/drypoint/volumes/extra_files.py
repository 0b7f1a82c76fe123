"""Small files to write in addition to the store."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UsageError
from ..fstree import Metadata, Regular, TreeReader, TreeSink
from ..fstree.extra_file import ExtraFile


def to_be_written(reader: TreeReader, files: Sequence[ExtraFile]) -> tuple[ExtraFile, ...]:
    """The *files* that do not exist yet with the same content and metadata, so that a second run changes nothing.

    Raises:
        UsageError: one of them has no name.
    """
    return tuple(file for file in files if not _is_there(reader, file))


def put_file(sink: TreeSink, file: ExtraFile, timestamp: int, *, exists: bool) -> None:
    """Write *file*, replacing what *exists* at its path; *timestamp* in seconds."""
    if exists:
        sink.remove(file.path)
    metadata = Metadata(file.mode, mtime=timestamp * 1_000_000_000)
    sink.add(Regular(file.path, metadata, len(file.content)), (file.content,) if file.content else ())


def _is_there(reader: TreeReader, file: ExtraFile) -> bool:
    if not file.path:
        raise UsageError("a file to add needs a name")
    stat = reader.lookup(file.path)
    if stat is None or not isinstance(stat.entry, Regular) or stat.entry.size != len(file.content) or stat.links > 1:
        return False
    metadata = stat.entry.metadata
    if (metadata.mode, metadata.uid, metadata.gid, metadata.xattrs) != (file.mode, 0, 0, ()):
        return False
    return b"".join(bytes(chunk) for chunk in reader.read(stat)) == file.content
