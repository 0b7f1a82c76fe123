"""The disk image in a flasher, worked on in place; judged by e2fsck, debugfs and sfdisk, outside and in."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.ext4_images import judge_ext4
from tests.support.flasher_images import FlasherImage, build_flasher_image

from drypoint.disk import Device, FileDevice, GrowableDevice, Window, find_partition, read_table
from drypoint.disk.ext4.read.file_device import open_ext4_file
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.disk.ext4.write.filesystem import Ext4Filesystem
from drypoint.errors import DiskImageError, FilesystemError, OutputError, ToolError
from drypoint.fstree import Metadata, Regular
from drypoint.fstree.extra_file import ExtraFile
from drypoint.progress import SILENT
from drypoint.samples.disk_images import (
    EPOCH,
    IMAGE_TOOLS,
    MIB,
    DiskImage,
    PartitionTable,
    Sizes,
    build_disk_image,
)
from drypoint.samples.tools import run_tool
from drypoint.sinks import Ext4Sink
from drypoint.sizing.growth_forecast import Growth
from drypoint.sizing.space import Space
from drypoint.volumes.inner_image import InnerImage
from drypoint.volumes.outer_forecast import forecast_outer
from drypoint.volumes.partitioned_disk import PartitionedDisk, open_disk
from drypoint.volumes.target import Container
from drypoint.volumes.volume import PartitionVolume
from drypoint.volumes.writable_volume import WritableVolume
from drypoint.volumes.writing import open_writable

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "e2fsck", "resize2fs")

SMALL = Sizes(boot=4 * MIB, root_a=4 * MIB, root_b=4 * MIB, state=4 * MIB, data=8 * MIB)
CONTENT = random.Random(1).randbytes(3 * MIB)
META = Metadata(0o644, mtime=EPOCH * 10**9)
ROOT = "flash-rootA"


@pytest.fixture(scope="module", params=PartitionTable, ids=lambda table: str(table.value))
def inner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DiskImage:
    return build_disk_image(tmp_path_factory.mktemp("inner") / "inner.img", table=request.param, sizes=SMALL)


def data_in(disk: Device, flasher: FlasherImage, root: str | int = ROOT) -> PartitionVolume:
    return open_disk(disk, Container(root, flasher.path.encode())).volume("resin-data")


def open_image(disk: GrowableDevice, flasher: FlasherImage, scratch: Path, root: str | int = ROOT) -> InnerImage:
    image = open_writable(data_in(disk, flasher, root), disk, scratch, SILENT, now=EPOCH).disk
    assert isinstance(image, InnerImage)
    return image


@contextmanager
def opened(flasher: FlasherImage) -> Iterator[InnerImage]:
    with FileDevice(flasher.disk.path, writable=True) as disk:
        scratch = flasher.disk.path.parent
        yield open_image(disk, flasher, scratch)


def data_of(image: InnerImage, scratch: Path) -> WritableVolume:
    return WritableVolume(image, PartitionedDisk(image).volume("resin-data"), scratch, SILENT)


def judge(flasher: FlasherImage, work: Path) -> Path:
    """Everything that the real tools say about both disk images; the inner one, dumped."""
    with FileDevice(flasher.disk.path) as disk:
        table = read_table(disk)
        judge_ext4(flasher.disk.path, offset=find_partition(disk, table, ROOT).partition.start)
        judge_ext4(flasher.disk.path, offset=find_partition(disk, table, "flash-rootB").partition.start)
    run_tool("sfdisk", "--verify", flasher.disk.path)
    dumped = flasher.dump(work / "dump")
    run_tool("sfdisk", "--verify", dumped)
    with FileDevice(dumped) as disk:
        table = read_table(disk)
        for label in ("resin-rootA", "resin-rootB", "resin-state", "resin-data"):
            judge_ext4(dumped, offset=find_partition(disk, table, label).partition.start)
    return dumped


def other_files(flasher: FlasherImage, work: Path) -> dict[str, str]:
    """What debugfs reads of all in flash-rootA but the inner image."""
    target = work / "files"
    target.mkdir()
    names = ("etc", "usr")
    run_tool("debugfs", "-f", "-", flasher.root, script="".join(f"rdump /{name} {target}\n" for name in names))
    files = sorted(path for path in target.rglob("*") if path.is_file())
    found = {str(path.relative_to(target)): digest(path.read_bytes()) for path in files}
    run_tool("rm", "-r", target)
    return found


def fill(image: InnerImage, scratch: Path, files: int, *, space: int = 0) -> None:
    """Write *files* of 3 MiB into the data partition, which grows by *space* blocks first, and by what is missing then."""
    growing = data_of(image, scratch)
    growing.make_space(Space(space, 0))
    with Ext4Sink(growing.window, now=EPOCH, on_full=growing.on_full) as sink:
        for number in range(files):
            sink.add(Regular(b"docker/%02d" % number, META, len(CONTENT)), [CONTENT])
        sink.finish()


def filled(image: Path, files: int) -> None:
    with FileDevice(image) as disk:
        partition = find_partition(disk, read_table(disk), "resin-data").partition
        reader = Ext4Reader(Window(disk, partition.start, partition.size))
        for number in range(files):
            stat = reader.lookup(b"docker/%02d" % number)
            assert stat is not None
            assert b"".join(map(bytes, reader.read(stat))) == CONTENT


@pytest.mark.parametrize(("pieces", "options"), [(0, ()), (60, ("-b", "1024")), (60, ("-O", "^metadata_csum,^64bit"))])
def test_both_disk_images_grow(tmp_path: Path, inner: DiskImage, pieces: int, options: tuple[str, ...]) -> None:
    flasher = build_flasher_image(
        tmp_path / "flasher.img", inner.path, table=inner.table, pieces=pieces, ext4_options=options
    )
    before = other_files(flasher, tmp_path)
    size = flasher.disk.path.stat().st_size
    with opened(flasher) as image:
        fill(image, tmp_path, 10, space=8 * MIB // 4096)
    filled(judge(flasher, tmp_path), 10)
    assert other_files(flasher, tmp_path) == before
    assert flasher.disk.path.stat().st_size > size
    assert flasher.disk.path.stat().st_blocks * 512 < 64 * MIB, "it stays sparse"


def test_it_is_the_same_as_in_a_file_of_its_own(tmp_path: Path, inner: DiskImage) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(inner.path.read_bytes())
    with FileDevice(plain, writable=True) as disk:
        growing = WritableVolume(disk, PartitionedDisk(disk).volume("resin-data"), tmp_path, SILENT)
        growing.make_space(Space(2000, 0))
        with Ext4Sink(growing.window, now=EPOCH, on_full=growing.on_full) as sink:
            for number in range(6):
                sink.add(Regular(b"docker/%02d" % number, META, len(CONTENT)), [CONTENT])
            sink.finish()
    flasher = build_flasher_image(tmp_path / "flasher.img", inner.path, table=inner.table, pieces=60)
    with opened(flasher) as image:
        fill(image, tmp_path, 6, space=2000)
    assert digest(judge(flasher, tmp_path).read_bytes()) == digest(plain.read_bytes())


def test_equal_work_gives_equal_bytes(tmp_path: Path, inner: DiskImage) -> None:
    digests = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        flasher = build_flasher_image(tmp_path / name / "flasher.img", inner.path, table=inner.table, pieces=30)
        with opened(flasher) as image:
            fill(image, tmp_path, 4, space=4000)
            image.put_files([ExtraFile(b"etc/resin-device-pinning.conf", b"RELEASE_ID=7")])
        digests.add(digest(flasher.disk.path.read_bytes()))
    assert len(digests) == 1


def test_holes_get_blocks_where_something_is_written(tmp_path: Path, inner: DiskImage) -> None:
    flasher = build_flasher_image(tmp_path / "flasher.img", inner.path, table=inner.table)
    whole = bytearray(inner.path.read_bytes())
    with opened(flasher) as image, FileDevice(inner.path) as disk:
        table = read_table(disk)
        data = find_partition(disk, table, "resin-data").partition.start
        other = find_partition(disk, table, "resin-state").partition.start + 3 * MIB

        def holes(offset: int, length: int) -> int:
            found = open_ext4_file(image.outer.window, flasher.path.encode())
            return sum(size for _, size, place in found.runs(offset, length) if place is None)

        before = holes(0, image.size)
        image.write(other, bytes(MIB))
        assert holes(0, image.size) == before, "zeros need no blocks"
        image.write(other + 5, b"here")
        whole[other + 5 : other + 9] = b"here"
        assert before - MIB <= holes(0, image.size) < before
        assert holes(data, image.size - data) > 4 * MIB
        image.write(data + 5 * MIB, b"there")
        whole[data + 5 * MIB : data + 5 * MIB + 5] = b"there"
        assert holes(data, image.size - data) == 0, "where much will be written all blocks come at once"
        image.write(data - 3, b"across")
        whole[data - 3 : data + 3] = b"across"
        assert image.read(0, image.size) == whole
        with pytest.raises(DiskImageError, match="lie outside"):
            image.write(image.size - 1, b"xx")
    dumped = flasher.dump(tmp_path / "dump").read_bytes()
    assert dumped == whole


@pytest.fixture(scope="module")
def hollow(tmp_path_factory: pytest.TempPathFactory) -> DiskImage:
    """A disk image whose data partition has much room, nearly all of it holes."""
    sizes = Sizes(boot=4 * MIB, root_a=4 * MIB, root_b=4 * MIB, state=4 * MIB, data=96 * MIB)
    return build_disk_image(tmp_path_factory.mktemp("hollow") / "inner.img", sizes=sizes)


def test_the_outer_partition_grows_in_the_middle_of_a_write(tmp_path: Path, hollow: DiskImage) -> None:
    """Nothing says beforehand that the holes are wanted: libext2fs' first write finds one, and e2fsck and resize2fs run."""
    flasher = build_flasher_image(tmp_path / "flasher.img", hollow.path)
    with opened(flasher) as image:
        before = image.outer.partition.size
        with FileDevice(flasher.disk.path) as device:
            found = data_in(device, flasher)
            forecast = forecast_outer(found, Growth(found.partition.size, image.size), is_empty=False)
        with Ext4Sink(data_of(image, tmp_path).window, now=EPOCH) as sink:
            for number in range(3):
                sink.add(Regular(b"docker/%02d" % number, META, len(CONTENT)), [CONTENT])
            sink.finish()
        assert image.outer.partition.size >= before + 64 * MIB
        assert forecast is not None
        assert forecast.growth is not None
        assert forecast.growth.partition_size == image.outer.partition.size
    assert forecast.growth.disk_size == flasher.disk.path.stat().st_size
    filled(judge(flasher, tmp_path), 3)


