"""What verification has to say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..digest import Digest


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """The engine would lose an image over it, or a program would meet other files than the image holds."""
    WARNING = "warning"
    """Something is there that should not be, or the engine would mend or remove it."""
    NOTE = "note"
    """A difference that is known and harmless."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    Attributes:
        code: a stable name of the kind of thing, for programs.
        path: where, in the tree that was read.
        text: what was expected and what was found.
        remedy: how to mend it.
    """

    code: str
    severity: Severity
    path: bytes
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class ImageVerdict:
    """What the device will do with an image: ``loads``, or else it drops it in silence and fetches it again.

    ``references`` are the names that repositories.json has for it.
    """

    image_id: Digest
    references: tuple[str, ...]
    loads: bool


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome.

    Attributes:
        findings: sorted by severity, path and code.
        images: every image that has a config, sorted by id.
        layers: how many layers' tars were rebuilt and compared.
        tar_bytes: the length of those tars together.
    """

    findings: tuple[Finding, ...]
    images: tuple[ImageVerdict, ...]
    layers: int
    tar_bytes: int

    @property
    def sound(self) -> bool:
        """Whether everything holds: there is nothing but notes."""
        return all(finding.severity is Severity.NOTE for finding in self.findings)


_FETCH_AGAIN = "preload the image again, or let the device fetch it"
_LEAVE = "nothing needs doing"
_REMOVE = "remove it; the engine does not use it"
_E2FSCK = "run e2fsck -f on the file system, then verify again"

_KINDS: dict[str, tuple[Severity, str]] = {
    # The store's own files.
    "missing-file": (Severity.ERROR, _FETCH_AGAIN),
    "bad-content": (Severity.ERROR, _FETCH_AGAIN),
    "oversized-file": (Severity.ERROR, _FETCH_AGAIN),
    "wrong-type": (Severity.ERROR, _FETCH_AGAIN),
    "unreadable": (Severity.ERROR, _E2FSCK),
    "unreadable-json": (Severity.ERROR, "put back repositories.json from before, or preload all images again"),
    "damaged-config": (Severity.ERROR, _FETCH_AGAIN),
    "image-without-layer": (Severity.ERROR, _FETCH_AGAIN),
    "reference-without-image": (Severity.ERROR, "preload that image again, or remove the reference"),
    "wrong-chain-id": (Severity.ERROR, _FETCH_AGAIN),
    "layer-without-parent": (Severity.ERROR, _FETCH_AGAIN),
    "shared-cache-id": (Severity.ERROR, _FETCH_AGAIN),
    "wrong-lower": (Severity.ERROR, _FETCH_AGAIN),
    "missing-committed": (Severity.WARNING, "create the file, empty, with mode 0600"),
    "dangling-link": (Severity.ERROR, _FETCH_AGAIN),
    "orphan-link": (Severity.WARNING, _REMOVE),
    "orphan-cache-directory": (Severity.WARNING, "remove it; balenaEngine does so when it starts"),
    "half-written-layer": (Severity.WARNING, _REMOVE),
    "half-removed-layer": (Severity.WARNING, _REMOVE),
    "unknown-name": (Severity.WARNING, _REMOVE),
    "wrong-layer-size": (Severity.WARNING, _FETCH_AGAIN),
    "wrong-store-mode": (Severity.WARNING, "give it the mode and owner named"),
    # A layer against its tar.
    "damaged-tar-split": (Severity.ERROR, _FETCH_AGAIN),
    "wrong-diff-id": (Severity.ERROR, _FETCH_AGAIN),
    "changed-content": (Severity.ERROR, _FETCH_AGAIN),
    "changed-size": (Severity.ERROR, _FETCH_AGAIN),
    "missing-entry": (Severity.ERROR, _FETCH_AGAIN),
    "lost-whiteout": (Severity.ERROR, _FETCH_AGAIN),
    "lost-opaque": (Severity.ERROR, _FETCH_AGAIN),
    "extra-entry": (Severity.ERROR, _FETCH_AGAIN),
    "extra-whiteout": (Severity.ERROR, _FETCH_AGAIN),
    "changed-kind": (Severity.ERROR, _FETCH_AGAIN),
    "changed-mode": (Severity.ERROR, _FETCH_AGAIN),
    "changed-owner": (Severity.ERROR, _FETCH_AGAIN),
    "changed-time": (Severity.ERROR, _FETCH_AGAIN),
    "changed-xattr": (Severity.ERROR, _FETCH_AGAIN),
    "missing-xattr": (Severity.ERROR, _FETCH_AGAIN),
    "extra-xattr": (Severity.ERROR, _FETCH_AGAIN),
    "changed-target": (Severity.ERROR, _FETCH_AGAIN),
    "changed-device": (Severity.ERROR, _FETCH_AGAIN),
    "broken-hard-link": (Severity.ERROR, _FETCH_AGAIN),
    "extra-hard-link": (Severity.ERROR, _FETCH_AGAIN),
    "more-findings": (Severity.ERROR, "mend what is named first, then verify again"),
    "shortened-time": (Severity.NOTE, _LEAVE),
    # References that something outside the store relies on, and the file system itself.
    "unresolved-reference": (Severity.ERROR, "preload that image, or correct the file that names it"),
    "image-does-not-load": (Severity.ERROR, _FETCH_AGAIN),
    "damaged-file-system": (Severity.ERROR, _E2FSCK),
    "file-system-not-checked": (Severity.NOTE, "install e2fsprogs to have e2fsck look at it too"),
}
CODES = frozenset(_KINDS)
"""Every code that a finding can have."""

_RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}


def finding(code: str, path: bytes, text: str) -> Finding:
    """The finding of a known kind, with that kind's severity and remedy."""
    severity, remedy = _KINDS[code]
    return Finding(code, severity, path, text, remedy)


def by_weight(one: Finding) -> tuple[int, bytes, str, str]:
    """The order in which findings are told."""
    return _RANK[one.severity], one.path, one.code, one.text
