"""Reading an .etch archive as a stream: drypoint's own, or one made by hand with tar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from ..disk.ext4 import LATEST_NOW
from ..errors import ContentError, LayerError
from ..fstree import (
    BlockDevice,
    CharDevice,
    Content,
    Directory,
    Entry,
    Fifo,
    HardLink,
    Metadata,
    Regular,
    Symlink,
)
from ..layers import TarEntry, TarReader, decompress
from ..layers.header import BLOCK, ZERO_BLOCK
from ..layers.tar import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    GLOBAL_HEADER,
    LINK,
    REGULAR,
    SYMLINK,
)
from ..sinks.tar import AMEND_RECORD, BEFORE_RECORD
from .checksum import RunningSum
from .manifest import MAX_BYTES, Manifest, parse_manifest
from .names import CHECKSUM, CHECKSUM_BYTES, INJECT, MANIFEST
from .records import records_of, xattrs_of

_CONTIGUOUS, _OLD_SPARSE = b"7", b"S"
_REGULAR_KINDS = frozenset((REGULAR, _CONTIGUOUS, _OLD_SPARSE))
_MAX_PATH = 4096
_MAX_ID = (1 << 32) - 1
# tar pads its last record, to 10 KiB by default and to 4 MiB at most in practice.
_MAX_FILLING = 16 << 20


class Removal(msgspec.Struct, frozen=True):
    """Remove *path* of the partition."""

    path: bytes


class Settlement(msgspec.Struct, frozen=True):
    """No more members follow at or below *path* of the partition."""

    path: bytes


class Member(msgspec.Struct, frozen=True):
    """One member below ``inject/``.

    Attributes:
        name: its name in the archive, for messages.
        directory: its directory in ``inject/``.
        entry: the entry; its path and a hard link's target are those in the partition, ``b""`` is the root.
        metadata: of its header, also if the entry is a hard link.
        before: commands to run first, in order.
        amends: whether it only changes the metadata of an existing file.
    """

    name: bytes
    directory: bytes
    entry: Entry
    metadata: Metadata
    before: tuple[Removal | Settlement, ...] = ()
    amends: bool = False


class EtchReader:
    """An archive, read up to the disk image. Read the :meth:`image` first, then the :meth:`members`.

    Attributes:
        manifest: the content of manifest.json; None without one.
        image_name: the disk image's name in the archive.
        image_size: its length in the archive.
        timestamp: seconds since the epoch, the manifest's, else that of the disk image in the archive.

    Args:
        chunks: the archive, in pieces of any size; large ones are faster. It may be compressed as a whole.
        name: for errors.

    Raises:
        ContentError: it is not such an archive: not a tar, not a disk image first, or a malformed manifest.
    """

    def __init__(self, chunks: Iterator[bytes], name: str) -> None:
        self._name = name
        self._sum = RunningSum(decompress(chunks, name))
        self._tar = TarReader(self._sum, name)
        self._entries = iter(self._tar)
        self._checked = False
        self._top = INJECT
        with self._as_content_error():
            self.manifest, image = self._open()
        self.image_name = image.name
        self.image_size = image.size
        self.timestamp = min(max(0, image.mtime // 1_000_000_000), LATEST_NOW)
        if self.manifest is not None and self.manifest.timestamp is not None:
            self.timestamp = self.manifest.timestamp

    def image(self) -> Iterator[memoryview]:
        """The disk image's bytes as they are in the archive; must be read once, before the members.

        Raises:
            ContentError: the archive ends early, or is damaged.
        """
        with self._as_content_error():
            yield from self._tar.content()

    def members(self) -> Iterator[tuple[Member, Content | None]]:
        """The members to inject, in order; a regular file comes with its content, which is valid until the next member is read.

        Raises:
            ContentError: the archive ends early or is damaged, or a member cannot be injected.
        """
        is_first = True
        with self._as_content_error():
            for entry in self._entries:
                if self._is_passed_over(entry):
                    continue
                name = self._clean(entry)
                if self._checked:
                    raise self._refusal(name, "comes after the checksum that ends the archive")
                if name == CHECKSUM and entry.typeflag in _REGULAR_KINDS:
                    self._check_sum(entry)
                    continue
                if entry.typeflag == DIRECTORY and (name == self._top or (is_first and self._is_top(name))):
                    self._top, is_first = name, False
                    continue
                is_first = False
                member = self._member(entry, name)
                yield member, self._tar.content() if isinstance(member.entry, Regular) else None
            self._check_end()

    def _is_top(self, name: bytes) -> bool:
        """Whether the directory *name*, the first member after the disk image, is the inject/ of an archive made by hand.

        ``tar cf ARCHIVE /path/to/disk.img /path/to/inject`` only strips the first slash. Since the directory is a member
        itself, it is clear which part of the path is inject/.
        """
        return not self._is_own and name.endswith(b"/" + INJECT)

    @property
    def _is_own(self) -> bool:
        return self.manifest is not None and self.manifest.format is not None

    def _open(self) -> tuple[Manifest | None, TarEntry]:
        """The manifest, if there is one, and the disk image's entry."""
        manifest: Manifest | None = None
        for entry in self._entries:
            if self._is_passed_over(entry):
                continue
            name = self._clean(entry)
            if name == MANIFEST and manifest is None and entry.typeflag in _REGULAR_KINDS:
                manifest = parse_manifest(self._small(entry, MAX_BYTES), self._name)
            elif name.startswith(INJECT + b"/") or (name.split(b"/")[-1] == INJECT and entry.typeflag == DIRECTORY):
                raise self._refusal(
                    name, "comes before any disk image: name the disk image first, as in tar cf ARCHIVE disk.img inject"
                )
            elif entry.typeflag in _REGULAR_KINDS:
                return manifest, entry
            elif entry.typeflag != DIRECTORY:
                raise self._refusal(name, "is not a regular file, but a disk image comes first")
        if not self._tar.bytes_read:
            raise ContentError(f"{self._name} is empty: has what should have written it failed?")
        raise ContentError(f"{self._name} holds no disk image: it is to be the archive's first file")

    def _is_passed_over(self, entry: TarEntry) -> bool:
        """Whether *entry* is ignored: a global header without records for entries, or the archive's root."""
        if entry.typeflag == GLOBAL_HEADER:
            said = [key for key in records_of(entry.raw, is_global=True) if key != b"comment"]
            if said:
                raise ContentError(
                    f"{self._name}: a global header sets {said[0][:100]!r} for all members, which is not supported: make the "
                    "archive without"
                )
            return True
        return (
            entry.typeflag == DIRECTORY
            and entry.name != b""
            and set(entry.name.split(b"/")[:-1]) <= {b"."}
            and (entry.name.rpartition(b"/")[2] in (b"", b"."))
        )

    def _clean(self, entry: TarEntry) -> bytes:
        """The member's name without ``.`` and doubled slashes."""
        name = entry.name
        if name.startswith(b"/"):
            raise self._refusal(
                name, "has an absolute path: make the archive without tar's -P, which strips the first slash then"
            )
        if len(name) > _MAX_PATH:
            raise self._refusal(name, f"has a path of {len(name)} bytes, more than the {_MAX_PATH} that Linux takes")
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            raise self._refusal(name, "leads upwards with '..'")
        if not parts:
            raise self._refusal(name, "has no name")
        return b"/".join(parts)

    def _member(self, entry: TarEntry, name: bytes) -> Member:
        directory, path = self._place(name)
        records = records_of(entry.raw) if len(entry.raw) >= 2 * BLOCK else {}
        try:
            metadata = Metadata(
                entry.mode & 0o7777, _owner(entry.uid), _owner(entry.gid), entry.mtime, xattrs_of(records)
            )
        except ValueError as error:
            raise self._refusal(name, str(error)) from error
        made = self._entry(entry, name, directory, path, metadata)
        before = tuple(
            self._before(one, name, directory) for one in records.get(BEFORE_RECORD, b"").split(b"\0") if one
        )
        return Member(name, directory, made, metadata, before, AMEND_RECORD in records)

    def _entry(self, entry: TarEntry, name: bytes, directory: bytes, path: bytes, metadata: Metadata) -> Entry:
        kind = entry.typeflag
        if kind == DIRECTORY:
            return Directory(path, metadata)
        if not path:
            raise self._refusal(name, "stands for the root of a partition, and is not a directory")
        if kind in _REGULAR_KINDS:
            return Regular(path, metadata, entry.size)
        if kind == SYMLINK:
            return Symlink(path, metadata, entry.linkname)
        if kind == LINK:
            return HardLink(path, self._link_target(entry, name, directory))
        if kind == CHARACTER:
            return CharDevice(path, metadata, entry.major, entry.minor)
        if kind == BLOCK_DEVICE:
            return BlockDevice(path, metadata, entry.major, entry.minor)
        if kind == FIFO:
            return Fifo(path, metadata)
        raise self._refusal(name, f"is of the tar type {kind!r}, which no file system holds")

    def _link_target(self, entry: TarEntry, name: bytes, directory: bytes) -> bytes:
        parts = [part for part in entry.linkname.split(b"/") if part not in (b"", b".")]
        root = [*self._top.split(b"/"), directory]
        depth = len(root)
        if entry.linkname.startswith(b"/") or b".." in parts or parts[:depth] != root or len(parts) == depth:
            raise self._refusal(
                name, f"is a hard link to {entry.linkname[:200]!r}, which is not in the same inject/{_shown(directory)}"
            )
        return b"/".join(parts[depth:])

    def _before(self, text: bytes, name: bytes, directory: bytes) -> Removal | Settlement:
        what, _, full = text.partition(b" ")
        place, path = self._place(full)
        if place != directory or not path or b".." in path.split(b"/") or b"" in path.split(b"/"):
            raise self._refusal(name, f"would change {full[:200]!r}, which is not in its partition")
        if what == b"remove":
            return Removal(path)
        if what == b"settle":
            return Settlement(path)
        raise self._refusal(name, f"has the unknown command {what[:50]!r} before it")

    def _place(self, name: bytes) -> tuple[bytes, bytes]:
        """For a clean name, the directory in inject/ and the path in the partition."""
        directory, _, path = name[len(self._top) + 1 :].partition(b"/")
        if not name.startswith(self._top + b"/") or not directory:
            below = _shown(self._top)
            hint = "" if b"/inject/" not in name else f" (give tar the directory {below} as a whole, or use its -C)"
            raise self._refusal(
                name,
                f"is outside {below}/<partition number>/{hint}: after the one disk image, an archive holds nothing else",
            )
        return directory, path

    def _small(self, entry: TarEntry, limit: int) -> bytes:
        if entry.size > limit:
            raise self._refusal(entry.name, f"has {entry.size} bytes, more than the {limit} that are taken")
        return b"".join(bytes(piece) for piece in self._tar.content())

    def _check_sum(self, entry: TarEntry) -> None:
        expected = self._sum.up_to(self._tar.bytes_read)
        content = self._small(entry, CHECKSUM_BYTES)
        if content != b"%016x\n" % expected:
            raise ContentError(
                f"{self._name} is damaged: its bytes have the checksum {expected:016x}, but it ends with {content!r}; get it "
                "again"
            )
        self._checked = True

    def _check_end(self) -> None:
        """Check that the end is not missing, and that nothing follows it."""
        end = self._tar.end
        if not end.endswith(ZERO_BLOCK) or (self._is_own and not self._checked):
            raise ContentError(
                f"{self._name} ends early: its end is missing after {self._tar.bytes_read} bytes; get it again"
            )
        filling = 0
        for chunk in self._tar.rest():
            filling += len(chunk)
            if filling > _MAX_FILLING or chunk.count(0) != len(chunk):
                raise ContentError(f"{self._name} goes on after its end: is it two archives in one?")

    def _refusal(self, name: bytes, why: str) -> ContentError:
        return ContentError(f"{self._name}: the member {_shown(name[:300])} {why}")

    @contextmanager
    def _as_content_error(self) -> Iterator[None]:
        """Turn errors of the tar reader, which are about layers, into errors about the archive."""
        try:
            yield
        except LayerError as error:
            if self._tar.entries:
                raise ContentError(str(error)) from error
            raise ContentError(
                f"{self._name} is not an archive of drypoint pack or tar ({error}); make one of a disk image and what "
                "goes into it, as in tar cf ARCHIVE disk.img inject"
            ) from error


def _owner(number: int) -> int:
    if not 0 <= number <= _MAX_ID:
        raise ValueError(f"belongs to the user or group {number}, which Linux does not support")
    return number


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
