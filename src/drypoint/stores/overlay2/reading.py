"""Reading a store with limits, and reporting findings."""

from __future__ import annotations

from collections.abc import Iterator

from ...digest import Digest, parse_digest
from ...errors import ContentError, FilesystemError, StoreError
from ...fstree import Directory, Regular, Stat, TreeReader, join
from ..contents import StoreFinding
from .findings import FindingCode

MAX_SMALL_FILE_BYTES = 64 << 10
MAX_NAMES = 1 << 18
"""Most names accepted in one directory of the store. An engine with a thousand images has some ten thousand."""


class StoreReader:
    """Reads below a data root; what cannot be read is reported and counts as absent. Paths are relative to the data root."""

    def __init__(self, reader: TreeReader, data_root: bytes) -> None:
        self.findings: list[StoreFinding] = []
        self._reader = reader
        self._data_root = data_root

    def report(self, code: FindingCode, path: bytes, text: str) -> None:
        self.findings.append(StoreFinding(code, join(self._data_root, path), text))

    def lookup(self, path: bytes) -> Stat | None:
        try:
            return self._reader.lookup(join(self._data_root, path))
        except FilesystemError as error:
            self.report("unreadable", path, str(error))
            return None

    def exists(self, path: bytes) -> bool:
        return self.lookup(path) is not None

    def is_directory(self, path: bytes) -> bool:
        stat = self.lookup(path)
        return stat is not None and isinstance(stat.entry, Directory)

    def names(self, path: bytes) -> Iterator[tuple[str, Stat]]:
        """The entries of the directory *path*, sorted by name; none if there is no such directory.

        Names that are not ASCII are reported and skipped: the engine creates none.

        Raises:
            StoreError: more than :data:`MAX_NAMES`.
        """
        stat = self.lookup(path)
        if stat is None:
            return
        if not isinstance(stat.entry, Directory):
            self.report("wrong-type", path, "expected a directory")
            return
        found: list[tuple[str, Stat]] = []
        try:
            for child in self._reader.children(stat.entry):
                name = child.entry.path.rpartition(b"/")[2]
                if not name.isascii():
                    self.report("unknown-name", join(path, name), "no name that an engine would make")
                    continue
                found.append((name.decode("ascii"), child))
                if len(found) > MAX_NAMES:
                    raise StoreError(
                        f"{join(self._data_root, path)!r} holds more than {MAX_NAMES} names: not an engine's store"
                    )
        except FilesystemError as error:
            self.report("unreadable", path, str(error))
        yield from sorted(found, key=lambda pair: pair[0])

    def content(self, path: bytes, limit: int = MAX_SMALL_FILE_BYTES) -> bytes | None:
        """The content of the regular file *path*; None, and a finding, if there is none or it has over *limit* bytes."""
        stat = self.lookup(path)
        if stat is None:
            self.report("missing-file", path, "expected a file")
            return None
        if not isinstance(stat.entry, Regular):
            self.report("wrong-type", path, "expected a regular file")
            return None
        if stat.entry.size > limit:
            self.report("oversized-file", path, f"the file has {stat.entry.size} bytes, more than the {limit} allowed")
            return None
        try:
            return b"".join(bytes(chunk) for chunk in self._reader.read(stat))
        except FilesystemError as error:
            self.report("unreadable", path, str(error))
            return None

    def text(self, path: bytes) -> str | None:
        """The content of a small file of ASCII text, unchanged; None, and a finding, if it is not that."""
        content = self.content(path)
        if content is None:
            return None
        if not content.isascii():
            self.report("bad-content", path, "expected ASCII text")
            return None
        return content.decode("ascii")

    def digest(self, path: bytes) -> Digest | None:
        """The digest that a small file holds; None, and a finding, if it holds none."""
        text = self.text(path)
        if text is None:
            return None
        try:
            return parse_digest(text.strip())
        except ContentError as error:
            self.report("bad-content", path, str(error))
            return None