def test_what_goes_wrong_outside_comes_out_of_the_writing_inside(tmp_path: Path, hollow: DiskImage) -> None:
    flasher = build_flasher_image(tmp_path / "flasher.img", hollow.path)
    with FileDevice(flasher.disk.path, writable=True) as disk:
        image = open_image(disk, flasher, tmp_path / "missing")
        with Ext4Sink(data_of(image, tmp_path).window, now=EPOCH) as sink:
            with pytest.raises(OutputError, match=r"cannot make a temporary file in .*missing"):
                write_all(sink)
    judge_ext4(flasher.disk.path, offset=root_now(flasher))


def write_all(sink: Ext4Sink) -> None:
    sink.add(Regular(b"docker/00", META, len(CONTENT)), [CONTENT])
    sink.finish()


def root_now(flasher: FlasherImage) -> int:
    with FileDevice(flasher.disk.path) as disk:
        return find_partition(disk, read_table(disk), ROOT).partition.start


def test_it_is_trimmed_with_the_outer_partition(tmp_path: Path, inner: DiskImage) -> None:
    flasher = build_flasher_image(tmp_path / "flasher.img", inner.path, table=inner.table)
    with opened(flasher) as image:
        growing = data_of(image, tmp_path)
        least = growing.partition.size
        growing.make_space(Space(64 * MIB // 4096, 0))
        with Ext4Sink(growing.window, now=EPOCH, on_full=growing.on_full) as sink:
            sink.add(Regular(b"docker/00", META, len(CONTENT)), [CONTENT])
            sink.finish()
        grown, grown_inner = flasher.disk.path.stat().st_size, image.size
        growing.shrink_to_fit(0, least)
        assert image.size < grown_inner - 40 * MIB
        image.shrink_outer()
    assert flasher.disk.path.stat().st_size < grown - 40 * MIB
    filled(judge(flasher, tmp_path), 1)


def test_files_beside_it(tmp_path: Path, inner: DiskImage) -> None:
    flasher = build_flasher_image(tmp_path / "flasher.img", inner.path, table=inner.table)
    before = other_files(flasher, tmp_path)
    files = [ExtraFile(b"etc/resin-device-pinning.conf", b"RELEASE_ID=12345")]
    with opened(flasher) as image:
        image.put_files(files)
        once = digest(flasher.disk.path.read_bytes())
        image.put_files(files)
        assert digest(flasher.disk.path.read_bytes()) == once, "what is there already is not written again"
    judge(flasher, tmp_path)
    assert run_tool("debugfs", "-R", "cat /etc/resin-device-pinning.conf", flasher.root) == "RELEASE_ID=12345"
    after = other_files(flasher, tmp_path)
    assert {name: value for name, value in after.items() if name in before} == before
    assert set(after) - set(before) == {"etc/resin-device-pinning.conf"}


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        (("-O", "^metadata_csum"), 0x3A, "was not unmounted in order"),
        ((), 0x4C, "its checksum is wrong"),
    ],
)
def test_an_outer_file_system_that_is_not_sound_is_left_alone(
    tmp_path: Path, inner: DiskImage, options: tuple[str, ...], field: int, message: str
) -> None:
    flasher = build_flasher_image(tmp_path / "flasher.img", inner.path, table=inner.table, ext4_options=options)
    root = flasher.disk.partition(ROOT)
    with FileDevice(flasher.disk.path, writable=True) as disk:
        disk.write(root.offset + 1024 + field, b"\0\0")
    before = digest(flasher.disk.path.read_bytes())
    with FileDevice(flasher.disk.path, writable=True) as disk:
        with pytest.raises(DiskImageError, match=message):
            extend(open_image(disk, flasher, tmp_path, root.number))
    assert digest(flasher.disk.path.read_bytes()) == before


