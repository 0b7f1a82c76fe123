"""Finding the programs that drypoint runs: e2fsck, resize2fs, mcopy, fsck.vfat."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

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


def child_path(fd: int) -> Path:
    """The path by which a program opens the file *fd*, which it inherits (``pass_fds``).

    Programs get no other paths of users: they would read options, patterns or an offset in some.
    """
    return Path(f"/proc/self/fd/{fd}")


def check_ended_by_itself(name: str, status: int) -> None:
    """Refuse what a program said that a signal ended; *status* as subprocess has it, below zero for signals.

    Raises:
        ToolError: a signal ended it.
    """
    if status >= 0:
        return
    number = -status
    which = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    memory = "; the machine may have run out of memory" if number == signal.SIGKILL else ""
    raise ToolError(f"{name} was ended by {which} before it was done{memory}. Try again")
