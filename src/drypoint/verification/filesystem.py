"""Run the file systems' own checkers, where they are installed: e2fsck, and fsck.vfat for boot partitions."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import msgspec

from ..concurrency.pool import Pool, thread_pool
from ..concurrency.tasks import current
from ..disk.device import Device
from ..disk.fat.allocation_table import read_fat_table
from ..disk.fat.chains import check_chains
from ..disk.host.scratch import copy_out, nameless_file, opened_in_one_piece, scratch_directory
from ..disk.host.tools import check_ended_by_itself, child_path, tool_path
from ..errors import FilesystemError, ToolError
from .finding import Finding, finding

_QUOTED = 2000
_TIMEOUT = 3600.0
_ASKED_EVERY = 0.1
_AT_ONCE = 4
"""What e2fsck holds in memory grows with the file system."""
_LARGEST_FAT = 4 << 30
_CANCELLED = 32
"""What e2fsck(8) says after an interrupt."""
_DAMAGED_FAT = 1
_MOST_COPIES = 2
"""Copies of a FAT's table that fsck.vfat supports."""
_COPIES_AT = 16
_COPYING = threading.Lock()
"""One copy of a file system at a time: two at once may not fit where one does."""


class Judgement(msgspec.Struct, frozen=True):
    """A checker's findings, and its verdict in a few words."""

    findings: tuple[Finding, ...]
    words: str


class _Outcome(msgspec.Struct, frozen=True):
    status: int | None
    said: str


def checkers() -> AbstractContextManager[Pool]:
    """Threads that run checkers: each waits for a child process, which is killed when its task is cancelled."""
    return thread_pool(min(_AT_ONCE, os.cpu_count() or 1), "checker")


def check_file_system(device: Device, *, timeout: float = _TIMEOUT) -> tuple[Finding, ...]:
    """The findings of :func:`judge_ext`."""
    return judge_ext(device, timeout=timeout).findings


def judge_ext(device: Device, *, timeout: float = _TIMEOUT) -> Judgement:
    """Run ``e2fsck -fn``, which changes nothing, on the ext2, ext3 or ext4 file system on *device*.

    Args:
        timeout: seconds after which it is stopped; this becomes a finding.
    """
    with _one_copy(device), opened_in_one_piece(device) as (fd, offset):
        place = f"{child_path(fd)}?offset={offset}"
        outcome = _run("e2fsck", ["-fn", place], fd, timeout)
    if outcome.status is None:
        return _unfinished("e2fsck", outcome)
    # The file may have no name, and its path in /proc means nothing to the user.
    said = outcome.said.replace(place, device.name).replace(place.partition("?")[0], device.name)
    if outcome.status == _CANCELLED:
        raise ToolError(f"e2fsck was interrupted while it checked {device.name}. Try again")
    if outcome.status == 0:
        return Judgement((), said.rpartition("\n")[2])
    text = f"e2fsck ended with status {outcome.status} and said: {said[-_QUOTED:]}"
    return Judgement((finding("damaged-file-system", b"", text),), f"finds errors (status {outcome.status})")


def _one_copy(device: Device) -> AbstractContextManager[object]:
    return _COPYING if device.location is None else nullcontext()


def judge_fat(device: Device, *, timeout: float = _TIMEOUT) -> Judgement:
    """Run ``fsck.vfat -n`` on a copy of the FAT file system on *device*: it takes no offset in a file.

    Args:
        timeout: as for :func:`judge_ext`.

    Raises:
        DiskImageError: the device cannot be read.
        OutputError: no space for the copy.
    """
    if device.read(_COPIES_AT, 1)[0] > _MOST_COPIES:
        return _judge_by_chains(device)
    if device.size > _LARGEST_FAT:
        return _unfinished("fsck.vfat", _Outcome(None, f"its {device.size} bytes are too many to copy"))
    if tool_path("fsck.vfat") is None:
        return _unfinished("fsck.vfat", _Outcome(None, ""))
    with _COPYING, nameless_file(scratch_directory()) as copy:
        copy_out(device, 0, device.size, copy)
        name = str(child_path(copy))
        outcome = _run("fsck.vfat", ["-n", name], copy, timeout)
        said = outcome.said.replace(f"{name}: ", "").replace(name, "the file system")
    if outcome.status is None:
        return _unfinished("fsck.vfat", outcome)
    if outcome.status == 0:
        return Judgement((), said.rpartition("\n")[2])
    if outcome.status != _DAMAGED_FAT:
        return _unfinished(
            "fsck.vfat", _Outcome(None, f"fsck.vfat ended with status {outcome.status}: {said[-_QUOTED:]}")
        )
    return Judgement((finding("damaged-fat", b"", f"fsck.vfat said: {said[-_QUOTED:]}"),), "finds errors")


def _judge_by_chains(device: Device) -> Judgement:
    """drypoint's own check, for a file system with more copies of its table than fsck.vfat supports."""
    try:
        table = read_fat_table(device)
        check_chains(device, table)
    except FilesystemError as error:
        return Judgement((finding("damaged-fat", b"", str(error)),), "is damaged")
    return Judgement((), f"{table.copies} equal copies of the table, and no two files share a cluster")


def _unfinished(program: str, outcome: _Outcome) -> Judgement:
    if outcome.said == _TIMED_OUT:
        return Judgement((finding("unfinished-check", b"", f"{program} {outcome.said}"),), f"{program} {outcome.said}")
    why = outcome.said or f"{program} is not installed"
    return Judgement((finding("file-system-not-checked", b"", why),), why)


_TIMED_OUT = "did not end in time"


def _run(program: str, arguments: Sequence[str], fd: int, timeout: float) -> _Outcome:
    """Run a checker, which inherits *fd*. If it cannot be run to its end, the status is None, and *said* is the reason.

    Raises:
        ToolError: a signal ended it.
    """
    path = tool_path(program)
    if path is None:
        return _Outcome(None, "")
    deadline = time.monotonic() + timeout
    try:
        process = subprocess.Popen(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            pass_fds=(fd,),
            # Ctrl-C on a terminal is for this process, which stops it.
            start_new_session=True,
        )
    except OSError as error:
        return _Outcome(None, f"{program} cannot be started: {error.strerror}")
    with process:
        try:
            while (left := deadline - time.monotonic()) > 0:
                current().check()
                try:
                    said, _ = process.communicate(timeout=min(left, _ASKED_EVERY))
                except subprocess.TimeoutExpired:
                    continue
                check_ended_by_itself(program, process.returncode)
                return _Outcome(process.returncode, said.decode(errors="replace").strip())
        finally:
            # No effect on a process that has ended.
            process.kill()
    return _Outcome(None, _TIMED_OUT)
