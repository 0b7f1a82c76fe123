"""What e2fsck has to say about a file system, where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess

from ..disk.device import Device
from ..errors import ToolError
from .finding import Finding, finding

_SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
"""Debian keeps e2fsck where only root looks by default."""
_QUOTED = 2000


def check_file_system(device: Device, *, timeout: float = 3600.0) -> tuple[Finding, ...]:
    """Have ``e2fsck -fn`` look at the ext2, ext3 or ext4 file system on *device*, which it does not change.

    Args:
        timeout: seconds after which it is stopped.

    Raises:
        ToolError: e2fsck did not end in time, or cannot be started.
    """
    path, offset = device.location
    program = shutil.which("e2fsck", path=_SEARCH_PATH)
    if program is None:
        return (finding("file-system-not-checked", b"", "e2fsck is not installed"),)
    command = [program, "-fn", f"{path}?offset={offset}" if offset else str(path)]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{' '.join(command)} did not end within {timeout:g} seconds") from error
    except OSError as error:
        raise ToolError(f"{' '.join(command)} cannot be started: {error.strerror}") from error
    if done.returncode == 0:
        return ()
    said = done.stdout.decode(errors="replace").strip()[-_QUOTED:]
    return (finding("damaged-file-system", b"", f"e2fsck ended with status {done.returncode} and said: {said}"),)
