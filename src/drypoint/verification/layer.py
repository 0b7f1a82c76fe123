"""One layer, proved: its tar rebuilt from tar-split and the files on the disk, and the files compared with that tar."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from ..digest import Digest
from ..engine import StoredLayer, apply_changes, layout
from ..errors import FilesystemError, LayerError
from ..fstree import Content, Directory, Regular, Stat, Symlink, TreeReader, join
from ..layers.assemble import FileRecord, Segment, read_tar_split
from ..layers.change import Change, change_of
from ..layers.tar import TarReader
from ..layers.tarsplit import clean_name, crc_of
from .comparison import compare
from .expectation import ANY_TIME, Expectation
from .finding import Finding, finding

_BATCH = 256 << 10
_ZEROS = bytes(1 << 20)
_LARGEST_STAND_IN = 1 << 30
_MAX_SYMLINKS = 40


@dataclass(frozen=True, slots=True)
class LayerResult:
    findings: tuple[Finding, ...]
    tar_bytes: int


class _UnreachableError(Exception):
    """A file is missing that is too large to stand in for."""


def check_layer(
    reader: TreeReader, data_root: bytes, layer: StoredLayer, diff_id: Digest, cache_id: str
) -> LayerResult:
    """Rebuild the tar of *layer* and compare it with *diff_id*, and what lies in its ``diff/`` with the tar.

    Never raises for damage; all of it becomes findings.
    """
    return _LayerCheck(reader, data_root, layer, diff_id, cache_id).run()


class _LayerCheck:
    def __init__(
        self, reader: TreeReader, data_root: bytes, layer: StoredLayer, diff_id: Digest, cache_id: str
    ) -> None:
        self._reader = reader
        self._layer = layer
        self._diff_id = diff_id
        self._diff = join(data_root, layout.cache_path(cache_id), b"diff")
        self._tar_split = join(data_root, layout.layer_path(layer.chain_id), b"tar-split.json.gz")
        self._size_file = join(data_root, layout.layer_path(layer.chain_id), b"size")
        self._what = f"layer {layer.chain_id}"
        self._findings: list[Finding] = []
        self._faithful = True
        self._sha256 = hashlib.sha256()
        self._tar_bytes = 0

    def run(self) -> LayerResult:
        try:
            self._check()
        except FilesystemError as error:
            self._report("unreadable", self._diff, str(error))
        except LayerError as error:
            self._report("damaged-tar-split", self._tar_split, str(error))
        except _UnreachableError:
            self._report(
                "more-findings", self._diff, "the rest of the layer is not compared, since a large file is missing"
            )
        return LayerResult(tuple(self._findings), self._tar_bytes)

    def _check(self) -> None:
        expectation = Expectation()
        stream = self._rebuilt()
        applied = apply_changes(self._changes(stream), expectation, b"", ANY_TIME, self._what)
        self._findings.extend(compare(self._reader, self._diff, expectation))
        found = f"sha256:{self._sha256.hexdigest()}"
        if self._faithful and found != self._diff_id:
            self._report("wrong-diff-id", self._tar_split, f"the rebuilt tar hashes to {found}, not to {self._diff_id}")
        if self._layer.size is not None and self._layer.size != applied.size:
            self._report(
                "wrong-layer-size", self._size_file, f"it says {self._layer.size}, but the layer takes {applied.size}"
            )

    def _changes(self, stream: Iterator[bytes]) -> Iterator[tuple[Change, Content | None]]:
        for entry in (tar := TarReader(stream, self._what)):
            change = change_of(entry, self._what)
            if change is not None:
                yield change, None
        for _ in tar.rest():
            continue

    def _rebuilt(self) -> Iterator[bytes]:
        """The tar, in pieces worth handing on; each is hashed."""
        pending: list[bytes | memoryview] = []
        size = 0
        for piece in self._pieces():
            # A piece of a file is only valid until the next one is read.
            pending.append(bytes(piece))
            size += len(piece)
            if size >= _BATCH:
                yield self._hashed(pending)
                pending, size = [], 0
        yield self._hashed(pending)

    def _hashed(self, pieces: list[bytes | memoryview]) -> bytes:
        chunk = b"".join(pieces)
        self._sha256.update(chunk)
        self._tar_bytes += len(chunk)
        return chunk

    def _pieces(self) -> Iterator[bytes | memoryview]:
        stat = self._reader.lookup(self._tar_split)
        if stat is None or not isinstance(stat.entry, Regular):
            raise LayerError(f"{self._what}: there is no tar-split")
        chunks = (bytes(chunk) for chunk in self._reader.read(stat))
        for record in read_tar_split(chunks, self._what):
            if isinstance(record, Segment):
                if record.payload:
                    yield record.payload
            elif record.size > 0:
                yield from self._file(record)

    def _file(self, record: FileRecord) -> Iterator[bytes | memoryview]:
        """The content of a file. One that is not there, or of another size, is told of by the comparison that follows."""
        stat = self._find(record.name)
        if stat is None or not isinstance(stat.entry, Regular) or stat.entry.size != record.size:
            yield from self._stand_in(record.size)
            return
        crc = 0
        for chunk in self._reader.read(stat):
            crc = crc_of(chunk, crc)
            yield chunk
        if crc != record.crc:
            self._faithful = False
            self._report(
                "changed-content",
                stat.entry.path,
                f"its CRC-64 is {crc:016x}, but {record.crc or 0:016x} in the tar-split of layer {self._layer.chain_id}",
            )

    def _stand_in(self, size: int) -> Iterator[bytes]:
        self._faithful = False
        if size > _LARGEST_STAND_IN:
            raise _UnreachableError
        while size > 0:
            yield _ZEROS[:size]
            size -= len(_ZEROS)

    def _find(self, name: bytes) -> Stat | None:
        """What the tar calls *name*, through symbolic links above it as the engine goes when it unpacks in a chroot."""
        path = clean_name(b"/" + name)[1:]
        direct = self._reader.lookup(join(self._diff, path))
        if direct is not None:
            return direct
        parent, _, last = path.rpartition(b"/")
        real: list[bytes] = []
        pending = parent.split(b"/")[::-1] if parent else []
        followed = 0
        while pending:
            part = pending.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                del real[-1:]
                continue
            stat = self._reader.lookup(join(self._diff, *real, part))
            if stat is None:
                return None
            if isinstance(stat.entry, Symlink):
                followed += 1
                if followed > _MAX_SYMLINKS:
                    return None
                if stat.entry.target.startswith(b"/"):
                    real.clear()
                pending.extend(stat.entry.target.split(b"/")[::-1])
            elif isinstance(stat.entry, Directory):
                real.append(part)
            else:
                return None
        return self._reader.lookup(join(self._diff, *real, last))

    def _report(self, code: str, path: bytes, text: str) -> None:
        self._findings.append(finding(code, path, text))
