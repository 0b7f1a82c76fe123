"""Writing members to a partition with existing files.

Directories merge, and existing ones keep owner, mode and times. Any other existing file is only replaced if the manifest says
so, or on request. Symbolic links in the partition are never followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, assert_never

from ..errors import FilesystemError
from ..etch.manifest import Injection
from ..etch.reader import Member, Removal, Settlement
from ..fstree import Content, Directory, HardLink, Metadata, Regular, TreeSink, parent_and_name
from ..stores import Store

_PARENT_MODE = 0o755


class InspectableSink(TreeSink, Protocol):
    """A sink that can be queried, also for entries that are not written out yet."""

    def is_directory(self, path: bytes) -> bool | None:
        """Whether *path* is a directory; None if it does not exist. Its parent must be a directory."""


class Injector:
    """Writes members to one partition.

    Args:
        sink: the partition's.
        where: its name in errors.
        injection: its part of the manifest; None without one.
        timestamp: seconds since the epoch, the time of directories that no member names.
        settle: whether a directory counts as complete when members of another one follow; drypoint's own archives say when.
        overwrite: whether existing files may be replaced, and directories get the members' metadata.
        present: the contents of files to merge with, before anything was injected.
        store: merges those files.
    """

    def __init__(
        self,
        sink: InspectableSink,
        where: str,
        injection: Injection | None,
        timestamp: int,
        *,
        settle: bool,
        overwrite: bool,
        present: Mapping[bytes, bytes],
        store: Store,
    ) -> None:
        self._sink = sink
        self._where = where
        self._replace = frozenset() if injection is None else injection.replace
        self._merge = frozenset() if injection is None else injection.merge
        self._timestamp = timestamp
        self._overwrite = overwrite
        self._present = present
        self._store = store
        self._parent = b""
        self._settles = settle

    def take(self, member: Member, content: Content | None) -> None:
        """Write *member*.

        Raises:
            FilesystemError: its path exists, or it cannot be made there.
            NoSpaceError: no space, even after growth.
        """
        try:
            self._before(member)
            self._take(member, content)
        except FilesystemError as error:
            raise FilesystemError(
                f"{self._where}: the member {member.name[:300].decode('utf-8', 'backslashreplace')}: {error}"
            ) from error

    def _before(self, member: Member) -> None:
        for step in member.before:
            match step:
                case Removal(path):
                    self._parent = b""
                    self._sink.remove(path)
                case Settlement(path):
                    self._parent = b""
                    self._sink.settle(path)
                case _:
                    assert_never(step)

    def _take(self, member: Member, content: Content | None) -> None:
        entry = member.entry
        path = entry.path
        if member.amends:
            self._sink.amend(path, member.metadata)
            return
        if not path:
            if self._overwrite:
                self._sink.amend(path, member.metadata)
            return
        self._enter(parent_and_name(path)[0])
        is_directory = self._sink.is_directory(path)
        if is_directory is not None:
            if path in self._merge and isinstance(entry, Regular):
                entry, content = self._merged(entry, content)
                self._sink.remove(path)
            elif path in self._replace:
                self._sink.remove(path)
            elif is_directory and isinstance(entry, Directory):
                if self._overwrite:
                    self._sink.amend(path, entry.metadata)
                return
            else:
                self._make_way(path, entry, is_directory=is_directory)
        if isinstance(entry, HardLink):
            self._check_target(entry)
        self._sink.add(entry, content)

    def _merged(self, entry: Regular, content: Content | None) -> tuple[Regular, Content]:
        if entry.size > self._store.merge_limit:
            raise FilesystemError(f"it has {entry.size} bytes, too many for a {_name(self._store.names_path)}")
        added = b"".join(bytes(piece) for piece in content or ())
        merged = self._store.merge(self._present.get(entry.path, b""), added)
        return Regular(entry.path, entry.metadata, len(merged)), (merged,)

    def _make_way(self, path: bytes, entry: object, *, is_directory: bool) -> None:
        shown = path[:300].decode("utf-8", "backslashreplace")
        if is_directory:
            raise FilesystemError(f"/{shown} is a directory on the partition; only a directory can replace it")
        if not self._overwrite:
            what = "not a directory" if isinstance(entry, Directory) else "there already"
            raise FilesystemError(
                f"/{shown} is {what} on the partition, and the archive's manifest does not say that it is replaced; "
                "remove it from the archive, or inject with --overwrite-files"
            )
        self._sink.remove(path)

    def _check_target(self, link: HardLink) -> None:
        """Check that the target was seen, or existed before: in one pass, links to later members are not possible."""
        missing = link.target == link.path
        above = b""
        for part in link.target.split(b"/"):
            above = above + b"/" + part if above else part
            missing = missing or self._sink.is_directory(above) is None
            if missing:
                break
        if missing:
            raise FilesystemError(
                f"it is a hard link to {link.target[:300]!r}, which is neither before it in the archive nor on the partition; "
                "put the target before the link"
            )

    def _enter(self, parent: bytes) -> None:
        """Create the directory *parent* if it does not exist."""
        if parent == self._parent:
            return
        if self._settles:
            self._leave(parent)
        above = b""
        for part in parent.split(b"/") if parent else ():
            above = above + b"/" + part if above else part
            is_directory = self._sink.is_directory(above)
            if is_directory is None:
                metadata = Metadata(_PARENT_MODE, mtime=self._timestamp * 1_000_000_000)
                self._sink.add(Directory(above, metadata))
            elif not is_directory:
                raise FilesystemError(
                    f"/{above[:300].decode('utf-8', 'backslashreplace')} on the partition is not a directory (a symbolic link "
                    "is not followed); use the path of the link's target"
                )
        self._parent = parent

    def _leave(self, parent: bytes) -> None:
        """Settle the topmost directory that is left: members usually come tree by tree, so that it is complete."""
        old, new = self._parent.split(b"/"), parent.split(b"/")
        same = 0
        while same < min(len(old), len(new)) and old[same] == new[same]:
            same += 1
        if self._parent and same < len(old):
            self._sink.settle(b"/".join(old[: same + 1]))


def _name(path: bytes) -> str:
    return parent_and_name(path)[1].decode("utf-8", "backslashreplace")
