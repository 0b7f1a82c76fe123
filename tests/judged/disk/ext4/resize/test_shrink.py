"""ext4 cut down by resize2fs: e2fsck, dumpe2fs and the files themselves judge the result."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.devices import OpaqueDisk
from tests.support.ext4_images import ask_dumpe2fs

from drypoint.disk.device import FileDevice, Window
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.disk.ext4.resize import shrink as trim
from drypoint.disk.ext4.resize.geometry import Geometry, read_geometry, trimmed_size
from drypoint.disk.ext4.resize.grow import check_filesystem, grow_filesystem
from drypoint.disk.ext4.resize.shrink import shrink_filesystem
from drypoint.errors import FilesystemError
from drypoint.fstree import Directory, Regular
from drypoint.samples.tools import run_tool

pytestmark = pytest.mark.needs("mkfs.ext4", "debugfs", "dumpe2fs", "e2fsck", "resize2fs")

MIB = 1 << 20
OFFSET = 4 * MIB
STEP = 4 * MIB


def make_image(path: Path, size: int, tree: Path | None = None, options: str = "-b 4096 -i 8192") -> None:
    path.touch()
    os.truncate(path, OFFSET + size)
    words = [*options.split(), "-E", f"offset={OFFSET},lazy_itable_init=0", *(("-d", tree) if tree else ())]
    run_tool("mkfs.ext4", "-q", "-F", *words, path, f"{size >> 10}k")


def make_tree(path: Path, files: int, size: int) -> Path:
    for number in range(files):
        directory = path / f"d{number % 5}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{number}").write_bytes(bytes([number % 251]) * size)
        os.utime(directory / f"f{number}", (10**9 + number, 10**9 + number))
    for directory in (*path.iterdir(), path):
        os.utime(directory, (10**9, 10**9))
    return path


def debugfs(path: Path, commands: str) -> str:
    return run_tool("debugfs", "-w", "-f", "-", f"{path}?offset={OFFSET}", script=commands)


def shrink(path: Path, size: int, least: int = 0, keep: int = 1, inodes: int = 0, *, scattered: bool = False) -> int:
    with FileDevice(path, writable=True) as file:
        device = OpaqueDisk(file) if scattered else file
        return shrink_filesystem(
            device, OFFSET, size, least, path.parent, keep_blocks=keep, keep_inodes=inodes, step=STEP
        )  # fmt: skip


def dumpe2fs(path: Path) -> dict[str, str]:
    return ask_dumpe2fs(path, offset=OFFSET)


def inventory(path: Path, size: int) -> dict[bytes, object]:
    """Every name with its inode's number, metadata and content."""
    with FileDevice(path) as device:
        reader = Ext4Reader(Window(device, OFFSET, size))
        root = reader.lookup(b"")
        assert root is not None
        found: dict[bytes, object] = {}
        pending = [root]
        while pending:
            item = pending.pop()
            content = b"".join(map(bytes, reader.read(item))) if isinstance(item.entry, Regular) else b""
            found[item.entry.path] = (item, hashlib.sha256(content).digest())
            if isinstance(item.entry, Directory):
                pending += reader.children(item.entry)
        return found


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file system of 32 MiB that was grown to 400, of which files take 50 MiB here and there, some at the very end."""
    directory = tmp_path_factory.mktemp("grown")
    path = directory / "disk.img"
    make_image(path, 32 * MIB, make_tree(directory / "tree", 300, 50_000))
    with FileDevice(path, writable=True) as device:
        device.extend(OFFSET + 400 * MIB)
        grow_filesystem(device, OFFSET, 32 * MIB, 400 * MIB, directory)
    # Everything up to the end is taken, and the most of it given back: what stays lies at the end.
    (directory / "filler").write_bytes(b"\1" * (280 * MIB))
    (directory / "last").write_bytes(os.urandom(30 * MIB))
    debugfs(path, f"write {directory}/filler filler\nwrite {directory}/last last\nrm filler\n")
    (directory / "filler").unlink()
    return path


def copy_of(path: Path, directory: Path) -> Path:
    subprocess.run(["cp", "--sparse=always", path, directory / "disk.img"], check=True)
    return directory / "disk.img"


@pytest.mark.parametrize("scattered", [False, True], ids=["one piece", "scattered"])
def test_it_is_cut_and_every_file_stays_what_it_was(grown: Path, tmp_path: Path, scattered: bool) -> None:
    path = copy_of(grown, tmp_path)
    before, size = dumpe2fs(path), 400 * MIB
    files = inventory(path, size)
    new = shrink(path, size, scattered=scattered)
    assert 40 * MIB < new < 120 * MIB
    assert (size - new) % STEP == 0
    with FileDevice(path) as device:
        check_filesystem(device, OFFSET)
        end = OFFSET + int(dumpe2fs(path)["Block count"]) * 4096
        assert device.read(end, OFFSET + new - end).strip(b"\0") == b""
    after = dumpe2fs(path)
    kept = ["Filesystem UUID", "Directory Hash Seed", "Last write time", "Last checked", "Inodes per group"]
    kept += ["Filesystem created", "Filesystem features", "Filesystem state"]
    assert {key: after.get(key) for key in kept} == {key: before.get(key) for key in kept}
    assert int(after["Block count"]) * 4096 <= new
    assert inventory(path, new) == files
    # The partition is cut to it afterwards; then nothing is left to be gained.
    os.truncate(path, OFFSET + new)
    cut = path.read_bytes()
    again = shrink(path, new)
    if again == new:
        assert path.read_bytes() == cut


def test_the_same_input_gives_the_same_bytes(grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        images.append(copy_of(grown, tmp_path / name))
    shrink(images[0], 400 * MIB)
    monkeypatch.setenv("E2FSPROGS_FAKE_TIME", "12345")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    shrink(images[1], 400 * MIB, scattered=True)
    assert images[0].read_bytes() == images[1].read_bytes()


@pytest.mark.parametrize("keep", [1, 1000, 20000, 40000, 70000])
def test_as_much_stays_free_as_was_asked_for(grown: Path, tmp_path: Path, keep: int) -> None:
    path = copy_of(grown, tmp_path)
    new = shrink(path, 400 * MIB, keep=keep, inodes=keep // 10)
    found = dumpe2fs(path)
    assert int(found["Free blocks"]) - int(found["Reserved block count"]) >= keep
    assert int(found["Free inodes"]) >= keep // 10
    if keep >= 1000:
        # And not much more, but for what resize2fs wants to work with.
        assert new <= 400 * MIB
        assert int(found["Free blocks"]) - int(found["Reserved block count"]) <= keep + 24 * MIB // 4096


def test_nothing_changes_when_nothing_is_gained(grown: Path, tmp_path: Path) -> None:
    path = copy_of(grown, tmp_path)
    before = path.stat().st_mtime_ns
    for least, keep, inodes in ((400 * MIB, 1, 0), (397 * MIB, 1, 0), (0, 100_000, 0), (0, 1, 10**6)):
        assert shrink(path, 400 * MIB, least, keep, inodes) == 400 * MIB
    assert path.stat().st_mtime_ns == before
    assert shrink(path, 400 * MIB, 300 * MIB) == 300 * MIB


def test_inodes_keep_their_numbers(grown: Path, tmp_path: Path) -> None:
    """An inode in the last group keeps that group: to move it resize2fs would set the times of its directory."""
    path = copy_of(grown, tmp_path)
    last = int(dumpe2fs(path)["Inode count"])
    debugfs(path, f"mknod late p\nfreei <{last}>\nseti <{last}>\n")
    commands = "\n".join(f"sif <{last}> {field}" for field in ("mode 0100644", "links_count 1", "mtime @1", "ctime @1"))
    debugfs(path, f"{commands}\nln <{last}> /d0/at-the-end\n")
    subprocess.run(["/usr/sbin/e2fsck", "-fy", f"{path}?offset={OFFSET}"], check=False, capture_output=True)
    files = inventory(path, 400 * MIB)
    new = shrink(path, 400 * MIB)
    assert 384 * MIB < new < 400 * MIB
    assert inventory(path, new) == files


def test_a_shortfall_is_found_and_made_up_for(grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that is too small by half must not count: what is free in the copy does."""
    path = copy_of(grown, tmp_path)
    monkeypatch.setattr(trim, "trimmed_size", lambda geometry, groups, blocks, inodes: 200 * MIB)
    new = shrink(path, 400 * MIB, keep=45_000)
    found = dumpe2fs(path)
    assert new > 200 * MIB
    assert int(found["Free blocks"]) - int(found["Reserved block count"]) >= 45_000


