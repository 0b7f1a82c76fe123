"""Debian systems in directories, made by debootstrap: for a userland to preload, and for engines of other versions.

Needs root and Debian's archive. Which copy of the archive is asked is not decided here: the machine's own apt is configured for
one that it can reach.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drypoint.samples.tools import missing_tools, run_tool

_SECONDS = 1200.0
_SUPERFLUOUS = ("var/cache/apt", "var/lib/apt/lists", "usr/share/locale")
_TARGET = "$(CREATED_BY) $(ORIGIN) $(LABEL) $(COMPONENT) $(REPO_URI)"


def bootstrap(suite: str, directory: Path, *packages: str) -> None:
    """Make *directory* a minimal Debian system of *suite* with *packages*, without what those only recommend.

    Raises:
        ToolError: debootstrap is missing or failed.
    """
    options = ["--variant=minbase", *([f"--include={','.join(packages)}"] if packages else [])]
    mirror = archive_mirror()
    arguments = [*options, suite, str(directory), *([mirror] if mirror else [])]
    # debootstrap mounts proc inside its target; in a namespace of its own nothing can stay mounted.
    run_tool("unshare", "--mount", "debootstrap", *arguments, timeout=_SECONDS)
    for superfluous in _SUPERFLUOUS:
        shutil.rmtree(directory / superfluous)


def archive_mirror() -> str | None:
    """The address that this machine's apt has Debian from; None (debootstrap has a default) when it has it from nowhere."""
    if missing_tools(["apt-get"]):
        return None
    # A line for each index of each source, with facts from the Release files that apt has fetched.
    for line in run_tool("apt-get", "indextargets", "--format", _TARGET).splitlines():
        about, _, address = line.rpartition(" ")
        # Labels tell the archive from its security updates, origins from what others offer for Debian. debootstrap knows
        # no other kind of address, such as apt's mirror+file.
        if about == "Packages Debian Debian main" and address.startswith(("http://", "https://")):
            return address
    return None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file *path*, made if need be, and wait for another process that holds it."""
    with path.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
