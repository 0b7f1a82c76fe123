"""Running the programs of mtools on a FAT file system in a file: without root, a mount, a shell or the user's settings.

mtools takes a window on a disk image as ``FILE@@OFFSET``. It reads ``* ? [ ]`` in names as patterns, even in names that it
creates; callers keep them out. Its exit status is not reliable: it is 0 after a copy that filled the file system.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading

import msgspec

from ...concurrency.tasks import current, start
from ...errors import ToolError
from ..host.tools import check_ended_by_itself, child_path, find_tool

TIMEOUT = 60.0
"""Seconds after which a program is killed."""
_MAX_MESSAGE = 4096


class Outcome(msgspec.Struct, frozen=True):
    """The end of a program; *output* is one byte longer than the limit if there was more; *said* is its standard error."""

    status: int
    output: bytes
    said: str


def run_mtools(
    program: str,
    image: tuple[int, int],
    *arguments: str,
    limit: int = 0,
    stdin: int = subprocess.DEVNULL,
    timestamp: int = 0,
) -> Outcome:
    """Run *program* (``mcopy``, ``mdir``, ``mmd``) on the file system at *image*, an open file and the offset in it.

    Args:
        arguments: options, then names as mtools writes them, ``::/a/b`` or ``-``.
        limit: bytes of standard output at most; the program is stopped when there is more.
        stdin: a descriptor to read from.
        timestamp: seconds since the epoch, used by mtools as the current time. Debian's mtools 4.0.18-2.1 is the first that
            does this; older ones use the clock.

    Raises:
        ToolError: mtools is not installed, or does not end in time.
    """
    fd, offset = image
    command = [find_tool(program, "mtools"), *_options(program), "-i", f"{child_path(fd)}@@{offset}", *arguments]
    try:
        process = subprocess.Popen(
            [os.fsencode(word) for word in command],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(timestamp),
            pass_fds=(fd,),
            # Ctrl-C on a terminal is for this process, which stops it.
            start_new_session=True,
        )
    except OSError as error:
        raise ToolError(f"{program} cannot be run: {error.strerror}") from error
    with process:
        watchdog = threading.Timer(TIMEOUT, process.kill)
        try:
            start(watchdog)
        except BaseException:
            process.kill()
            raise
        try:
            with current().waker(process.kill):
                output, said = _read_bounded(process, limit)
        finally:
            watchdog.cancel()
            process.kill()
            watchdog.join()
    current().check()
    if process.returncode == -signal.SIGKILL and len(output) <= limit:
        raise ToolError(f"{program} did not end within {TIMEOUT:g} seconds on the FAT file system")
    if len(output) <= limit:
        check_ended_by_itself(program, process.returncode)
    return Outcome(process.returncode, output, said.decode(errors="replace").strip())


def _options(program: str) -> tuple[str, ...]:
    # mcopy would ask before it overwrites.
    return ("-n", "-o") if program == "mcopy" else ()


def _environment(timestamp: int) -> dict[str, str]:
    """The environment for mtools, without the user's settings.

    The user's mtoolsrc could map names to other drives. mtools' check of boot sectors is for floppy disks and fails on some
    valid ones. FAT stores local time, hence TZ; names are read and printed in the locale's characters.
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
    """Standard output, at most one byte more than *limit*, and standard error: a false file size cannot fill the memory."""
    if process.stdout is None or process.stderr is None:
        raise ToolError("an mtools program was started without pipes")
    output = process.stdout.read(limit + 1)
    if len(output) > limit:
        return output, b""
    said = process.stderr.read(_MAX_MESSAGE)
    process.wait()
    return output, said
