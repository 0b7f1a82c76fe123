"""Growing an ext4 file system inside a disk image, by e2fsprogs' own resize2fs on a sparse copy of the partition.

A copy, because resize2fs truncates a regular file to the size of the file system, whatever offset it is given: on the disk
image itself it would destroy what follows. The blocks that it changed are then copied back.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ....concurrency.tasks import current
from ....errors import DiskImageError, FilesystemError, OutputError, ToolError
from ...device import Device, GrowableDevice, Window
from ...host.copies import copy_sparse, data_extents
from ...host.scratch import copy_out, in_one_piece, nameless_file
from ...host.tools import check_ended_by_itself, find_tool
from ...tables.moving import clear_range
from .geometry import Geometry, read_geometry

_PACKAGE = "e2fsprogs"
CHECK_TIMEOUT = 1800.0
RESIZE_TIMEOUT = 3600.0
_COMPARED_BYTES = 256 << 10
_QUOTED_CHARACTERS = 2000


def check_filesystem(device: Device, offset: int, *, where: str | None = None, timeout: float = CHECK_TIMEOUT) -> None:
    """Check the ext file system at *offset* with ``e2fsck -fn``, which changes nothing.

    Args:
        where: its name in messages.

    Raises:
        FilesystemError: it found errors; its output is quoted. Or, if the device's bytes are not contiguous, there is none.
        ToolError: e2fsck is missing, or took longer than *timeout* seconds.
        OutputError: no space for a copy, which a device that is not contiguous needs.
        DiskImageError: the device cannot be read.
    """
    where = where or f"{device.name}: the file system at offset {offset}"
    if device.location is not None:
        with _opened(device.location[0]) as fd:
            check_file(fd, device.location[1] + offset, where, timeout)
        return
    behind = device.size - offset
    size = min(read_geometry(Window(device, offset, behind)).size, behind)
    with in_one_piece(Window(device, offset, size)) as (path, start), _opened(path) as fd:
        check_file(fd, start, where, timeout)


def grow_filesystem(
    device: GrowableDevice,
    offset: int,
    old_size: int,
    new_size: int,
    scratch_dir: Path,
    *,
    sound: bool = False,
    timeout: float = RESIZE_TIMEOUT,
) -> Geometry:
    """Grow the ext file system at *offset* to fill *new_size* bytes; the partition must have grown before.

    Equal input gives equal output: the time of the last write stays the one in the superblock, and new inode tables are
    zeroed and not left for the kernel. Label, UUID and hash seed stay.

    Args:
        device: the disk image, writable; its bytes need not be contiguous.
        offset: the partition's first byte.
        old_size: bytes of the partition before.
        new_size: bytes of the partition now.
        scratch_dir: directory of the unnamed copy; best on the device's own file system.
        sound: whether e2fsck has already found no errors, and later writes kept it consistent. If not, e2fsck runs first.
        timeout: seconds that resize2fs may take.

    Returns:
        The geometry afterwards. The file system may span a little less than *new_size*.

    Raises:
        FilesystemError: no ext file system, one that is damaged or was not unmounted cleanly, or resize2fs refused it.
        ToolError: e2fsck or resize2fs is missing or took too long.
        OutputError: no space for the copy.
        DiskImageError: the partition is not inside the device, or reading or writing failed.
    """
    where = f"{device.name}: the ext4 file system at offset {offset}"
    geometry = geometry_in(device, offset, old_size)
    if new_size > device.size - offset:
        raise DiskImageError(
            f"{where} should grow to {new_size} bytes, but the disk image ends {device.size - offset} behind"
        )
    check_unmounted(geometry, where)
    blocks = new_size // geometry.block_size
    if blocks <= geometry.blocks_count:
        if not sound:
            check_filesystem(device, offset)
        return geometry
    copy = unchecked_copy if sound else filesystem_copy
    with copy(device, offset, geometry.size, scratch_dir) as scratch:
        resize_file(scratch, geometry, blocks, where, timeout)
        bring_back(scratch, device, offset, blocks * geometry.block_size, where)
    return read_geometry(Window(device, offset, new_size))


def check_unmounted(geometry: Geometry, where: str) -> None:
    """Refuse a file system that was not unmounted cleanly; *where* starts the message.

    Raises:
        FilesystemError: a journal to replay, or an error on record.
    """
    if geometry.needs_recovery:
        raise FilesystemError(
            f"{where} was not unmounted: its journal holds changes that are not in place yet. Run e2fsck on it first"
        )
    if not geometry.is_clean:
        raise FilesystemError(f"{where} was not unmounted in order, or has errors on record. Run e2fsck -f on it first")


def geometry_in(device: Device, offset: int, partition_size: int) -> Geometry:
    """The geometry of the ext file system that starts at *offset*.

    Raises:
        FilesystemError: there is none, or it spans more than the partition's *partition_size* bytes.
        DiskImageError: the device cannot be read.
    """
    geometry = read_geometry(Window(device, offset, partition_size))
    if geometry.size > partition_size:
        raise FilesystemError(
            f"{device.name}: the ext4 file system at offset {offset} spans {geometry.size} bytes, but its partition had only "
            f"{partition_size}"
        )
    return geometry


@contextmanager
def filesystem_copy(device: Device, offset: int, size: int, scratch_dir: Path) -> Iterator[int]:
    """An unnamed sparse copy of *size* bytes at *offset*, which e2fsck has checked.

    Raises:
        FilesystemError: e2fsck found errors.
        OutputError: no space for the copy.
        ToolError: e2fsck is missing or took too long.
        DiskImageError: the device cannot be read.
    """
    with unchecked_copy(device, offset, size, scratch_dir) as scratch:
        check_file(scratch, 0, f"{device.name}: the file system at offset {offset}", CHECK_TIMEOUT)
        yield scratch


@contextmanager
def unchecked_copy(device: Device, offset: int, size: int, scratch_dir: Path) -> Iterator[int]:
    """An unnamed sparse copy of *size* bytes at *offset*, without a check.

    Raises:
        OutputError: no space for the copy.
        DiskImageError: the device cannot be read.
    """
    with nameless_file(scratch_dir) as scratch:
        location = device.location
        if location is None:
            copy_out(device, offset, size, scratch)
        else:
            with _opened(location[0]) as source:
                try:
                    copy_sparse(source, scratch, source_offset=location[1] + offset, length=size)
                except OSError as error:
                    raise OutputError(f"cannot copy the file system into {scratch_dir}: {error.strerror}") from error
        yield scratch


def check_file(fd: int, offset: int, where: str, timeout: float) -> None:
    """Check the file system at *offset* of an open file; see :func:`check_filesystem`."""
    place = f"/proc/self/fd/{fd}?offset={offset}"
    result = run_checked("e2fsck", ["-fn", place], fd, timeout, _environment(0))
    if result.returncode != 0:
        raise FilesystemError(
            f"{where} is damaged, and nothing was changed. e2fsck says: {_words_of_e2fsck(result, place)}. "
            "Repair it first (e2fsck -f) or use another disk image"
        )


def preen_file(fd: int, where: str, last_write: int, timeout: float = CHECK_TIMEOUT) -> None:
    """Run ``e2fsck -fp``, automatic repairs only, on the file system that fills an open file.

    A device does the same when it boots: the journal is replayed, deleted files are freed, counts are corrected.
    *last_write*, in seconds, is the superblock's time of the last write; e2fsck uses it in place of the clock.

    Raises:
        FilesystemError: there is damage that it does not repair automatically; its output is quoted.
        ToolError: e2fsck is missing or took too long.
    """
    place = f"/proc/self/fd/{fd}"
    environment = _environment(last_write)
    # e2fsck reads the time from a variable of its own.
    environment["E2FSCK_TIME"] = environment["E2FSPROGS_FAKE_TIME"]
    result = run_checked("e2fsck", ["-fp", place], fd, timeout, environment)
    # 1: repaired; 2: repaired, and the system should be rebooted if the file system was mounted.
    if result.returncode not in (0, 1, 2, 3):
        raise FilesystemError(
            f"{where} is damaged beyond what e2fsck repairs automatically. It says: {_words_of_e2fsck(result, place)}. "
            "Repair it by hand first (e2fsck -f), or use another disk image"
        )


def resize_file(fd: int, geometry: Geometry, blocks: int, where: str, timeout: float) -> None:
    """Resize the file system that fills an open file to *blocks* blocks with resize2fs. *geometry* is the one before.

    Raises:
        FilesystemError: resize2fs refused; its output is quoted.
        ToolError: it is missing or took too long.
        OutputError: there is no space.
    """
    if blocks > geometry.blocks_count:
        try:
            os.ftruncate(fd, blocks * geometry.block_size)
        except OSError as error:
            raise OutputError(f"{where} cannot be resized: {error.strerror}") from error
    # -f: without it resize2fs requires a check recorded in the superblock; ours does not write there.
    arguments = ["-f", f"/proc/self/fd/{fd}", str(blocks)]
    result = run_checked("resize2fs", arguments, fd, timeout, _environment(geometry.last_write))
    if result.returncode != 0:
        words = result.stderr or result.stdout
        no_space = os.strerror(errno.ENOSPC)
        cause = OSError(errno.ENOSPC, no_space) if no_space in words else None
        raise FilesystemError(f"{where} could not be resized. resize2fs says: {_quote(words)}") from cause


def least_blocks(fd: int, where: str, timeout: float) -> int:
    """The fewest blocks for the file system that fills an open file, as resize2fs computes them, with its own margin.

    Raises:
        FilesystemError: it cannot compute them.
        ToolError: it is missing or took too long.
    """
    result = run_checked("resize2fs", ["-P", f"/proc/self/fd/{fd}"], fd, timeout, _environment(0))
    found = re.search(r": (\d+)\s*$", result.stdout)
    if result.returncode != 0 or found is None:
        raise FilesystemError(f"{where} cannot be cut. resize2fs says: {_quote(result.stderr or result.stdout)}")
    return int(found[1])


def bring_back(scratch: int, device: Device, offset: int, length: int, where: str) -> None:
    """Make *length* bytes of *device* at *offset* equal to *scratch*, writing only what differs.

    Growth changes little, and comparing in memory is cheaper than writing. For a hole of the copy, zeros are written where
    the device holds data.

    Raises:
        DiskImageError: reading or writing failed.
    """
    position = 0
    try:
        for start, size in (*data_extents(scratch, 0, length), (length, 0)):
            clear_range(device, offset + position, start - position)
            for chunk in range(start, start + size, _COMPARED_BYTES):
                wanted = os.pread(scratch, min(_COMPARED_BYTES, start + size - chunk), chunk)
                if wanted != device.read(offset + chunk, len(wanted)):
                    device.write(offset + chunk, wanted)
            position = start + size
    except OSError as error:
        raise DiskImageError(f"{where}: cannot bring the resized file system back: {error.strerror}") from error


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise DiskImageError(f"cannot open {path}: {error.strerror}") from error
    try:
        yield fd
    finally:
        os.close(fd)


def _environment(timestamp: int) -> dict[str, str]:
    """The whole environment of the tools: the result must not depend on the user's, on the clock or on the kernel.

    e2fsprogs reads E2FSPROGS_FAKE_TIME up to 1.47.0, and SOURCE_DATE_EPOCH first since 1.47.1. For the former 0 means the
    clock, so a file system that was never written gets 1. Without RESIZE2FS_FORCE_ITABLE_INIT the running kernel decides
    whether new inode tables are zeroed.
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


def run_checked(
    name: str, arguments: Sequence[str], fd: int, timeout: float, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    command = [find_tool(name, _PACKAGE), *arguments]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            pass_fds=(fd,),
            # Ctrl-C on a terminal is for this process, which stops it.
            start_new_session=True,
        )
    except OSError as error:
        raise ToolError(f"{name} cannot be run: {error.strerror}") from error
    with process:
        try:
            with current().waker(process.kill):
                output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise ToolError(f"{name} did not finish within {timeout:.0f} seconds and was stopped") from error
        finally:
            # No effect on a process that has ended.
            process.kill()
    current().check()
    check_ended_by_itself(name, process.returncode)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _words_of_e2fsck(result: subprocess.CompletedProcess[str], place: str) -> str:
    """The output of e2fsck, with "the file system" in place of the name of the copy."""
    name = "the file system"
    said = result.stdout or result.stderr
    return _quote(said.replace(place, name).replace(place.partition("?")[0], name))


def _quote(text: str) -> str:
    words = " / ".join(line.strip() for line in text.splitlines() if line.strip())
    return words if len(words) <= _QUOTED_CHARACTERS else words[:_QUOTED_CHARACTERS] + " …"
