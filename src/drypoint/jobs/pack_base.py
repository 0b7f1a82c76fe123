"""Opening the base of an archive: a file that can be read first, or one that is passed on unread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from ..disk import Device, FileDevice
from ..disk.formats import ImageFormat, format_of_content, opened_image
from ..disk.host.input_files import read_file
from ..disk.host.output import whole_file
from ..disk.tables.tail import pad_missing_tail
from ..errors import UsageError
from ..etch.base_manifest import MAX_BYTES, base_manifest, parse_base_manifest
from ..progress import SILENT, Progress
from ..sources.registry import RegistryOptions
from ..stores import StoreContents
from .base_stream import BaseStream, read_stream
from .base_url import url_stream


class UnreadBase(msgspec.Struct, frozen=True):
    """A disk image that cannot be read before it is passed on: it is compressed, or a stream.

    Attributes:
        name: for messages.
        store: its store according to its manifest; None without a manifest.
    """

    name: str
    store: StoreContents | None = None


class PackBase(msgspec.Struct, frozen=True):
    """The base of an archive, open.

    Attributes:
        source: for :func:`~drypoint.pack`.
        known: for :func:`~drypoint.preload_request`: the disk image, if it can be read first.
        manifest: for :func:`~drypoint.pack`: the content of its base manifest.
    """

    source: Path | BaseStream
    known: Device | UnreadBase
    manifest: bytes | None = None


@contextmanager
def open_pack_base(
    base: str | Path | BinaryIO,
    *,
    size: int | None = None,
    manifest: Path | None = None,
    options: RegistryOptions | None = None,
) -> Iterator[PackBase]:
    """Open *base*: a path, an http or https address, or an open stream.

    Args:
        size: bytes of a stream that does not say its length, such as a pipe.
        manifest: the base manifest of a base that cannot be read first.
        options: of the network, for an address.

    Raises:
        UsageError: the length of the stream is unknown, or *size* is given for another base.
        ContentError: the base manifest is malformed.
        DiskImageError: the base cannot be read.
        SourceError: the server refuses the request.
    """
    content = None if manifest is None else read_file(manifest, MAX_BYTES)
    stored = None if content is None else parse_base_manifest(content, str(manifest)).store.contents
    with _opened(base, size, options) as (source, device):
        yield PackBase(source, UnreadBase(source.name, stored) if device is None else device, content)


@contextmanager
def _opened(
    base: str | Path | BinaryIO, size: int | None, options: RegistryOptions | None
) -> Iterator[tuple[Path | BaseStream, Device | None]]:
    if not isinstance(base, str | Path):
        yield read_stream(base, size), None
        return
    if size is not None:
        raise UsageError(
            "--base-size is the length of standard input; that of a file or an address is known: leave it out"
        )
    if isinstance(base, str) and base.startswith(("http://", "https://")):
        with url_stream(base, options) as stream:
            yield stream, None
        return
    path = Path(base)
    with FileDevice(path) as device:
        # The job itself reports one that a killed run left half changed.
        device.lock(exclusive=False)
        if format_of_content(device) is not ImageFormat.RAW:
            yield path, None
            return
        # Without a note, because the job itself has it.
        pad_missing_tail(device)
        yield path, device


def write_base_manifest(
    image: Path, output: Path, *, partition: str | int, data_root: bytes | None, progress: Progress = SILENT
) -> None:
    """Write the base manifest of the disk image *image*, which may be compressed, to *output*, which is replaced.

    Args:
        partition, data_root: as for :func:`~drypoint.base_manifest`.

    Raises:
        OutputError: *output* cannot be written, or is *image* itself.
        DrypointError: as :func:`~drypoint.base_manifest`.
    """
    with whole_file(output, overwrite=True, inputs=(image,)) as part, opened_image(image, progress=progress) as opened:
        part.path.write_bytes(base_manifest(opened.device, partition, data_root))
