"""Engines of other versions than this machine's: Debian's docker.io from other suites, each in a Debian system of its own.

    with DockerEngine(data_root, root=EngineSource.DEBIAN_13.root()) as engine:
        engine.pull(reference)

A system is made once by debootstrap and kept in the user's cache directory (some 400 MB each); remove ``drypoint/engine-*``
there to get newer packages. Needs root and Debian's archive (the first time).
"""

from __future__ import annotations

import gzip
import json
import os
import stat
from enum import Enum
from pathlib import Path

from tests.support.debian import kept_system
from tests.support.oracle import Difference, DifferenceKind

_RECIPE = 1
"""Part of the cached directory's name: increase it with every change to how a system is made."""

_FIRST_WITHOUT_EMPTY_SEGMENT = 25
_FIRST_WITHOUT_CHOWN = 28
"""Debian's 28.5 uses the go-archive that Debian packages; upstream's 28.5 still has one that calls chown."""


class EngineSource(Enum):
    """The source of an engine; the value is the Debian suite."""

    HOST = None
    """The dockerd that is installed on this machine."""
    DEBIAN_13 = "trixie"
    """Docker 26.1."""
    DEBIAN_TESTING = "testing"
    """Docker 28.5 in November 2026; later ones afterwards."""

    def root(self) -> Path | None:
        """The argument of ``DockerEngine(root=…)``: the directory with the engine's system, None for the host's engine.

        The first call makes it, which takes about a minute; concurrent processes wait.

        Raises:
            ToolError: debootstrap is missing or failed.
        """
        return None if self.value is None else kept_system("engine", self.value, "docker.io", recipe=_RECIPE)


def is_known_difference(difference: Difference, reference: Path, ours: Path, *, major: int) -> bool:
    """Whether *difference* is one of the two known ones between a store of 20.10 and one of an engine of version *major*.

    *reference* is the data root of the newer engine, *ours* the other one. Both kinds are compared byte for byte:

    - 20.10 ends the records of a layer's tar with a segment of no bytes, engines since 25 do not.
    - A whiteout of 0:0 no longer gets a chown, so in a setgid directory it has the directory's group.
    """
    match difference.kind:
        case DifferenceKind.TAR_SPLIT:
            return major >= _FIRST_WITHOUT_EMPTY_SEGMENT and _only_lacks_empty_segment(difference, reference, ours)
        case DifferenceKind.OWNER:
            return major >= _FIRST_WITHOUT_CHOWN and _is_group_of_directory(difference, ours)
        case _:
            return False


def _only_lacks_empty_segment(difference: Difference, reference: Path, ours: Path) -> bool:
    path = os.fsdecode(difference.path)
    expected, found = (gzip.decompress((root / path).read_bytes()) for root in (reference, ours))
    last = {"type": 2, "payload": "", "position": len(expected.splitlines())}
    rest = found[len(expected) :]
    return found.startswith(expected) and rest.count(b"\n") == 1 and json.loads(rest) == last


def _is_group_of_directory(difference: Difference, ours: Path) -> bool:
    # The oracle names a layer's directory by its chain-id, in braces.
    chain, _, path = os.fsdecode(difference.path).removeprefix("overlay2/{").partition("}/")
    cache_id = (ours / "image/overlay2/layerdb/sha256" / chain / "cache-id").read_text()
    whiteout = ours / "overlay2" / cache_id / path
    status, directory = whiteout.lstat(), whiteout.parent.lstat()
    return (
        stat.S_ISCHR(status.st_mode)
        and status.st_rdev == 0
        and directory.st_mode & stat.S_ISGID != 0
        and (difference.left, difference.right) == (f"0:{directory.st_gid}", "0:0")
    )
