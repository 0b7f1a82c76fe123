"""An index of layers that were written before, with their sizes, so that the next plan need not estimate.

One small file in the user's cache directory, replaced atomically. It is only for planning: if it is deleted, or has nonsense in
it, estimates get worse, and nothing else happens. Errors of the index go to the log and are otherwise ignored.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from ..decoders import json_decoder
from ..digest import Digest

FILE_NAME = "layers.json"
MAX_LAYERS = 10_000
_MAX_BYTES = 8 << 20
_FORMAT = 1
_MAX_NUMBER = 1 << 48
LOCK_SECONDS = 1.0
"""How long another process that writes the index is waited for."""
_LOCK_INTERVAL = 0.02

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK_FILE = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_log = logging.getLogger(__name__)


class IndexedLayer(msgspec.Struct, frozen=True):
    """The size of a layer on a file system.

    Attributes:
        tar_bytes: length of its uncompressed tar.
        blocks: blocks of the content of its ``diff/``, and of its tar-split.
        most: blocks that had to be free for that, at least ``blocks``.
        inodes: number of inodes in its ``diff/``.
    """

    tar_bytes: int
    blocks: int
    most: int
    inodes: int


class _Row(msgspec.Struct, array_like=True):
    diff_id: str
    kind: str
    tar_bytes: int
    blocks: int
    most: int
    inodes: int

    @property
    def is_sound(self) -> bool:
        numbers = (self.tar_bytes, self.blocks, self.most, self.inodes)
        return self.blocks <= self.most and all(0 <= number <= _MAX_NUMBER for number in numbers)


class _Content(msgspec.Struct):
    format: int
    layers: list[_Row]


def index_directory(environment: Mapping[str, str]) -> Path:
    """Where the index is: ``DRYPOINT_CACHE``, else the user's cache directory, as XDG_CACHE_HOME has it."""
    # platformdirs takes a while to import, and a library's user may choose another directory.
    from platformdirs import user_cache_path

    chosen = environment.get("DRYPOINT_CACHE")
    return Path(chosen) if chosen else user_cache_path("drypoint")


class LayerIndex:
    """Layers by diff-id and kind of file system, in *directory*; at most ``MAX_LAYERS``, of which the oldest are dropped.

    Several processes may use it. Nothing raises: without a writable directory, or with a damaged file, the index is empty, and
    noting does nothing. At most two levels of directories are created, and none by root in another user's directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[tuple[str, str], IndexedLayer] | None = None

    def find(self, diff_id: Digest, kind: str) -> IndexedLayer | None:
        """The size of the layer *diff_id* on file systems of *kind*, or None."""
        if self._known is None:
            self._known = self._read()
        return self._known.get((diff_id, kind))

    def note(self, layers: Mapping[Digest, IndexedLayer], kind: str) -> None:
        """Store the sizes of *layers* on a file system of *kind*. Entries that are still about right stay unchanged."""
        try:
            self._make_directory()
            with self._locked():
                known = self._read()
                new = {
                    (diff_id, kind): layer
                    for diff_id, layer in layers.items()
                    if not _says_the_same(known.get((diff_id, kind)), layer)
                }
                if new:
                    # At the end, because the oldest are first.
                    kept = {key: layer for key, layer in known.items() if key not in new} | new
                    self._write(dict(list(kept.items())[-MAX_LAYERS:]))
        except OSError as error:
            _log.info("the index of layers in %s is not kept: %s", self._directory, error.strerror or error)
        self._known = None

    def _read(self) -> dict[tuple[str, str], IndexedLayer]:
        path = self._directory / FILE_NAME
        try:
            # Non-blocking, so that opening a pipe does not wait for its other end.
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    _log.info("the index of layers %s is not a regular file", path)
                    return {}
                text = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            _log.info("the index of layers %s cannot be read: %s", path, error.strerror)
            return {}
        try:
            content = json_decoder(_Content).decode(text)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            _log.info("the index of layers %s is damaged, and begun anew: %s", path, error)
            return {}
        if content.format != _FORMAT or len(text) > _MAX_BYTES:
            _log.info("the index of layers %s is of another version, and begun anew", path)
            return {}
        return {
            (row.diff_id, row.kind): IndexedLayer(row.tar_bytes, row.blocks, row.most, row.inodes)
            for row in content.layers[-MAX_LAYERS:]
            if row.is_sound
        }

    def _write(self, known: Mapping[tuple[str, str], IndexedLayer]) -> None:
        rows = [
            _Row(diff_id, kind, layer.tar_bytes, layer.blocks, layer.most, layer.inodes)
            for (diff_id, kind), layer in known.items()
        ]
        part = self._directory / f".{FILE_NAME}.part"
        # Of a run that was killed; others wait for the lock.
        part.unlink(missing_ok=True)
        try:
            # Not flushed: after a power loss, an empty file is replaced.
            with open(os.open(part, _NEW_FILE, 0o644), "wb") as file:
                file.write(msgspec.json.encode(_Content(_FORMAT, rows)))
            part.replace(self._directory / FILE_NAME)
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise

    def _make_directory(self) -> None:
        missing = [path for path in (self._directory, self._directory.parent) if not path.exists()]
        above = self._directory.parents[len(missing) - 1] if missing else self._directory
        if os.geteuid() == 0 != above.stat().st_uid:
            # sudo may keep HOME: its user could not write what root creates there.
            raise PermissionError(errno.EPERM, f"{above} belongs to another user than root")
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the index inside the block. Raises OSError if the lock is not available soon."""
        # No other user may hold it, and nothing is written to what a link leads to.
        with open(os.open(self._directory / f".{FILE_NAME}.lock", _LOCK_FILE, 0o600), "rb") as lock:
            if not stat.S_ISREG(os.fstat(lock.fileno()).st_mode):
                raise OSError(errno.EINVAL, "its lock is not a regular file")
            deadline = time.monotonic() + LOCK_SECONDS
            while not _locks(lock.fileno()):
                if time.monotonic() > deadline:
                    raise TimeoutError(errno.ETIMEDOUT, "another process keeps it locked")
                time.sleep(_LOCK_INTERVAL)
            yield


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _says_the_same(known: IndexedLayer | None, new: IndexedLayer) -> bool:
    """Whether *known* can stay: enough for *new*, and little more. The layout on the disk makes small differences."""
    if known is None or (known.tar_bytes, known.inodes) != (new.tar_bytes, new.inodes):
        return False
    return new.blocks <= known.blocks <= new.blocks + new.blocks // 64 + 64 and (
        new.most <= known.most <= new.most + new.most // 8 + 256
    )
