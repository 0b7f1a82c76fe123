"""The disk image that a job works on, and its publication as the output.

A new file is made in the output's directory under a temporary name, and compressed from there at the end if needed. A file that
was unpacked from a compressed base is private already, and is used without another copy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from ...errors import OutputError, UsageError
from ...progress import Progress
from .. import FileDevice, GrowableDevice, copy_sparse
from ..formats import (
    Encoding,
    ImageFormat,
    OpenedImage,
    format_of_content,
    format_of_name,
    member_name,
    write_block_map,
    write_image,
)
from .in_place import in_place
from .output import Part, check_target, whole_files
from .scratch import nameless_file, path_of, scratch_directory
from .undo import check_unused, undoing
from .writeback import early_writeback


class Destination(msgspec.Struct, frozen=True):
    """The destination of the result.

    Attributes:
        path: the file to make, compressed by its suffix; None to change the base in place.
        overwrite: whether an existing file may be replaced.
        block_map: path of a block map for bmaptool, if one is to be written.
        secrets: files whose content goes into the result: others get only those rights on it that they have on these and on
            the base.
    """

    path: Path | None
    overwrite: bool = False
    block_map: Path | None = None
    secrets: tuple[Path, ...] = ()


class Workspace(Protocol):
    """The disk image that a job works on."""

    @property
    def scratch_dir(self) -> Path:
        """A directory for large temporary files."""

    def copy(self, base: OpenedImage, progress: Progress) -> None:
        """Copy *base*, which may be read meanwhile; needs no plan yet.

        Raises:
            OutputError: there is no space for it, or the base cannot be copied.
        """

    def start(self, base: OpenedImage, progress: Progress, *, unchanged: bool = False) -> GrowableDevice:
        """The disk image with the content of *base*, open for writing; maybe only for reading, if it stays *unchanged*.

        A base that is not a scratch file must be given to :meth:`copy` first.

        Raises:
            OutputError: there is no space for it.
        """

    def finish(self, timestamp: int, progress: Progress) -> None:
        """Make the output from it; *timestamp* (seconds since the epoch) is for formats that store a time.

        Raises:
            OutputError: there is no space for it.
        """


def check_destination(base: Path, destination: Destination) -> Path:
    """Check the destination as far as possible before the job; returns the directory for scratch files.

    Raises:
        OutputError, UsageError: as :func:`working_disk`.
    """
    if destination.path is None:
        _check_in_place(base, destination)
        return _scratch_for(base)
    format_of_name(destination.path)
    _refuse_block_device(destination.path)
    for path in (destination.path, destination.block_map):
        if path is not None:
            check_target(path, destination.overwrite, (base,))
    return destination.path.absolute().parent


@contextmanager
def working_disk(base: Path, destination: Destination, progress: Progress) -> Iterator[Workspace]:
    """A workspace; the output appears under its name when the block succeeds, and nothing is left when it fails.

    Raises:
        OutputError: the destination cannot be written, or exists.
        UsageError: the base cannot be changed in place, or the destination's suffix is that of a format that cannot be written.
    """
    if destination.path is not None:
        with working_file(destination.path, destination, (base,), progress) as workspace:
            yield workspace
        return
    with ExitStack() as stack:
        _check_in_place(base, destination)
        yield _InPlace(base, stack)


@contextmanager
def working_file(
    path: Path, destination: Destination, inputs: tuple[Path, ...], progress: Progress
) -> Iterator[Workspace]:
    """A workspace for the new file *path*, whose base need not be a file.

    Args:
        inputs: files that the job reads; none of them may be the output.
        progress: gets warnings.

    Raises:
        OutputError, UsageError: as :func:`working_disk`.
    """
    with ExitStack() as stack:
        kind = format_of_name(path)
        paths = [path]
        if destination.block_map is not None:
            if destination.block_map.resolve() == path.resolve():
                raise UsageError(f"the disk image and its block map cannot both be {path}")
            paths.append(destination.block_map)
        parts = stack.enter_context(
            whole_files(
                paths,
                overwrite=destination.overwrite,
                inputs=inputs,
                secrets=destination.secrets,
                progress=progress,
            )
        )
        stack.enter_context(early_writeback(parts[0].path))
        # A stack of its own, so that what is opened in it is closed before the file gets its name.
        with ExitStack() as opened:
            yield _Copy(kind, parts, opened)


class _Copy:
    """A copy of the base in the output's directory."""

    def __init__(self, kind: ImageFormat, parts: tuple[Part, ...], stack: ExitStack) -> None:
        self._part = parts[0]
        self._path = self._part.target
        self._kind = kind
        self._block_map = parts[1].path if len(parts) > 1 else None
        self._stack = stack
        self._copied: Path | None = None
        self._disk: FileDevice | None = None

    @property
    def scratch_dir(self) -> Path:
        return self._path.absolute().parent

    def copy(self, base: OpenedImage, progress: Progress) -> None:
        if base.is_scratch:
            return
        is_result = self._kind is ImageFormat.RAW
        copied = self._part.path if is_result else path_of(self._stack.enter_context(nameless_file(self.scratch_dir)))
        _copy(base.device, copied, self._path, progress, for_good=is_result)
        self._copied = copied

    def start(self, base: OpenedImage, progress: Progress, *, unchanged: bool = False) -> FileDevice:
        if not base.is_scratch:
            if self._copied is None:
                raise ValueError("the base was not copied")
            copy = self._copied
        elif self._kind is ImageFormat.RAW:
            self._part.adopt(base.device.fileno())
            copy = self._part.path
        else:
            copy = path_of(base.device.fileno())
        self._disk = self._stack.enter_context(FileDevice(copy, writable=True, name=str(self._path)))
        # A padded base gets its zeros at the end.
        self._disk.extend(base.device.size)
        return self._disk

    def finish(self, timestamp: int, progress: Progress) -> None:
        disk = self._disk
        if disk is None:
            raise ValueError("nothing was started")
        name = member_name(self._path)
        if self._block_map is not None:
            step = progress.begin("writing the block map")
            write_block_map(disk.fileno(), disk.size, name, self._block_map)
            step.end()
        if self._kind is not ImageFormat.RAW:
            with self._part.path.open("wb") as target:
                write_image(
                    disk.fileno(),
                    disk.size,
                    target.fileno(),
                    Encoding(self._kind, name, timestamp=timestamp),
                    progress=progress,
                )


