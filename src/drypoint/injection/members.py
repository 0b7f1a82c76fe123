"""What becomes of a member in a partition that holds something already.

A directory over a directory merges, and what is there keeps its owner, mode and times. Anything else that exists is replaced
only where the manifest says so, or on demand. Symbolic links in the partition are never followed.
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
    """A sink that knows what is in it, written out yet or not."""

    def is_directory(self, path: bytes) -> bool | None:
        """Whether what is at *path* is a directory, None for nothing. Its parent is a directory."""


class Injector:
    """Puts members into one partition.

    Args:
        sink: the partition.
        where: how errors call it.
        injection: what the manifest says of it; None without one.
        timestamp: seconds since the epoch, the time of directories that no member names.
        settle: whether a directory counts as complete when members of another come; archives of drypoint's own say when.
        overwrite: whether what exists may be replaced, and directories take the members' metadata.
        present: the contents of the files that members add to, as they were before anything was injected.
        store: knows how those are merged.
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
        """Put *member* in.

        Raises:
            FilesystemError: the partition holds something where it is to go, or it cannot be made there.
            NoSpaceError: no room, after all growing.
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
        """The target has been seen, or was there before: what comes later cannot be linked to in one pass."""
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
        """Directories come as trees, most often: the topmost one that is left is complete, and need not be held."""
        old, new = self._parent.split(b"/"), parent.split(b"/")
        same = 0
        while same < min(len(old), len(new)) and old[same] == new[same]:
            same += 1
        if self._parent and same < len(old):
            self._sink.settle(b"/".join(old[: same + 1]))


def _name(path: bytes) -> str:
    return parent_and_name(path)[1].decode("utf-8", "backslashreplace")
