"""Comparison of two engine data roots, path by path, as the judge of what drypoint writes.

The left one is the reference (a real engine wrote it), the right one is judged. Random names do not differ: cache-ids and
links are renamed by the chain-id of their layer first (:mod:`tests.support.oracle_tree`). Needs root, because ``trusted.*``
attributes are invisible to others; both engines must be stopped.
"""

from __future__ import annotations

import gzip
import json
import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from tests.support.oracle_tree import Node, StoreTree, read_store_tree

from drypoint.errors import ToolError

_CHUNK = 1 << 20


class DifferenceKind(Enum):
    """The kinds of difference between two stores; every kind has a test that plants it."""

    MISSING = "missing"
    """Only the reference has the path."""
    EXTRA = "extra"
    """Only the judged store has the path."""
    TYPE = "type"
    MODE = "mode"
    OWNER = "owner"
    SIZE = "size"
    MTIME = "mtime"
    XATTRS = "xattrs"
    DEVICE = "device"
    HARD_LINKS = "hard links"
    """The sets of names of an inode differ."""
    CONTENT = "content"
    TARGET = "target"
    """A symbolic link has another target."""
    JSON = "json"
    """A JSON file has another value; its formatting does not matter."""
    TAR_SPLIT = "tar-split"
    """tar-split.json.gz differs after decompression."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference; ``path`` is in the common naming, ``left`` and ``right`` are what each store has."""

    kind: DifferenceKind
    path: bytes
    left: str
    right: str

    def __str__(self) -> str:
        shown = self.path.decode("utf-8", "backslashreplace") or "."
        return f"{self.kind.value}: {shown}: expected {self.left}, found {self.right}"


def describe(differences: Iterable[Difference], limit: int = 50) -> str:
    """The first *limit* differences as lines, and the number of further ones."""
    lines = [str(difference) for difference in differences]
    if len(lines) > limit:
        lines[limit:] = [f"… and {len(lines) - limit} more"]
    return "\n".join(lines)


def compare_stores(left: Path, right: Path) -> tuple[Difference, ...]:
    """Every difference between the data roots *left* (the reference) and *right*, sorted by path.

    Raises:
        ToolError: the caller is not root.
        OSError: a store cannot be read.
    """
    if os.geteuid() != 0:
        raise ToolError("stores can be compared by root only: trusted.* attributes are hidden from everybody else")
    return tuple(_compare_trees(read_store_tree(left), read_store_tree(right)))


def _compare_trees(left: StoreTree, right: StoreTree) -> Iterator[Difference]:
    for path in sorted(left.nodes.keys() | right.nodes.keys()):
        ours, theirs = left.nodes.get(path), right.nodes.get(path)
        if ours is None or theirs is None:
            kind = DifferenceKind.EXTRA if ours is None else DifferenceKind.MISSING
            yield Difference(kind, path, _type_or_nothing(ours), _type_or_nothing(theirs))
            continue
        if stat.S_IFMT(ours.status.st_mode) != stat.S_IFMT(theirs.status.st_mode):
            yield Difference(DifferenceKind.TYPE, path, _type_name(ours), _type_name(theirs))
            continue
        yield from _compare_inodes(left, right, path, ours, theirs)
        yield from _compare_data(left, right, path, ours, theirs)


def _compare_inodes(left: StoreTree, right: StoreTree, path: bytes, ours: Node, theirs: Node) -> Iterator[Difference]:
    one, other = ours.status, theirs.status
    checks: list[tuple[DifferenceKind, object, object]] = [
        (DifferenceKind.MODE, f"{stat.S_IMODE(one.st_mode):04o}", f"{stat.S_IMODE(other.st_mode):04o}"),
        (DifferenceKind.OWNER, f"{one.st_uid}:{one.st_gid}", f"{other.st_uid}:{other.st_gid}"),
        (DifferenceKind.XATTRS, _xattrs(ours), _xattrs(theirs)),
        (DifferenceKind.HARD_LINKS, left.names_of(path), right.names_of(path)),
    ]
    if stat.S_ISCHR(one.st_mode) or stat.S_ISBLK(one.st_mode):
        checks.append((DifferenceKind.DEVICE, _device(one), _device(other)))
    if left.has_comparable_time(path):
        checks.append((DifferenceKind.MTIME, one.st_mtime_ns, other.st_mtime_ns))
    for kind, expected, found in checks:
        if expected != found:
            yield Difference(kind, path, str(expected), str(found))