def extend(image: InnerImage) -> None:
    image.extend(image.size + 64 * MIB)


def test_what_is_no_container(tmp_path: Path, inner: DiskImage) -> None:
    flasher = build_flasher_image(tmp_path / "flasher.img", inner.path, table=inner.table)
    with FileDevice(flasher.disk.path) as disk:
        with pytest.raises(
            FilesystemError, match=r"partition 1 holds FAT.*, but a disk image that is a file needs ext4"
        ):
            open_disk(disk, Container("flash-boot", b"opt/x"))
        with pytest.raises(FilesystemError, match=r"there is no file /opt/x in .*flasher"):
            open_disk(disk, Container(ROOT, b"opt/x"))
    with FileDevice(inner.path, writable=True) as disk:
        data = open_disk(disk, None).volume("resin-data")
        assert not isinstance(open_writable(data, disk, tmp_path, SILENT, now=EPOCH).disk, InnerImage)
        assert forecast_outer(data, None, is_empty=True) is None


def test_the_judges_convict(tmp_path: Path, inner: DiskImage) -> None:
    """A block that two files share, and a damaged inode inside the inner image."""
    flasher = build_flasher_image(tmp_path / "flasher.img", inner.path, table=inner.table)
    with opened(flasher) as image:
        fill(image, tmp_path, 1)
        window = data_of(image, tmp_path).window
        filesystem = Ext4Filesystem(window, now=EPOCH)
        raw = filesystem.read_inode(2)
        filesystem.write_inode(2, raw[:26] + b"\x63\0" + raw[28:])
        filesystem.close()
    with pytest.raises(ToolError, match="e2fsck"):
        judge(flasher, tmp_path)
    run_tool("debugfs", "-w", "-R", f"set_inode_field /{flasher.path} size 4096000000", flasher.root)
    run_tool("debugfs", "-w", "-R", f"set_inode_field /{flasher.path} blocks 1", flasher.root)
    with pytest.raises(ToolError, match="e2fsck"):
        judge_ext4(flasher.disk.path, offset=flasher.disk.partition(ROOT).offset)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
