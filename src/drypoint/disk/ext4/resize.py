"""Growing an ext4 file system inside a disk image, by e2fsprogs' own resize2fs on a sparse copy of the partition.

A copy, because resize2fs cuts a regular file down to the size of the file system, whatever offset it was told: on the disk
image itself it would destroy what lies behind. What the tool changed is then brought back.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ...errors import DiskImageError, FilesystemError, OutputError, ToolError
from ..copy import copy_sparse, data_extents
from ..device import FileDevice, Window
from ..scratch import nameless_file
from ..tools import find_tool
from .geometry import Geometry, read_geometry

_PACKAGE = "e2fsprogs"
CHECK_TIMEOUT = 1800.0
RESIZE_TIMEOUT = 3600.0
_COMPARED_BYTES = 256 << 10
_QUOTED_CHARACTERS = 2000


def check_filesystem(device: FileDevice, offset: int, *, timeout: float = CHECK_TIMEOUT) -> None:
    """Have e2fsck look at the ext file system at *offset*, changing nothing (``e2fsck -fn``).

    Raises:
        FilesystemError: it found something; its words are quoted.
        ToolError: e2fsck is missing, or took longer than *timeout* seconds.
    """
    path = device.name
    target = f"/proc/self/fd/{device.fileno()}?offset={offset}"
    result = _run("e2fsck", ["-fn", target], device.fileno(), timeout, _environment(0))
    if result.returncode != 0:
        raise FilesystemError(
            f"{path}: the file system at offset {offset} is damaged, and nothing was changed. e2fsck says: "
            f"{_quote(result.stdout)}. Repair it first (e2fsck -f) or use another disk image"
        )


def grow_filesystem(
    device: FileDevice,
    offset: int,
    old_size: int,
    new_size: int,
    scratch_dir: Path,
    *,
    timeout: float = RESIZE_TIMEOUT,
) -> Geometry:
    """Grow the ext file system at *offset* to fill *new_size* bytes; the partition has been grown before.

    The same bytes in give the same bytes out: the time that the tool notes as that of the last write is the one already noted
    there, and new inode tables are zeroed rather than left for the kernel. Label, UUID and hash seed stay.

    Args:
        device: the disk image, writable.
        offset: the partition's first byte.
        old_size: bytes of the partition before.
        new_size: bytes of the partition now.
        scratch_dir: where the nameless copy lives; best on the device's own file system.
        timeout: seconds that resize2fs may take.

    Returns:
        The file system's numbers afterwards. It may span a little less than *new_size*.

    Raises:
        FilesystemError: no ext file system, one that is damaged or was not unmounted in order, or resize2fs refused it.
        ToolError: e2fsck or resize2fs is missing or took too long.
        OutputError: no room for the copy.
        DiskImageError: the partition does not lie in the device, or reading and writing failed.
    """
    path = device.name
    geometry = read_geometry(Window(device, offset, old_size))
    where = f"{path}: the ext4 file system at offset {offset}"
    if geometry.size > old_size:
        raise FilesystemError(f"{where} spans {geometry.size} bytes, but its partition had only {old_size}")
    if new_size > device.size - offset:
        raise DiskImageError(
            f"{where} should grow to {new_size} bytes, but the disk image ends {device.size - offset} behind"
        )
    check_unmounted(geometry, where)
    check_filesystem(device, offset)
    blocks = new_size // geometry.block_size
    if blocks <= geometry.blocks_count:
        return geometry
    with nameless_file(scratch_dir) as scratch:
        try:
            copy_sparse(device.fileno(), scratch, source_offset=offset, length=geometry.size)
            os.ftruncate(scratch, blocks * geometry.block_size)
        except OSError as error:
            raise OutputError(f"cannot copy the file system into {scratch_dir}: {error.strerror}") from error
        # -f: without it resize2fs asks for a check noted in the superblock; ours, just passed, notes nothing.
        arguments = ["-f", f"/proc/self/fd/{scratch}", str(blocks)]
        result = _run("resize2fs", arguments, scratch, timeout, _environment(geometry.last_write))
        if result.returncode != 0:
            raise FilesystemError(
                f"{where} could not be grown. resize2fs says: {_quote(result.stderr or result.stdout)}"
            )
        try:
            _bring_back(scratch, device, offset, blocks * geometry.block_size)
        except OSError as error:
            raise DiskImageError(f"{where}: cannot bring the grown file system back: {error.strerror}") from error
    return read_geometry(Window(device, offset, new_size))


def check_unmounted(geometry: Geometry, where: str) -> None:
    """Refuse a file system that was not unmounted in order; *where* begins the message.

    Raises:
        FilesystemError: a journal to replay, or an error on record.
    """
    if geometry.needs_recovery:
        raise FilesystemError(
            f"{where} was not unmounted: its journal holds changes that are not in place yet. Run e2fsck on it first"
        )
    if not geometry.is_clean:
        raise FilesystemError(f"{where} was not unmounted in order, or has errors on record. Run e2fsck -f on it first")


def _environment(timestamp: int) -> dict[str, str]:
    """All that the tools may see of the environment: nothing in it, nor the host's clock or kernel, shall tell in the result.

    e2fsprogs reads E2FSPROGS_FAKE_TIME up to 1.47.0 and SOURCE_DATE_EPOCH first since 1.47.1. To the older, 0 means "use the
    clock", so a file system that was never written to gets 1. Without RESIZE2FS_FORCE_ITABLE_INIT it depends on the running
    kernel whether new inode tables are zeroed.
    """
    time = str(max(timestamp, 1))
    return {
        "LC_ALL": "C",
        "TZ": "UTC",
        "E2FSPROGS_FAKE_TIME": time,
        "SOURCE_DATE_EPOCH": time,
        "RESIZE2FS_FORCE_ITABLE_INIT": "1",
        "E2FSCK_CONFIG": os.devnull,
    }


def _run(
    name: str, arguments: Sequence[str], fd: int, timeout: float, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [find_tool(name, _PACKAGE), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            pass_fds=(fd,),
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{name} did not finish within {timeout:.0f} seconds and was stopped") from error
    except OSError as error:
        raise ToolError(f"{name} cannot be run: {error.strerror}") from error


def _quote(text: str) -> str:
    words = " / ".join(line.strip() for line in text.splitlines() if line.strip())
    return words if len(words) <= _QUOTED_CHARACTERS else words[:_QUOTED_CHARACTERS] + " …"


def _bring_back(scratch: int, device: FileDevice, offset: int, length: int) -> None:
    """Make *length* bytes of *device* at *offset* read as *scratch* does, writing only what differs.

    Growth changes little, and comparing in memory is cheaper than writing. Where the copy has a hole, zeros go over what the
    device may hold there.
    """
    target = device.fileno()
    position = 0
    for start, size in (*data_extents(scratch, 0, length), (length, 0)):
        _clear(device, offset + position, offset + start)
        for chunk in range(start, start + size, _COMPARED_BYTES):
            wanted = os.pread(scratch, min(_COMPARED_BYTES, start + size - chunk), chunk)
            if wanted != os.pread(target, len(wanted), offset + chunk):
                device.write(offset + chunk, wanted)
        position = start + size


def _clear(device: FileDevice, start: int, end: int) -> None:
    for extent, size in data_extents(device.fileno(), start, end):
        for chunk in range(extent, extent + size, _COMPARED_BYTES):
            found = device.read(chunk, min(_COMPARED_BYTES, extent + size - chunk))
            if found.count(0) != len(found):
                device.write(chunk, bytes(len(found)))
