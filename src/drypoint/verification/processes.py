"""Verify layers in several processes.

Threads do not help here: a layer of small files is mostly work under the interpreter lock. Layers are verified independently
and only findings come back, so processes share nothing but the disk image.
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
from ..disk.ext4.read.file_device import ext4_file
from ..errors import ToolError
from ..stores import KeptLayer
from ..volumes.volume import Volume
from .layer import LayerResult, check_layer

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerContext

_MOST_PROCESSES = 8
"""Each holds the state of a layer and of the file system in memory."""
WORTHWHILE_BYTES = 64 << 20
"""Bytes of files in layers below which starting a process costs more than it saves."""


class OuterPlace(msgspec.Struct, frozen=True):
    """The file system of *size* bytes at *offset* of a file, with a disk image in it as the file *path*."""

    offset: int
    size: int
    path: bytes


class LayerProcesses(msgspec.Struct, frozen=True):
    """At most *count* processes that read the file system at *offset* of the file *path*, *size* bytes long.

    *name* stands for that file system in messages: the file may be a temporary one. *within* is set if *offset* is relative to
    an inner disk image of the one in *path*; *name* is then that of the file system that holds the inner one.
    """

    name: str
    path: Path
    offset: int
    size: int
    count: int
    within: OuterPlace | None = None

    @classmethod
    def on(cls, device: Device, count: int) -> LayerProcesses | None:
        """Processes for the file system on *device*; None for a count of one, or if its bytes are not contiguous."""
        location = device.location
        return None if location is None or count < 2 else cls(device.name, *location, device.size, count)

    @classmethod
    def inside(cls, outer: Device, path: bytes, offset: int, size: int, count: int) -> LayerProcesses | None:
        """Processes for the file system of *size* bytes at *offset* of a disk image that is a file itself.

        They find its blocks themselves; these need not be contiguous.

        Args:
            outer: the file system that holds that file, *path*.
        """
        location = outer.location
        if location is None or count < 2:
            return None
        return cls(outer.name, location[0], offset, size, count, OuterPlace(location[1], outer.size, path))

    def worthwhile(self, layers: Sequence[KeptLayer]) -> bool:
        """Whether several processes pay off for *layers*, the largest first: all but the largest count."""
        return self.count > 1 and sum(layer.size or 0 for layer in layers[1:]) >= WORTHWHILE_BYTES

    def check(self, layers: Sequence[KeptLayer]) -> list[LayerResult]:
        """Verify each layer.

        Raises:
            ToolError: a process was killed, or could not start.
        """
        # Slow to import, and every preload imports this module.
        from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor

        with uninterrupted():
            context = _started()
        workers = min(self.count, len(layers), _MOST_PROCESSES)
        wanted, want = context.Pipe(duplex=False)
        with wanted, want, ProcessPoolExecutor(workers, context, _begin, (wanted,)) as pool:
            try:
                # A process interrupted while it starts would be orphaned and print a traceback.
                with uninterrupted():
                    futures = [pool.submit(self._check, layer) for layer in layers]
                with current().waker(want.close):
                    return [future.result() for future in futures]
            except (BrokenProcessPool, EOFError, ConnectionError) as error:
                raise ToolError(
                    "a process that verified layers was killed, perhaps for lack of memory; or it did not start, because the "
                    'script that called drypoint does its work outside of if __name__ == "__main__"'
                ) from error
            except BaseException:
                # The pool would wait for all tasks.
                want.close()
                raise

    def _check(self, layer: KeptLayer) -> LayerResult:
        with FileDevice(self.path, name=self.name) as device:
            return check_layer(Volume(self._window(device)).reader(allow_dirty=True), layer)

    def _window(self, device: FileDevice) -> Window:
        if self.within is None:
            device.pad(self.offset + self.size)
            return Window(device, self.offset, self.size, name=self.name)
        device.pad(self.within.offset + self.within.size)
        outer = Window(device, self.within.offset, self.within.size, name=self.name)
        inner = ext4_file(Volume(outer).reader(allow_dirty=True), outer, self.within.path)
        inner.pad(self.offset + self.size)
        return Window(inner, self.offset, self.size)


def _started() -> ForkServerContext:
    """A context that starts processes, once its fork server runs, which has imported what they need.

    Not a plain fork of this process: that would copy locks that other threads hold.
    """
    import multiprocessing
    from multiprocessing import forkserver, resource_tracker

    context = multiprocessing.get_context("forkserver")
    # "__main__" is the default.
    context.set_forkserver_preload(["__main__", "concurrent.futures.process", __name__])
    # Started first: the fork server would start it, and starting it unmasks signals.
    resource_tracker.ensure_running()
    # Ctrl-C reaches all processes, but only this one cleans up and prints a message. The others inherit the mask.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def _begin(wanted: Connection) -> None:
    """Initialize a worker: it exits as soon as the other end of *wanted* is closed, also because its owner was killed.

    Otherwise a worker would finish its current task first, and then wait for the next one forever.
    """
    # A layer makes no cyclic garbage, but tens of thousands of inodes, which each collection would traverse.
    gc.disable()

    def watch() -> None:
        with suppress(EOFError, OSError):
            wanted.recv_bytes()
        os._exit(1)

    threading.Thread(target=watch, name="drypoint-wanted", daemon=True).start()
