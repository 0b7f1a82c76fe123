"""Injecting members of an archive into a FAT partition, which only holds files and directories."""

from __future__ import annotations

from ..errors import FilesystemError
from ..etch import Injection, Member
from ..fstree import Content, Directory, Regular
from ..volumes.fat_volume import FatVolume

MAX_BYTES = 256 << 20
"""The most bytes of all files for one FAT partition, which are held in memory until they are written together."""


class FatInjector:
    """Collects the members for one FAT partition; nothing changes before :meth:`finish`.

    Owners, modes and times are ignored: FAT does not have them, or they do not matter.

    Args:
        where: the partition's name in errors.
        timestamp: seconds since the epoch, the time of new entries.
        overwrite: whether existing files that the manifest does not name may be replaced.
    """

    def __init__(
        self, volume: FatVolume, where: str, injection: Injection | None, timestamp: int, *, overwrite: bool
    ) -> None:
        self._volume = volume
        self._where = where
        self._replace = frozenset() if injection is None else injection.replace
        self._timestamp = timestamp
        self._overwrite = overwrite
        self._files: dict[str, bytes] = {}
        self._directories: dict[str, None] = {}
        self._size = 0

    def take(self, member: Member, content: Content | None) -> None:
        """Add *member*.

        Raises:
            FilesystemError: FAT cannot hold it, or it is too large for memory.
        """
        entry = member.entry
        shown = f"{self._where}: the member {member.name[:300].decode('utf-8', 'backslashreplace')}"
        try:
            path = entry.path.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FilesystemError(f"{shown} has a name that is not UTF-8, which FAT cannot store") from error
        if member.before or member.amends:
            raise FilesystemError(f"{shown} changes an existing file, which is not supported on FAT")
        match entry:
            case Directory():
                if path:
                    self._directories[path] = None
            case Regular():
                self._size += entry.size
                if self._size > MAX_BYTES:
                    raise FilesystemError(
                        f"{shown}: the files for a FAT partition have more than {MAX_BYTES} bytes together"
                    )
                if path in self._files:
                    raise FilesystemError(f"{shown} occurs twice")
                self._files[path] = b"".join(bytes(piece) for piece in content or ())
            case _:
                raise FilesystemError(
                    f"{shown} is a {type(entry).__name__}, which FAT cannot store: only regular files and directories"
                )

    def finish(self) -> None:
        """Write all of it.

        Raises:
            UsageError, DiskImageError: as :meth:`.FatVolume.write`; or a file exists already; or a directory is empty and does
                    not exist yet.
        """
        if not self._overwrite:
            for path in self._files:
                if path.encode("utf-8") not in self._replace and self._exists(path):
                    raise FilesystemError(
                        f"{self._where}: /{path} exists, and the archive's manifest does not say that it is "
                        "replaced; remove it from the archive, or inject with --overwrite-files"
                    )
        if self._files:
            self._volume.write(self._files, timestamp=self._timestamp)
        for path in self._directories:
            if self._volume.list(path) is None:
                raise FilesystemError(
                    f"{self._where}: /{path} is an empty directory, which is not created on FAT; put a file into it"
                )

    def _exists(self, path: str) -> bool:
        parent, _, name = path.rpartition("/")
        listed = self._volume.list(parent) or ()
        return any(entry.name.casefold() == name.casefold() for entry in listed)
