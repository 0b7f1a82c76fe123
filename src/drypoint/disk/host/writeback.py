"""Early writeback: the kernel writes a large file to the disk while it is still being filled.

By itself Linux starts when a tenth of the memory is dirty, which most disk images never reach: then the fsync at the end has to
write everything, with nothing else to do meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...concurrency.tasks import start
from ...errors import ResourceError

_SYNC_FILE_RANGE_WRITE = 2
"""From linux/fs.h: start writing dirty pages, without waiting."""
_INTERVAL_SECONDS = 0.25


@contextmanager
def early_writeback(path: Path) -> Iterator[None]:
    """While the block runs, start writeback of the file *path* every quarter of a second. Not a substitute for fsync.

    *path* may become another file meanwhile. If the file system does not support this, nothing happens.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_write_back, args=(path, ended), name="drypoint-writeback", daemon=True)
    with suppress(ResourceError):
        # Without it the kernel writes later, that is all.
        start(thread)
    try:
        yield
    finally:
        ended.set()
        if thread.ident is not None:
            thread.join()


def _write_back(path: Path, ended: threading.Event) -> None:
    begin = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if begin is None:
        return
    begin.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    while not ended.wait(_INTERVAL_SECONDS):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            # A length of 0 is all of the file.
            if begin(fd, 0, 0, _SYNC_FILE_RANGE_WRITE):
                return
        finally:
            os.close(fd)
