"""The result of verification."""

from __future__ import annotations

import msgspec

from ..digest import Digest
from ..stores import Severity
from .kinds import KINDS

CODES = frozenset(KINDS)
"""Every code that a finding can have."""
_RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}


class Finding(msgspec.Struct, frozen=True):
    """One thing found.

    Attributes:
        code: a stable name of the kind of thing, for programs.
        path: where, in the tree that was read; empty for the file system as a whole.
        text: what was expected and what was found.
        remedy: how to fix it.
        partition: number of the partition; None for the disk image as a whole, or where only a tree was read.
        disk_image: path of the inner disk image that the finding is about; empty for the disk image that was given.
    """

    code: str
    severity: Severity
    path: bytes
    text: str
    remedy: str
    partition: int | None = None
    disk_image: bytes = b""


class FileSystemVerdict(msgspec.Struct, frozen=True):
    """A file system: the partition's number, its label, its kind (``ext4``), and a short verdict of its checker.

    *disk_image* is as in :class:`Finding`.
    """

    partition: int
    label: str
    kind: str
    verdict: str
    disk_image: bytes = b""


class ImageVerdict(msgspec.Struct, frozen=True):
    """What the device will do with an image: load it, or silently drop it and fetch it again.

    ``references`` are the names that the store has for it.
    """

    image_id: Digest
    references: tuple[str, ...]
    loads: bool


class ServiceVerdict(msgspec.Struct, frozen=True):
    """What the device will do for a service: it starts without a network, or its image is fetched first.

    Attributes:
        service: names of the app and the service.
        reference: the image that it runs.
        image_id: the image in the store, or None.
    """

    service: str
    reference: str
    image_id: Digest | None
    starts_offline: bool


class Report(msgspec.Struct, frozen=True):
    """The result of verifying a store or a disk image.

    Attributes:
        findings: sorted by severity, disk image, partition, path and code.
        images: every image that has a config, sorted by id.
        layers: how many layers' tars were rebuilt and compared.
        tar_bytes: total length of those tars.
        services: the services on the device that will ask for an image, as far as they are known.
        file_systems: those of the disk image, in the order of its partitions; then those of the inner disk image.
        disk_image: path of the inner disk image that holds the store; empty if there is none.
    """

    findings: tuple[Finding, ...]
    images: tuple[ImageVerdict, ...]
    layers: int
    tar_bytes: int
    services: tuple[ServiceVerdict, ...] = ()
    file_systems: tuple[FileSystemVerdict, ...] = ()
    disk_image: bytes = b""

    @property
    def sound(self) -> bool:
        """Whether there are no errors and no warnings."""
        return all(finding.severity is Severity.NOTE for finding in self.findings)


def finding(code: str, path: bytes, text: str, partition: int | None = None) -> Finding:
    """The finding of a known kind, with that kind's severity and remedy."""
    kind = KINDS[code]
    return Finding(code, kind.severity, path, text, kind.remedy, partition)


def by_weight(one: Finding) -> tuple[int, bytes, int, bytes, str, str]:
    """The order in which findings are reported."""
    return _RANK[one.severity], one.disk_image, one.partition or 0, one.path, one.code, one.text
