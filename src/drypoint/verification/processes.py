"""Layers proved by several processes at once.

Threads do not help here: a layer of small files is much work for the interpreter and little for what leaves its lock. Each
layer is proved by itself and only findings come back, so that processes have nothing to share but the disk image.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..concurrency.tasks import current
from ..concurrency.uninterrupted import uninterrupted
from ..disk import Device, FileDevice, Window
from ..disk.ext4.read.file_device import open_ext4_file
from ..disk.ext4.read.reader import Ext4Reader
from ..errors import ToolError
from .layer import LayerResult, LayerTask, check_layer

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerContext

_MOST_PROCESSES = 8
"""Each holds what it has to know of a layer and of the file system."""
_WORTHWHILE = 64 << 20
"""Bytes of files in layers below which starting a process costs more than it saves."""


class OuterPlace(msgspec.Struct, frozen=True):
    """The file system of *size* bytes, at *offset* of a file, in which a disk image lies as the file *path*."""

    offset: int
    size: int
    path: bytes


class LayerProcesses(msgspec.Struct, frozen=True):
    """At most *count* processes that read the file system at *offset* of the file *path*, *size* bytes long.

    *name* stands for that file system in messages: the file may lie elsewhere while it is worked on. *within* is set if
    *offset* counts in a disk image that lies inside the one in *path*; *name* is that of the file system with it then.
    """

    name: str
    path: Path
    offset: int
    size: int
    count: int
    within: OuterPlace | None = None

    @classmethod
    def on(cls, device: Device, count: int) -> LayerProcesses | None:
        """Those that read the file system on *device*; None for one process, or if its bytes do not lie in one piece."""
        location = device.location
        return None if location is None or count < 2 else cls(device.name, *location, device.size, count)

    @classmethod
    def inside(cls, outer: Device, path: bytes, offset: int, size: int, count: int) -> LayerProcesses | None:
        """Those that read the file system of *size* bytes at *offset* of a disk image that is a file itself.

        They find its blocks for themselves, which need not lie in one piece.

        Args:
            outer: has the file system with that file, *path*.
        """
        location = outer.location
        if location is None or count < 2:
            return None
        return cls(outer.name, location[0], offset, size, count, OuterPlace(location[1], outer.size, path))

    def worthwhile(self, tasks: Sequence[LayerTask]) -> bool:
        """Whether *tasks*, the largest first, are more than one process does well: what lies beside the largest counts."""
        return self.count > 1 and sum(task.layer.size or 0 for task in tasks[1:]) >= _WORTHWHILE

    def check(self, data_root: bytes, tasks: Sequence[LayerTask]) -> list[LayerResult]:
        """Prove each layer.

        Raises:
            ToolError: a process was killed, or could not start.
        """
        # Slow to import, and every preload imports this module.
        from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor

        with uninterrupted():
            context = _started()
        workers = min(self.count, len(tasks), _MOST_PROCESSES)
        wanted, want = context.Pipe(duplex=False)
        with wanted, want, ProcessPoolExecutor(workers, context, _begin, (wanted,)) as pool:
            try:
                # A process that was cut off while it started would be nobody's, and complain of what is gone.
                with uninterrupted():
                    futures = [pool.submit(self._check, data_root, task) for task in tasks]
                with current().waker(want.close):
                    return [future.result() for future in futures]
            except (BrokenProcessPool, EOFError, ConnectionError) as error:
                raise ToolError(
                    "a process that verified layers was killed, by lack of memory perhaps; or, where a script asked for "
                    'processes, it did not start, since the script does its work outside of if __name__ == "__main__"'
                ) from error
            except BaseException:
                # The pool would wait for all that was asked of it.
                want.close()
                raise

    def _check(self, data_root: bytes, task: LayerTask) -> LayerResult:
        with FileDevice(self.path, name=self.name) as device:
            return check_layer(Ext4Reader(self._window(device), allow_dirty=True), data_root, *task)

    def _window(self, device: FileDevice) -> Window:
        if self.within is None:
            device.pad(self.offset + self.size)
            return Window(device, self.offset, self.size, name=self.name)
        device.pad(self.within.offset + self.within.size)
        outer = Window(device, self.within.offset, self.within.size, name=self.name)
        inner = open_ext4_file(outer, self.within.path, allow_dirty=True)
        inner.pad(self.offset + self.size)
        return Window(inner, self.offset, self.size)


def _started() -> ForkServerContext:
    """What gives processes, once the one that they are forked from runs.

    Not by a plain fork of this one, which would copy locks that other threads hold. That one has imported what they need.
    """
    import multiprocessing
    from multiprocessing import forkserver, resource_tracker

    context = multiprocessing.get_context("forkserver")
    # "__main__" is what it imports by default.
    context.set_forkserver_preload(["__main__", "concurrent.futures.process", __name__])
    # Starting this one, which the other would do else, unmasks signals.
    resource_tracker.ensure_running()
    # Whoever presses Ctrl-C means all processes, but it is for this one to clean up, and to say a word. They inherit the mask.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def _begin(wanted: Connection) -> None:
    """What a worker does first: see to it that it ends as soon as nobody holds the other end of *wanted*.

    Be it closed, or its owner killed: a worker waits for work for ever, and would end what it is at before it heard of
    anything else.
    """
    # A layer makes no garbage in cycles, but inodes by the ten thousand, which collections would go through time and again.
    gc.disable()

    def watch() -> None:
        with suppress(EOFError, OSError):
            wanted.recv_bytes()
        os._exit(1)

    threading.Thread(target=watch, name="drypoint-wanted", daemon=True).start()
