"""The ext4 sink, judged by e2fsck, debugfs and the kernel."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import assert_never

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.ext4_images import ask_debugfs, judge_ext4, make_ext4
from tests.support.mounts import mounted

from drypoint.disk import FileDevice, Window
from drypoint.disk.ext4.write.allocation import Shortage
from drypoint.errors import FilesystemError, NoSpaceError, ToolError
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
)
from drypoint.samples.tools import run_tool
from drypoint.sinks import Ext4Sink

pytestmark = pytest.mark.needs("mkfs.ext4", "e2fsck", "debugfs")

OFFSET = 1 << 20
NOW = 1_700_000_000
MIB = 1 << 20
META = Metadata(0o644, 70_000, 80_000, 1_600_000_000_123_456_789)
DIR = Metadata(0o755, 0, 0, 1_500_000_000_000_000_001)

FEATURES = {
    "default": [],
    "balena": ["-T", "default", "-b", "4096", "-i", "8192"],
    "no-csum": ["-O", "^metadata_csum,^64bit"],
    "uninit-bg": ["-O", "^metadata_csum,uninit_bg"],
    "no-journal": ["-O", "^has_journal"],
    "inode-128": ["-I", "128", "-O", "^metadata_csum"],
    "inode-128-csum": ["-I", "128"],
    "1k": ["-b", "1024"],
    "2k": ["-b", "2048"],
    "no-flex": ["-O", "^flex_bg,^resize_inode"],
    "orphan-file": ["-O", "orphan_file"],
    "csum-seed": ["-O", "metadata_csum_seed"],
    "meta-bg": ["-O", "meta_bg,^resize_inode"],
    "ext3": ["-t", "ext3"],
    "ext2-1k": ["-t", "ext2", "-b", "1024"],
    "no-dir-index": ["-O", "^dir_index"],
    "no-filetype": ["-O", "^filetype"],
    "sparse-super2": ["-O", "sparse_super2"],
}

Content = bytes | None
Item = tuple[Entry, Content]


class Image:
    """A file system inside an image file, and how to work on it."""

    def __init__(self, path: Path, size: int, *options: str, garbage: bool = False) -> None:
        self.path = make_ext4(path, size, *options, offset=OFFSET, garbage=garbage)
        self.size = size

    def write(self, items: Iterable[Item], *, root: bytes = b"") -> None:
        self.edit(lambda sink: put_all(sink, items), root=root)

    def edit(
        self,
        work: Callable[[Ext4Sink], None],
        *,
        root: bytes = b"",
        on_full: Callable[[Shortage], Window] | None = None,
    ) -> None:
        with FileDevice(self.path, writable=True) as device:
            window = Window(device, OFFSET, self.size)
            with Ext4Sink(window, now=NOW, root=root, on_full=on_full) as sink:
                work(sink)
                sink.finish()

    def judge(self) -> None:
        judge_ext4(self.path, offset=OFFSET)

    def ask(self, command: str) -> str:
        return ask_debugfs(self.path, command, offset=OFFSET)

    def digest(self) -> str:
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def put_all(sink: Ext4Sink, items: Iterable[Item]) -> None:
    for entry, content in items:
        sink.add(entry, None if content is None else [content])


def sample_tree(*, large_xattrs: bool = True) -> list[Item]:
    def file(path: bytes, content: bytes, metadata: Metadata = META) -> Item:
        return Regular(path, metadata, len(content)), content

    capability = (b"security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    xattrs = (capability, (b"security.selinux", b"system_u:object_r:bin_t:s0\0"), (b"trusted.overlay.opaque", b"y"))
    bulky = (*xattrs, (b"user.empty", b""), (b"user.much", bytes(range(256)) * 2))
    items: list[Item] = [
        (Directory(b"d", DIR), None),
        file(b"d/empty", b""),
        file(b"d/small", b"hello\n"),
        file(b"d/block", os.urandom(4096)),
        file(b"d/setuid", b"x" * 5000, Metadata(0o4755, 0, 0, 0)),
        file(b"d/huge-owner", b"x", Metadata(0o600, 2**32 - 2, 2**31, 1)),
        file(b"d/1901", b"x", Metadata(0o600, 0, 0, -2_000_000_000_999_999_999)),
        file(b"d/1969", b"x", Metadata(0o600, 0, 0, -1)),
        file(b"d/capability", b"x", Metadata(0o755, 0, 0, 5, (capability,))),
        file(b"d/xattrs", b"x", Metadata(0o755, 0, 0, 5, xattrs)),
        (Directory(b"d/opaque", Metadata(0o750, 1, 2, 3, ((b"trusted.overlay.opaque", b"y"),))), None),
        (Symlink(b"d/fast", META, b"t" * 59), None),
        (Symlink(b"d/slow", META, b"t" * 60), None),
        (Symlink(b"d/slower", META, b"/t" * 500), None),
        (HardLink(b"d/linked", b"d/small"), None),
        (HardLink(b"d/linked-symlink", b"d/slow"), None),
        (CharDevice(b"d/whiteout", META, 0, 0), None),
        (CharDevice(b"d/null", META, 1, 3), None),
        (BlockDevice(b"d/block-device", META, 259, 70_000), None),
        (Fifo(b"d/fifo", META), None),
        (Socket(b"d/socket", META), None),
        file(b"d/" + b"n" * 255, b"x"),
        file(b"d/\xff\xfe\n\x01", b"not UTF-8"),
        (Directory(b"d/deep", DIR), None),
        (Directory(b"d/deep/er", DIR), None),
        file(b"d/deep/er/file", b"y" * 100_001),
    ]
    if large_xattrs:
        items.append(file(b"d/bulky", b"x", Metadata(0o755, 0, 0, 5, bulky)))
        items.append((Directory(b"d/bulky-directory", Metadata(0o755, 0, 0, 5, bulky)), None))
        items.append((Symlink(b"d/bulky-symlink", Metadata(0o777, 0, 0, 5, bulky[:3]), b"target"), None))
    return items


def expected(items: Iterable[Item]) -> dict[bytes, tuple[object, ...]]:
    """What lstat and its like should tell of each path."""
    told: dict[bytes, tuple[object, ...]] = {}
    for entry, content in items:
        match entry:
            case HardLink(path=path, target=target):
                told[path] = told[target]
                continue
            case Regular():
                assert content is not None
                facts: tuple[object, ...] = (stat.S_IFREG, content)
            case Directory():
                facts = (stat.S_IFDIR,)
            case Symlink(target=target):
                facts = (stat.S_IFLNK, target)
            case CharDevice(major=major, minor=minor):
                facts = (stat.S_IFCHR, major, minor)
            case BlockDevice(major=major, minor=minor):
                facts = (stat.S_IFBLK, major, minor)
            case Fifo():
                facts = (stat.S_IFIFO,)
            case Socket():
                facts = (stat.S_IFSOCK,)
            case _:
                assert_never(entry)
        metadata = entry.metadata
        mode = 0o777 if isinstance(entry, Symlink) else metadata.mode
        told[entry.path] = (mode, metadata.uid, metadata.gid, metadata.mtime, dict(metadata.xattrs), *facts)
    return told


def observed(mount_point: Path, *, whole_seconds: bool = False) -> dict[bytes, tuple[object, ...]]:
    """What the kernel tells of each path below *mount_point*, without lost+found."""
    told: dict[bytes, tuple[object, ...]] = {}
    top = os.fsencode(mount_point)
    for directory, directories, files in os.walk(top):
        if directory == top and b"lost+found" in directories:
            directories.remove(b"lost+found")
        for name in directories + files:
            path = directory + b"/" + name
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            facts: tuple[object, ...] = (kind,)
            if kind == stat.S_IFREG:
                facts = (kind, Path(os.fsdecode(path)).read_bytes())
            elif kind == stat.S_IFLNK:
                facts = (kind, os.readlink(path))  # noqa: PTH115  (a Path would tidy the target)
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                facts = (kind, os.major(status.st_rdev), os.minor(status.st_rdev))
            xattrs = {
                os.fsencode(name): os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False)
            }
            told[path[len(top) + 1 :]] = (
                stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, xattrs, *facts
            )  # fmt: skip
    return told


@pytest.mark.parametrize("features", FEATURES)
def test_e2fsck_finds_nothing_to_say_with_any_feature(tmp_path: Path, features: str) -> None:
    image = Image(tmp_path / "image", 32 * MIB, *FEATURES[features])
    items = sample_tree()
    many: list[Item] = [(Fifo(b"many/" + b"%d" % number * 9, META), None) for number in range(2000)]
    image.write([*items, (Directory(b"many", DIR), None), *many])
    image.judge()
    assert "Size: 6" in image.ask("stat d/small")
    assert image.ask("cat d/small") == "hello\n"
    assert "Links: 2" in image.ask("stat d/small")
    # A second time, into directories that are there: one is rewritten, one grows an index.
    again: list[Item] = [(Regular(b"many/again%d" % number, META, 3), b"abc") for number in range(300)]
    image.write([*again, (Directory(b"d/new", DIR), None), (HardLink(b"d/third", b"d/small"), None)])
    image.judge()
    assert "Links: 3" in image.ask("stat d/small")


@pytest.mark.needs("mount", root=True)
@pytest.mark.parametrize("features", ["balena", "1k", "ext3", "uninit-bg", "inode-128"])
def test_the_kernel_reads_what_was_written(tmp_path: Path, features: str) -> None:
    image = Image(tmp_path / "image", 32 * MIB, *FEATURES[features])
    items = sample_tree()
    image.write(items)
    wanted = expected(items)
    # Without room for them in the inode, the file system keeps whole seconds from 1901 to 2038 only.
    if "-I" in FEATURES[features]:
        wanted = {path: (*facts[:3], int(str(facts[3])) // 10**9 * 10**9, *facts[4:]) for path, facts in wanted.items()}
    with mounted(image.path, offset=OFFSET) as mount_point:
        assert observed(mount_point) == wanted
        status = os.lstat(mount_point / "d/small")
        assert status.st_nlink == 2
        assert status.st_atime_ns // 10**9 == META.mtime // 10**9
        assert os.lstat(mount_point / "d").st_nlink == 2 + sum(
            isinstance(entry, Directory) and entry.path.count(b"/") == 1 for entry, _ in items
        )


@pytest.mark.needs("mount", root=True)
def test_posix_acls_and_far_times_are_read_by_the_kernel(tmp_path: Path) -> None:
    acl = bytes.fromhex("0200000001000600ffffffff02000400e803000004000400ffffffff10000400ffffffff20000000ffffffff")
    far = 15_032_385_535 * 10**9
    items: list[Item] = [
        (Regular(b"acl", Metadata(0o640, 0, 0, far - 1, ((b"system.posix_acl_access", acl),)), 0), b""),
        (Directory(b"default", Metadata(0o750, 0, 0, 0, ((b"system.posix_acl_default", acl),))), None),
        (Regular(b"end", Metadata(0o640, 0, 0, far + 5), 0), b""),
        (Regular(b"beginning", Metadata(0o640, 0, 0, -(2**31) * 10**9 - 77), 0), b""),
    ]
    image = Image(tmp_path / "image", 16 * MIB)
    image.write(items)
    image.judge()
    with mounted(image.path, offset=OFFSET) as mount_point:
        assert os.getxattr(mount_point / "acl", "system.posix_acl_access") == acl
        assert os.getxattr(mount_point / "default", "system.posix_acl_default") == acl
        assert os.lstat(mount_point / "acl").st_mtime_ns == far - 1
        assert os.lstat(mount_point / "end").st_mtime_ns == far
        assert os.lstat(mount_point / "beginning").st_mtime_ns == -(2**31) * 10**9


@pytest.mark.needs("mount", root=True)
def test_a_partition_full_of_garbage(tmp_path: Path) -> None:
    options = ["-O", "metadata_csum", "-E", f"nodiscard,lazy_itable_init=1,lazy_journal_init=1,offset={OFFSET}"]
    image = Image(tmp_path / "image", 32 * MIB, *options, garbage=True)
    items = sample_tree()
    image.write(items)
    image.judge()
    with mounted(image.path, offset=OFFSET) as mount_point:
        assert observed(mount_point) == expected(items)


@pytest.mark.needs("mount", "tune2fs", root=True)
@pytest.mark.parametrize("flags", [1, 2])
@pytest.mark.parametrize("algorithm", ["legacy", "half_md4", "tea"])
def test_directory_indexes_of_every_hash(tmp_path: Path, algorithm: str, flags: int) -> None:
    image = Image(tmp_path / "image", 16 * MIB, "-b", "1024", "-O", "^metadata_csum", "-N", "4000")
    run_tool("tune2fs", "-E", f"hash_alg={algorithm}", f"{image.path}?offset={OFFSET}")
    # Signed or unsigned: names with bytes over 127 hash differently.
    run_tool("debugfs", "-w", "-R", f"set_super_value flags {flags}", f"{image.path}?offset={OFFSET}")
    names = [b"\xc3\xa4-%d" % number for number in range(3000)]
    image.write([(Directory(b"d", DIR), None), *((Fifo(b"d/" + name, META), None) for name in names)])
    image.judge()
    with mounted(image.path, offset=OFFSET) as mount_point:
        for name in names:
            assert os.path.lexists(os.fsencode(mount_point) + b"/d/" + name)


@pytest.mark.needs("mount", root=True)
def test_an_xattr_block_that_two_inodes_share(tmp_path: Path) -> None:
    image = Image(tmp_path / "image", 16 * MIB)
    with mounted(image.path, offset=OFFSET, writable=True) as mount_point:
        for name in ("one", "two", "three"):
            (mount_point / name).write_text(name)
            os.setxattr(mount_point / name, "user.shared", b"v" * 700)
    blocks = {re.findall(r"File ACL: (\d+)", image.ask(f"stat {name}"))[0] for name in ("one", "two", "three")}
    assert len(blocks) == 1

    def work(sink: Ext4Sink) -> None:
        sink.remove(b"one")
        sink.amend(b"two", Metadata(0o600, xattrs=((b"user.other", b"w" * 700),)))

    image.edit(work)
    image.judge()
    assert "user.shared (700)" in image.ask("stat three")
    assert "user.other (700)" in image.ask("stat two")
    image.edit(lambda sink: sink.remove(b"three"))
    image.judge()


@pytest.mark.needs("mount", root=True)
@pytest.mark.parametrize("features", ["balena", "1k"])
def test_100_000_entries_in_one_directory(tmp_path: Path, features: str) -> None:
    image = Image(tmp_path / "image", 128 * MIB, *FEATURES[features], "-N", "110000")
    names = [b"%08d-" % (number * 7919) + b"x" * (number % 40) for number in range(100_000)]
    image.write([(Directory(b"d", DIR), None), *((Fifo(b"d/" + name, META), None) for name in names)])
    image.judge()
    with mounted(image.path, offset=OFFSET) as mount_point:
        assert {os.fsencode(path.name) for path in (mount_point / "d").iterdir()} == set(names)
        for name in names[::97]:
            assert stat.S_ISFIFO(os.lstat(os.fsencode(mount_point) + b"/d/" + name).st_mode)
        assert not os.path.lexists(mount_point / "d/absent")
    # The kernel goes on with the index: names are added, and split blocks.
    with mounted(image.path, offset=OFFSET, writable=True) as mount_point:
        for number in range(2000):
            (mount_point / f"d/later-{number}").symlink_to("x")
    image.judge()


def test_more_than_four_extents_in_fragmented_space(tmp_path: Path) -> None:
    image = Image(tmp_path / "image", 24 * MIB, "-b", "4096", "-O", "^has_journal", "-N", "6000")
    image.write([(Directory(b"d", DIR), None)])
    count = 4000

    def fill_and_thin(sink: Ext4Sink) -> None:
        for number in range(count):
            sink.add(Regular(b"d/%d" % number, META, 4096), [b"%04d" % number * 1024])
        for number in range(0, count, 2):
            sink.remove(b"d/%d" % number)

    image.edit(fill_and_thin)
    image.judge()
    free = int(re.findall(r"Free blocks: +(\d+)", image.ask("stats"))[0])
    large = os.urandom((free - 40) * 4096 - 100)
    image.write([(Regular(b"large", META, len(large)), large)])
    image.judge()
    assert image.ask("stat large").count("ETB") > 1
    image.ask(f"dump large {tmp_path / 'out'}")
    assert (tmp_path / "out").read_bytes() == large
    image.ask(f"dump d/1 {tmp_path / 'out'}")
    assert (tmp_path / "out").read_bytes() == b"0001" * 1024
    image.edit(lambda sink: sink.remove(b"large"))
    image.judge()


@pytest.mark.parametrize("features", ["default", "ext2-1k"])
def test_zeros_become_holes_whatever_the_chunks(tmp_path: Path, features: str) -> None:
    digests = []
    content = b"a" * 100 + bytes(300_000) + b"b" * 70_000 + bytes(500_000) + b"end"
    for number, chunk in enumerate((1 << 20, 65536, 4096, 777)):
        image = Image(tmp_path / f"image{number}", 16 * MIB, *FEATURES[features])
        chunks = [content[start : start + chunk] for start in range(0, len(content), chunk)]

        def add(sink: Ext4Sink, chunks: list[bytes] = chunks) -> None:
            sink.add(Regular(b"sparse", META, len(content)), chunks)

        image.edit(add)
        image.judge()
        image.ask(f"dump sparse {tmp_path / 'out'}")
        assert (tmp_path / "out").read_bytes() == content
        digests.append(image.digest())
        sectors = int(re.findall(r"Blockcount: (\d+)", image.ask("stat sparse"))[0])
        assert 3 * 65536 // 512 <= sectors < 4 * 65536 // 512
    assert len(set(digests)) == 1


def test_a_file_of_5_gib_in_a_file_system_of_64_mib(tmp_path: Path) -> None:
    image = Image(tmp_path / "image", 64 * MIB)
    size = 5 << 30
    zeros = memoryview(bytes(8 * MIB))

    def add(sink: Ext4Sink) -> None:
        sink.add(
            Regular(b"sparse", META, size), (b"x" + zeros[1:] if not n else zeros for n in range(size // len(zeros)))
        )

    image.edit(add)
    image.judge()
    assert f"Size: {size}" in image.ask("stat sparse")


def test_equal_work_gives_equal_bytes(tmp_path: Path) -> None:
    def change(sink: Ext4Sink) -> None:
        sink.remove(b"d/deep")
        sink.amend(b"d/small", DIR)

    items = sample_tree()
    digests = []
    for name in ("one", "two"):
        image = Image(tmp_path / name, 16 * MIB)
        image.write(items)
        image.edit(change)
        digests.append(image.digest())
    assert digests[0] == digests[1]


def test_writes_that_take_less_than_they_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [
        *sample_tree(),
        (Regular(b"large", META, MIB), os.urandom(MIB)),
        (Regular(b"small", META, 1), b"1"),
    ]
    whole, halting = (Image(tmp_path / name, 16 * MIB) for name in ("whole", "halting"))
    whole.write(items)
    pwritev, pwrite = os.pwritev, os.pwrite
    cut = 0

    def some(fd: int, parts: list[bytes | memoryview], offset: int) -> int:
        nonlocal cut
        data = b"".join(parts)
        cut += len(data) > 70_000
        return pwritev(fd, [data[:70_000]], offset)

    monkeypatch.setattr(os, "pwritev", some)
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:99_999], offset))
    halting.write(items)
    assert cut
    halting.judge()
    assert halting.digest() == whole.digest()


def test_amend_replaces_metadata_and_xattrs_wholly(tmp_path: Path) -> None:
    image = Image(tmp_path / "image", 16 * MIB)
    image.write(sample_tree())
    before = image.ask("stats")
    new = Metadata(0o1712, 100_000, 5, 1_234_567_890_123_456_789, ((b"user.new", b"n" * 300),))

    def amend(sink: Ext4Sink) -> None:
        sink.add(Directory(b"fresh", DIR), None)
        for path in (b"d/bulky", b"d/bulky-directory", b"d/xattrs", b"d/small", b"fresh", b"d", b""):
            sink.amend(path, new)
        sink.amend(b"d/bulky", Metadata(0o600))

    image.edit(amend)
    image.judge()
    assert before != image.ask("stats")
    for path in ("d/bulky-directory", "d/xattrs", "d/small", "fresh", "d", ""):
        told = image.ask(f"stat /{path}")
        assert re.search(r"Mode: +01712", told), told
        assert re.search(r"User: 100000 +Group: +5\b", told)
        assert f"mtime: {1_234_567_890:#010x}:{123_456_789 << 2:08x}" in told
        assert "user.new (300)" in told
        assert told.count("user.") == 1
        assert "trusted" not in told
    assert "user." not in image.ask("stat d/bulky")


def test_removing_gives_everything_back(tmp_path: Path) -> None:
    image = Image(tmp_path / "image", 32 * MIB)
    image.write([(Directory(b"keep", DIR), None)])

    def counts() -> list[str]:
        return re.findall(r"(?:Free blocks|Free inodes|Directories): +\d+", image.ask("stats"))

    before = counts()
    image.write(sample_tree())
    assert counts() != before
    image.edit(lambda sink: sink.remove(b"d"))
    image.judge()
    assert counts() == before

    # Directories that were never laid out, and hard links that keep the inode.
    def work(sink: Ext4Sink) -> None:
        put_all(sink, sample_tree())
        sink.add(HardLink(b"keep/small", b"d/small"))
        sink.settle(b"d/deep")
        sink.remove(b"d")
        sink.add(Directory(b"d", DIR))

    image.edit(work)
    image.judge()
    assert image.ask("cat keep/small") == "hello\n"
    assert "Links: 1" in image.ask("stat keep/small")


@pytest.mark.parametrize("what", ["blocks", "inodes"])
def test_a_full_file_system_without_growth(tmp_path: Path, what: str) -> None:
    image = Image(tmp_path / "image", 8 * MIB, "-N", "64" if what == "inodes" else "4096")
    with FileDevice(image.path, writable=True) as device, Ext4Sink(Window(device, OFFSET, image.size), now=NOW) as sink:
        items: list[Item] = [(Regular(b"f%d" % number, META, 5000), b"x" * 5000) for number in range(10_000)]
        with pytest.raises(NoSpaceError, match=rf"no room for b'f\d+'.*no free {what[:-1]}"):
            put_all(sink, items)


@pytest.mark.parametrize("what", ["blocks", "inodes"])
def test_a_full_file_system_grows_and_the_work_goes_on(tmp_path: Path, what: str) -> None:
    # Small groups: only a new group brings inodes.
    options = ["-b", "4096", "-g", "2048", "-i", "65536" if what == "inodes" else "4096"]
    image = Image(tmp_path / "image", 8 * MIB, *options)
    shortages: list[Shortage] = []
    length = 100 if what == "inodes" else 50_000

    def grow(shortage: Shortage) -> Window:
        shortages.append(shortage)
        image.judge()
        grown = tmp_path / "grown"
        with open(image.path, "rb") as file:
            file.seek(OFFSET)
            grown.write_bytes(file.read(image.size))
        image.size *= 3
        run_tool("resize2fs", grown, f"{image.size // 1024}k")
        with open(image.path, "r+b") as file:
            file.seek(OFFSET)
            file.write(grown.read_bytes())
        return Window(device, OFFSET, image.size)

    device = FileDevice(image.path, writable=True)
    with device:
        with Ext4Sink(Window(device, OFFSET, image.size), now=NOW, on_full=grow) as sink:
            sink.add(Directory(b"d", DIR))
            for number in range(300):
                sink.add(Regular(b"d/f%d" % number, META, length), [b"%05d" % number * (length // 5)])
            large = os.urandom(5 * MIB)
            sink.add(Regular(b"d/large", META, len(large)), [large])
            sink.finish()
    image.judge()
    assert shortages
    assert all(shortage.inodes if what == "inodes" else shortage.blocks for shortage in shortages[:1])
    for number in (0, 150, 299):
        assert image.ask(f"cat d/f{number}") == f"{number:05d}" * (length // 5)


def test_growth_that_does_not_happen_ends(tmp_path: Path) -> None:
    image = Image(tmp_path / "image", 8 * MIB)

    def refuse(shortage: Shortage) -> Window:
        return Window(device, OFFSET, image.size)

    device = FileDevice(image.path, writable=True)
    with device, Ext4Sink(Window(device, OFFSET, image.size), now=NOW, on_full=refuse) as sink:
        with pytest.raises(NoSpaceError, match=r"no room for b'f'.*did not grow"):
            sink.add(Regular(b"f", META, 9 * MIB), [bytes(9 * MIB)])


XATTR_TOO_LARGE = Metadata(0o644, xattrs=((b"user.large", bytes(5000)),))
XATTR_UNKNOWN = Metadata(0o644, xattrs=((b"odd.name", b"x"),))


@pytest.mark.parametrize(
    ("entry", "content", "message"),
    [
        (Regular(b"none/f", META, 0), b"", "b'none': no such directory"),
        (Regular(b"file/f", META, 0), b"", "b'file' is not a directory"),
        (Regular(b"file", META, 0), b"", "b'file' exists already"),
        (Directory(b"", META), None, "the root of the tree exists already"),
        (Directory(b"lost+found", META), None, r"b'lost\+found' exists already"),
        (Regular(b"short", META, 10), b"123", "b'short': its content ends after 3 of 10 bytes"),
        (Regular(b"long", META, 2), b"123", "b'long': its content is longer than its size of 2 bytes"),
        (Regular(b"large", META, 1 << 50), b"", "b'large': a file of 1125899906842624 bytes is more than"),
        (Regular(b"mute", META, 0), None, "b'mute': a regular file comes with content"),
        (Directory(b"loud", META), b"", "b'loud': a regular file comes with content"),
        (HardLink(b"link", b"absent"), None, "b'absent': no such file or directory"),
        (HardLink(b"link", b"lost+found"), None, "b'link': a directory cannot have a second name"),
        (Regular(b"n" * 256, META, 0), b"", "a name has at most 255 bytes, this one has 256"),
        (Fifo(b"..", META), None, r"no entry can be called b'\.\.'"),
        (Fifo(b"a\0b", META), None, "no entry can be called"),
        (Symlink(b"empty", META, b""), None, "b'empty': a symbolic link's target has 1 to 4095 bytes"),
        (Symlink(b"nul", META, b"a\0b"), None, "b'nul': a symbolic link's target has 1 to 4095 bytes"),
        (Symlink(b"long", META, b"t" * 4096), None, "b'long': a symbolic link's target has 1 to 4095 bytes"),
        (CharDevice(b"device", META, 4096, 0), None, "b'device': device number 4096:0 is outside"),
        (Regular(b"mode", Metadata(0o10000), 0), b"", "b'mode': mode 0o10000, owner 0:0 are out of range"),
        (Regular(b"owner", Metadata(0, 1 << 32), 0), b"", "b'owner': mode 0o0, owner 4294967296:0 are out of range"),
        (Regular(b"xattr", XATTR_TOO_LARGE, 0), b"", "b'xattr': the extended attribute b'user.large' of 5000 bytes does not"),
        (Regular(b"xattr", XATTR_UNKNOWN, 0), b"", "b'xattr': ext4 has no extended attribute b'odd.name'"),
    ],
)  # fmt: skip
def test_what_cannot_be_added_is_refused_by_name(tmp_path: Path, entry: Entry, content: Content, message: str) -> None:
    image = Image(tmp_path / "image", 8 * MIB, "-b", "4096")

    def work(sink: Ext4Sink) -> None:
        sink.add(Regular(b"file", META, 1), [b"x"])
        with pytest.raises(FilesystemError, match=message):
            sink.add(entry, None if content is None else [content])

    image.edit(work)


def test_an_inode_has_at_most_65000_names(tmp_path: Path) -> None:
    image = Image(tmp_path / "image", 16 * MIB, "-b", "4096")

    def work(sink: Ext4Sink) -> None:
        sink.add(Fifo(b"first", META))
        for number in range(64_999):
            sink.add(HardLink(b"%d" % number, b"first"))
        with pytest.raises(FilesystemError, match="b'more': b'first' has 65000 names already"):
            sink.add(HardLink(b"more", b"first"))

    image.edit(work)
    image.judge()


def test_more_subdirectories_than_links(tmp_path: Path) -> None:
    image = Image(tmp_path / "image", 300 * MIB, "-b", "4096", "-N", "66000")
    image.write([(Directory(b"%d" % number, DIR), None) for number in range(65_010)])
    image.judge()
    assert "Links: 1 " in image.ask("stat /")


def test_a_root_below_the_file_system_root(tmp_path: Path) -> None:
    image = Image(tmp_path / "image", 8 * MIB)
    image.write([(Directory(b"docker", DIR), None)])
    image.write([(Directory(b"a", DIR), None), (Regular(b"a/f", META, 2), b"hi")], root=b"docker")
    image.judge()
    assert image.ask("cat docker/a/f") == "hi"


@pytest.mark.parametrize("field", ["links_count 5", "blocks 77", "mode 010644", "size 1"])
def test_the_judge_convicts(tmp_path: Path, field: str) -> None:
    image = Image(tmp_path / "image", 16 * MIB)
    image.write(sample_tree())
    image.judge()
    run_tool("debugfs", "-w", "-R", f"set_inode_field d/setuid {field}", f"{image.path}?offset={OFFSET}")
    with pytest.raises(ToolError, match="e2fsck"):
        image.judge()


@pytest.mark.parametrize("damage", ["rec_len", "checksum"])
def test_a_damaged_directory_is_not_written_to(tmp_path: Path, damage: str) -> None:
    image = Image(
        tmp_path / "image", 16 * MIB, "-b", "4096", "-O", "^metadata_csum" if damage == "rec_len" else "metadata_csum"
    )
    image.write([(Directory(b"d", DIR), None), (Fifo(b"d/f", META), None)])
    block = int(re.findall(r"\(0\):(\d+)", image.ask("stat d"))[0])
    with open(image.path, "r+b") as file:
        file.seek(OFFSET + block * 4096 + 12 + 4)
        file.write(b"\xff\xff")
    with FileDevice(image.path, writable=True) as device, Ext4Sink(Window(device, OFFSET, image.size), now=NOW) as sink:
        with pytest.raises(FilesystemError, match=r"directory (b'd'|inode)"):
            sink.add(Fifo(b"d/g", META))


NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
METADATA = st.builds(
    Metadata,
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 2),
    gid=st.integers(0, 2**32 - 2),
    # A layer brings no time behind 2262; of those from 2310 to 2378 e2fsck says that they stand for times before 1970.
    mtime=st.integers((1 - 2**31) * 10**9, 2**63 - 1),
    xattrs=st.dictionaries(
        st.sampled_from([b"user.a", b"user.bb", b"trusted.overlay.opaque", b"security.ima"]),
        st.binary(max_size=500),
        max_size=3,
    ).map(lambda found: tuple(sorted(found.items()))),
)


@st.composite
def trees(draw: st.DrawFn) -> list[Item]:
    directories: list[bytes] = [b""]
    files: list[bytes] = []
    taken: set[bytes] = set()
    items: list[Item] = []
    for _ in range(draw(st.integers(0, 25))):
        parent = draw(st.sampled_from(directories))
        path = (parent + b"/" if parent else b"") + draw(NAMES)
        if path in taken or path == b"lost+found":
            continue
        taken.add(path)
        metadata = draw(METADATA)
        kind = draw(st.integers(0, 5 if files else 4))
        if kind == 0:
            items.append((Directory(path, metadata), None))
            directories.append(path)
        elif kind == 1:
            content = draw(st.binary(max_size=300)) * draw(st.sampled_from([1, 1, 40, 1000]))
            items.append((Regular(path, metadata, len(content)), content))
            files.append(path)
        elif kind == 2:
            target = draw(st.binary(min_size=1, max_size=200).filter(lambda text: b"\0" not in text))
            items.append((Symlink(path, Metadata(0o777, metadata.uid, metadata.gid, metadata.mtime), target), None))
        elif kind == 3:
            items.append(
                (CharDevice(path, Metadata(0o600), draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1))), None)
            )
        elif kind == 4:
            items.append((Fifo(path, Metadata(metadata.mode, mtime=metadata.mtime)), None))
        else:
            items.append((HardLink(path, draw(st.sampled_from(files))), None))
    return items


@pytest.mark.needs("mount", root=True)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(items=trees(), features=st.sampled_from(["default", "1k", "uninit-bg"]))
def test_any_small_tree_comes_back(tmp_path: Path, items: list[Item], features: str) -> None:
    image = Image(tmp_path / "image", 8 * MIB, *FEATURES[features])
    image.write(items)
    image.judge()
    with mounted(image.path, offset=OFFSET) as mount_point:
        assert observed(mount_point) == expected(items)
