"""Block maps, judged by bmaptool and by what a used card would hold after it."""

from __future__ import annotations

import hashlib
import random
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.ext4_images import judge_ext4, make_ext4

from drypoint.disk import FileDevice
from drypoint.disk.formats import Encoding, format_of_name, write_block_map, write_image
from drypoint.disk.formats.bmap import BLOCK_SIZE, _mapped
from drypoint.disk.formats.free_space import free_ranges
from drypoint.disk.host.output import whole_file
from drypoint.errors import DiskImageError, OutputError, ToolError
from drypoint.samples.disk_images import PartitionTable, Sizes, partition_disk
from drypoint.samples.tools import run_tool

MIB = 1 << 20
NAME = "disk <a> & -- 'b' --- é.img"


def map_of(image: Path) -> tuple[Path, list[tuple[int, int, str]]]:
    """The block map of *image*, and its ranges as (start, end, checksum) in bytes."""
    path = image.with_suffix(".bmap")
    with image.open("rb") as file, whole_file(path, overwrite=True) as part:
        write_block_map(file.fileno(), image.stat().st_size, NAME, part.path)
    root = ElementTree.parse(path).getroot()
    assert root.attrib["version"] == "2.0"
    assert int(root.findtext("ImageSize", "")) == image.stat().st_size
    ranges = []
    for element in root.iterfind("BlockMap/Range"):
        first, _, last = (element.text or "").strip().partition("-")
        end = min((int(last or first) + 1) * BLOCK_SIZE, image.stat().st_size)
        ranges.append((int(first) * BLOCK_SIZE, end, element.attrib["chksum"]))
    blocks = sum(-(-(end - start) // BLOCK_SIZE) for start, end, _ in ranges)
    assert int(root.findtext("MappedBlocksCount", "")) == blocks
    return path, ranges


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file system that has been used, whose zeros became holes, as they do when a compressed disk image is unpacked."""
    path = make_ext4(tmp_path / "disk.img", 48 * MIB, "-b", "4096")
    noise = tmp_path / "noise"
    noise.write_bytes(random.Random(3).randbytes(3 * MIB))
    few = tmp_path / "few"
    few.write_bytes(b"x" * MIB)
    script = f"write {noise} noise\nwrite {noise} gone\nwrite {few} zeros\nrm gone\n"
    run_tool("debugfs", "-w", "-f", "/dev/stdin", path, script=script)
    # debugfs would leave zeros out itself.
    with path.open("r+b") as file:
        for block in run_tool("debugfs", "-R", "blocks zeros", path).split():
            file.seek(int(block) * BLOCK_SIZE)
            file.write(bytes(BLOCK_SIZE))
        file.truncate(48 * MIB + 100)
    run_tool("fallocate", "--dig-holes", path)
    return path


tools = pytest.mark.needs("mkfs.ext4", "debugfs", "e2fsck", "fallocate", "bmaptool", "xz", "gzip", "zstd")


@tools
@pytest.mark.parametrize("suffix", [".img", ".img.gz", ".img.xz", ".img.zip"])
def test_bmaptool_copies_by_our_map(image: Path, tmp_path: Path, suffix: str) -> None:
    block_map, ranges = map_of(image)
    source = tmp_path / f"out{suffix}"
    with image.open("rb") as file, source.open("wb") as target:
        kind = format_of_name(source)
        write_image(file.fileno(), image.stat().st_size, target.fileno(), Encoding(kind, "disk.img"))
    run_tool("bmaptool", "copy", "--bmap", block_map, source, tmp_path / "card")
    assert (tmp_path / "card").read_bytes() == image.read_bytes()
    mapped = sum(end - start for start, end, _ in ranges)
    # 3 MiB twice (one of them free now, but no hole), a MiB of zeros, and the file system's own.
    assert 7 * MIB < mapped < 20 * MIB


@tools
@pytest.mark.parametrize("suffix", [".img", ".img.gz"])
def test_bmaptool_refuses_a_planted_fault(image: Path, tmp_path: Path, suffix: str) -> None:
    block_map, ranges = map_of(image)
    start = ranges[-1][0]
    with image.open("r+b") as file:
        file.seek(start)
        byte = file.read(1)
        file.seek(start)
        file.write(bytes([byte[0] ^ 1]))
    source = tmp_path / f"out{suffix}"
    with image.open("rb") as file, source.open("wb") as target:
        write_image(file.fileno(), image.stat().st_size, target.fileno(), Encoding(format_of_name(source), "disk.img"))
    with pytest.raises(ToolError, match="checksum mismatch"):
        run_tool("bmaptool", "copy", "--bmap", block_map, source, tmp_path / "card")


@tools
def test_bmaptool_refuses_a_map_that_was_changed(image: Path, tmp_path: Path) -> None:
    block_map, _ = map_of(image)
    text = block_map.read_text()
    block_map.write_text(re.sub(r"> 0-(\d)", r"> 1-\1", text, count=1))
    assert block_map.read_text() != text
    with pytest.raises(ToolError, match="checksum mismatch for bmap file"):
        run_tool("bmaptool", "copy", "--bmap", block_map, image, tmp_path / "card")


@tools
@tools
def test_the_map_does_not_depend_on_how_zeros_are_kept(image: Path, tmp_path: Path) -> None:
    made = {}
    for way in ("always", "never", "unwritten"):
        copy = tmp_path / way / "disk.img"
        copy.parent.mkdir()
        run_tool("cp", f"--sparse={'never' if way == 'never' else 'always'}", image, copy)
        if way == "unwritten":
            # Blocks that are allocated and not written: holes to SEEK_DATA, until they are in the page cache.
            run_tool("fallocate", "--length", str(copy.stat().st_size), copy)
            copy.read_bytes()
        made[way] = map_of(copy)[0].read_bytes()
    assert len(set(made.values())) == 1


@pytest.mark.parametrize("garbage", [b"\xa5", b"\xff"])
def test_what_was_on_the_card_does_no_harm(image: Path, tmp_path: Path, garbage: bytes) -> None:
    """bmaptool truncates files but not cards, so what it would write to one is written here."""
    card = tmp_path / "card"
    card.write_bytes(garbage * image.stat().st_size)
    _, ranges = map_of(image)
    content = image.read_bytes()
    with card.open("r+b") as file:
        for start, end, checksum in ranges:
            assert hashlib.sha256(content[start:end]).hexdigest() == checksum
            file.seek(start)
            file.write(content[start:end])
    judge_ext4(card)
    run_tool("debugfs", "-R", f"dump zeros {tmp_path / 'zeros-again'}", card)
    assert (tmp_path / "zeros-again").read_bytes() == bytes(MIB)
    # This test would find a map that follows the holes alone:
    with image.open("rb") as file:
        holes_only = [*_mapped(file.fileno(), len(content), iter([(0, len(content))]))]
    card.write_bytes(garbage * len(content))
    with card.open("r+b") as file:
        for start, end in holes_only:
            file.seek(start)
            file.write(content[start:end])
    run_tool("debugfs", "-R", f"dump zeros {tmp_path / 'zeros-again'}", card)
    assert (tmp_path / "zeros-again").read_bytes() == garbage * MIB


@tools
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-b", "1024"),
        ("-b", "1024", "-O", "^flex_bg,^metadata_csum,^uninit_bg,^resize_inode"),
        ("-O", "^has_journal,^64bit", "-g", "8192"),
        ("-O", "^flex_bg", "-b", "1024"),
        ("-E", "lazy_itable_init=0"),
    ],
)
def test_free_blocks_are_those_of_dumpe2fs(tmp_path: Path, options: tuple[str, ...]) -> None:
    path = make_ext4(tmp_path / "fs", 96 * MIB, *options)
    listing = run_tool("dumpe2fs", path)
    size = int(re.search(r"Block size: +(\d+)", listing)[1])  # type: ignore[index]
    expected: set[int] = set()
    for line in re.findall(r"^  Free blocks: (.*)$", listing, re.MULTILINE):
        for run in filter(None, (one.strip() for one in line.split(","))):
            first, _, last = run.partition("-")
            expected.update(range(int(first), int(last or first) + 1))
    with FileDevice(path) as device:
        found = {block for start, end in free_ranges(device) for block in range(start // size, end // size)}
    # Of groups whose bitmap was never written, copies of the superblock and descriptors count as free here; they are no holes.
    assert expected <= found
    extra = found - expected
    used = {
        int(block)
        for first, last in re.findall(r"(?:superblock|descriptors|GDT blocks) at (\d+)(?:-(\d+))?", listing)
        for block in range(int(first), int(last or first) + 1)
    }
    assert extra <= used


@pytest.mark.needs("sfdisk", "mkfs.ext4")
def test_partitions_lie_at_their_offsets_and_gaps_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    sizes = Sizes(boot=4 * MIB, root_a=8 * MIB, root_b=8 * MIB, state=8 * MIB, data=16 * MIB)
    partitions = partition_disk(path, PartitionTable.GPT, sizes)
    data = next(one for one in partitions if one.label == "resin-data")
    run_tool(
        "mkfs.ext4",
        "-q",
        "-F",
        "-E",
        f"offset={data.offset},lazy_itable_init=0,nodiscard",
        path,
        f"{data.size // 1024}k",
    )
    _, ranges = map_of(path)
    with FileDevice(path) as device:
        free = list(free_ranges(device))
    assert free
    assert all(data.offset <= start < end <= data.offset + data.size for start, end in free)
    covered = [offset for offset in range(0, data.offset, BLOCK_SIZE) if any(s <= offset < e for s, e, _ in ranges)]
    assert len(covered) == data.offset // BLOCK_SIZE


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_mapped_ranges_miss_only_free_holes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 40 * BLOCK_SIZE))
    path = tmp_path_factory.getbasetemp() / "mapped"
    full = data.draw(st.sets(st.integers(0, 39)))
    with path.open("wb") as file:
        for block in full:
            file.seek(block * BLOCK_SIZE)
            file.write(b"x" * BLOCK_SIZE)
        file.truncate(size)
    edges = sorted(data.draw(st.sets(st.integers(0, size // 1024))))
    free = [(one * 1024, other * 1024) for one, other in zip(edges[::2], edges[1::2], strict=False)]
    with path.open("rb") as file:
        mapped = list(_mapped(file.fileno(), size, iter(free)))
    place = 0
    missed: list[int] = []
    for start, end in [*mapped, (size, size)]:
        assert place <= start <= end
        assert start % BLOCK_SIZE == 0 or start == size
        missed += range(-(-place // BLOCK_SIZE), -(-start // BLOCK_SIZE))
        place = end
    for block in missed:
        assert block not in full
        assert any(start <= block * BLOCK_SIZE and min((block + 1) * BLOCK_SIZE, size) <= end for start, end in free)
    wanted = [
        block
        for block in range(size // BLOCK_SIZE)
        if block not in full and any(s <= block * BLOCK_SIZE and (block + 1) * BLOCK_SIZE <= e for s, e in free)
    ]
    assert set(wanted) <= set(missed)


def test_what_no_file_system_calls_free_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(MIB)
    assert [(start, end) for start, end, _ in map_of(path)[1]] == [(0, MIB)]


def test_an_empty_image_and_an_unwritable_map(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.touch()
    with path.open("rb") as file:
        with pytest.raises(DiskImageError, match="is empty"):
            write_block_map(file.fileno(), 0, "x", tmp_path / "map")
        with pytest.raises(OutputError, match="cannot write the block map of x: No such file"):
            write_block_map(file.fileno(), 5, "x", tmp_path / "none/map")
