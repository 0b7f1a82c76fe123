"""A flasher and the disk image in it, verified together; each damage is told of the disk image that it is in."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.flasher_images import FlasherImage, build_flasher_image
from tests.support.stores import fill_store

from drypoint.balena.apps_json_images import AppsJsonImages
from drypoint.balena.flasher import installed_image
from drypoint.cli.app import cli
from drypoint.disk import FileDevice, Window
from drypoint.errors import DiskImageError
from drypoint.samples.disk_images import IMAGE_TOOLS, MIB, DiskImage, Sizes, build_disk_image
from drypoint.samples.images import build_image, build_layer
from drypoint.samples.layers import LayerBuilder
from drypoint.samples.tools import run_tool
from drypoint.verification import Report, processes, verify

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "fsck.vfat", "e2fsck")

SMALL = Sizes(boot=4 * MIB, root_a=4 * MIB, root_b=4 * MIB, state=4 * MIB, data=16 * MIB)
CONTENTS = [random.Random(number).randbytes(6000) for number in range(3)]
IMAGES = [build_image([build_layer(LayerBuilder().file("content", content).finish())]) for content in CONTENTS]


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory) -> DiskImage:
    image = build_disk_image(tmp_path_factory.mktemp("inner") / "inner.img", sizes=SMALL)
    data = image.partition("resin-data")
    with FileDevice(image.path, writable=True) as device:
        window = Window(device, data.offset, data.size)
        fill_store(window, b"docker", {f"app:{number}": image for number, image in enumerate(IMAGES)})
    return image


@pytest.fixture
def flasher(tmp_path: Path, inner: DiskImage) -> FlasherImage:
    return build_flasher_image(tmp_path / "flasher.img", inner.path, pieces=40)


def verified(path: Path, count: int = 1) -> Report:
    return verify(
        path,
        partition="resin-data",
        data_root=b"docker",
        required_images=AppsJsonImages(),
        container=installed_image,
        processes=count,
    )


def flip(path: Path, needle: bytes) -> None:
    """Change the first byte of the only place where *needle* lies."""
    content = path.read_bytes()
    assert content.count(needle) == 1
    with path.open("r+b") as file:
        file.seek(content.index(needle))
        file.write(bytes([needle[0] ^ 1]))


def test_both_disk_images_are_verified_and_neither_is_changed(flasher: FlasherImage, inner: DiskImage) -> None:
    before = flasher.disk.path.read_bytes()
    report = verified(flasher.disk.path)
    assert flasher.disk.path.read_bytes() == before
    assert report.findings == ()
    assert (report.layers, report.disk_image) == (3, flasher.path.encode())
    assert [(one.disk_image, one.label) for one in report.file_systems] == [
        *((b"", label) for label in ("flash-boot", "flash-rootA", "flash-rootB")),
        *(
            (flasher.path.encode(), label)
            for label in ("resin-boot", "resin-rootA", "resin-rootB", "resin-state", "resin-data")
        ),
    ]
    alone = verify(inner.path, partition="resin-data", data_root=b"docker", required_images=AppsJsonImages())
    assert (report.images, report.layers, report.tar_bytes) == (alone.images, alone.layers, alone.tar_bytes)


def test_damage_is_told_of_the_disk_image_that_it_is_in(flasher: FlasherImage) -> None:
    content = CONTENTS[1][:1000]
    flip(flasher.disk.path, content)
    found = verified(flasher.disk.path).findings
    number = next(one.partition for one in verified(flasher.disk.path).file_systems if one.label == "resin-data")
    assert {(one.code, one.disk_image, one.partition) for one in found} == {
        ("changed-content", flasher.path.encode(), number)
    }
    boot = flasher.disk.partition("flash-boot")
    with flasher.disk.path.open("r+b") as file:
        file.seek(boot.offset + 512 * int.from_bytes(flasher.disk.path.read_bytes()[boot.offset + 14 :][:2], "little"))
        file.write(b"\0" * 2)
    codes = {(one.code, one.disk_image) for one in verified(flasher.disk.path).findings}
    assert codes == {("changed-content", flasher.path.encode()), ("damaged-fat", b"")}


def test_damage_to_the_outer_file_system_is_no_end(flasher: FlasherImage) -> None:
    run_tool("debugfs", "-w", "-R", f"sif /{flasher.path} links_count 7", flasher.root)
    run_tool("debugfs", "-w", "-R", "feature needs_recovery", flasher.root)
    report = verified(flasher.disk.path)
    number = flasher.disk.partition("flash-rootA").number
    assert {(one.code, one.disk_image, one.partition) for one in report.findings} == {
        ("damaged-file-system", b"", number),
        ("journal-needs-recovery", b"", number),
    }
    assert report.layers == 3


def test_a_file_that_cannot_be_read_is_a_finding(flasher: FlasherImage) -> None:
    run_tool("debugfs", "-w", "-R", f"sif /{flasher.path} block[0] 0", flasher.root)
    report = verified(flasher.disk.path)
    assert {(one.code, one.disk_image) for one in report.findings} == {
        ("unreadable", b""),
        ("damaged-file-system", b""),
    }
    assert (report.layers, report.disk_image) == (0, b"")


def test_processes_find_what_one_finds(flasher: FlasherImage, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(flasher.disk.path, CONTENTS[2][:1000])
    alone = verified(flasher.disk.path)
    monkeypatch.setattr(processes, "WORTHWHILE_BYTES", 0)
    monkeypatch.setattr("drypoint.verification.store.check_layer", None)
    assert verified(flasher.disk.path, 2) == alone


def test_signed_ones_and_those_for_secure_boot_are_verified(tmp_path: Path, inner: DiskImage) -> None:
    image = build_flasher_image(
        tmp_path / "flasher.img",
        inner.path,
        config={"installer": {"secureboot": True}},
        beside={"opt/balena-image-genericx86-64-ext.balenaos-img.sig": b"x"},
    )
    assert verified(image.disk.path).findings == ()


def test_a_compressed_inner_image_is_refused_by_its_name(tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(b"a disk image" * 1000))
    image = build_flasher_image(tmp_path / "flasher.img", packed, suffix=".gz")
    with pytest.raises(DiskImageError, match=r"balenaos-img\.gz in .*, the disk image inside, is gzip-compressed"):
        verified(image.disk.path)


def test_the_command_tells_where(flasher: FlasherImage, tmp_path: Path) -> None:
    flip(flasher.disk.path, CONTENTS[0][:1000])
    result = CliRunner().invoke(cli, ["verify", str(flasher.disk.path)], standalone_mode=False)
    assert result.return_value == 60
    assert "  disk image inside, partition " in result.output
    assert f"in the disk image inside, /{flasher.path}:\n" in result.output
    told = json.loads(
        CliRunner().invoke(cli, ["verify", "--json", str(flasher.disk.path)], standalone_mode=False).output
    )
    assert told["disk_image"] == flasher.path
    assert {one["disk_image"] for one in told["file_systems"]} == {None, flasher.path}
    assert {one["disk_image"] for one in told["findings"]} == {flasher.path}


def test_another_partition_is_one_of_the_flasher_itself(flasher: FlasherImage) -> None:
    arguments = ["verify", "--json", "--data-partition", "flash-rootA", str(flasher.disk.path)]
    told = json.loads(CliRunner().invoke(cli, arguments, standalone_mode=False).output)
    assert told["disk_image"] is None
    assert {one["code"] for one in told["findings"]} == {"no-store"}
