"""Files in a FAT partition, through mtools, which needs neither root nor a mount.

mtools takes a window on a disk image as ``FILE@@OFFSET``. Names are matched without regard to case, as FAT does.
"""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

from ..errors import FilesystemError, ToolError
from .device import Device
from .scratch import in_one_piece
from .tools import find_tool

_TIMEOUT = 60.0
_MAX_MESSAGE = 4096


def read_fat_file(device: Device, path: str, limit: int) -> bytes | None:
    """The file *path* (``a/b.json``, from the root) of the FAT file system that fills *device*, or None if there is none.

    Raises:
        FilesystemError: the file is larger than *limit* bytes, or mtools cannot read the file system.
        ToolError: mtools is not installed.
    """
    with in_one_piece(device) as (image, offset):
        return _copy_out(device, image, offset, path, limit)


def _copy_out(device: Device, image: Path, offset: int, path: str, limit: int) -> bytes | None:
    command = [find_tool("mcopy", "mtools"), "-n", "-i", f"{image}@@{offset}", f"::/{path}", "-"]
    # An mtoolsrc of the user's could map names to other drives; the check is for floppy disks and fails on some boot sectors.
    environment = {**os.environ, "MTOOLSRC": os.devnull, "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C"}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        watchdog = threading.Timer(_TIMEOUT, process.kill)
        watchdog.start()
        try:
            output, said = _read_bounded(process, limit)
        finally:
            watchdog.cancel()
            process.kill()
    if len(output) > limit:
        raise FilesystemError(f"{path} in the FAT file system of {device.name} has more than {limit} bytes")
    if process.returncode == 0:
        return output
    message = said.decode(errors="replace").strip()
    if "not found" in message:
        return None
    raise FilesystemError(f"the FAT file system of {device.name} cannot be read: mcopy says {message[-500:]!r}")


def _read_bounded(process: subprocess.Popen[bytes], limit: int) -> tuple[bytes, bytes]:
    """Standard output, one byte more than *limit* at most, and standard error; a lie about a file's size fills no memory."""
    if process.stdout is None or process.stderr is None:
        raise ToolError("mcopy was started without pipes")
    output = process.stdout.read(limit + 1)
    if len(output) > limit:
        return output, b""
    said = process.stderr.read(_MAX_MESSAGE)
    process.wait()
    return output, said
