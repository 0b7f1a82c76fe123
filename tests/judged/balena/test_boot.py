"""The boot partition of disk images made by sfdisk and mkfs.vfat, changed by the options and read by mtools."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from drypoint.balena.boot import BootChanges, boot_partition_files, find_boot_partition, read_config
from drypoint.balena.boot_config import Setting
from drypoint.balena.boot_request import BootRequest, boot_files
from drypoint.balena.network import NetworkConnection
from drypoint.cli.boot_options import boot_options
from drypoint.disk import FileDevice
from drypoint.errors import DrypointError, FilesystemError, NoSpaceError, PartitionTableError, UsageError
from drypoint.samples.disk_images import IMAGE_TOOLS, DiskImage, PartitionTable, build_disk_image
from drypoint.samples.tools import run_tool
from drypoint.volumes.fat_files import FatFile, put_fat_files
from drypoint.volumes.partitioned_disk import PartitionedDisk

from ...unit.balena.test_splash import image as png_image

pytestmark = pytest.mark.needs(*IMAGE_TOOLS)

TIME = 1_600_000_000
MIB = 1 << 20
SECRET = "f00dfacesecret"
WIFI = f"[connection]\nid=wifi\ntype=wifi\n\n[wifi-security]\npsk={SECRET}\n"


@pytest.fixture(scope="module", params=PartitionTable)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DiskImage:
    return build_disk_image(tmp_path_factory.mktemp("base") / "disk.img", table=request.param)


def boot_copy(image: DiskImage, tmp_path: Path) -> Path:
    """A copy that can be written to."""
    path = tmp_path / "out.img"
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", image.path, path], check=True)
    return path


def everything(disk: Path, offset: int) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        run_tool("mcopy", "-i", f"{disk}@@{offset}", "-s", "-n", "::", name)
        return {str(path.relative_to(name)): path.read_bytes() for path in Path(name).rglob("*") if path.is_file()}


def apply(disk: Path, inputs: BootRequest, os_version: str | None = None) -> tuple[FatFile, ...]:
    with FileDevice(disk, writable=True) as device:
        files = boot_files(inputs, device, os_version=os_version)
        put_fat_files(PartitionedDisk(device), files, TIME)
    return files


def test_all_changes_at_once_and_nothing_else(base: DiskImage, tmp_path: Path) -> None:
    disk, offset = boot_copy(base, tmp_path), base.partition("resin-boot").offset
    (tmp_path / "logo.png").write_bytes(png_image(width=64, height=32, colour=6))
    (tmp_path / "my wifi").write_text(WIFI)
    before, outside = everything(disk, offset), disk.read_bytes()
    files = apply(
        disk,
        BootRequest(
            settings=("hostname=demo", "os.network.connectivity.interval=300", "persistentLogging=true"),
            splash_image=tmp_path / "logo.png",
            network_connections=(tmp_path / "my wifi",),
            static_ip="10.0.0.1/24",
        ),
    )
    assert {file.partition for file in files} == {1}
    after = everything(disk, offset)
    config = json.loads(after["config.json"])
    assert config == {
        **json.loads(before["config.json"]),
        "hostname": "demo",
        "os": {"network": {"connectivity": {"interval": 300}}},
        "persistentLogging": True,
    }
    assert after == {
        **before,
        "config.json": after["config.json"],
        "splash/balena-logo.png": (tmp_path / "logo.png").read_bytes(),
        "system-connections/my wifi": WIFI.encode(),
        "system-connections/static_ip": after["system-connections/static_ip"],
    }
    changed = disk.read_bytes()
    end = offset + base.partition("resin-boot").size
    assert changed[:offset] == outside[:offset]
    assert changed[end:] == outside[end:]
    (tmp_path / "boot.fat").write_bytes(changed[offset:end])
    run_tool("fsck.vfat", "-n", tmp_path / "boot.fat")


def test_the_same_changes_again_change_nothing(base: DiskImage, tmp_path: Path) -> None:
    disk = boot_copy(base, tmp_path)
    changes = BootRequest(settings=("hostname=demo",), static_ip="10.0.0.1/24")
    apply(disk, changes)
    once = disk.read_bytes()
    apply(disk, changes)
    assert disk.read_bytes() == once


def test_a_whole_config_replaces_the_one_there(base: DiskImage, tmp_path: Path) -> None:
    disk = boot_copy(base, tmp_path)
    mine = tmp_path / "mine.json"
    mine.write_text('{\n  "applicationId": 7\n}\n')
    assert [file.content for file in apply(disk, BootRequest(config=mine))] == [mine.read_bytes()]
    with FileDevice(disk) as device:
        assert read_config(device) == mine.read_bytes()
    apply(disk, BootRequest(config=mine, settings=("hostname=demo",)))
    with FileDevice(disk) as device:
        assert read_config(device) == b'{\n  "applicationId": 7,\n  "hostname": "demo"\n}\n'


def test_without_changes_the_disk_image_is_not_even_looked_at(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    with FileDevice(empty) as device:
        assert boot_files(BootRequest(), device) == ()
        assert boot_partition_files(device, BootChanges()) == ()


def small_disk(tmp_path: Path, *labels: str, name: str = "", kind: str = "mkfs.vfat", table: str = "gpt") -> Path:
    """A disk image whose partitions, 2 MiB each, bear these labels."""
    disk = tmp_path / "small.img"
    with disk.open("wb") as file:
        file.truncate((len(labels) * 2 + 4) * MIB)
    lines = [f"label: {table}"]
    for index in range(len(labels)):
        place = f"start={(2 * index + 1) * 2048}, size=4096"
        lines.append(f"{place}, name={name}" if name else place)
    run_tool("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk, script="\n".join(lines) + "\n")
    for index, label in enumerate(labels):
        part = tmp_path / "part"
        part.unlink(missing_ok=True)
        with part.open("wb") as file:
            file.truncate(2 * MIB)
        named = ["-n" if kind == "mkfs.vfat" else "-L", label] if label else []
        run_tool(kind, *named, part)
        with disk.open("r+b") as file:
            file.seek((2 * index + 1) * MIB)
            file.write(part.read_bytes())
    return disk


@pytest.mark.parametrize(
    ("labels", "name", "number"),
    [
        (("other", "resin-boot"), "", 2),
        (("flash-boot",), "", 1),
        (("balena-boot", "resin-boot"), "", 2),
        (("RESIN-BOOT",), "", 1),
        (("",), "flash-boot", 1),
    ],
)
def test_the_boot_partition_is_found_by_its_label(
    tmp_path: Path, labels: tuple[str, ...], name: str, number: int
) -> None:
    with FileDevice(small_disk(tmp_path, *labels, name=name)) as device:
        assert find_boot_partition(device).number == number


@pytest.mark.parametrize(
    ("build", "error", "why"),
    [
        (lambda path: small_disk(path, "other"), PartitionTableError, r"no boot partition.*it has 1 'other' \(FAT12\)"),
        (lambda path: small_disk(path, "resin-boot", "resin-boot"), PartitionTableError, "2 boot partitions"),
        (
            lambda path: small_disk(path, "resin-boot", kind="mkfs.ext2"),
            FilesystemError,
            "ext2, but the boot partition needs FAT",
        ),
        (
            lambda path: small_disk(path, "", name="resin-boot", kind="mkswap"),
            FilesystemError,
            "holds swap, but the boot partition needs FAT",
        ),
    ],
)
def test_disk_images_without_a_usable_boot_partition_are_refused(
    tmp_path: Path, build: Callable[[Path], Path], error: type[DrypointError], why: str
) -> None:
    with FileDevice(build(tmp_path)) as device, pytest.raises(error, match=why):
        boot_partition_files(device, BootChanges(settings=(Setting(("a",), b"1"),)))


def test_the_image_without_splash_or_config_gets_them(tmp_path: Path) -> None:
    disk = small_disk(tmp_path, "resin-boot", table="dos")
    (tmp_path / "logo.png").write_bytes(png_image())
    files = apply(disk, BootRequest(settings=("a.b=1",), splash_image=tmp_path / "logo.png"), os_version="2.31.5+rev1")
    assert [(file.path, file.content) for file in files] == [
        ("config.json", b'{"a":{"b":1}}'),
        ("splash/resin-logo.png", png_image()),
    ]
    assert everything(disk, MIB) == {"config.json": b'{"a":{"b":1}}', "splash/resin-logo.png": png_image()}


def test_a_boot_partition_that_is_too_small_stays_as_it_was(tmp_path: Path) -> None:
    disk = small_disk(tmp_path, "resin-boot")
    before = disk.read_bytes()
    noise = bytes(range(256)) * 12_000
    files = (FatFile(1, "config.json", b"{}"), FatFile(1, "splash/balena-logo.png", noise))
    with FileDevice(disk, writable=True) as device, pytest.raises(NoSpaceError, match="bytes free"):
        put_fat_files(PartitionedDisk(device), files, TIME)
    with (
        FileDevice(disk, writable=True) as device,
        pytest.raises(PartitionTableError, match="no partition has the number 9"),
    ):
        put_fat_files(PartitionedDisk(device), [replace(files[0], partition=9)], TIME)
    assert disk.read_bytes() == before


def test_files_that_are_not_what_they_should_be_are_named_and_not_repeated(base: DiskImage, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text(f"psk {SECRET}")
    with FileDevice(base.path) as device:
        for inputs, why in (
            (BootRequest(config=broken), "broken is not a config.json"),
            (BootRequest(splash_image=broken), "broken is not a PNG image"),
            (BootRequest(network_connections=(broken,)), "broken is not a connection profile"),
            (BootRequest(config=tmp_path / "nowhere"), "cannot read .*nowhere"),
            (BootRequest(config=tmp_path), "cannot read"),
            (BootRequest(settings=(SECRET,)), "KEY=VALUE"),
        ):
            with pytest.raises(UsageError, match=why) as caught:
                boot_files(inputs, device)
            assert SECRET not in str(caught.value)


def test_the_options_are_gathered() -> None:
    seen: list[BootRequest] = []

    @click.command()
    @boot_options
    def command(boot: BootRequest) -> None:
        seen.append(boot)

    arguments = ["--config", "c", "--set", "a=1", "--set", "b=2", "--splash-image", "s", "--network-connection", "n"]
    result = CliRunner().invoke(command, [*arguments, "--system-connection", "m", "--static-ip", "10.0.0.1/24"])
    assert result.exit_code == 0, result.output
    assert CliRunner().invoke(command, []).exit_code == 0
    assert seen == [
        BootRequest(Path("c"), ("a=1", "b=2"), Path("s"), (Path("n"), Path("m")), "10.0.0.1/24"),
        BootRequest(),
    ]
    assert seen[1].is_empty


def test_the_options_alone_import_little() -> None:
    code = "import sys, drypoint.cli.boot_options; print([m for m in sys.modules if m.startswith('drypoint.balena')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['drypoint.balena', 'drypoint.balena.boot_request']"


def test_what_may_be_secret_does_not_show() -> None:
    network = NetworkConnection("home", b"psk=hunter2", "home")
    changes = BootChanges(b'{"apiKey": "hunter2"}', (Setting(("apiKey",), b'"hunter2"'),), None, (network,))
    for value in (changes, FatFile(1, "config.json", b"hunter2"), BootRequest(settings=("apiKey=hunter2",))):
        assert "hunter2" not in repr(value)
