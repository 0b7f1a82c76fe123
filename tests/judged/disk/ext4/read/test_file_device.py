"""A file inside an ext4 file system as a device, read and written in its pieces; judged by e2fsck and debugfs."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.devices import MemoryDevice
from tests.support.ext4_images import ask_debugfs, ask_dumpe2fs, judge_ext4, make_ext4
from tests.support.scattered import INNER, NOW, OFFSET, ScatteredFile

from drypoint.disk import FileDevice, Window
from drypoint.disk.ext4.read import file_device
from drypoint.disk.ext4.read.block_maps import Extent
from drypoint.disk.ext4.read.file_device import Ext4FileDevice, open_ext4_file
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.disk.ext4.write.allocation import Shortage
from drypoint.disk.ext4.write.file_blocks import allocate_file, truncate_file
from drypoint.disk.ext4.write.filesystem import Ext4Filesystem
from drypoint.errors import DiskImageError, FilesystemError, NoSpaceError, ToolError
from drypoint.fstree import Directory, Metadata, Regular
from drypoint.samples.tools import run_tool
from drypoint.sinks import Ext4Sink

pytestmark = pytest.mark.needs("mkfs.ext4", "e2fsck", "debugfs")

MIB = 1 << 20
META = Metadata(0o640, 1000, 1001, 1_600_000_000_000_000_000)
BLOCK = 512


@st.composite
def files(draw: st.DrawFn) -> tuple[list[Extent], int]:
    """Extents that don't overlap, and the file's size."""
    extents: list[Extent] = []
    places = draw(st.permutations(range(1, 9)))
    logical = 0
    for place in places[: draw(st.integers(0, 8))]:
        logical += draw(st.integers(0, 3))
        length = draw(st.integers(1, 4))
        extents.append(Extent(logical, draw(st.sampled_from([0, place * 4, place * 4])), length))
        logical += length
    return extents, draw(st.integers(0, (logical + 2) * BLOCK))


@given(files(), st.data())
@settings(deadline=None)
def test_any_range_is_what_the_extents_say(file: tuple[list[Extent], int], data: st.DataObject) -> None:
    extents, size = file
    outer = MemoryDevice(random.Random(1).randbytes(40 * BLOCK), writable=True)
    whole = bytearray(size)
    for extent in extents:
        if extent.physical:
            start = extent.logical * BLOCK
            part = outer.content[extent.physical * BLOCK :][: extent.length * BLOCK]
            whole[start : start + len(part)] = part[: max(0, size - start)]
    del whole[size:]
    device = Ext4FileDevice(outer, b"f", size, BLOCK, extents)
    offset = data.draw(st.integers(0, size))
    length = data.draw(st.integers(0, size - offset))
    assert device.read(offset, length) == whole[offset : offset + length]
    told = list(device.data_extents(offset, length))
    assert all(offset <= start and start + count <= offset + length for start, count in told)
    assert told == sorted(told)
    shown = bytearray(length)
    for start, count in told:
        shown[start - offset : start - offset + count] = whole[start : start + count]
    assert shown == whole[offset : offset + length]
    new = random.Random(2).randbytes(length)
    if any(place is None for _, _, place in device.runs(offset, length)):
        with pytest.raises(DiskImageError, match="have no blocks to write to"):
            device.write(offset, new)
    else:
        device.write(offset, new)
        whole[offset : offset + length] = new
    assert device.read(0, size) == whole
    with pytest.raises(DiskImageError, match="lie outside"):
        device.read(offset, size - offset + 1)


def test_no_number_of_pieces_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_device, "MAX_EXTENTS", 10)
    extents = [Extent(2 * number, 4 + 2 * number, 1) for number in range(11)]
    with pytest.raises(FilesystemError, match=r"/f in memory has more than 10 extents"):
        Ext4FileDevice(MemoryDevice(bytes(1 << 15)), b"f", 1 << 14, BLOCK, extents)


def test_a_file_in_one_piece_has_a_place(tmp_path: Path) -> None:
    outer = make_ext4(tmp_path / "outer", 8 * MIB, offset=OFFSET)
    content = os.urandom(100_000)
    with FileDevice(outer, writable=True) as disk:
        window = Window(disk, OFFSET, 8 * MIB)
        with Ext4Sink(window, now=NOW) as sink:
            sink.add(Directory(b"opt", META))
            sink.add(Regular(b"opt/x", META, len(content)), [content])
            sink.finish()
        device = open_ext4_file(window, b"opt/x")
        assert device.location is not None
        path, offset = device.location
        with open(path, "rb") as file:
            file.seek(offset)
            assert file.read(len(content)) == content == device.read(0, device.size)
        with pytest.raises(FilesystemError, match=r"there is no file /opt/y in .*outer"):
            open_ext4_file(window, b"opt/y")
        with pytest.raises(FilesystemError, match=r"/opt in .*outer .* is not a regular file"):
            open_ext4_file(window, b"opt")


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """16 MiB, of which some lie here and there."""
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        for number in range(0, 16, 3):
            file.seek(number * MIB + 5000)
            file.write(os.urandom(300_000))
        file.truncate(16 * MIB + 777)
    return path


@pytest.mark.parametrize("options", [(), ("-b", "1024"), ("-O", "^extents,^64bit", "-b", "2048")])
def test_what_debugfs_wrote_in_pieces_is_read(tmp_path: Path, sparse: Path, options: tuple[str, ...]) -> None:
    scattered = ScatteredFile(tmp_path / "outer", sparse, *options)
    with scattered.opened(allocated=False) as device:
        assert device.location is None
        assert device.pieces > 20
        assert digest(device.read(0, device.size)) == digest(sparse.read_bytes())
        held = sum(length for _, length in device.data_extents(0, device.size))
        assert held < 3 * MIB


@pytest.mark.parametrize("options", [(), ("-b", "1024"), ("-O", "^metadata_csum,^64bit"), ("-O", "^flex_bg")])
def test_holes_get_blocks_and_the_file_grows(tmp_path: Path, sparse: Path, options: tuple[str, ...]) -> None:
    scattered = ScatteredFile(tmp_path / "outer", sparse, *options)
    size = 24 * MIB + 5
    held = scattered.path.stat().st_blocks
    with scattered.opened(allocated=False) as device:
        before = list(device.runs(0, 4 * MIB))
        with FileDevice(scattered.path, writable=True) as disk:
            outer = Window(disk, OFFSET, scattered.size)
            allocate_file(outer, INNER, [(4 * MIB + 1, size - 4 * MIB - 1)], size, now=NOW)
            device = open_ext4_file(outer, INNER)
            assert device.size == size
            assert list(device.runs(0, 4 * MIB)) == before, "the rest stays as it is"
            assert all(place is not None for _, _, place in device.runs(4 * MIB, size - 4 * MIB))
            assert digest(device.read(0, size)) == digest(sparse.read_bytes().ljust(size, b"\0"))
            device.write(size - 3, b"end")
    assert scattered.dump(tmp_path / "dump").read_bytes() == sparse.read_bytes().ljust(size - 3, b"\0") + b"end"
    stat = ask_debugfs(scattered.path, f"stat {INNER.decode()}", offset=OFFSET)
    assert f" mtime: 0x{NOW:08x}" in stat
    assert f" ctime: 0x{NOW:08x}" in stat
    more = scattered.path.stat().st_blocks - held
    assert more * 512 < 200_000, "new blocks are holes of the outer image's file"


def test_new_blocks_read_as_zeros_whatever_was_there(tmp_path: Path, sparse: Path) -> None:
    outer = make_ext4(tmp_path / "outer", 32 * MIB, offset=OFFSET, garbage=True)
    script = f"write {sparse} {INNER.decode()}\nfallocate {INNER.decode()} 256 600\n"
    run_tool("debugfs", "-w", "-f", "-", f"{outer}?offset={OFFSET}", script=script)
    assert "[u]" in ask_debugfs(outer, f"ex {INNER.decode()}", offset=OFFSET) or "Uninit" in ask_debugfs(
        outer, f"ex {INNER.decode()}", offset=OFFSET
    )
    with FileDevice(outer, writable=True) as disk:
        window = Window(disk, OFFSET, 32 * MIB)
        assert digest(open_ext4_file(window, INNER).read(0, 16 * MIB + 777)) == digest(sparse.read_bytes())
        size = 18 * MIB
        allocate_file(window, INNER, [(0, size)], size, now=NOW)
        device = open_ext4_file(window, INNER)
        assert all(place is not None for _, _, place in device.runs(0, size))
        assert digest(device.read(0, size)) == digest(sparse.read_bytes().ljust(size, b"\0"))
    judge_ext4(outer, offset=OFFSET)


@pytest.mark.parametrize("size", [0, 5 * MIB + 123, 15 * MIB, 16 * MIB + 777, 20 * MIB])
def test_a_file_is_cut(tmp_path: Path, sparse: Path, size: int) -> None:
    scattered = ScatteredFile(tmp_path / "outer", sparse)
    whole = sparse.read_bytes()
    free = free_blocks(scattered)
    with FileDevice(scattered.path, writable=True) as disk:
        outer = Window(disk, OFFSET, scattered.size)
        held = sum(length for _, length, place in open_ext4_file(outer, INNER).runs(0, len(whole)) if place is not None)
        truncate_file(outer, INNER, size, now=NOW)
        device = open_ext4_file(outer, INNER)
        kept = sum(length for _, length, place in device.runs(0, device.size) if place is not None)
    assert scattered.dump(tmp_path / "dump").read_bytes() == whole[:size]
    assert free_blocks(scattered) - free >= (held - kept) // 4096
    with FileDevice(scattered.path, writable=True) as disk:
        outer = Window(disk, OFFSET, scattered.size)
        allocate_file(outer, INNER, [], 6 * MIB, now=NOW)
    dumped = scattered.dump(tmp_path / "dump2").read_bytes()
    assert dumped == whole[:size].ljust(6 * MIB, b"\0"), "nothing comes back"


def free_blocks(scattered: ScatteredFile) -> int:
    return int(ask_dumpe2fs(scattered.path, offset=OFFSET)["Free blocks"])


def test_without_room_nothing_changes(tmp_path: Path, sparse: Path) -> None:
    scattered = ScatteredFile(tmp_path / "outer", sparse, size=32 * MIB)
    before = digest(scattered.path.read_bytes())
    with FileDevice(scattered.path, writable=True) as disk:
        outer = Window(disk, OFFSET, scattered.size)
        with pytest.raises(NoSpaceError, match="has no free block"):
            allocate_file(outer, INNER, [(0, 64 * MIB)], 64 * MIB, now=NOW)
        with pytest.raises(FilesystemError, match=r"there is no regular file b'lost\+found'"):
            allocate_file(outer, b"lost+found", [(0, 1)], 1, now=NOW)
    assert digest(scattered.path.read_bytes()) == before


def test_a_file_with_an_old_map_is_refused(tmp_path: Path, sparse: Path) -> None:
    scattered = ScatteredFile(tmp_path / "outer", sparse, "-O", "^extents,^64bit")
    with pytest.raises(FilesystemError, match="is mapped without extents, and so can neither grow"):
        with scattered.opened():
            pass


@pytest.fixture
def inner(tmp_path: Path) -> Path:
    return make_ext4(tmp_path / "inner", 16 * MIB)


def tree(count: int) -> list[tuple[Directory | Regular, bytes | None]]:
    items: list[tuple[Directory | Regular, bytes | None]] = [(Directory(b"many", META), None)]
    for number in range(count):
        content = b"%d\n" % number * (number % 50)
        items.append((Regular(b"many/%05d" % number, META, len(content)), content))
    large = random.Random(3).randbytes(5 * MIB)
    items.append((Regular(b"large", Metadata(0o600, xattrs=((b"user.x", b"y" * 900),)), len(large)), large))
    return items


def write(sink: Ext4Sink, items: list[tuple[Directory | Regular, bytes | None]]) -> None:
    for entry, content in items:
        sink.add(entry, None if content is None else [content])


def same_as_in_one_piece(work: Path, scattered: ScatteredFile, plain: Path) -> None:
    """What was written in pieces is byte for byte what is written to the same file system in a file of its own."""
    dumped = scattered.dump(work / "dump")
    judge_ext4(dumped)
    assert digest(dumped.read_bytes()) == digest(plain.read_bytes())


@pytest.mark.parametrize("options", [(), ("-b", "1024"), ("-O", "^metadata_csum,^64bit"), ("-t", "ext3")])
def test_a_tree_is_written_and_removed(tmp_path: Path, options: tuple[str, ...]) -> None:
    plain = make_ext4(tmp_path / "inner", 16 * MIB, *options)
    scattered = ScatteredFile(tmp_path / "outer", plain)

    def work(device: FileDevice | Ext4FileDevice) -> None:
        with Ext4Sink(device, now=NOW) as sink:
            write(sink, tree(300))
            sink.finish()
        with Ext4Sink(device, now=NOW) as sink:
            sink.remove(b"many/00007")
            sink.remove(b"large")
            sink.amend(b"many", Metadata(0o700, 5, 6))
            sink.finish()

    with scattered.opened() as device:
        work(device)
        assert Ext4Reader(device).lookup(b"many/00008") is not None
    with FileDevice(plain, writable=True) as whole:
        work(whole)
    same_as_in_one_piece(tmp_path, scattered, plain)


def test_10_000_files(tmp_path: Path, inner: Path) -> None:
    run_tool("mkfs.ext4", "-q", "-F", "-N", "12000", inner)
    scattered = ScatteredFile(tmp_path / "outer", inner)
    items = [item for item in tree(10_000) if item[0].path != b"large" and (item[1] is None or len(item[1]) < 100)]
    with scattered.opened() as device, Ext4Sink(device, now=NOW) as sink:
        write(sink, items)
        sink.finish()
    with FileDevice(inner, writable=True) as whole, Ext4Sink(whole, now=NOW) as sink:
        write(sink, items)
        sink.finish()
    same_as_in_one_piece(tmp_path, scattered, inner)


def test_a_full_file_system_grows_and_the_work_goes_on(tmp_path: Path, inner: Path) -> None:
    scattered = ScatteredFile(tmp_path / "outer", inner, size=96 * MIB)
    grown: list[Shortage] = []
    content = random.Random(4).randbytes(3 * MIB)
    with scattered.opened() as device:

        def grow(shortage: Shortage) -> Ext4FileDevice:
            """resize2fs on a copy, brought back whole."""
            grown.append(shortage)
            copy = tmp_path / "copy"
            copy.write_bytes(device.read(0, device.size))
            size = 16 * MIB * (len(grown) + 1)
            run_tool("e2fsck", "-fn", copy)
            run_tool("resize2fs", "-f", copy, f"{size >> 10}k")
            with FileDevice(scattered.path, writable=True) as disk:
                allocate_file(Window(disk, OFFSET, scattered.size), INNER, [(0, size)], size, now=NOW)
            larger = open_ext4_file(outer, INNER)
            larger.write(0, copy.read_bytes())
            return larger

        with FileDevice(scattered.path, writable=True) as disk:
            outer = Window(disk, OFFSET, scattered.size)
            device = open_ext4_file(outer, INNER)
            with Ext4Sink(device, now=NOW, on_full=grow) as sink:
                for number in range(8):
                    sink.add(Regular(b"%d" % number, META, len(content)), [content])
                sink.finish()
            reader = Ext4Reader(open_ext4_file(outer, INNER))
            for number in range(8):
                stat = reader.lookup(b"%d" % number)
                assert stat is not None
                assert digest(b"".join(map(bytes, reader.read(stat)))) == digest(content)
    assert grown
    judge_ext4(scattered.dump(tmp_path / "dump"))


class Failing:
    """A device that fails at a certain call."""

    location = None

    def __init__(self, device: Ext4FileDevice, reads: int, writes: int, error: BaseException) -> None:
        self._device = device
        self._left = {"read": reads, "write": writes}
        self._error = error
        self.calls = 0
        self.failed_last = False
        self.name = device.name
        self.size = device.size
        self.data_extents = device.data_extents

    def read(self, offset: int, length: int) -> bytes:
        self._count("read")
        return self._device.read(offset, length)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._count("write")
        self._device.write(offset, data)

    def _count(self, what: str) -> None:
        self.calls += 1
        self._left[what] -= 1
        self.failed_last = self._left[what] < 0
        if self.failed_last:
            raise self._error


@pytest.mark.parametrize("error", [DiskImageError("the disk broke"), KeyboardInterrupt("enough")])
def test_what_the_device_raises_comes_out_again(tmp_path: Path, inner: Path, error: BaseException) -> None:
    scattered = ScatteredFile(tmp_path / "outer", inner)
    never = 1 << 30
    with scattered.opened() as device:
        counted = Failing(device, never, never, error)
        with Ext4Sink(counted, now=NOW) as sink:
            write(sink, tree(3))
            sink.finish()
        assert counted.calls > 20
        for fail_at in range(0, 30, 3):
            for reads, writes in ((fail_at, never), (never, fail_at)):
                failing = Failing(device, reads, writes, error)
                caught = attempt(failing)
                if caught is not None:
                    assert caught is error
                    assert failing.failed_last, "nothing is written or read behind a failure"
                    restored(device, inner)


def attempt(device: Failing) -> BaseException | None:
    """Remove and write a tree; what was raised, if anything."""
    try:
        with Ext4Sink(device, now=NOW) as sink:
            for name in (b"many", b"large"):
                sink.remove(name)
            write(sink, tree(3))
            sink.finish()
    except (DiskImageError, KeyboardInterrupt) as raised:
        return raised
    return None


def restored(device: Ext4FileDevice, inner: Path) -> None:
    """The file system as before, for the next failure."""
    device.write(0, inner.read_bytes())
    with Ext4Sink(device, now=NOW) as sink:
        write(sink, tree(3))
        sink.finish()


def test_a_damaged_file_system_in_pieces_is_refused_by_its_name(tmp_path: Path, inner: Path) -> None:
    scattered = ScatteredFile(tmp_path / "outer", inner)
    with scattered.opened() as device:
        device.write(1024 + 0x78, b"another label")
        with pytest.raises(FilesystemError, match=r"cannot open the file system in /inner\.img in .*outer.*checksum"):
            Ext4Filesystem(device, now=NOW)


def test_the_judge_convicts(tmp_path: Path, inner: Path) -> None:
    scattered = ScatteredFile(tmp_path / "outer", inner)
    with scattered.opened() as device, Ext4Sink(device, now=NOW) as sink:
        write(sink, tree(3))
        sink.finish()
    dumped = scattered.dump(tmp_path / "dump")
    run_tool("debugfs", "-w", "-R", "set_inode_field /many/00001 links_count 3", dumped)
    with pytest.raises(ToolError, match="e2fsck"):
        judge_ext4(dumped)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
