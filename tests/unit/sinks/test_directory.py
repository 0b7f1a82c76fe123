from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from drypoint.errors import FilesystemError
from drypoint.fstree import (
    BlockDevice,
    CharDevice,
    Directory,
    Entry,
    Fifo,
    HardLink,
    Metadata,
    Regular,
    Socket,
    Symlink,
    TreeSink,
)
from drypoint.samples.layers import file_capability
from drypoint.sinks.directory import DirectorySink

CAPABILITY = ((b"security.capability", file_capability(13)),)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices take root")


@needs_root
def test_writes_every_kind_of_entry_with_all_its_metadata(tmp_path: Path) -> None:
    time = 1_600_000_000_123_456_789
    with DirectorySink(tmp_path) as writer:
        sink: TreeSink = writer
        sink.add(Directory(b"d", Metadata(0o2555, 70_000, 80_000, time, ((b"trusted.overlay.opaque", b"y"),))))
        sink.add(Regular(b"d/f", Metadata(0o6755, 1000, 1000, time, CAPABILITY), 5), [b"he", b"llo"])
        sink.add(HardLink(b"d/h", b"d/f"))
        sink.add(Symlink(b"d/s", Metadata(0o777, 5, 6, -1_500_000_000, ((b"trusted.note", b"1"),)), b"/etc/passwd"))
        sink.add(CharDevice(b"d/c", Metadata(0o666, 0, 3, time), 1, 3))
        sink.add(BlockDevice(b"d/b", Metadata(0o660, 0, 6, time), 259, 300_000))
        sink.add(Fifo(b"d/p", Metadata(0o600, 1, 1, time)))
        sink.add(Socket(b"d/k", Metadata(0o700, 1, 1, time)))
        sink.add(Directory(b"d/caf\xe9", Metadata(0o700, mtime=time)))
        sink.settle(b"d")
        sink.amend(b"", Metadata(0o711, mtime=7_000_000_001))
        sink.finish()

    found = (tmp_path / "d").lstat()
    assert (found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns) == (0o42555, 70_000, 80_000, time)
    assert os.getxattr(tmp_path / "d", "trusted.overlay.opaque") == b"y"
    found = (tmp_path / "d/f").lstat()
    assert (found.st_mode, found.st_uid, found.st_nlink, found.st_mtime_ns) == (0o106755, 1000, 2, time)
    assert (tmp_path / "d/h").read_bytes() == b"hello"
    assert os.getxattr(tmp_path / "d/h", "security.capability") == file_capability(13)
    found = (tmp_path / "d/s").lstat()
    assert (stat.S_ISLNK(found.st_mode), found.st_uid, found.st_gid) == (True, 5, 6)
    assert found.st_mtime_ns == -1_500_000_000
    assert (tmp_path / "d/s").readlink() == Path("/etc/passwd")
    assert os.getxattr(tmp_path / "d/s", "trusted.note", follow_symlinks=False) == b"1"
    found = (tmp_path / "d/c").lstat()
    assert (found.st_mode, found.st_rdev) == (stat.S_IFCHR | 0o666, os.makedev(1, 3))
    found = (tmp_path / "d/b").lstat()
    assert (found.st_mode, found.st_rdev) == (stat.S_IFBLK | 0o660, os.makedev(259, 300_000))
    assert stat.S_ISFIFO((tmp_path / "d/p").lstat().st_mode)
    assert stat.S_ISSOCK((tmp_path / "d/k").lstat().st_mode)
    assert os.fsdecode(b"caf\xe9") in {path.name for path in (tmp_path / "d").iterdir()}
    found = tmp_path.lstat()
    assert (found.st_mode & 0o7777, found.st_mtime_ns) == (0o711, 7_000_000_001)


def test_no_symbolic_link_is_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"old")
    root = tmp_path / "root"
    root.mkdir()
    plain = Metadata(0o600)
    with DirectorySink(root, ownership=False) as sink:
        sink.add(Symlink(b"way", Metadata(0o777), b"../outside"))
        sink.add(Symlink(b"file", Metadata(0o777), b"../outside/victim"))
        entries: list[Entry] = [Regular(b"way/x", plain, 1), Regular(b"file", plain, 1), Directory(b"way/d", plain)]
        for entry in [*entries, HardLink(b"stolen", b"way/victim"), Regular(b"../outside/x", plain, 1)]:
            with pytest.raises(FilesystemError):
                sink.add(entry, [b"x"] if isinstance(entry, Regular) else None)
        with pytest.raises(FilesystemError):
            sink.amend(b"way/victim", plain)
        with pytest.raises(FilesystemError):
            sink.remove(b"way/victim")
        sink.amend(b"file", Metadata(0o777, mtime=5))
        sink.remove(b"way")
        sink.finish()
    assert [path.name for path in outside.iterdir()] == ["victim"]
    assert (outside / "victim").read_bytes() == b"old"
    assert (outside / "victim").stat().st_mtime_ns != 5
    assert (root / "file").lstat().st_mtime_ns == 5