class _InPlace:
    """The base itself, which is restored if anything fails."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._path = path
        self._stack = stack

    @property
    def scratch_dir(self) -> Path:
        return _scratch_for(self._path)

    def copy(self, base: OpenedImage, progress: Progress) -> None:
        """Does nothing: whether a copy is needed depends on the plan."""

    def start(self, base: OpenedImage, progress: Progress, *, unchanged: bool = False) -> GrowableDevice:
        if unchanged:
            # No copy is needed.
            return base.device
        if self._path.is_block_device():
            return self._stack.enter_context(undoing(self._path, self.scratch_dir, progress))
        step = progress.begin("keeping a copy of the disk image")
        path = self._stack.enter_context(in_place(self._path, progress=progress))
        step.end()
        disk = self._stack.enter_context(FileDevice(path, writable=True, name=str(self._path)))
        disk.extend(base.device.size)
        return disk

    def finish(self, timestamp: int, progress: Progress) -> None:
        return


def _refuse_block_device(path: Path) -> None:
    if path.is_block_device():
        raise OutputError(
            f"cannot write {path}: it is a block device, and the result is a file. Make a file and write that to the device "
            f"(with bmaptool, say); or, if {path} holds the disk image already, change it there: --in-place with {path} as the "
            "base"
        )


def _scratch_for(path: Path) -> Path:
    return scratch_directory() if path.is_block_device() else path.resolve().parent


def _check_in_place(path: Path, destination: Destination) -> None:
    if destination.block_map is not None:
        raise UsageError("a block map is for a disk image that is made, not for one that is changed in place")
    if path.is_block_device():
        check_unused(path)
    with FileDevice(path) as device:
        kind = format_of_content(device)
    if kind is not ImageFormat.RAW:
        raise UsageError(f"{path} is {kind}-compressed, so it cannot be changed in place; name an output with -o")


def _copy(base: FileDevice, copy: Path, output: Path, progress: Progress, *, for_good: bool) -> None:
    step = progress.begin("copying the disk image", base.size)
    target = os.open(copy, os.O_RDWR | os.O_CLOEXEC)
    try:
        copy_sparse(base.fileno(), target, progress=step.advance, for_good=for_good)
    except OSError as error:
        # A full disk, for which whole_file makes the message; a file too large for the file system; a failing disk.
        raise OutputError(f"cannot write {output}, a copy of {base.name}: {error.strerror}") from error
    finally:
        os.close(target)
    step.end()
