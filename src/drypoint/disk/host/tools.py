"""Finding the programs that drypoint runs: e2fsck, resize2fs, mcopy, fsck.vfat."""

from __future__ import annotations

import os
import shutil

from ...errors import ToolError


def tool_path(name: str) -> str | None:
    """The full path of the program *name*, or None. Also looks in the sbin directories, which PATH often lacks."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    return shutil.which(name, path=path)


def find_tool(name: str, package: str) -> str:
    """The full path of the program *name*, from Debian's *package*.

    Raises:
        ToolError: it is not installed.
    """
    found = tool_path(name)
    if found is None:
        raise ToolError(f"the program {name} is missing; install it (Debian and Ubuntu: apt install {package})")
    return found
