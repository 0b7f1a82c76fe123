"""Files in a FAT partition, through mtools, which needs neither root nor a mount.

Names are matched without regard to case, as in FAT, and keep their case on the disk.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

import msgspec

from ...errors import FilesystemError, NoSpaceError, UsageError
from ..device import Device, FileDevice
from ..host.scratch import copy_out, nameless_file, opened_in_one_piece, path_of, scratch_directory
from .allocation_table import free_clusters, read_fat_table
from .chains import check_chains
from .mtools import Outcome, run_mtools
from .paths import check_fat_path, fold_fat_path

_MAX_LISTING = 4 << 20
_CHUNK = 1 << 20
_PIECE = 4096
# The range of times in a directory entry: 1980 to 2107.
_EARLIEST, _LATEST = 315532800, 4354819198
_FULL = ("No free cluster", "No space left", "Disk full", "No directory slots")


_NO_SPACE = os.strerror(errno.ENOSPC)


class FatEntry(msgspec.Struct, frozen=True):
    """A name in a directory, in its spelling on the disk."""

    name: str
    is_directory: bool


def read_fat_file(device: Device, path: str, limit: int) -> bytes | None:
    """The content of the file *path* (``a/b.json``, from the root) of the FAT file system that fills *device*, or None.

    Raises:
        FilesystemError: the file is larger than *limit* bytes, or mtools cannot read the file system.
        ToolError: mtools is not installed, or does not end in time.
    """
    with opened_in_one_piece(device) as image:
        return _read(device, image, path, limit)


def list_fat_directory(device: Device, path: str = "") -> tuple[FatEntry, ...] | None:
    """The entries of the directory *path* (``a/b``, empty for the root), in the order on the disk; None if it does not exist.

    Raises:
        FilesystemError: mtools cannot read the file system, or the directory is endless.
        ToolError: mtools is not installed, or does not end in time.
    """
    with opened_in_one_piece(device) as image:
        return _list(device, image, path)


def write_fat_file(device: Device, path: str, content: bytes, *, timestamp: int) -> None:
    """Write one file to the FAT file system that fills *device*; see :func:`write_fat_files`."""
    write_fat_files(device, {path: content}, timestamp=timestamp)


def write_fat_files(device: Device, files: Mapping[str, bytes], *, timestamp: int) -> None:
    """Write *files*, contents by path from the root, to the FAT file system that fills *device*: all of them, or none.

    An existing file is replaced and keeps the spelling of its name; one that has the content already stays as it is;
    missing directories are created. All is done and read back on an unnamed copy of the partition; then only what differs
    is written to the device. New entries get *timestamp* (seconds since the epoch, UTC, in FAT's steps of two seconds from
    1980 on). A name of up to eight characters, and three after a dot, with letters beyond ASCII is stored in FAT's short
    form, which does not keep their case.

    Raises:
        UsageError: a path is not valid on FAT, or two differ only in case.
        NoSpaceError: the file system, or its root directory, has no space for them.
        FilesystemError: it is not FAT, is damaged, or has a directory in the place of a file, or a file in that of a directory.
        ToolError: mtools is not installed, or does not end in time.
    """
    for path in files:
        check_fat_path(path)
    if len({fold_fat_path(path) for path in files}) != len(files):
        raise UsageError("two of the files for the FAT file system have the same path but for upper and lower case")
    with nameless_file(scratch_directory()) as fd:
        copy_out(device, 0, device.size, fd)
        with FileDevice(path_of(fd), name=device.name) as copy:
            _Writing(copy, min(max(timestamp, _EARLIEST), _LATEST)).write(files)
            _bring_back(copy, device)


class _Writing:
    """Writes files to the copy."""

    def __init__(self, copy: FileDevice, timestamp: int) -> None:
        self._copy = copy
        self._image = (copy.fileno(), 0)
        self._timestamp = timestamp
        self._table = read_fat_table(copy)
        check_chains(copy, self._table)
        self._listings: dict[str, dict[str, FatEntry]] = {}

    def write(self, files: Mapping[str, bytes]) -> None:
        wanted: dict[str, bytes] = {}
        new_directories: dict[str, None] = {}
        for path, content in files.items():
            spelled, exists = self._resolve(path, new_directories)
            if exists and _read_if_not_longer(self._image, spelled, len(content)) == content:
                continue
            wanted[spelled] = content
            if exists:
                # This frees its clusters, so that the free ones can be counted: an empty file has none.
                self._put(spelled, b"")
        self._check_room(wanted, len(new_directories))
        for directory in new_directories:
            self._check(run_mtools("mmd", self._image, f"::/{directory}", timestamp=self._timestamp), directory)
        for path, content in wanted.items():
            self._put(path, content)
        self._check_written(wanted)

    def _resolve(self, path: str, new_directories: dict[str, None]) -> tuple[str, bool]:
        """*path* in its spelling on the disk, and whether the file exists; missing directories go to *new_directories*."""
        *directories, name = path.split("/")
        place = ""
        for directory in directories:
            found = self._listing(place).get(fold_fat_path(directory))
            if found is not None and not found.is_directory:
                raise FilesystemError(
                    f"{self._copy.name}: {place}{found.name} is a file, but {path} needs a directory there"
                )
            if found is None:
                found = FatEntry(directory, is_directory=True)
                self._listing(place)[fold_fat_path(directory)] = found
                new_directories[f"{place}{directory}"] = None
                self._listings[f"{place}{directory}/"] = {}
            place = f"{place}{found.name}/"
        found = self._listing(place).get(fold_fat_path(name))
        if found is not None and found.is_directory:
            raise FilesystemError(f"{self._copy.name}: {place}{found.name} is a directory, but a file is to go there")
        if found is None:
            self._listing(place)[fold_fat_path(name)] = FatEntry(name, is_directory=False)
        return f"{place}{name if found is None else found.name}", found is not None

    def _listing(self, place: str) -> dict[str, FatEntry]:
        if place not in self._listings:
            self._listings[place] = self._names(place)
        return self._listings[place]

    def _names(self, place: str) -> dict[str, FatEntry]:
        return {fold_fat_path(entry.name): entry for entry in _list(self._copy, self._image, place.rstrip("/")) or ()}

    def _check_room(self, wanted: Mapping[str, bytes], directories: int) -> None:
        table = self._table
        free = free_clusters(self._copy, table)
        needed = sum(table.clusters_for(len(content)) for content in wanted.values()) + directories
        if needed > free:
            raise NoSpaceError(
                f"the FAT file system of {self._copy.name} has {free * table.cluster_size} bytes free, and {', '.join(wanted)} "
                f"need {needed * table.cluster_size}; remove files there that are not needed, or give smaller ones"
            )

    def _put(self, path: str, content: bytes) -> None:
        with nameless_file(scratch_directory()) as fd:
            with open(fd, "r+b", closefd=False) as file:
                file.write(content)
                file.seek(0)
            self._check(run_mtools("mcopy", self._image, "-", f"::/{path}", stdin=fd, timestamp=self._timestamp), path)

    def _check(self, outcome: Outcome, path: str) -> None:
        if any(text in outcome.said for text in _FULL):
            raise NoSpaceError(
                f"the FAT file system of {self._copy.name} has no space for {path}: mtools says {outcome.said[-200:]!r}; "
                "remove files there that are not needed"
            )
        if outcome.status != 0:
            # Of the host, which has the copy.
            cause = OSError(errno.ENOSPC, _NO_SPACE) if _NO_SPACE in outcome.said else None
            raise FilesystemError(
                f"{path} cannot be written to the FAT file system of {self._copy.name}: mtools says {outcome.said[-500:]!r}"
            ) from cause

    def _check_written(self, wanted: Mapping[str, bytes]) -> None:
        """Read back what was written: mtools may fail with status 0, and a name may be another file's short alias."""
        for path, content in wanted.items():
            if _read_if_not_longer(self._image, path, len(content)) != content:
                raise FilesystemError(
                    f"{path} does not read back from the FAT file system of {self._copy.name} as written"
                )
        for place, expected in self._listings.items():
            if self._names(place).keys() != expected.keys():
                raise FilesystemError(
                    f"writing to the FAT file system of {self._copy.name} changes other names in /{place}: it is damaged"
                )
        check_chains(self._copy, read_fat_table(self._copy))