@pytest.mark.parametrize(
    ("entry", "content", "says"),
    [
        (Regular(b"no/f", Metadata(0o600), 0), None, "no/f: No such file"),
        (Directory(b"taken", Metadata(0o700)), None, "taken: File exists"),
        (Regular(b"taken", Metadata(0o600), 0), None, "taken: File exists"),
        (Regular(b"f", Metadata(0o600), 2), [b"abc"], "expected 2 bytes of content, got more"),
        (Regular(b"f", Metadata(0o600), 4), [b"abc"], "expected 4 bytes of content, got only 3"),
        (Directory(b"f", Metadata(0o600)), [b""], "not a regular file"),
        (Directory(b"", Metadata(0o600)), None, "root of the tree"),
        (Directory(b"taken/..", Metadata(0o600)), None, "not a clean path"),
        (HardLink(b"f", b"absent"), None, "f: No such file"),
    ],
)
def test_refuses(tmp_path: Path, entry: Entry, content: list[bytes] | None, says: str) -> None:
    with DirectorySink(tmp_path, ownership=False) as sink:
        sink.add(Directory(b"taken", Metadata(0o700)))
        with pytest.raises(FilesystemError, match=says):
            sink.add(entry, content)


def test_removes_a_tree_and_amends_attributes(tmp_path: Path) -> None:
    with DirectorySink(tmp_path, ownership=False) as sink:
        sink.add(Directory(b"d", Metadata(0o700)))
        sink.add(Directory(b"d/e", Metadata(0o700)))
        sink.add(Regular(b"d/e/f", Metadata(0o600), 0))
        sink.remove(b"d")
        sink.add(Regular(b"d", Metadata(0o600, xattrs=((b"user.a", b"1"), (b"user.b", b"2"))), 0))
        sink.amend(b"d", Metadata(0o640, mtime=9, xattrs=((b"user.b", b"3"),)))
        sink.finish()
    assert os.listxattr(tmp_path / "d") == ["user.b"]
    assert os.getxattr(tmp_path / "d", "user.b") == b"3"
    assert (tmp_path / "d").stat().st_mtime_ns == 9


def test_more_directories_than_descriptors_are_kept(tmp_path: Path) -> None:
    with DirectorySink(tmp_path, ownership=False) as sink:
        for number in range(200):
            sink.add(Directory(b"%03d" % number, Metadata(0o750, mtime=number)))
        for number in range(200):
            sink.add(Regular(b"%03d/f" % number, Metadata(0o600), 0))
        sink.finish()
        assert len(list(Path("/proc/self/fd").iterdir())) < 150
    assert [(tmp_path / f"{number:03}").stat().st_mtime_ns for number in range(200)] == list(range(200))


def test_the_root_must_be_a_directory(tmp_path: Path) -> None:
    with pytest.raises(FilesystemError, match="cannot open the directory"):
        DirectorySink(tmp_path / "absent")


@needs_root
def test_a_user_is_told_what_takes_root(nobodys_directory: Path) -> None:
    script = f"""
import os, sys
sys.path[:] = {sys.path!r}
from pathlib import Path
from drypoint.errors import FilesystemError
from drypoint.fstree import CharDevice, Metadata, Regular
from drypoint.sinks.directory import DirectorySink
os.setgid(65534); os.setuid(65534)
for entry, ownership in ((Regular(b"f", Metadata(0o600), 0), True), (CharDevice(b"c", Metadata(0o600), 1, 3), False)):
    with DirectorySink(Path({str(nobodys_directory)!r}), ownership=ownership) as sink:
        try:
            sink.add(entry)
        except FilesystemError as error:
            print(error)
with DirectorySink(Path({str(nobodys_directory)!r}), ownership=False) as sink:
    sink.add(Regular(b"mine", Metadata(0o600, 5, 5), 0))
    sink.finish()
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert "/f: Operation not permitted; owners, devices" in lines[0]
    assert "/c: Operation not permitted; owners, devices" in lines[1]
    assert (nobodys_directory / "mine").stat().st_uid == 65534
