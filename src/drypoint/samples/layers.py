"""Building layer tars by calls, deterministic to the byte.

``LayerBuilder().directory("etc").file("etc/hostname", b"box\\n").finish()`` is a whole layer. The caller decides
order, names and repetition: nothing is sorted, cleaned or checked, because many tests need unusual archives.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import BinaryIO, TypedDict, Unpack

from ..fstree import Metadata
from ..sinks.tar import END_OF_ARCHIVE, UstarHeader, padding, pax_entry_header, pax_header

DEFAULT_MTIME = 1_700_000_000_000_000_000
"""2023-11-14T22:13:20Z, in nanoseconds: the default time of an entry."""
_GNU_MAGIC = b"ustar  \0"
_NANOSECONDS = 1_000_000_000


class TarFormat(Enum):
    """The format for names, numbers and times that ustar cannot hold."""

    PAX = "pax"
    GNU = "gnu"
    """Long names in ``L`` and ``K`` entries, large numbers in base 256, whole seconds, no extended attributes."""


class Attributes(TypedDict, total=False):
    """The metadata of an entry; ``mtime`` in nanoseconds, full names of ``xattrs`` (``b"user.note"``)."""

    mode: int
    uid: int
    gid: int
    mtime: int
    xattrs: Mapping[bytes, bytes]


class LayerBuilder:
    """Builds one layer tar. Every method returns the builder, so that calls chain.

    Keyword arguments of all entry methods are those of :class:`Attributes`; ``mode`` has the usual default of its type.

    Args:
        out: the file for the tar; None keeps it in memory, and :meth:`finish` returns it.
        tar_format: PAX or GNU.
    """

    def __init__(self, out: BinaryIO | None = None, *, tar_format: TarFormat = TarFormat.PAX) -> None:
        self._memory = io.BytesIO() if out is None else None
        self._out: BinaryIO = out if out is not None else self._memory or io.BytesIO()
        self._format = tar_format

    def file(
        self,
        path: str | bytes,
        content: bytes | Iterable[bytes] = b"",
        *,
        size: int | None = None,
        **attributes: Unpack[Attributes],
    ) -> LayerBuilder:
        """A regular file; *size* is needed if *content* is an iterable."""
        pieces = (content,) if isinstance(content, bytes) else content
        length = len(content) if isinstance(content, bytes) else size
        if length is None:
            raise ValueError("the size of content that comes in pieces must be given")
        self.header(path, b"0", _metadata(0o644, attributes), size=length)
        written = sum(self._out.write(piece) for piece in pieces)
        if written != length:
            raise ValueError(f"{path!r}: expected {length} bytes of content, got {written}")
        return self.raw(padding(length))

    def directory(self, path: str | bytes, **attributes: Unpack[Attributes]) -> LayerBuilder:
        return self.header(_bytes(path) + b"/", b"5", _metadata(0o755, attributes))

    def symlink(self, path: str | bytes, target: str | bytes, **attributes: Unpack[Attributes]) -> LayerBuilder:
        return self.header(path, b"2", _metadata(0o777, attributes), linkname=target)

    def hardlink(self, path: str | bytes, target: str | bytes, **attributes: Unpack[Attributes]) -> LayerBuilder:
        """Another name of the entry *target*; engines apply the header's metadata to the shared inode."""
        return self.header(path, b"1", _metadata(0o644, attributes), linkname=target)

    def char_device(self, path: str | bytes, major: int, minor: int, **attributes: Unpack[Attributes]) -> LayerBuilder:
        return self.header(path, b"3", _metadata(0o600, attributes), major=major, minor=minor)

    def block_device(self, path: str | bytes, major: int, minor: int, **attributes: Unpack[Attributes]) -> LayerBuilder:
        return self.header(path, b"4", _metadata(0o600, attributes), major=major, minor=minor)

    def fifo(self, path: str | bytes, **attributes: Unpack[Attributes]) -> LayerBuilder:
        return self.header(path, b"6", _metadata(0o600, attributes))

    def whiteout(self, path: str | bytes, **attributes: Unpack[Attributes]) -> LayerBuilder:
        """A whiteout: removes *path* of the layers below."""
        parent, slash, name = _bytes(path).rpartition(b"/")
        return self.file(parent + slash + b".wh." + name, **attributes)

    def opaque(self, directory: str | bytes, **attributes: Unpack[Attributes]) -> LayerBuilder:
        """An opaque mark: hides the content of *directory* in the layers below."""
        return self.file(_bytes(directory) + b"/.wh..wh..opq", **attributes)

    def header(
        self,
        path: str | bytes,
        typeflag: bytes,
        metadata: Metadata,
        *,
        size: int = 0,
        linkname: str | bytes = b"",
        major: int = 0,
        minor: int = 0,
    ) -> LayerBuilder:
        """The header blocks of one entry of any type; the caller adds *size* bytes of content with :meth:`raw`."""
        name, link = _bytes(path), _bytes(linkname)
        write = pax_entry_header if self._format is TarFormat.PAX else gnu_entry_header
        return self.raw(write(name, typeflag, metadata, size=size, linkname=link, major=major, minor=minor))

    def pax_global(self, records: Mapping[bytes, bytes]) -> LayerBuilder:
        """A PAX global header (type ``g``)."""
        return self.raw(pax_header(dict(records), b"global", b"g"))

    def raw(self, content: bytes) -> LayerBuilder:
        """Any bytes, unchanged."""
        self._out.write(content)
        return self

    def finish(self, *, end_of_archive: bool = True) -> bytes:
        """End the archive with its two zero blocks. Returns the tar's bytes, or ``b""`` with ``out``."""
        if end_of_archive:
            self.raw(END_OF_ARCHIVE)
        return self._memory.getvalue() if self._memory is not None else b""


