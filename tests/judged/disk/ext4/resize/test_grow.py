"""Growth of ext4 by resize2fs, judged by e2fsck and dumpe2fs; the planned size judged by what really is free afterwards."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.devices import MemoryDevice
from tests.support.ext4_images import ask_dumpe2fs

from drypoint.disk.device import FileDevice, Window
from drypoint.disk.ext4.resize import grow as resize
from drypoint.disk.ext4.resize.geometry import Geometry, capacity_at, needed_size, read_geometry
from drypoint.disk.ext4.resize.grow import check_filesystem, grow_filesystem
from drypoint.disk.host.tools import find_tool
from drypoint.errors import DiskImageError, DrypointError, FilesystemError, OutputError, ToolError

MIB = 1 << 20
KIB = 1 << 10
OFFSET = 4 * MIB
BALENA = "-T default -b 4096 -i 8192 -E lazy_itable_init=0,lazy_journal_init=0"


def run(*command: str) -> str:
    environment = {**os.environ, "LC_ALL": "C", "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def make_image(
    path: Path, size: int, options: str = BALENA, *, offset: int = OFFSET, label: str = "resin-data"
) -> None:
    """A disk image with an ext4 of *size* bytes at *offset*, behind and before which other bytes lie."""
    path.unlink(missing_ok=True)
    path.touch()
    os.truncate(path, offset + size)
    extra = f"offset={offset}"
    words = options.split()
    if "-E" in words:
        words[words.index("-E") + 1] += f",{extra}"
    else:
        words += ["-E", extra]
    run("mkfs.ext4", "-q", "-F", "-L", label, *words, str(path), f"{size // KIB}k")
    with path.open("r+b") as file:
        file.write(b"before" * 100)


def dumpe2fs(path: Path, offset: int = OFFSET) -> dict[str, str]:
    return ask_dumpe2fs(path, offset=offset)


def grow(path: Path, old_size: int, new_size: int, offset: int = OFFSET) -> Geometry:
    with FileDevice(path, writable=True) as device:
        device.extend(offset + new_size)
        return grow_filesystem(device, offset, old_size, new_size, path.parent)


def geometry_of(path: Path, size: int, offset: int = OFFSET) -> Geometry:
    with FileDevice(path) as device:
        return read_geometry(Window(device, offset, size))


def test_the_file_system_grows_and_nothing_else_changes(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    tree = tmp_path / "tree"
    (tree / "docker").mkdir(parents=True)
    for index in range(200):
        (tree / "docker" / f"file{index}").write_bytes(os.urandom(5000))
    make_image(path, 64 * MIB, f"{BALENA} -d {tree}")
    before = dumpe2fs(path)
    with path.open("r+b") as file:
        file.truncate(OFFSET + 600 * MIB + 4 * MIB)
        file.seek(OFFSET + 600 * MIB)
        file.write(b"behind")
        # Garbage in what becomes the file system's: where resize2fs expects zeros there must be zeros.
        for position in range(64, 600, 8):
            file.seek(OFFSET + position * MIB)
            file.write(b"garbage" * 10000)
    geometry = grow(path, 64 * MIB, 600 * MIB)
    after = dumpe2fs(path)
    assert geometry.size == 600 * MIB == int(after["Block count"]) * 4096
    with FileDevice(path) as device:
        check_filesystem(device, OFFSET)
    kept = ["Filesystem UUID", "Filesystem volume name", "Directory Hash Seed", "Last write time", "Last checked"]
    kept += ["Filesystem features", "Inodes per group", "Filesystem created", "Filesystem state"]
    assert {key: after.get(key) for key in kept} == {key: before.get(key) for key in kept}
    assert None not in {after.get(key) for key in kept}
    with path.open("rb") as file:
        assert file.read(12) == b"beforebefore"
        file.seek(OFFSET + 600 * MIB)
        assert file.read(6) == b"behind"
    content = subprocess.run(
        ["/usr/sbin/debugfs", "-R", "cat /docker/file199", f"{path}?offset={OFFSET}"], capture_output=True, check=True
    ).stdout
    assert content == (tree / "docker" / "file199").read_bytes()
    assert "ITABLE_ZEROED" in run("dumpe2fs", f"{path}?offset={OFFSET}").split("Group 3:")[1].split("Group 4:")[0]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["disk.img", "tree"]


def test_garbage_is_cleared_to_the_last_byte(tmp_path: Path) -> None:
    clean, dirty = tmp_path / "clean.img", tmp_path / "dirty.img"
    make_image(clean, 16 * MIB)
    dirty.write_bytes(clean.read_bytes())
    with dirty.open("r+b") as file:
        file.seek(OFFSET + 16 * MIB)
        file.write(b"\xa5" * (24 * MIB))
    grow(clean, 16 * MIB, 40 * MIB)
    grow(dirty, 16 * MIB, 40 * MIB)
    assert clean.read_bytes() == dirty.read_bytes()


def test_the_same_input_gives_the_same_bytes_whatever_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one.img", tmp_path / "two.img"
    make_image(one, 16 * MIB)
    two.write_bytes(one.read_bytes())
    grow(one, 16 * MIB, 300 * MIB)
    monkeypatch.setenv("E2FSPROGS_FAKE_TIME", "12345")
    monkeypatch.setenv("RESIZE2FS_FORCE_LAZY_ITABLE_INIT", "1")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("PATH", "/bin")
    grow(two, 16 * MIB, 300 * MIB)
    assert one.read_bytes() == two.read_bytes()
    assert one.stat().st_blocks * 512 < 60 * MIB


def test_a_file_system_that_fills_its_partition_already_stays(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    make_image(path, 16 * MIB)
    before = path.read_bytes()
    assert grow(path, 16 * MIB, 16 * MIB + 1000).size == 16 * MIB
    assert path.read_bytes()[: len(before)] == before


def test_a_damaged_file_system_is_refused_in_e2fscks_words(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    make_image(path, 16 * MIB)
    run("debugfs", "-w", "-R", "clri <11>", f"{path}?offset={OFFSET}")
    before = path.read_bytes()
    with pytest.raises(FilesystemError, match=r"is damaged, and nothing was changed.*lost\+found.*Repair it first"):
        grow(path, 16 * MIB, 32 * MIB)
    assert path.read_bytes()[: len(before)] == before


@pytest.mark.parametrize(
    ("command", "message"),
    [("feature needs_recovery", "not unmounted: its journal"), ("ssv state 2", "errors on record")],
)
def test_an_unclean_file_system_is_refused(tmp_path: Path, command: str, message: str) -> None:
    path = tmp_path / "disk.img"
    make_image(path, 16 * MIB)
    run("debugfs", "-w", "-R", command, f"{path}?offset={OFFSET}")
    with pytest.raises(FilesystemError, match=message):
        grow(path, 16 * MIB, 32 * MIB)


def test_what_is_no_ext4_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(8 * MIB))
    with pytest.raises(FilesystemError, match="no ext4 file system"):
        grow(path, 4 * MIB, 8 * MIB)


def test_a_file_system_larger_than_its_partition_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    make_image(path, 16 * MIB)
    with pytest.raises(FilesystemError, match="spans 16777216 bytes, but its partition had only 12582912"):
        grow(path, 12 * MIB, 32 * MIB)


def test_a_partition_beyond_the_disk_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    make_image(path, 16 * MIB)
    with (
        FileDevice(path, writable=True) as device,
        pytest.raises(DiskImageError, match="should grow to 33554432 bytes"),
    ):
        grow_filesystem(device, OFFSET, 16 * MIB, 32 * MIB, tmp_path)


def test_a_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    with pytest.raises(ToolError, match=r"resize2fs is missing.*apt install e2fsprogs"):
        find_tool("resize2fs", "e2fsprogs")


def test_a_tool_that_takes_too_long_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, tool = tmp_path / "disk.img", tmp_path / "e2fsck"
    make_image(path, 16 * MIB)
    tool.write_text("#!/bin/sh\nexec sleep 60\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with FileDevice(path) as device, pytest.raises(ToolError, match="e2fsck did not finish within 0 seconds"):
        check_filesystem(device, OFFSET, timeout=0.2)


def test_no_place_for_the_copy(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    make_image(path, 16 * MIB)
    with FileDevice(path, writable=True) as device:
        device.extend(OFFSET + 32 * MIB)
        with pytest.raises(OutputError, match="cannot make a temporary file in /nowhere"):
            grow_filesystem(device, OFFSET, 16 * MIB, 32 * MIB, Path("/nowhere"))


def test_an_interrupt_leaves_no_scratch_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk.img"
    make_image(path, 16 * MIB)
    before = path.read_bytes()
    seen: list[list[str]] = []

    def interrupt(name: str, *_: object) -> subprocess.CompletedProcess[str]:
        if name == "resize2fs":
            seen.append(sorted(item.name for item in tmp_path.iterdir()))
            raise KeyboardInterrupt
        return subprocess.CompletedProcess([], 0, "", "")

    monkeypatch.setattr(resize, "run_checked", interrupt)
    with pytest.raises(KeyboardInterrupt):
        grow(path, 16 * MIB, 32 * MIB)
    assert seen == [["disk.img"]]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["disk.img"]
    assert path.read_bytes()[: len(before)] == before


def test_where_there_are_no_nameless_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY | os.O_EXCL | os.O_CREAT)
    path = tmp_path / "disk.img"
    make_image(path, 16 * MIB)
    assert grow(path, 16 * MIB, 32 * MIB).size == 32 * MIB
    assert sorted(item.name for item in tmp_path.iterdir()) == ["disk.img"]


# What mkfs makes, small and large groups, with every feature that changes the arithmetic.
LAYOUTS = {
    "balena": (64 * MIB, BALENA),
    "balena small": (8 * MIB, BALENA),
    "full 256 MiB": (256 * MIB, BALENA),
    "1 KiB blocks": (24 * MIB, "-b 1024"),
    "2 KiB blocks": (40 * MIB, "-b 2048 -m 1"),
    "no reserve": (64 * MIB, "-b 4096 -m 0"),
    "many inodes": (64 * MIB, "-b 4096 -i 2048 -I 512"),
    "few inodes": (200 * MIB, "-b 4096 -i 262144"),
    "32 bit": (64 * MIB, "-b 4096 -O ^64bit,^metadata_csum"),
    "no resize_inode": (64 * MIB, "-b 1024 -O ^resize_inode"),
    "few resize blocks": (24 * MIB, "-b 1024 -O ^flex_bg -E resize=40000"),
    "meta_bg": (64 * MIB, "-b 1024 -O meta_bg,^resize_inode"),
    "every group a backup": (64 * MIB, "-b 1024 -O ^sparse_super,^resize_inode"),
    "no flex_bg": (64 * MIB, "-b 4096 -O ^flex_bg"),
    "ext2": (32 * MIB, "-b 1024 -O none,resize_inode,sparse_super,filetype"),
    "small groups": (64 * MIB, "-b 4096 -g 4096"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_arithmetic_is_resize2fs_own(tmp_path: Path, layout: str) -> None:
    size, options = LAYOUTS[layout]
    path = tmp_path / "disk.img"
    for step in (1 * MIB, 96 * MIB + 12 * KIB, 1100 * MIB):
        make_image(path, size, options)
        geometry = geometry_of(path, size)
        wanted = (size + step) // geometry.block_size
        expected = capacity_at(geometry, wanted)
        grow(path, size, wanted * geometry.block_size)
        found = dumpe2fs(path)
        assert expected.blocks_count == int(found["Block count"])
        assert expected.free_blocks == int(found["Free blocks"])
        assert expected.free_inodes == int(found["Free inodes"])
        assert 0 <= expected.reserved_blocks - int(found["Reserved block count"]) <= 1
    with FileDevice(path) as device:
        check_filesystem(device, OFFSET)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("blocks_mib", "inodes"), [(1, 10), (300, 1000), (90, 60000)])
def test_the_planned_size_suffices_and_is_not_lavish(tmp_path: Path, layout: str, blocks_mib: int, inodes: int) -> None:
    size, options = LAYOUTS[layout]
    path = tmp_path / "disk.img"
    make_image(path, size, options)
    geometry = geometry_of(path, size)
    blocks = blocks_mib * MIB // geometry.block_size
    planned = needed_size(geometry, blocks, inodes)
    assert planned >= size
    grow(path, size, planned)
    found = dumpe2fs(path)
    spare = int(found["Free blocks"]) - int(found["Reserved block count"]) - blocks
    assert spare >= 0
    assert int(found["Free inodes"]) >= inodes
    if planned > size:
        # A little smaller, and either blocks or inodes are too few.
        less = capacity_at(geometry, int(planned * 0.97) // geometry.block_size)
        assert less.free_blocks - less.reserved_blocks < blocks or less.free_inodes < inodes


def plain_geometry() -> Geometry:
    return Geometry(
        block_size=4096,
        blocks_count=16384,
        reserved_blocks=819,
        free_blocks=12000,
        inodes_count=8192,
        free_inodes=8000,
        first_data_block=0,
        blocks_per_group=32768,
        inodes_per_group=8192,
        inode_size=256,
        descriptor_size=64,
        reserved_gdt_blocks=7,
        first_meta_bg=0,
        last_write=1,
        needs_recovery=False,
        is_clean=True,
        feature_compat=1 << 4,
        feature_incompat=1 << 7,
        feature_ro_compat=1,
    )


@given(blocks=st.integers(0, 10**9), inodes=st.integers(0, 10**7), more=st.integers(0, 10**7))
def test_any_larger_size_suffices_as_well(blocks: int, inodes: int, more: int) -> None:
    geometry = plain_geometry()
    planned = needed_size(geometry, blocks, inodes)
    capacity = capacity_at(geometry, planned // 4096 + more)
    assert capacity.free_blocks - capacity.reserved_blocks >= blocks
    assert capacity.free_inodes >= inodes


def test_what_no_size_can_hold_is_refused() -> None:
    with pytest.raises(
        FilesystemError, match="cannot be grown far enough for 0 more blocks and 5000000000 more inodes"
    ):
        needed_size(plain_geometry(), 0, 5 * 10**9)


@pytest.fixture(scope="module")
def superblock(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("seed") / "disk.img"
    make_image(path, 8 * MIB, offset=0)
    return path.read_bytes()[:2048]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_mutated_superblocks_raise_only_our_errors(superblock: bytes, data: st.DataObject) -> None:
    mutated = bytearray(superblock)
    for _ in range(data.draw(st.integers(1, 4))):
        offset = 1024 + data.draw(st.one_of(st.integers(0, 120), st.sampled_from([0xCE, 0xFE, 0x104, 0x150, 0x158])))
        mutated[offset : offset + 4] = data.draw(st.binary(min_size=4, max_size=4))
    try:
        geometry = read_geometry(MemoryDevice(mutated))
        assert needed_size(geometry, 100000, 10000) >= geometry.size
    except DrypointError:
        return
