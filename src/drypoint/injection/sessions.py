"""Open partitions for the members of an archive: ext file systems and FAT."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from ..disk import ProbedPartition
from ..etch import Injection, Member, PackedStore
from ..fstree import Content
from ..progress import Progress
from ..stores import Store
from ..volumes.writable_volume import WritableVolume
from .fat_members import FatInjector
from .members import Injector


class SessionOptions(msgspec.Struct, frozen=True):
    """Options for all partitions.

    Attributes:
        scratch: directory for temporary files.
        overwrite: whether members replace existing files.
        now: seconds since the epoch, the time of changes.
        settle: whether to guess when directories are complete.
    """

    scratch: Path
    overwrite: bool
    now: int
    settle: bool
    progress: Progress


class Known(msgspec.Struct, frozen=True):
    """The state of an ext partition before anything was written to it.

    Attributes:
        present: the contents of files to merge with.
        findings: code and path of existing faults of the store.
        store: the engine's store in it.
        packed: the store's part of the manifest.
    """

    present: Mapping[bytes, bytes]
    findings: frozenset[tuple[str, bytes]]
    store: Store
    packed: PackedStore | None


class Session(Protocol):
    """One open partition: *found*, its state at the start, and the number of *members* so far."""

    @property
    def found(self) -> ProbedPartition: ...

    @property
    def members(self) -> int: ...

    def take(self, member: Member, content: Content | None) -> None: ...

    def finish(self) -> int:
        """Write out everything; returns the partition's size."""

    def close(self) -> None:
        """Release it, finished or not."""


class Ext4Session:
    """An ext2, ext3 or ext4 file system, which grows as needed."""

    def __init__(
        self,
        found: ProbedPartition,
        volume: WritableVolume,
        options: SessionOptions,
        where: str,
        injection: Injection | None,
        known: Known,
    ) -> None:
        self.found = found
        self.members = 0
        self._volume = volume
        self._sink = volume.sink(options.now)
        self._injector = Injector(
            self._sink,
            where,
            injection,
            options.now,
            settle=options.settle,
            overwrite=options.overwrite,
            present=known.present,
            store=known.store,
        )

    def take(self, member: Member, content: Content | None) -> None:
        self.members += 1
        self._injector.take(member, content)

    def finish(self) -> int:
        self._sink.finish()
        return self._volume.partition.size

    def close(self) -> None:
        self._sink.abort()


class FatSession:
    """A FAT file system."""

    def __init__(self, found: ProbedPartition, injector: FatInjector) -> None:
        self.found = found
        self.members = 0
        self._injector = injector

    def take(self, member: Member, content: Content | None) -> None:
        self.members += 1
        self._injector.take(member, content)

    def finish(self) -> int:
        self._injector.finish()
        return self.found.partition.size

    def close(self) -> None:
        return
