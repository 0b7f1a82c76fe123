"""Writing an .etch archive, as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fastcrc import crc64

from ..errors import ContentError
from ..fstree import Metadata, join
from ..sinks.tar import END_OF_ARCHIVE, TarSink, padding, pax_entry_header
from .manifest import FORMAT, Manifest, manifest_text
from .names import CHECKSUM, CHECKSUM_BYTES, INJECT, MANIFEST

_GATHERED_BYTES = 256 << 10
_REGULAR = b"0"
_MODE = 0o644


class EtchWriter:
    """Writes an archive through *write*: manifest, disk image, members, and the checksum at the end, in this order.

    Small pieces are collected into pieces of 256 KiB; large ones are written as they come. Nothing else is buffered.

    Args:
        write: takes the next bytes, and is done with them when it returns, so that a slow reader slows everything down. Its
            exceptions go to the caller.
        timestamp: seconds since the epoch, the time of the manifest and the disk image in the archive.
    """

    def __init__(self, write: Callable[[bytes | memoryview], object], timestamp: int) -> None:
        self._write = write
        self._metadata = Metadata(_MODE, mtime=timestamp * 1_000_000_000)
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._checksum = 0

    def manifest(self, manifest: Manifest) -> None:
        """Write the manifest, and flush it at once.

        Raises:
            UsageError: see :func:`~drypoint.etch.manifest.manifest_text`.
        """
        if manifest.format != FORMAT:
            raise ValueError(f"archives of format {FORMAT} are written, and no others")
        self._small(MANIFEST, manifest_text(manifest))
        self.flush()

    def image(self, name: bytes, size: int, chunks: Iterable[bytes | memoryview]) -> None:
        """Write the disk image, *size* bytes, as they are.

        Raises:
            ContentError: *chunks* are more or fewer than that.
        """
        self._put(pax_entry_header(name, _REGULAR, self._metadata, size=size))
        left = size
        for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                raise ContentError(f"the disk image has more than the {size} bytes that were announced")
            self._put(chunk)
        if left:
            raise ContentError(f"the disk image ends {left} bytes before the {size} that were announced")
        self._put(padding(size))

    def sink(self, directory: bytes) -> TarSink:
        """The sink for the partition of ``inject/<directory>``. Finish one before requesting the next."""
        return TarSink(self._put, join(INJECT, directory), end_of_archive=False)

    def finish(self) -> None:
        """End the archive."""
        self._put(pax_entry_header(CHECKSUM, _REGULAR, self._metadata, size=CHECKSUM_BYTES))
        self.flush()
        content = b"%016x\n" % self._checksum
        self._put(content + padding(len(content)) + END_OF_ARCHIVE)
        self.flush()

    def flush(self) -> None:
        """Write out what is collected."""
        if self._gathered:
            data = b"".join(self._gathered)
            self._gathered.clear()
            self._gathered_bytes = 0
            self._checksum = crc64.xz(data, self._checksum)
            self._write(data)

    def _small(self, name: bytes, content: bytes) -> None:
        self._put(pax_entry_header(name, _REGULAR, self._metadata, size=len(content)))
        self._put(content)
        self._put(padding(len(content)))

    def _put(self, data: bytes | memoryview) -> None:
        size = len(data)
        if size >= _GATHERED_BYTES:
            self.flush()
            self._checksum = crc64.xz(data, self._checksum)
            self._write(data)
            return
        # A copy: a view is only valid until its owner continues.
        self._gathered.append(bytes(data))
        self._gathered_bytes += size
        if self._gathered_bytes >= _GATHERED_BYTES:
            self.flush()
