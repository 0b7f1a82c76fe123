"""Locks of disk images: for one run that changes the image, or any number that read it.

The lock is flock(2) on the file itself. It is the same through symbolic links, hard links and bind mounts, and the kernel
releases it when the process ends, in any way. For a partition it is the lock of the whole block device, by
https://systemd.io/BLOCK_DEVICE_LOCKING/, so that udev does not access the device; for a loop device also that of its file. On
a file system without locks (some over FUSE) nothing is refused.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ...errors import DiskImageError, OutputError

_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF})
"""EBADF: NFS locks a file that is open for reading only for readers."""
_UDEV_SECONDS = 2.0
"""udev holds the lock of a block device for a moment after a write to it."""
_LOOK_SECONDS = 0.05
_SYSFS = Path("/sys")


def lock_image(fd: int, name: str, held: list[int], *, exclusive: bool) -> None:
    """Lock the open disk image *fd* until it is closed: *exclusive*, to change it, or for readers.

    A second call can make a lock for readers exclusive.

    Args:
        name: for messages.
        held: gets further descriptors that hold locks; the caller closes them after *fd*.

    Raises:
        OutputError: *exclusive*, and another run uses it; or a file system on it is mounted.
        DiskImageError: another run is changing it.
    """
    if not held:
        held.extend(_related(fd))
    for one in (fd, *held):
        if not _locked(one, exclusive=exclusive):
            raise _refusal(name, exclusive)
    if exclusive:
        _check_loop_devices(fd, name)


def try_lock(fd: int, *, exclusive: bool = True) -> bool | None:
    """Try to lock the file *fd*; returns whether it is locked now, or None if its file system has no locks."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return True


def _locked(fd: int, *, exclusive: bool) -> bool:
    """Whether *fd* is locked now, or its file system has no locks."""
    seconds = _UDEV_SECONDS if stat.S_ISBLK(os.fstat(fd).st_mode) else 0.0
    deadline = time.monotonic() + seconds
    while try_lock(fd, exclusive=exclusive) is False:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def _refusal(name: str, exclusive: bool) -> DiskImageError | OutputError:
    if exclusive:
        return OutputError(f"cannot change {name} in place: another program uses it now; wait until that has ended")
    return DiskImageError(f"cannot read {name}: another program is changing it now; wait until that has ended")


def _related(fd: int) -> Iterator[int]:
    """Other files with the same bytes, as far as they can be opened: a partition's whole disk, a loop device's file."""
    status = os.fstat(fd)
    if not stat.S_ISBLK(status.st_mode):
        return
    disk = (_SYSFS / "dev" / "block" / f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}").resolve()
    if (disk / "partition").exists():
        disk = disk.parent
        with suppress(OSError):
            yield os.open(Path("/dev") / disk.name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with suppress(OSError):
        backing = Path((disk / "loop" / "backing_file").read_text().rstrip("\n"))
        yield os.open(backing, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def _check_loop_devices(fd: int, name: str) -> None:
    """Refuse a file that is in use through a loop device, which is to say mounted."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return
    for backing in (_SYSFS / "block").glob("loop*/loop/backing_file"):
        with suppress(OSError):
            if not os.path.samestat(status, Path(backing.read_text().rstrip("\n")).stat()):
                continue
            loop = Path("/dev") / backing.parent.parent.name
            if _is_claimed(loop):
                raise OutputError(f"cannot change {name} in place: it is in use through {loop}; unmount that first")


def _is_claimed(device: Path) -> bool:
    """Whether a block device, or one of its partitions, is mounted or otherwise in exclusive use."""
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False
