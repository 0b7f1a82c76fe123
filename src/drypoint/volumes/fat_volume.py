"""A FAT file system as a volume: whole files, read and written through mtools."""

from __future__ import annotations

from collections.abc import Mapping

from ..disk import Device
from ..disk.fat.files import FatEntry, list_fat_directory, read_fat_file, write_fat_files


class FatVolume:
    """The FAT file system that fills *window*; *number* is its partition's. Paths are from its root, ``splash/logo.png``."""

    def __init__(self, window: Device, number: int) -> None:
        self.window = window
        self.number = number

    def read(self, path: str, limit: int) -> bytes | None:
        """The content of the file *path*; None if there is none.

        Raises:
            FilesystemError: the file system is damaged, or the file has more than *limit* bytes.
            ToolError: mtools is missing.
        """
        return read_fat_file(self.window, path, limit)

    def list(self, path: str = "") -> tuple[FatEntry, ...] | None:
        """The entries of the directory *path*; None if there is none.

        Raises:
            FilesystemError: the file system is damaged.
            ToolError: mtools is missing.
        """
        return list_fat_directory(self.window, path)

    def write(self, files: Mapping[str, bytes], *, timestamp: int) -> None:
        """Write *files*, content by path: all of them or none. *timestamp* in seconds since the epoch.

        Raises:
            NoSpaceError: there is no space for them.
            FilesystemError: the file system is damaged.
            UsageError: a path is not valid on FAT.
            ToolError: mtools is missing.
        """
        write_fat_files(self.window, files, timestamp=timestamp)
