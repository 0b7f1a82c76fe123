"""The job inject: a disk image from an .etch archive, in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec
from msgspec.structs import replace

from ..decompression import PEEK, compression_of
from ..disk import Device, FileDevice, GrowableDevice
from ..disk.formats import ImageFormat, OpenedImage, decompressed, opened_image, refuse_packed_again
from ..disk.formats.foreign import foreign_start
from ..disk.formats.sparse import image_chunks, write_sparse
from ..disk.host.scratch import nameless_file, path_of, scratch_directory
from ..disk.host.workspace import Destination, working_file
from ..disk.tables.tail import pad_missing_tail
from ..errors import DiskImageError, OutputError, UsageError
from ..etch import EtchReader, Manifest
from ..injection.request import InjectRequest
from ..injection.targets import InjectedPartition, Partitions
from ..progress import SILENT, Progress

_CHUNK = 1 << 20
_HEAD_BYTES = 1 << 10
_ZIP = b"PK\x03\x04"


class Readable(Protocol):
    """A readable object: a file, a pipe, a server's answer."""

    def read(self, size: int, /) -> bytes: ...


class Writable(Protocol):
    """A writable object; if it blocks, the job waits for it."""

    def write(self, data: bytes, /) -> object: ...


class Injected(msgspec.Struct, frozen=True):
    """The result of injecting.

    Attributes:
        image: the disk image's name in the archive.
        size: its new length in bytes.
        manifest: the archive's manifest.
        partitions: those with injected members, in the archive's order.
    """

    image: str
    size: int
    manifest: Manifest | None
    partitions: tuple[InjectedPartition, ...]


def inject(
    archive: Path | Readable | Iterable[bytes],
    output: Path | Destination | Writable,
    request: InjectRequest | None = None,
    *,
    name: str | None = None,
    verify: bool = True,
    processes: int = 1,
    progress: Progress = SILENT,
) -> Injected:
    """Make a disk image from an .etch archive: the one in it, with everything below ``inject/`` in its partitions.

    The archive is read once, as a stream. Partitions grow as needed.

    Args:
        archive: drypoint's own, or one that tar has made from a disk image and a directory ``inject/<partition number>``.
        output: the file to make, which appears when it is complete, compressed by its suffix; a
            :class:`~drypoint.Destination` also says whether an existing file may be replaced, and can have a block map. Or a
            writable object for the complete disk image: until then that is in an unnamed file (TMPDIR, or /var/tmp).
        request: options for writing the members to the partitions.
        name: the archive's name in messages; default: its path.
        verify: whether the file systems are checked at the end, and an engine's store is read back and verified.
        processes: how many processes may share the work of *verify* on a large store. They are started by the standard
            library's multiprocessing, and run the caller's main module again: a script that uses more than one must guard its
            own work with ``__name__ == "__main__"``.
        progress: gets each step.

    Raises:
        UsageError: the archive cannot be opened, or the output is malformed.
        ContentError: the archive ends early, is damaged, or has members that cannot be injected.
        DiskImageError: the disk image, a partition or a file system is damaged or unsuitable.
        StoreError: the store on the disk image cannot be merged with the archive's.
        OutputError: *output* cannot be written.
        VerificationError: verification of the result failed.
        ToolError: libext2fs, e2fsck, resize2fs or mtools is missing; or one of the processes was killed.
    """
    with ExitStack() as stack:
        inputs: tuple[Path, ...] = ()
        if isinstance(archive, Path):
            inputs, name = (archive,), str(archive) if name is None else name
            archive = stack.enter_context(_opened(archive))
        job = _Job(name or "the archive", request or InjectRequest(), verify, processes, progress)
        if isinstance(output, Path):
            output = Destination(output)
        if isinstance(output, Destination):
            if output.path is None:
                raise UsageError("an archive has no disk image to change in place: name a file to make")
            workspace = stack.enter_context(working_file(output.path, output, inputs, progress))
            reader, image = stack.enter_context(job.unpacked(_chunks(archive), workspace.scratch_dir, str(output.path)))
            done = job.run(reader, workspace.start(image, progress), workspace.scratch_dir)
            workspace.finish(reader.timestamp, progress)
            return done
        scratch = scratch_directory()
        reader, image = stack.enter_context(job.unpacked(_chunks(archive), scratch, "the disk image"))
        done = job.run(reader, image.device, scratch)
        _send(image.device, output, progress)
        return done