def gnu_entry_header(
    name: bytes,
    typeflag: bytes,
    metadata: Metadata,
    *,
    size: int = 0,
    linkname: bytes = b"",
    major: int = 0,
    minor: int = 0,
) -> bytes:
    """Like :func:`drypoint.sinks.tar.pax_entry_header`, in GNU tar's format."""
    if metadata.xattrs:
        raise ValueError("GNU headers hold no extended attributes")
    long = b"".join(
        UstarHeader(b"././@LongLink", flag, size=len(text) + 1, magic=_GNU_MAGIC).pack()
        + text
        + b"\0"
        + padding(len(text) + 1)
        for flag, text in ((b"K", linkname), (b"L", name))
        if len(text) > 100
    )
    header = bytearray(
        UstarHeader(
            name[:100],
            typeflag,
            mode=metadata.mode,
            linkname=linkname[:100],
            major=major,
            minor=minor,
            magic=_GNU_MAGIC,
        ).pack()
    )
    header[108:116] = gnu_number(metadata.uid, 8)
    header[116:124] = gnu_number(metadata.gid, 8)
    header[124:136] = gnu_number(size, 12)
    header[136:148] = gnu_number(metadata.mtime // _NANOSECONDS, 12)
    return long + with_checksum(bytes(header))


def gnu_number(number: int, width: int) -> bytes:
    """A header's number: octal if it fits, else base 256 with the first bit set."""
    if 0 <= number < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, number)
    content = bytearray(number.to_bytes(width, "big", signed=True))
    content[0] |= 0x80
    return bytes(content)


def with_checksum(header: bytes) -> bytes:
    """The 512-byte *header* with a correct checksum, for headers changed by hand."""
    blank = header[:148] + b" " * 8 + header[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def file_capability(*capabilities: int) -> bytes:
    """The value of ``security.capability`` that makes *capabilities* permitted and effective.

    Format: ``struct vfs_cap_data`` revision 2, linux/capability.h. CAP_NET_RAW is 13, CAP_NET_BIND_SERVICE 10.
    """
    permitted = sum(1 << capability for capability in capabilities)
    return struct.pack("<5I", 0x02000001, permitted & 0xFFFFFFFF, 0, permitted >> 32, 0)


def _metadata(default_mode: int, given: Attributes) -> Metadata:
    return Metadata(
        given.get("mode", default_mode),
        given.get("uid", 0),
        given.get("gid", 0),
        given.get("mtime", DEFAULT_MTIME),
        tuple(sorted(given.get("xattrs", {}).items())),
    )


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
