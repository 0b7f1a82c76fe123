"""What a flasher installs, found as the flasher itself finds it; and which flashers are refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.support.flasher_images import FlasherImage, build_flasher_image

from drypoint.balena.flasher import find_flasher, pinning_file
from drypoint.disk import FileDevice
from drypoint.errors import DiskImageError, DrypointError, FilesystemError, UsageError
from drypoint.samples.disk_images import IMAGE_TOOLS, MIB, DiskImage, PartitionTable, Sizes, build_disk_image
from drypoint.samples.tools import run_tool
from drypoint.volumes.partitioned_disk import open_disk

pytestmark = pytest.mark.needs(*IMAGE_TOOLS)

SMALL = Sizes(boot=4 * MIB, root_a=4 * MIB, root_b=4 * MIB, state=4 * MIB, data=8 * MIB)
NAME = "balena-image-genericx86-64-ext.balenaos-img"


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory) -> DiskImage:
    return build_disk_image(tmp_path_factory.mktemp("inner") / "inner.img", sizes=SMALL)


def build(
    directory: Path,
    inner: Path,
    *,
    beside: Mapping[str, bytes] | None = None,
    config: Mapping[str, object] | None = None,
    suffix: str = "",
) -> FlasherImage:
    return build_flasher_image(directory / "flasher.img", inner, beside=beside, config=config, suffix=suffix)


def put_in_boot(image: FlasherImage, name: str, content: bytes) -> None:
    file = image.disk.path.with_name("content")
    file.write_bytes(content)
    boot = f"{image.disk.path}@@{image.disk.partition('flash-boot').offset}"
    run_tool("mcopy", "-o", "-i", boot, file, f"::{name}")


def refusal(image: Path) -> DrypointError:
    with FileDevice(image) as device, pytest.raises(DrypointError) as caught:
        find_flasher(device)
    return caught.value


def unconfigured(line: str = "") -> dict[str, bytes]:
    return {"etc/resin-init-flasher.conf": f"INTERNAL_DEVICE_KERNEL=sda\n{line}\n".encode()}


@pytest.mark.parametrize("table", PartitionTable)
def test_the_image_to_install_is_found(tmp_path: Path, inner: DiskImage, table: PartitionTable) -> None:
    image = build_flasher_image(tmp_path / "flasher.img", inner.path, table=table)
    with FileDevice(image.disk.path) as device:
        flasher = find_flasher(device)
        assert flasher is not None
        assert (flasher.container.partition, flasher.container.path) == (2, f"opt/{NAME}".encode())
        assert not flasher.signed
        read = open_disk(device, flasher.container).device
        assert read.read(0, read.size) == inner.path.read_bytes()


def test_a_disk_image_that_is_no_flasher(inner: DiskImage) -> None:
    with FileDevice(inner.path) as device:
        assert find_flasher(device) is None


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        (unconfigured(f"BALENA_IMAGE=other\nBALENA_IMAGE='{NAME}'"), False),
        (unconfigured("BALENA_IMAGE=$(name)"), False),
        ({**unconfigured(), "opt/readme": b"of no interest"}, False),
        ({f"opt/{NAME}.sig": b"\0" * 512}, True),
        ({f"opt/{NAME}.sig": b"\0" * 512, **unconfigured()}, True),
    ],
)
def test_by_which_name(tmp_path: Path, inner: DiskImage, beside: dict[str, bytes], expected: bool) -> None:
    image = build(tmp_path, inner.path, beside=beside)
    with FileDevice(image.disk.path) as device:
        flasher = find_flasher(device)
    assert flasher is not None
    assert (flasher.container.path, flasher.signed) == (f"opt/{NAME}".encode(), expected)
    assert (flasher.note is not None) == expected


def test_the_only_file_in_opt_is_it_when_nothing_names_one(tmp_path: Path, inner: DiskImage) -> None:
    image = build(tmp_path, inner.path, beside={**unconfigured(), f"opt/{NAME}-1.sig": b"x"}, suffix="-1")
    with FileDevice(image.disk.path) as device:
        flasher = find_flasher(device)
    assert flasher is not None
    assert (flasher.container.path, flasher.signed) == (f"opt/{NAME}-1".encode(), True)


def test_one_of_several_cannot_be_told(tmp_path: Path, inner: DiskImage) -> None:
    image = build(tmp_path, inner.path, beside={**unconfigured(), "opt/another": b"x"}, suffix="-1")
    error = refusal(image.disk.path)
    assert f"device-type.json names a file in /opt, and there is another, {NAME}-1" in str(error)


def test_secure_boot_is_refused_and_a_signature_alone_is_not(tmp_path: Path, inner: DiskImage) -> None:
    signature = {f"opt/{NAME}.sig": b"\0" * 512}
    image = build(tmp_path, inner.path, beside=signature, config={"installer": {"secureboot": True}})
    error = refusal(image.disk.path)
    assert type(error) is DiskImageError
    assert "is to be installed with secure boot (config.json in partition 1 says installer.secureboot)" in str(error)
    assert "configure the disk image without secure boot" in str(error)
    for installer in ({"secureboot": "true"}, {"secureboot": False}, {}, None, "x"):
        put_in_boot(image, "config.json", json.dumps({"installer": installer}).encode())
        with FileDevice(image.disk.path) as device:
            flasher = find_flasher(device)
        assert flasher is not None
        assert flasher.signed


def test_a_compressed_image_is_refused_by_its_kind(tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(b"a disk image" * 1000))
    image = build(tmp_path, packed, suffix=".gz")
    error = refusal(image.disk.path)
    assert f"/opt/{NAME}.gz in " in str(error)
    assert "the disk image to install, is gzip-compressed" in str(error)


def encrypt(image: DiskImage, label: str) -> None:
    """Put LUKS's header where a file system was, as far as anyone looks."""
    with image.path.open("r+b") as file:
        file.seek(image.partition(label).offset)
        file.write(b"LUKS\xba\xbe\x00\x02" + bytes(4096))


@pytest.mark.parametrize("label", ["resin-data", "flash-rootA"])
def test_an_encrypted_partition_is_refused(tmp_path: Path, label: str) -> None:
    inner = build_disk_image(tmp_path / "inner.img", table=PartitionTable.GPT, sizes=SMALL)
    if label == "resin-data":
        encrypt(inner, label)
        assert "partition 5 (resin-data) is encrypted (LUKS2)" in str(refusal(inner.path))
    image = build(tmp_path, inner.path)
    if label == "flash-rootA":
        encrypt(image.disk, label)
    error = refusal(image.disk.path)
    assert type(error) is FilesystemError
    assert f"({label}) is encrypted (LUKS2), and only its device has the key" in str(error)


def test_boot_files_that_are_no_json_are_refused(tmp_path: Path, inner: DiskImage) -> None:
    for name, conf in (("config.json", None), ("device-type.json", unconfigured())):
        image = build(tmp_path, inner.path, beside=conf)
        put_in_boot(image, name, b'{"yocto": ')
        assert f"{name} in partition 1 of" in str(refusal(image.disk.path))


def test_the_pinning_file() -> None:
    file = pinning_file(12345)
    assert (file.path, file.content) == (b"etc/resin-device-pinning.conf", b"RELEASE_ID=12345")
    assert file.mode == 0o644
    with pytest.raises(UsageError, match="cannot be pinned to the release 0"):
        pinning_file(0)