class _Job(msgspec.Struct, frozen=True):
    name: str
    request: InjectRequest
    verify: bool
    processes: int
    progress: Progress

    @contextmanager
    def unpacked(self, chunks: Iterator[bytes], directory: Path, name: str) -> Iterator[tuple[EtchReader, OpenedImage]]:
        """The archive, read up to its disk image, and that in an unnamed file in *directory*, with *name* for messages."""
        reader = EtchReader(chunks, self.name)
        with nameless_file(directory) as fd:
            with FileDevice(path_of(fd), writable=True, name=name) as device:
                _write_image(reader, device, directory, self.progress)
                pad_missing_tail(device, self.progress)
                device.extend(device.size)
                yield reader, OpenedImage(device, ImageFormat.RAW, is_scratch=True)

    def run(self, reader: EtchReader, disk: GrowableDevice, scratch: Path) -> Injected:
        """Write the archive's members to *disk*."""
        asked = self.request
        request = replace(
            asked,
            required_images=None if asked.required_images is None else asked.required_images.on(disk),
            check=None if asked.check is None else asked.check.on(disk),
        )
        partitions = Partitions(
            disk, reader, scratch, request, self.progress, verify=self.verify, processes=self.processes
        )
        with closing(partitions):
            step = self.progress.begin("injecting")
            for member, content in reader.members():
                partitions.take(member, content)
            step.end()
            done = partitions.finish()
        image = reader.image_name.decode("utf-8", "backslashreplace")
        return Injected(image, disk.size, reader.manifest, done)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _chunks(archive: Readable | Iterable[bytes]) -> Iterator[bytes]:
    # Files are iterables of lines, too.
    read = getattr(archive, "read", None)
    if callable(read):
        while chunk := read(_CHUNK):
            yield chunk
    elif isinstance(archive, Iterable):
        yield from archive


def _write_image(reader: EtchReader, disk: FileDevice, scratch: Path, progress: Progress) -> None:
    """Write the disk image, decompressed, to the empty file *disk*."""
    step = progress.begin("writing the disk image", reader.image_size)

    def counted_pieces() -> Iterator[bytes]:
        for piece in reader.image():
            step.advance(len(piece))
            yield bytes(piece)

    chunks = counted_pieces()
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= _HEAD_BYTES:
            break
    name = reader.image_name.decode("utf-8", "backslashreplace")
    kind = "zip" if head.startswith(_ZIP) else compression_of(head[:PEEK])
    foreign = foreign_start(head)
    if foreign is not None:
        raise DiskImageError(f"{name} in the archive is {foreign.name}, which is not supported; pack a raw disk image")
    try:
        whole = _joined(head, chunks)
        if kind == "zip":
            _unzip(whole, disk, scratch, name, progress)
        else:
            write_sparse(
                decompressed(whole, ImageFormat.RAW if kind is None else ImageFormat(kind), name, progress),
                disk.fileno(),
            )
            if kind is not None:
                refuse_packed_again(disk, ImageFormat(kind))
    except OSError as error:
        raise OutputError(f"cannot write the disk image to {disk.name}: {error.strerror}") from error
    step.end()


def _unzip(chunks: Iterator[bytes], disk: FileDevice, scratch: Path, name: str, progress: Progress) -> None:
    """Unpack a zip archive, *name* in messages, from a temporary file, because its directory is at its end."""
    with nameless_file(scratch) as fd:
        write_sparse(chunks, fd)
        with opened_image(path_of(fd), directory=scratch, name=name, progress=progress) as opened:
            size = opened.device.size
            pieces = image_chunks(opened.device.fileno(), size, _CHUNK)
            write_sparse((bytes(length) if piece is None else piece for piece, length in pieces), disk.fileno())


def _joined(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from chunks


def _send(disk: Device, output: Writable, progress: Progress) -> None:
    size = disk.size
    step = progress.begin("sending the disk image", size)
    for start in range(0, size, _CHUNK):
        chunk = disk.read(start, min(_CHUNK, size - start))
        output.write(chunk)
        step.advance(len(chunk))
    step.end()
