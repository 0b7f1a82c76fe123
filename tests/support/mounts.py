"""Mounting a part of a disk image, and finding the leftovers of a test run. Needs root."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from drypoint.errors import ToolError
from drypoint.samples.tools import run_tool

_DETACH_SECONDS = 20.0
_POLL_SECONDS = 0.02
_OCTAL = re.compile(r"\\([0-7]{3})")


@contextmanager
def mounted(image: Path, *, offset: int = 0, size: int | None = None, writable: bool = False) -> Iterator[Path]:
    """Mount the file system in *image* and yield the mount point.

    At the end it is unmounted and its loop device is detached, so that the image file is complete and can be read.

    Args:
        offset: first byte of the file system in the image.
        size: its length in bytes; None for the rest of the image.
        writable: if not, mount and loop device are read-only, and the journal is not replayed.

    Raises:
    ToolError: it cannot be mounted or not be unmounted normally, or the loop device stays.
    """
    mount_point = Path(tempfile.mkdtemp(prefix=f"drypoint-mount-{os.getpid()}-"))
    try:
        options = ["loop", "noatime", f"offset={offset}", "rw" if writable else "ro"]
        if size is not None:
            options.append(f"sizelimit={size}")
        try:
            run_tool("mount", "-o", ",".join(options), image, mount_point)
            yield mount_point
        finally:
            if os.path.ismount(mount_point):
                _unmount(mount_point)
            _wait_for_detach(image, offset)
    finally:
        mount_point.rmdir()


def _unmount(mount_point: Path) -> None:
    try:
        run_tool("umount", mount_point)
    except ToolError:
        # A process still uses it. Unmount all the same, and report it.
        run_tool("umount", "--lazy", mount_point)
        raise


def _wait_for_detach(image: Path, offset: int) -> None:
    deadline = time.monotonic() + _DETACH_SECONDS
    while left := [device for device, backing, at in loop_devices() if backing == image.resolve() and at == offset]:
        if time.monotonic() > deadline:
            for device in left:
                run_tool("losetup", "--detach", device)
            raise ToolError(f"{image} was unmounted, but {', '.join(left)} still held it after {_DETACH_SECONDS:g} s")
        time.sleep(_POLL_SECONDS)


def loop_devices() -> list[tuple[str, Path, int]]:
    """Every loop device in use: its name, the file behind it, and the offset in that file in bytes."""
    answer = run_tool("losetup", "--list", "--json", "--output", "NAME,BACK-FILE,OFFSET")
    devices = json.loads(answer)["loopdevices"] if answer.strip() else []
    return [
        (device["name"], Path((device["back-file"] or "").removesuffix(" (deleted)")), int(device["offset"]))
        for device in devices
    ]


def own_directories() -> tuple[Path, ...]:
    """The temporary directories of this process, for engines, registries or mounts."""
    return tuple(sorted(Path(tempfile.gettempdir()).glob(f"drypoint-*-{os.getpid()}-*")))


def leftovers(*directories: Path) -> tuple[str, ...]:
    """The leftovers of engines, registries and mounts of this process, a line each.

    These are mounts below *directories* or of files there, loop devices on files there, processes with one of *directories*
    in their command line, and everything with this process's temporary names.
    """
    own = f"drypoint-*-{os.getpid()}-*"
    places = [directory.resolve() for directory in directories]
    markers = [os.fsencode(place) for place in places] + [
        f"{tempfile.gettempdir()}/drypoint-{kind}-{os.getpid()}-".encode() for kind in ("engine", "registry", "mount")
    ]
    found = [f"temporary directory {path}" for path in own_directories()]
    found += [f"mount on {point}" for point in _mount_points() if _mentions(os.fsencode(point), markers)]
    found += [
        f"loop device {name} on {file}" for name, file, _ in loop_devices() if _mentions(os.fsencode(file), markers)
    ]
    found += [f"process {pid}: {command.decode(errors='replace')}" for pid, command in _foreign_processes(markers)]
    found += [
        f"control group {path}"
        for path in (*Path("/sys/fs/cgroup").glob(own), *Path("/sys/fs/cgroup").glob(f"*/{own}"))
    ]
    return tuple(found)


def _mentions(text: bytes, markers: Iterable[bytes]) -> bool:
    return any(marker in text for marker in markers)


def _mount_points() -> list[str]:
    lines = Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines()
    return [_OCTAL.sub(lambda match: chr(int(match[1], 8)), line.split(" ")[1]) for line in lines]


def _foreign_processes(markers: list[bytes]) -> list[tuple[int, bytes]]:
    """Processes with a marker in their command line, without this one and its ancestors (``pytest DIRECTORY``)."""
    ours = set(_ancestry(os.getpid()))
    found: list[tuple[int, bytes]] = []
    for command_line in Path("/proc").glob("[0-9]*/cmdline"):
        pid = int(command_line.parent.name)
        with suppress(OSError):
            command = command_line.read_bytes().replace(b"\0", b" ").strip()
            if pid not in ours and _mentions(command, markers):
                found.append((pid, command))
    return found


def _ancestry(pid: int) -> Iterator[int]:
    while pid:
        yield pid
        pid = parent_of(pid) or 0


def parent_of(pid: int) -> int | None:
    """The parent of the process *pid*; None if there is no such process."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The program's name is in parentheses and may hold anything; the parent is the second field after it.
    return int(status.rpartition(")")[2].split()[1])