def test_a_damaged_file_system_is_refused(grown: Path, tmp_path: Path) -> None:
    path = copy_of(grown, tmp_path)
    debugfs(path, "clri <11>\n")
    with pytest.raises(FilesystemError, match="is damaged, and nothing was changed"):
        shrink(path, 400 * MIB)
    debugfs(path, "ssv state 2\n")
    with pytest.raises(FilesystemError, match="errors on record"):
        shrink(path, 400 * MIB)


@pytest.mark.parametrize(
    "options",
    ["-b 1024", "-b 4096 -O ^64bit,^metadata_csum", "-b 1024 -O meta_bg,^resize_inode", "-b 4096 -O ^flex_bg -m 0",
     "-b 1024 -O none,resize_inode,sparse_super,filetype", "-b 4096 -g 4096"],
)  # fmt: skip
def test_other_layouts(tmp_path: Path, options: str) -> None:
    path = tmp_path / "disk.img"
    make_image(path, 16 * MIB, make_tree(tmp_path / "tree", 100, 20_000), options)
    with FileDevice(path, writable=True) as device:
        device.extend(OFFSET + 160 * MIB)
        grow_filesystem(device, OFFSET, 16 * MIB, 160 * MIB, tmp_path)
    files = inventory(path, 160 * MIB)
    new = shrink(path, 160 * MIB, 16 * MIB, keep=3000)
    assert new < 100 * MIB
    found = dumpe2fs(path)
    assert int(found["Free blocks"]) - int(found["Reserved block count"]) >= 3000
    with FileDevice(path) as device:
        check_filesystem(device, OFFSET)
    assert inventory(path, new) == files


