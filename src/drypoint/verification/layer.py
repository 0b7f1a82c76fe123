"""Verify one layer: rebuild its tar from tar-split and the files on the disk, and compare the files with that tar."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from ..concurrency.tasks import Cancelled, current
from ..errors import FilesystemError, LayerError
from ..fstree import Content, Regular, TreeReader, join
from ..layers.assemble import read_tar_split
from ..layers.change import Change, change_of
from ..layers.records import FileRecord
from ..layers.tar import TarEntry, TarReader
from ..layers.tarsplit import crc_of
from ..stores import KeptLayer
from .comparison import compare
from .expectation import ANY_TIME, Expectation
from .finding import Finding, finding
from .tree import LayerTree


class LayerResult(msgspec.Struct, frozen=True):
    findings: tuple[Finding, ...]
    tar_bytes: int


def check_layer(reader: TreeReader, layer: KeptLayer) -> LayerResult:
    """Rebuild the tar of *layer* and compare it with its diff-id; compare its files with the tar.

    Damage never raises; it becomes findings.
    """
    return _LayerCheck(reader, layer).run()


class _LayerCheck:
    """The tar is never held as a whole: its pieces go into the hash, and only those without content are parsed."""

    def __init__(self, reader: TreeReader, layer: KeptLayer) -> None:
        self._reader = reader
        self._layer = layer
        self._tree = LayerTree(reader, layer.files)
        self._what = f"layer {layer.chain_id}"
        self._findings: list[Finding] = []
        self._faithful = True
        self._entry: TarEntry | None = None
        self._loss: str | None = None
        self._changed: list[Finding] = []
        self._sha256 = hashlib.sha256()
        self._tar_bytes = 0
        self._tar = TarReader(self._headers(), self._what, headers_only=True)

    def run(self) -> LayerResult:
        try:
            self._check()
        except FilesystemError as error:
            self._report("unreadable", self._tree.diff, str(error))
        except LayerError as error:
            self._report("damaged-tar-split", self._layer.tar_split, str(error))
        return LayerResult(tuple(self._findings), self._tar_bytes)

    def _check(self) -> None:
        expectation = Expectation()
        applied = self._layer.unpack(self._changes(), expectation, ANY_TIME)
        self._findings.extend(compare(self._tree, expectation))
        self._report_changed({join(self._tree.diff, path) for path in expectation.replaced})
        found = f"sha256:{self._sha256.hexdigest()}"
        if self._loss is not None:
            self._report("not-rebuildable", self._layer.tar_split, self._loss)
        elif self._faithful and found != self._layer.diff_id:
            self._report_wrong_diff_id(found)
        if self._layer.size is not None and self._layer.size != applied.size:
            self._report(
                "wrong-layer-size",
                self._layer.size_file,
                f"it says {self._layer.size}, but the layer takes {applied.size}",
            )

    def _report_wrong_diff_id(self, found: str) -> None:
        # The tar may have had a part of the missing padding: engines record none of it.
        for count in range(1, self._tar.missing_padding):
            self._sha256.update(b"\0")
            if f"sha256:{self._sha256.hexdigest()}" == self._layer.diff_id:
                text = (
                    f"the tar was cut off {self._tar.missing_padding - count} bytes before the end of its last padding"
                )
                self._report("cut-off-tar", self._layer.tar_split, text)
                return
        self._report(
            "wrong-diff-id", self._layer.tar_split, f"the rebuilt tar hashes to {found}, not to {self._layer.diff_id}"
        )

    def _report_changed(self, replaced: set[bytes]) -> None:
        """Content that a later entry of the same layer replaced is not damage: engines cannot rebuild such a tar either."""
        for one in self._changed:
            if one.path not in replaced:
                self._findings.append(one)
            elif self._loss is None:
                self._loss = f"a later entry of the layer replaces {one.path[:300]!r}"

    def _changes(self) -> Iterator[tuple[Change, Content | None]]:
        task = current()
        for entry in self._tar:
            # An attribute, not a call: this runs for each entry.
            if task.cancelled:
                raise Cancelled
            self._entry = entry
            change = change_of(entry, self._what)
            if change is not None:
                yield change, None
        self._entry = None
        for _ in self._tar.rest():
            continue

    def _headers(self) -> Iterator[bytes]:
        """The tar without contents. When the parser asks for the next piece, the content of the current entry is hashed."""
        stat = self._reader.lookup(self._layer.tar_split)
        if stat is None or not isinstance(stat.entry, Regular):
            raise LayerError(f"{self._what}: there is no tar-split")
        chunks = (bytes(chunk) for chunk in self._reader.read(stat))
        for record in read_tar_split(chunks, self._what):
            if isinstance(record, bytes):
                self._sha256.update(record)
                self._tar_bytes += len(record)
                if record:
                    yield record
            else:
                if self._loss is None and self._tar.is_sparse:
                    self._loss = f"tar-split does not record how the tar stores {record.name[:300]!r}"
                if record.size > 0:
                    self._content(record)

    def _content(self, record: FileRecord) -> None:
        """Hash a file's content. A missing file, or one of another size, is reported by the comparison that follows."""
        entry, stored = self._entry, self._tar.stored_size
        if entry is None or entry.size != record.size:
            raise LayerError(
                f"{self._what}: the tar-split has {record.size} bytes of content for {record.name[:300]!r}, but the tar header "
                f"has {entry.size if entry else 'none'}"
            )
        if self._loss is None and stored != record.size:
            self._loss = f"the tar stores {stored} bytes of {record.name[:300]!r}, but tar-split has {record.size}"
        stat = self._tree.find(record.path)
        if stat is None or not isinstance(stat.entry, Regular) or stat.entry.size != record.size:
            self._faithful = False
            return
        crc = 0
        update = self._sha256.update
        task = current()
        for chunk in self._tree.read(stat):
            if task.cancelled:
                raise Cancelled
            crc = crc_of(chunk, crc)
            update(chunk)
        self._tar_bytes += record.size
        # Engines record nothing of the content that a link's header claims to have.
        if crc != record.crc and stored:
            self._faithful = False
            text = (
                f"its CRC-64 is {crc:016x}, but {record.crc or 0:016x} in the tar-split of layer {self._layer.chain_id}"
            )
            self._changed.append(finding("changed-content", stat.entry.path, text))

    def _report(self, code: str, path: bytes, text: str) -> None:
        self._findings.append(finding(code, path, text))
