"""Compare a layer's directory on the disk with what its tar unpacks to."""

from __future__ import annotations

from collections.abc import Iterator

from ..concurrency.tasks import Cancelled, current
from ..fstree import (
    BlockDevice,
    CharDevice,
    Directory,
    HardLink,
    Metadata,
    Regular,
    Stat,
    Symlink,
    join,
)
from .expectation import ANY_TIME, Expectation, ExpectedInode, Inode
from .finding import Finding, finding
from .tree import LayerTree

MAX_FINDINGS = 1000
"""Most findings reported for one layer; one more says that there are others."""

_KIND_NAMES: dict[type, str] = {
    Regular: "regular file",
    Symlink: "symbolic link",
    CharDevice: "character device",
    BlockDevice: "block device",
}
_OPAQUE = b"trusted.overlay.opaque"
_KERNEL_MARKS = frozenset(
    space + b".overlay." + name for space in (b"trusted", b"user") for name in (b"uuid", b"impure", b"origin")
)
"""What overlayfs sets for itself where a layer is mounted for writing; ``user.`` with its option userxattr. Its other
attributes (opaque, redirect, metacopy, protattr, whiteout) change what is visible. Source: Linux, fs/overlayfs/overlayfs.h."""
_SECOND = 1_000_000_000
_LATEST_TIMES = ((1 << 31) - 1, (1 << 34) - (1 << 31) - 1)
_EARLIEST_TIME = -(1 << 31)
_SUMMED_UP = {
    "shortened-time": "times are shortened to what the file system, or the program that made it, can store",
    "overlay-mark": "extended attributes are marks of the kernel's overlayfs",
}
"""Kinds that are reported once per layer, since every file can have one."""


def compare(tree: LayerTree, expectation: Expectation) -> Iterator[Finding]:
    """The differences of *tree* from *expectation*, which is consumed.

    Raises:
        FilesystemError: the tree cannot be read.
    """
    count = 0
    summed_up: dict[str, tuple[int, bytes]] = {}
    diff = tree.diff
    for one in _differences(tree, expectation):
        if one.code in _SUMMED_UP:
            times, first = summed_up.get(one.code, (0, one.path))
            summed_up[one.code] = (times + 1, first)
            continue
        count += 1
        if count > MAX_FINDINGS:
            yield finding("more-findings", diff, f"more than {MAX_FINDINGS} differences; the rest is not listed")
            return
        yield one
    for code, (times, first) in summed_up.items():
        yield finding(code, diff, f"{times} {_SUMMED_UP[code]}; the first at {first!r}")


def _differences(tree: LayerTree, expectation: Expectation) -> Iterator[Finding]:
    diff = tree.diff
    identities = _Identities()
    missing = expectation.inodes
    task = current()
    for relative, stat in tree.walk():
        # An attribute, not a call: this runs for each entry.
        if task.cancelled:
            raise Cancelled
        # Removed when found: what remains is missing, and memory is freed on the way.
        expected = missing.pop(relative, None)
        if expected is None:
            yield _extra(stat)
            continue
        found, wanted = stat.entry, expected.entry
        # Fast path: nearly all are unchanged regular files with one name.
        if not (expected.names == stat.links == 1 and identities.is_new(stat, expected)):
            yield from identities.check(stat, expected)
        if not (
            type(found) is type(wanted) is Regular and found.size == wanted.size and found.metadata == wanted.metadata
        ):
            yield from _entry(stat, wanted)
    for relative in sorted(missing):
        entry = missing[relative].entry
        if isinstance(entry, CharDevice) and (entry.major, entry.minor) == (0, 0):
            yield finding(
                "lost-whiteout", join(diff, relative), "the layer's tar has a whiteout here, but it is missing"
            )
        else:
            yield finding("missing-entry", join(diff, relative), f"the layer's tar has a {_kind(entry)} here")


class _Identities:
    """Checks that exactly those names share an inode that share one in the tar."""

    def __init__(self) -> None:
        # Inodes of files with one name, a bit each: there are many, and most are adjacent.
        self._single: dict[int, int] = {}
        self._inode_of: dict[int, int] = {}
        self._expected_of: dict[int, ExpectedInode] = {}

    def is_new(self, stat: Stat, expected: ExpectedInode) -> bool:
        """Record the inode of *expected*, which must have one name; whether no earlier name had it."""
        place, bit = _place_of(stat.inode)
        seen = self._single.get(place, 0)
        if seen & bit or stat.inode in self._expected_of:
            return False
        self._single[place] = seen | bit
        return True

    def check(self, stat: Stat, expected: ExpectedInode) -> Iterator[Finding]:
        if isinstance(stat.entry, Directory):
            return
        # id() identifies expected inodes: all exist before the first call.
        if self._inode_of.setdefault(id(expected), stat.inode) != stat.inode:
            yield finding(
                "broken-hard-link", stat.entry.path, "it is a file of its own, but a hard link in the layer's tar"
            )
        elif self._is_of_another(stat.inode, expected):
            yield finding(
                "extra-hard-link",
                stat.entry.path,
                f"it shares inode {stat.inode} with a file that is another in the tar",
            )
        elif stat.links > expected.names:
            yield finding(
                "extra-hard-link",
                stat.entry.path,
                f"inode {stat.inode} has {stat.links} names, but {expected.names} in the layer's tar",
            )

    def _is_of_another(self, inode: int, expected: ExpectedInode) -> bool:
        place, bit = _place_of(inode)
        if self._single.get(place, 0) & bit:
            return True
        return self._expected_of.setdefault(inode, expected) is not expected


