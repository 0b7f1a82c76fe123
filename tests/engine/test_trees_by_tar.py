"""Any tree, packed by Python's tarfile or by GNU tar, through drypoint into ext4, and read back by the kernel: equal."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from drypoint.disk import FileDevice
from drypoint.fstree import Directory, Metadata
from drypoint.layers import LayerReader
from drypoint.samples.layers import file_capability
from drypoint.sinks.ext4 import Ext4Sink
from drypoint.stores.overlay2 import apply_changes
from tests.support.ext4_images import judge_ext4, make_ext4
from tests.support.mounts import mounted

pytestmark = pytest.mark.needs("mkfs.ext4", "e2fsck", "mount", "losetup", "tar", root=True)

NOW = 1_700_000_000
QUARTER = 250_000_000
CAPABILITY = "security.capability"
KINDS = ("file", "directory", "symlink", "hard link", "fifo", "device")


@dataclass(frozen=True, slots=True)
class Node:
    """One thing to make; ``place`` chooses its directory, and a hard link's target, among what was made before."""

    kind: str
    place: int
    name: bytes
    mode: int
    uid: int
    gid: int
    mtime: int
    content: bytes
    hole: int
    xattrs: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the kernel says about one path; ``names`` are all that share its inode."""

    mode: int
    owner: tuple[int, int]
    mtime: int
    device: int
    data: bytes
    xattrs: tuple[tuple[str, bytes], ...]
    names: tuple[bytes, ...]


names = (
    st.one_of(
        st.binary(min_size=1, max_size=30),
        st.binary(min_size=90, max_size=255),
        st.text("ab", min_size=1).map(str.encode),
    )
    .filter(lambda name: not {b"/", b"\0"} & {name[at : at + 1] for at in range(len(name))})
    .filter(lambda name: name not in (b".", b"..") and len(name) < 256 and not name.startswith(b".wh."))
)
owners = st.one_of(st.integers(0, 70_000), st.integers(0, (1 << 32) - 2))
xattrs = st.dictionaries(
    st.one_of(
        st.sampled_from(["user.a", "user.b", "trusted.c", "security.d"]),
        st.text("xyz", min_size=1).map("user.".__add__),
    ),
    st.binary(min_size=1, max_size=300),
    max_size=3,
).map(lambda found: tuple(sorted(found.items())))
nodes = st.builds(
    Node,
    kind=st.sampled_from(KINDS),
    place=st.integers(0, 1000),
    name=names,
    mode=st.integers(0, 0o7777),
    uid=owners,
    gid=owners,
    # Quarters of a second are exact in tarfile's floating-point times.
    mtime=st.integers(0, 4 * ((1 << 32) - 1)).map(QUARTER.__mul__),
    content=st.binary(max_size=3000),
    hole=st.sampled_from([0, 0, 5000, 200_000]),
    xattrs=xattrs,
)


def make_tree(root: Path, wanted: list[Node], *, with_xattrs: bool) -> None:
    top = os.fsencode(root)
    directories, files = [top], list[bytes]()
    made: list[tuple[bytes, Node]] = []
    for node in wanted:
        path = directories[node.place % len(directories)] + b"/" + node.name
        if os.path.lexists(path) or len(path) > 3500:
            continue
        match node.kind:
            case "directory":
                os.mkdir(path)  # noqa: PTH102
                directories.append(path)
            case "file":
                write_file(path, node)
                files.append(path)
            case "symlink":
                os.symlink(node.content.replace(b"\0", b"") or b"nowhere", path)  # noqa: PTH211
            case "fifo":
                os.mkfifo(path)
            case "device":
                os.mknod(
                    path, stat.S_IFCHR if node.hole else stat.S_IFBLK, os.makedev(node.uid % 4000, node.gid % 4000)
                )
            case "hard link":
                # To files only: tarfile writes two symbolic links for two names of one.
                if files:
                    os.link(files[node.place % len(files)], path)
                continue
        made.append((path, node))
    # Deepest first, since times of directories change with what is put into them; owner before mode, which it changes.
    for path, node in reversed(made):
        os.chown(path, node.uid, node.gid, follow_symlinks=False)
        if node.kind != "symlink":
            os.chmod(path, node.mode)  # noqa: PTH101
        if with_xattrs and node.kind in ("file", "directory"):
            for name, value in node.xattrs:
                os.setxattr(path, name, value)
            if node.kind == "file" and node.hole:
                os.setxattr(path, CAPABILITY, file_capability(13))
        os.utime(path, ns=(node.mtime, node.mtime), follow_symlinks=False)


def write_file(path: bytes, node: Node) -> None:
    with open(path, "wb") as file:
        file.write(node.content)
        file.seek(node.hole, os.SEEK_CUR)
        file.write(node.content[:100])
        file.truncate()


def look_at(root: Path) -> dict[bytes, Seen]:
    top = os.fsencode(root)
    inodes: dict[int, list[bytes]] = defaultdict(list)
    found: list[tuple[bytes, os.stat_result]] = []
    for path in paths_below(top):
        status = os.lstat(path)
        found.append((path, status))
        inodes[status.st_ino].append(path.removeprefix(top))
    return {
        path.removeprefix(top): Seen(
            status.st_mode,
            (status.st_uid, status.st_gid),
            status.st_mtime_ns,
            status.st_rdev,
            data_of(path, status),
            tuple(
                (name, os.getxattr(path, name, follow_symlinks=False))
                for name in sorted(os.listxattr(path, follow_symlinks=False))
            ),
            tuple(sorted(inodes[status.st_ino])),
        )
        for path, status in found
    }


def paths_below(directory: bytes) -> Iterator[bytes]:
    with os.scandir(directory) as entries:
        for entry in entries:
            yield entry.path
            if entry.is_dir(follow_symlinks=False):
                yield from paths_below(entry.path)


def data_of(path: bytes, status: os.stat_result) -> bytes:
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)  # noqa: PTH115
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            return file.read()
    return b""


def by_tarfile(tar_format: int) -> Callable[[Path, Path], None]:
    def pack(tree: Path, tar: Path) -> None:
        with tarfile.open(tar, "w", format=tar_format, errors="surrogateescape") as writer:
            writer.add(tree, ".")

    return pack


def by_gnu_tar(*options: str) -> Callable[[Path, Path], None]:
    def pack(tree: Path, tar: Path) -> None:
        command = ["tar", "--create", f"--file={tar}", *options, f"--directory={tree}", "."]
        subprocess.run(command, check=True, capture_output=True, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"})

    return pack


XATTRS = ("--xattrs", "--xattrs-include=*")
WRITERS = {
    "tarfile-gnu": (by_tarfile(tarfile.GNU_FORMAT), False),
    "tarfile-pax": (by_tarfile(tarfile.PAX_FORMAT), False),
    "tar-gnu": (by_gnu_tar("--format=gnu"), False),
    "tar-posix": (by_gnu_tar("--format=posix", *XATTRS), True),
    "tar-posix-sparse": (by_gnu_tar("--format=posix", "--sparse", *XATTRS), True),
    "tar-sparse-0.0": (by_gnu_tar("--format=posix", "--sparse", "--sparse-version=0.0", *XATTRS), True),
    "tar-sparse-0.1": (by_gnu_tar("--format=posix", "--sparse", "--sparse-version=0.1", *XATTRS), True),
}


def read_in_pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 16):
            yield piece


@pytest.mark.parametrize("writer", WRITERS)
@settings(
    max_examples=30,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(wanted=st.lists(nodes, max_size=25))
def test_a_tree_comes_back(writer: str, wanted: list[Node]) -> None:
    pack, with_xattrs = WRITERS[writer]
    with tempfile.TemporaryDirectory(prefix="drypoint-test-") as scratch:
        tree, tar, image = Path(scratch) / "tree", Path(scratch) / "layer.tar", Path(scratch) / "ext4.img"
        tree.mkdir()
        make_tree(tree, wanted, with_xattrs=with_xattrs)
        pack(tree, tar)
        make_ext4(image, 16 << 20, "-T", "default")
        with FileDevice(image, writable=True) as device, Ext4Sink(device, now=NOW) as sink:
            sink.add(Directory(b"diff", Metadata(0o755)))
            with LayerReader(read_in_pieces(tar), "layer") as reader:
                apply_changes(reader, sink, b"diff", NOW * 1_000_000_000)
            sink.finish()
        judge_ext4(image)
        expected = {path: as_engines_leave_it(seen, writer) for path, seen in look_at(tree).items()}
        with mounted(image) as point:
            assert look_at(point / "diff") == expected


def as_engines_leave_it(seen: Seen, writer: str) -> Seen:
    if writer.endswith("gnu"):
        # Such headers have whole seconds only.
        seen = replace(seen, mtime=seen.mtime - seen.mtime % 1_000_000_000)
    if len(seen.names) > 1:
        # GNU tar names no attributes in a hard link's header, and setting the link's owner takes the capability away.
        seen = replace(seen, xattrs=tuple(pair for pair in seen.xattrs if pair[0] != CAPABILITY))
    return seen
