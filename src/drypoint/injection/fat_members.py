"""Members of an archive into a FAT partition: files and directories, which is all that it holds."""

from __future__ import annotations

from ..errors import FilesystemError
from ..etch import Injection, Member
from ..fstree import Content, Directory, Regular
from ..volumes.fat_volume import FatVolume

MAX_BYTES = 256 << 20
"""How long the files for one FAT partition may be together: they are held until all are there, and then written at once."""


class FatInjector:
    """Gathers what goes into one FAT partition; nothing changes before :meth:`finish`.

    Owners, modes and times are passed over: FAT has none, or none that count.

    Args:
        where: how errors call it.
        timestamp: seconds since the epoch, the time of what is made.
        overwrite: whether files that are there may be replaced that the manifest does not name.
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
        """Note *member*.

        Raises:
            FilesystemError: FAT cannot hold it, or it is too large to be held here.
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
            UsageError, DiskImageError: as :meth:`.FatVolume.write`; a file is there already; a directory is
                empty, and not there yet.
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
