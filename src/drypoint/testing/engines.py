"""Engines of other versions than this machine's: Debian's docker.io from other suites, each in a Debian system of its own.

    with DockerEngine(data_root, root=EngineSource.DEBIAN_13.root()) as engine:
        engine.pull(reference)

A system is made by debootstrap once for each machine and kept in the user's cache directory (some 400 MB each); remove
``drypoint/engine-*`` there to have newer packages. Needs root and Debian's archive (the first time).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from enum import Enum
from pathlib import Path

import platformdirs

from .debian import bootstrap, locked

_RECIPE = 1
"""Part of the cached directory's name: raise it with every change to how a system is made."""


class EngineSource(Enum):
    """Where an engine comes from; the value is the Debian suite."""

    HOST = None
    """The dockerd that is installed on this machine."""
    DEBIAN_13 = "trixie"
    """Docker 26.1."""
    DEBIAN_TESTING = "testing"
    """Docker 28.5 in November 2026; later on whatever comes next."""

    def root(self) -> Path | None:
        """What ``DockerEngine(root=…)`` wants: the directory with the engine's system, None for the host's engine.

        The first call makes it, which takes about a minute; processes that want it at the same time wait.

        Raises:
            ToolError: debootstrap is missing or failed.
        """
        return None if self.value is None else _system(self.value)


def _system(suite: str) -> Path:
    cache = platformdirs.user_cache_path("drypoint", appauthor=False, ensure_exists=True)
    name = f"engine-{suite}-{os.uname().machine}-{_RECIPE}"
    system = cache / name
    with locked(cache / f"{name}.lock"):
        if not system.exists():
            scratch = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=cache))
            try:
                bootstrap(suite, scratch, "docker.io")
                # mkdtemp gives 0700; a name that is there says that the system is whole.
                scratch.chmod(0o755)
                scratch.rename(system)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return system
