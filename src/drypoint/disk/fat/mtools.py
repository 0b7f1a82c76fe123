"""Running mtools' programs on a FAT file system that lies in a file: without root, a mount, a shell or the user's settings.

mtools takes a window on a disk image as ``FILE@@OFFSET``. It reads ``* ? [ ]`` in names as patterns, even in names that it is
to make; callers keep them out. Its exit status is not to be relied on: of a copy that filled the file system it says 0.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

import msgspec

from ...concurrency.tasks import current
from ...errors import ToolError
from ..host.tools import find_tool

_TIMEOUT = 60.0
_MAX_MESSAGE = 4096


class Outcome(msgspec.Struct, frozen=True):
    """How a program ended; *output* has one byte more than the limit if there was more than that."""

    status: int
    output: bytes
    said: str


def run_mtools(
    program: str,
    image: tuple[Path, int],
    *arguments: str,
    limit: int = 0,
    stdin: int = subprocess.DEVNULL,
    timestamp: int = 0,
) -> Outcome:
    """Run *program* (``mcopy``, ``mdir``, ``mmd``) on the file system at *image*, a file and the offset in it.

    Args:
        arguments: options, then names as mtools writes them, ``::/a/b`` or ``-``.
        limit: bytes of standard output that are wanted at most; the program is ended when there is more.
        stdin: a descriptor to read from.
        timestamp: seconds since the epoch, what mtools takes for the time of day. Debian's mtools 4.0.18-2.1 is the first
            that does; an older one stamps the entries that it makes with the clock's time.

    Raises:
        ToolError: mtools is not installed, or does not end in time.
    """
    command = [find_tool(program, "mtools"), *_options(program), "-i", f"{image[0]}@@{image[1]}", *arguments]
    with subprocess.Popen(
        [os.fsencode(word) for word in command],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(timestamp),
    ) as process:
        watchdog = threading.Timer(_TIMEOUT, process.kill)
        watchdog.start()
        try:
            with current().waker(process.kill):
                output, said = _read_bounded(process, limit)
        finally:
            watchdog.cancel()
            process.kill()
            watchdog.join()
    current().check()
    if process.returncode == -signal.SIGKILL and len(output) <= limit:
        raise ToolError(f"{program} did not end within {_TIMEOUT:g} seconds on the FAT file system")
    return Outcome(process.returncode, output, said.decode(errors="replace").strip())


def _options(program: str) -> tuple[str, ...]:
    # mcopy would ask before it overwrites.
    return ("-n", "-o") if program == "mcopy" else ()


def _environment(timestamp: int) -> dict[str, str]:
    """An mtoolsrc of the user's could map names to other drives; the check is for floppy disks and fails on some boot sectors.

    FAT notes the local time, hence the zone; names are read and shown in the locale's characters.
    """
    return {
        **os.environ,
        "MTOOLSRC": os.devnull,
        "MTOOLS_SKIP_CHECK": "1",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC0",
        "SOURCE_DATE_EPOCH": str(timestamp),
    }


def _read_bounded(process: subprocess.Popen[bytes], limit: int) -> tuple[bytes, bytes]:
    """Standard output, one byte more than *limit* at most, and standard error; a lie about a file's size fills no memory."""
    if process.stdout is None or process.stderr is None:
        raise ToolError("an mtools program was started without pipes")
    output = process.stdout.read(limit + 1)
    if len(output) > limit:
        return output, b""
    said = process.stderr.read(_MAX_MESSAGE)
    process.wait()
    return output, said
