"""One opener for a partition, a bare file system and a partition of a flasher's inner disk image; mke2fs made them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.ext4_images import make_ext4
from tests.support.flasher_images import build_flasher_image

from drypoint.disk import FileDevice
from drypoint.errors import FilesystemError, PartitionTableError
from drypoint.fstree import Directory, Metadata
from drypoint.progress import SILENT
from drypoint.samples.disk_images import EPOCH, IMAGE_TOOLS, MIB, DiskImage, Sizes, build_disk_image
from drypoint.sizing.space import Space
from drypoint.volumes.partitioned_disk import PartitionedDisk, open_disk
from drypoint.volumes.target import Container
from drypoint.volumes.volume import PartitionVolume
from drypoint.volumes.writing import open_writable

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "e2fsck", "resize2fs")

SMALL = Sizes(boot=4 * MIB, root_a=4 * MIB, root_b=4 * MIB, state=4 * MIB, data=8 * MIB)
KINDS = ("partition", "bare", "inner")


class CountingDisk(FileDevice):
    """Counts reads by their place."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, writable=True)
        self.reads: Counter[tuple[int, int]] = Counter()

    def read(self, offset: int, length: int) -> bytes:
        self.reads[offset, length] += 1
        return super().read(offset, length)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> DiskImage:
    return build_disk_image(tmp_path_factory.mktemp("plain") / "disk.img", sizes=SMALL)


@contextmanager
def opened(kind: str, plain: DiskImage, scratch: Path) -> Iterator[tuple[CountingDisk, PartitionVolume]]:
    path, container = scratch / "disk.img", None
    match kind:
        case "partition":
            path.write_bytes(plain.path.read_bytes())
        case "bare":
            make_ext4(path, 8 * MIB, "-L", "resin-data")
        case _:
            container = Container("flash-rootA", build_flasher_image(path, plain.path).path.encode())
    device = CountingDisk(path)
    with device:
        yield device, open_disk(device, container).volume("resin-data")


@pytest.mark.parametrize("kind", KINDS)
def test_all_have_the_same_interface(plain: DiskImage, tmp_path: Path, kind: str) -> None:
    with opened(kind, plain, tmp_path) as (device, volume):
        volume.check_usable()
        assert not volume.needs_repair()
        assert volume.label == "resin-data"
        assert volume.number == {"partition": 6, "bare": 0, "inner": 6}[kind]
        assert f"the file system of partition {volume.number} ('resin-data')" in volume.name
        assert (volume.disk.within is not None) == (kind == "inner")
        before = volume.geometry
        writable = open_writable(volume, device, tmp_path, SILENT, now=EPOCH)
        writable.make_space(Space(16 * MIB // before.block_size, 0))
        with writable.sink(EPOCH) as sink:
            sink.add(Directory(b"new", Metadata(0o755)))
            sink.finish()
        assert writable.reread().reader().lookup(b"new") is not None
        assert writable.reread().geometry.size > before.size
        assert volume.geometry == before, "a volume is what was read"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_opened_once_is_read_once(plain: DiskImage, tmp_path: Path, kind: str) -> None:
    with opened(kind, plain, tmp_path) as (device, volume):
        assert volume.reader(allow_dirty=True) is volume.reader()
        assert volume.disk.volume("resin-data") is volume
        device.reads.clear()
        for _ in range(3):
            assert volume.reader().superblock.label == b"resin-data"
            assert volume.disk.find("resin-data").partition == volume.partition
            assert [one.number for one in volume.disk.volumes()][-1] == volume.number
        assert not device.reads


def test_a_partition_that_holds_something_else(plain: DiskImage, tmp_path: Path) -> None:
    with FileDevice(plain.path) as device:
        disk = PartitionedDisk(device)
        with pytest.raises(FilesystemError) as told:
            disk.volume("resin-boot")
        assert "partition 1 holds FAT" in str(told.value)
        assert "but the engine's store needs ext4 (or ext2, ext3). Choose another with --data-partition" in str(
            told.value
        )
        with pytest.raises(
            FilesystemError, match=r"partition 1 holds FAT\d\d, but the moon needs ext4 \(or ext2, ext3\)$"
        ):
            disk.volume(1, "the moon")
        with pytest.raises(PartitionTableError, match="no partition has the label 'moon'"):
            disk.volume("moon")


def test_a_journal_to_replay_is_refused_but_can_be_read_past(plain: DiskImage, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    make_ext4(path, 8 * MIB, "-L", "resin-data", "-O", "^metadata_csum")
    with FileDevice(path, writable=True) as device:
        features = device.read(1024 + 0x60, 1)
        device.write(1024 + 0x60, bytes([features[0] | 4]))
        volume = PartitionedDisk(device).volume(0)
        assert volume.reader(allow_dirty=True).lookup(b"lost+found") is not None
        with pytest.raises(FilesystemError, match="its journal needs recovery"):
            volume.reader()
        with pytest.raises(FilesystemError, match=r"partition 0 \('resin-data'\) was not unmounted"):
            volume.check_unmounted()
        assert volume.needs_repair()