def _compare_data(left: StoreTree, right: StoreTree, path: bytes, ours: Node, theirs: Node) -> Iterator[Difference]:
    if stat.S_ISLNK(ours.status.st_mode):
        expected, found = left.symlink_target(path), right.symlink_target(path)
        if expected != found:
            yield Difference(DifferenceKind.TARGET, path, repr(expected), repr(found))
    elif stat.S_ISREG(ours.status.st_mode):
        yield from _compare_files(left, right, path, ours, theirs)


def _compare_files(left: StoreTree, right: StoreTree, path: bytes, ours: Node, theirs: Node) -> Iterator[Difference]:
    name = path.rpartition(b"/")[2]
    if left.is_in_diff(path):
        yield from _compare_bytes(path, ours, theirs)
    elif name == b"tar-split.json.gz":
        yield from _compare_tar_split(path, ours, theirs)
    elif name in (b"cache-id", b"link", b"lower"):
        expected, found = left.renamed_content(path), right.renamed_content(path)
        if expected != found:
            yield Difference(DifferenceKind.CONTENT, path, repr(expected), repr(found))
    elif name == b"repositories.json" or b"/v2metadata-by-diffid/" in path:
        expected_value, found_value = _json_value(ours), _json_value(theirs)
        if expected_value != found_value:
            yield Difference(DifferenceKind.JSON, path, repr(expected_value), repr(found_value))
    elif name != b"lastUpdated":
        # lastUpdated has the time of the call that made it: only its existence is compared.
        yield from _compare_bytes(path, ours, theirs)


def _compare_bytes(path: bytes, ours: Node, theirs: Node) -> Iterator[Difference]:
    if ours.status.st_size != theirs.status.st_size:
        yield Difference(DifferenceKind.SIZE, path, str(ours.status.st_size), str(theirs.status.st_size))
        return
    with open(ours.location, "rb") as left, open(theirs.location, "rb") as right:
        at = _first_difference(left, right)
    if at is not None:
        yield Difference(DifferenceKind.CONTENT, path, "the reference's bytes", f"others from offset {at} on")


def _compare_tar_split(path: bytes, ours: Node, theirs: Node) -> Iterator[Difference]:
    try:
        with gzip.open(ours.location) as left, gzip.open(theirs.location) as right:
            at = _first_difference(left, right)
    except (OSError, EOFError, zlib.error) as error:
        yield Difference(DifferenceKind.TAR_SPLIT, path, "two whole gzip files", f"{type(error).__name__}: {error}")
        return
    if at is not None:
        yield Difference(DifferenceKind.TAR_SPLIT, path, "the reference's records", f"others from offset {at} on")


def _first_difference(left: BinaryIO | gzip.GzipFile, right: BinaryIO | gzip.GzipFile) -> int | None:
    """The offset of the first byte that differs, the end of the shorter stream included; None if they are equal."""
    offset = 0
    while True:
        one, other = left.read(_CHUNK), right.read(_CHUNK)
        if one != other:
            pairs = enumerate(zip(one, other, strict=False))
            return offset + next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
        if not one:
            return None
        offset += len(one)


def _json_value(node: Node) -> object:
    content = Path(os.fsdecode(node.location)).read_bytes()
    try:
        value: object = json.loads(content)
    except ValueError:
        # Malformed JSON that is equal on both sides is not a difference.
        return content
    return value


def _xattrs(node: Node) -> dict[str, bytes]:
    names = os.listxattr(node.location, follow_symlinks=False)
    return {name: os.getxattr(node.location, name, follow_symlinks=False) for name in sorted(names)}


def _device(status: os.stat_result) -> str:
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def _type_name(node: Node) -> str:
    names = {
        stat.S_IFDIR: "directory",
        stat.S_IFREG: "regular file",
        stat.S_IFLNK: "symbolic link",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
        stat.S_IFIFO: "FIFO",
        stat.S_IFSOCK: "socket",
    }
    return names[stat.S_IFMT(node.status.st_mode)]


def _type_or_nothing(node: Node | None) -> str:
    return "nothing" if node is None else _type_name(node)
