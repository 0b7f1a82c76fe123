"""Verify one layer: rebuild its tar from tar-split and the files on the disk, and compare the files with that tar."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from ..concurrency.tasks import Cancelled, current
from ..errors import FilesystemError, LayerError
from ..fstree import Content, Regular, TreeReader, join
from ..lanes import ENABLED
from ..lanes.tables import new_seen
from ..layers.assemble import read_tar_split
from ..layers.change import Change, change_of
from ..layers.header import BLOCK
from ..layers.records import FileRecord, Record
from ..layers.tar import TarReader
from ..layers.tarsplit import crc_of
from ..stores import KeptLayer
from .comparison import compare
from .expectation import ANY_TIME, Expectation
from .finding import Finding, finding
from .tree import LayerTree

if ENABLED:
    from ..layers._plain_lane import PlainEntries


class LayerResult(msgspec.Struct, frozen=True):
    findings: tuple[Finding, ...]
    tar_bytes: int


def check_layer(reader: TreeReader, layer: KeptLayer, *, lane: bool = ENABLED) -> LayerResult:
    """Rebuild the tar of *layer* and compare it with its diff-id; compare its files with the tar.

    Damage never raises; it becomes findings. *lane* says whether compiled lanes read plain entries.
    """
    return _LayerCheck(reader, layer, lane=lane).run()


class _LayerCheck:
    """The tar is never held as a whole: its pieces go into the hash, and only those without content are parsed."""

    def __init__(self, reader: TreeReader, layer: KeptLayer, *, lane: bool) -> None:
        self._reader = reader
        self._layer = layer
        self._tree = LayerTree(reader, layer.files)
        self._what = f"layer {layer.chain_id}"
        self._findings: list[Finding] = []
        self._faithful = True
        self._size: int | None = None  # that of the current entry
        self._loss: str | None = None
        self._changed: list[Finding] = []
        self._sha256 = hashlib.sha256()
        self._task = current()
        self._tar_bytes = 0
        self._lane = lane
        self._plain = PlainEntries(new_seen()) if lane else None
        self._records = self._read_records()
        self._returned: list[Record] = []
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
        task = self._task
        if self._plain is not None:
            yield from self._plain_changes(self._plain)
        for entry in self._tar:
            # An attribute, not a call: this runs for each entry.
            if task.cancelled:
                raise Cancelled
            self._size = entry.size
            change = change_of(entry, self._what)
            if change is not None:
                yield change, None
            if self._plain is not None:
                yield from self._plain_changes(self._plain)
        self._size = None
        for _ in self._tar.rest():
            continue

    def _plain_changes(self, plain: PlainEntries) -> Iterator[tuple[Change, Content | None]]:
        """The changes of the plain entries that come next, by the lane; their contents are hashed."""
        tar, task, returned, records = self._tar, self._task, self._returned, self._records
        if returned or (at_hand := tar.at_hand()) is None:
            return
        chunk, position, padding = at_hand
        if position != len(chunk):
            return
        while (record := next(records, None)) is not None:
            if isinstance(record, FileRecord):
                self._file(record)
                continue
            found = plain.change_of(record, padding)
            if found is None:
                returned.append(record)
                return
            if task.cancelled:
                raise Cancelled
            change, size, name = found
            self._sha256.update(record)
            self._tar_bytes += len(record)
            self._size, padding = size, -size % BLOCK
            tar.passed(1, position, padding, size, name, len(record))
            yield change, None

    def _read_records(self) -> Iterator[Record]:
        stat = self._reader.lookup(self._layer.tar_split)
        if stat is None or not isinstance(stat.entry, Regular):
            raise LayerError(f"{self._what}: there is no tar-split")
        chunks = (bytes(chunk) for chunk in self._reader.read(stat))
        yield from read_tar_split(chunks, self._what, lane=self._lane)

    def _headers(self) -> Iterator[bytes]:
        """The tar without contents. When the parser asks for the next piece, the content of the current entry is hashed."""
        while (record := self._returned.pop() if self._returned else next(self._records, None)) is not None:
            if isinstance(record, bytes):
                self._sha256.update(record)
                self._tar_bytes += len(record)
                if record:
                    yield record
            else:
                self._file(record)

    def _file(self, record: FileRecord) -> None:
        if self._loss is None and self._tar.is_sparse:
            self._loss = f"tar-split does not record how the tar stores {record.name[:300]!r}"
        if record.size > 0:
            self._content(record)

    def _content(self, record: FileRecord) -> None:
        """Hash a file's content. A missing file, or one of another size, is reported by the comparison that follows."""
        stored = self._tar.stored_size
        if self._size != record.size:
            raise LayerError(
                f"{self._what}: the tar-split has {record.size} bytes of content for {record.name[:300]!r}, but the tar header "
                f"has {'none' if self._size is None else self._size}"
            )
        if self._loss is None and stored != record.size:
            self._loss = f"the tar stores {stored} bytes of {record.name[:300]!r}, but tar-split has {record.size}"
        stat = self._tree.find(record.path)
        if stat is None or not isinstance(stat.entry, Regular) or stat.entry.size != record.size:
            self._faithful = False
            return
        crc = 0
        update, task = self._sha256.update, self._task
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
