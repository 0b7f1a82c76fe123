"""A partition that is open for members of an archive: of an ext file system, or of FAT."""

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
    """What holds for all partitions.

    Attributes:
        scratch: where files go that growing takes.
        overwrite: whether members replace what is there.
        now: seconds since the epoch, the time of changes.
        settle: whether to guess when directories are complete.
    """

    scratch: Path
    overwrite: bool
    now: int
    settle: bool
    progress: Progress


class Known(msgspec.Struct, frozen=True):
    """What was known of an ext partition before anything went into it.

    Attributes:
        present: the files that members add to.
        findings: code and path of what was wrong with the store already.
        store: the engine's store in it.
        packed: what the manifest says of that.
    """

    present: Mapping[bytes, bytes]
    findings: frozenset[tuple[str, bytes]]
    store: Store
    packed: PackedStore | None


class Session(Protocol):
    """One partition, open; *found* as it was then, *members* so far."""

    @property
    def found(self) -> ProbedPartition: ...

    @property
    def members(self) -> int: ...

    def take(self, member: Member, content: Content | None) -> None: ...

    def finish(self) -> int:
        """Write out all of it; the partition's size then."""

    def close(self) -> None:
        """Let go of it, finished or not."""


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