def _place_of(inode: int) -> tuple[int, int]:
    """The position of *inode* in a set of inode numbers: the word, of many bits, and the bit in it."""
    return inode >> 10, 1 << (inode & 0x3FF)


def _extra(stat: Stat) -> Finding:
    entry = stat.entry
    if isinstance(entry, CharDevice) and (entry.major, entry.minor) == (0, 0):
        return finding("extra-whiteout", entry.path, "it is a whiteout, but no entry of the layer's tar makes one here")
    return finding("extra-entry", entry.path, f"no entry of the layer's tar makes this {_kind(entry)}")


def _entry(stat: Stat, expected: Inode) -> Iterator[Finding]:
    found = stat.entry
    if isinstance(found, HardLink):
        raise TypeError("a reader never gives a hard link")
    path = found.path
    if type(found) is not type(expected):
        yield finding("changed-kind", path, f"it is a {_kind(found)}, but a {_kind(expected)} in the layer's tar")
        return
    match found, expected:
        case Regular(), Regular():
            if found.size != expected.size:
                yield finding("changed-size", path, f"it has {found.size} bytes, but {expected.size} in the tar")
        case Symlink(), Symlink():
            if found.target != expected.target:
                yield finding("changed-target", path, f"it points to {found.target!r}, not to {expected.target!r}")
        case CharDevice(), CharDevice():
            yield from _numbers(path, (found.major, found.minor), (expected.major, expected.minor))
        case BlockDevice(), BlockDevice():
            yield from _numbers(path, (found.major, found.minor), (expected.major, expected.minor))
        case _:
            pass
    yield from _metadata(path, found.metadata, expected.metadata)


def _numbers(path: bytes, found: tuple[int, int], expected: tuple[int, int]) -> Iterator[Finding]:
    if found != expected:
        yield finding("changed-device", path, f"it is device {found[0]}:{found[1]}, not {expected[0]}:{expected[1]}")


def _metadata(path: bytes, found: Metadata, expected: Metadata) -> Iterator[Finding]:
    if found.mode != expected.mode:
        yield finding("changed-mode", path, f"its mode is {found.mode:04o}, not {expected.mode:04o}")
    if (found.uid, found.gid) != (expected.uid, expected.gid):
        yield finding(
            "changed-owner", path, f"it belongs to {found.uid}:{found.gid}, not to {expected.uid}:{expected.gid}"
        )
    if expected.mtime not in (ANY_TIME, found.mtime):
        code = "shortened-time" if is_shortened(found.mtime, expected.mtime) else "changed-time"
        yield finding(code, path, f"its time is {found.mtime} ns since 1970, not {expected.mtime}")
    if found.xattrs != expected.xattrs:
        yield from _xattrs(path, dict(found.xattrs), dict(expected.xattrs))


def is_shortened(found: int, expected: int) -> bool:
    """Whether *found* is *expected* as stored by a file system, or by mke2fs -d, that lacks nanoseconds or years."""
    seconds, rest = divmod(found, _SECOND)
    if rest:
        return False
    wanted = expected // _SECOND
    # mke2fs -d of e2fsprogs 1.47.0 keeps the lower 32 bits, which are read back as signed.
    kept = ((wanted + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
    return (
        seconds in (wanted, kept)
        or (seconds in _LATEST_TIMES and wanted > seconds)
        or wanted < seconds == _EARLIEST_TIME
    )


def _xattrs(path: bytes, found: dict[bytes, bytes], expected: dict[bytes, bytes]) -> Iterator[Finding]:
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            code = "lost-opaque" if name == _OPAQUE else "missing-xattr"
            yield finding(code, path, f"the extended attribute {name!r} is missing")
        elif name not in expected:
            code = "overlay-mark" if name in _KERNEL_MARKS else "extra-xattr"
            yield finding(code, path, f"the layer's tar has no extended attribute {name!r}")
        elif found[name] != expected[name]:
            yield finding("changed-xattr", path, f"the extended attribute {name!r} has another value than in the tar")


def _kind(entry: object) -> str:
    return _KIND_NAMES.get(type(entry), type(entry).__name__.lower())