def _bring_back(copy: FileDevice, device: Device) -> None:
    """Write to *device* the chunks in which *copy* differs."""
    for start, size in copy.data_extents(0, copy.size):
        for offset in range(start, start + size, _CHUNK):
            length = min(_CHUNK, start + size - offset)
            new, old = copy.read(offset, length), device.read(offset, length)
            if new == old:
                continue
            for piece in range(0, length, _PIECE):
                if new[piece : piece + _PIECE] != old[piece : piece + _PIECE]:
                    device.write(offset + piece, new[piece : piece + _PIECE])


def _read(device: Device, image: tuple[int, int], path: str, limit: int) -> bytes | None:
    outcome = run_mtools("mcopy", image, f"::/{path}", "-", limit=limit)
    if len(outcome.output) > limit:
        raise FilesystemError(f"{path} in the FAT file system of {device.name} has more than {limit} bytes")
    if outcome.status == 0:
        return outcome.output
    if "not found" in outcome.said:
        return None
    raise _unreadable(device, "mcopy", outcome)


def _read_if_not_longer(image: tuple[int, int], path: str, length: int) -> bytes | None:
    outcome = run_mtools("mcopy", image, f"::/{path}", "-", limit=length)
    return outcome.output if outcome.status == 0 and len(outcome.output) <= length else None


def _list(device: Device, image: tuple[int, int], path: str) -> tuple[FatEntry, ...] | None:
    outcome = run_mtools("mdir", image, "-a", "-b", f"::/{path}/" if path else "::/", limit=_MAX_LISTING)
    if len(outcome.output) > _MAX_LISTING:
        raise FilesystemError(
            f"the directory /{path} in the FAT file system of {device.name} is endless: it is damaged"
        )
    if outcome.status != 0:
        if "not found" in outcome.said:
            return None
        raise _unreadable(device, "mdir", outcome)
    start = len(f"::/{path}/") if path else len("::/")
    names = (line[start:] for line in outcome.output.decode(errors="replace").split("\n") if line)
    return tuple(FatEntry(name.rstrip("/"), name.endswith("/")) for name in names if name)


def _unreadable(device: Device, program: str, outcome: Outcome) -> FilesystemError:
    return FilesystemError(
        f"the FAT file system of {device.name} cannot be read: {program} says {outcome.said[-500:]!r}"
    )