def test_a_scattered_device_grows_as_any_other(tmp_path: Path) -> None:
    one, other = tmp_path / "one.img", tmp_path / "other.img"
    make_image(one, 16 * MIB)
    other.write_bytes(one.read_bytes())
    for path in (one, other):
        with FileDevice(path, writable=True) as file:
            device = file if path is one else OpaqueDisk(file)
            device.extend(OFFSET + 300 * MIB)
            assert grow_filesystem(device, OFFSET, 16 * MIB, 300 * MIB, tmp_path).size == 300 * MIB
            check_filesystem(device, OFFSET)
    assert one.read_bytes() == other.read_bytes()
    debugfs(other, "clri <11>\n")
    with (
        FileDevice(other, writable=True) as file,
        pytest.raises(FilesystemError, match=r"the inner disk image.*damaged"),
    ):
        check_filesystem(OpaqueDisk(file), OFFSET)


@given(st.integers(1, 3), st.integers(0, 30000), st.integers(0, 20000))
def test_the_planned_size_is_never_more_than_there_is(used: int, blocks: int, inodes: int) -> None:
    geometry = Geometry(
        block_size=4096, blocks_count=90000, reserved_blocks=4000, free_blocks=60000, inodes_count=24576, free_inodes=20000,
        first_data_block=0, blocks_per_group=32768, inodes_per_group=8192, inode_size=256, descriptor_size=64,
        reserved_gdt_blocks=7, first_meta_bg=0, last_write=1, needs_recovery=False, is_clean=True,
            feature_compat=1 << 4, feature_incompat=1 << 7,
        feature_ro_compat=1,
    )  # fmt: skip
    size = trimmed_size(geometry, used, blocks, inodes)
    assert size <= geometry.size
    assert size > (used - 1) * 32768 * 4096
    assert trimmed_size(replace(geometry, feature_ro_compat=1 << 9), used, blocks, inodes) == geometry.size


def test_geometry_of_a_copy(grown: Path) -> None:
    with FileDevice(grown) as device:
        assert read_geometry(Window(device, OFFSET, 400 * MIB)).size == 400 * MIB
