"""Debian systems in directories, made by debootstrap, for a userland to preload and for engines of other versions.

Needs root and Debian's archive, at the mirror that the machine's apt is configured for.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from drypoint.samples.tools import missing_tools, run_tool

_SECONDS = 1200.0
_SUPERFLUOUS = ("var/cache/apt", "var/lib/apt/lists", "usr/share/locale")
_TARGET = "$(CREATED_BY) $(ORIGIN) $(LABEL) $(COMPONENT) $(REPO_URI)"


def bootstrap(suite: str, directory: Path, *packages: str) -> None:
    """Make a minimal Debian system of *suite* in *directory*, with *packages*, without recommended ones.

    Raises:
        ToolError: debootstrap is missing or failed.
    """
    options = ["--variant=minbase", *([f"--include={','.join(packages)}"] if packages else [])]
    mirror = archive_mirror()
    arguments = [*options, suite, str(directory), *([mirror] if mirror else [])]
    # debootstrap mounts proc in its target; in a namespace of its own nothing stays mounted.
    run_tool("unshare", "--mount", "debootstrap", *arguments, timeout=_SECONDS)
    for superfluous in _SUPERFLUOUS:
        shutil.rmtree(directory / superfluous)


def kept_system(purpose: str, suite: str, *packages: str, recipe: int) -> Path:
    """The directory with a Debian system of *suite* and *packages*, in the user's cache directory.

    The first call makes it, which takes about a minute; processes that want it at the same time wait.

    Args:
        purpose: first part of its name there.
        recipe: last part of its name: raise it with every change to how the system is made.

    Raises:
        ToolError: debootstrap is missing or failed.
    """
    cache = platformdirs.user_cache_path("drypoint", appauthor=False, ensure_exists=True)
    name = f"{purpose}-{suite}-{os.uname().machine}-{recipe}"
    system = cache / name
    with locked(cache / f"{name}.lock"):
        if not system.exists():
            scratch = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=cache))
            try:
                bootstrap(suite, scratch, *packages)
                # mkdtemp gives 0700; a name that is there says that the system is whole.
                scratch.chmod(0o755)
                scratch.rename(system)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return system


def archive_mirror() -> str | None:
    """The URL of Debian in this machine's apt configuration; None for debootstrap's default."""
    if missing_tools(["apt-get"]):
        return None
    # A line for each index of each source, with fields of the Release files that apt has fetched.
    for line in run_tool("apt-get", "indextargets", "--format", _TARGET).splitlines():
        about, _, address = line.rpartition(" ")
        # Labels distinguish the archive from its security updates, origins from third-party archives. debootstrap does not
        # support other kinds of URL, such as apt's mirror+file.
        if about == "Packages Debian Debian main" and address.startswith(("http://", "https://")):
            return address
    return None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file *path*, which is created if missing; waits for another process that holds it."""
    with path.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
