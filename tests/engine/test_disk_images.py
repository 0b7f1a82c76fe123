"""The builder of disk images, judged by sfdisk, e2fsck, fsck.vfat, the kernel and a real engine."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import stat
import tempfile
from pathlib import Path

import pytest

from drypoint.errors import ToolError
from drypoint.samples import tools
from drypoint.samples.disk_images import (
    EPOCH,
    IMAGE_TOOLS,
    MIB,
    RASPBERRY_PI_4,
    DiskImage,
    PartitionTable,
    Sizes,
    build_disk_image,
    data_tree,
)
from drypoint.samples.tools import run_tool
from tests.support.docker_engine import DockerEngine
from tests.support.engine_images import add_supervisor, mounted_partition, run_engine_on
from tests.support.userland import IMAGE_OUTPUT, SUPERVISOR, SUPERVISOR_VERSION

from .conftest import ServedImages

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "e2fsck")


@pytest.mark.parametrize("table", PartitionTable)
def test_the_partition_table_is_what_sfdisk_reads(table: PartitionTable, tmp_path: Path) -> None:
    image = build_disk_image(tmp_path / "disk.img", table=table, sizes=Sizes(data=96 * MIB))
    read = json.loads(run_tool("sfdisk", "--json", image.path))["partitiontable"]
    assert read["label"] == table.value
    seen = {
        int(entry["node"].removeprefix(str(image.path))): (entry["start"] * 512, entry["size"] * 512)
        for entry in read["partitions"]
        if entry["type"] != "f"
    }
    assert seen == {partition.number: (partition.offset, partition.size) for partition in image.partitions}
    assert all(partition.offset % (4 * MIB) == 0 for partition in image.partitions)
    assert image.partition("resin-data").size == 96 * MIB
    assert image.path.stat().st_blocks * 512 < 40 * MIB, "the image is sparse"
    run_tool("sfdisk", "--verify", image.path)


def test_every_file_system_is_sound_and_labelled(tmp_path: Path) -> None:
    image = build_disk_image(tmp_path / "disk.img")
    for partition in image.partitions[1:]:
        assert partition.label in run_tool("e2fsck", "-fn", at(image, partition.label))
    boot = tmp_path / "boot"
    with image.path.open("rb") as disk:
        disk.seek(image.partition("resin-boot").offset)
        boot.write_bytes(disk.read(image.partition("resin-boot").size))
    run_tool("fsck.vfat", "-n", boot)
    assert b"resin-boot " in boot.read_bytes()[:128]


def test_boot_and_root_say_what_the_device_is(tmp_path: Path) -> None:
    image = build_disk_image(tmp_path / "disk.img", device_type=RASPBERRY_PI_4)
    boot = f"{image.path}@@{image.partition('resin-boot').offset}"
    about = json.loads(run_tool("mcopy", "-i", boot, "::device-type.json", "-"))
    assert (about["slug"], about["arch"]) == ("raspberrypi4-64", "aarch64")
    assert "deviceType" in json.loads(run_tool("mcopy", "-i", boot, "::config.json", "-"))
    run_tool("mcopy", "-i", boot, "::splash/balena-logo.png", tmp_path / "logo.png")
    assert (tmp_path / "logo.png").read_bytes().startswith(b"\x89PNG")
    assert "balenaOS" in run_tool("debugfs", "-R", "cat /etc/os-release", at(image, "resin-rootA"))


@pytest.mark.needs("mount", "umount", "losetup", root=True)
def test_the_kernel_finds_a_fresh_data_partition(tmp_path: Path) -> None:
    image = build_disk_image(tmp_path / "disk.img")
    with mounted_partition(image) as point:
        found = {path.name: path.lstat() for path in point.iterdir()}
    assert sorted(found) == ["docker", "lost+found", "remove_me_to_reset", "resin-data"]
    assert {(status.st_uid, status.st_gid, status.st_mtime) for status in found.values()} == {(0, 0, EPOCH)}
    assert stat.S_IMODE(found["docker"].st_mode) == 0o710


@pytest.mark.parametrize("table", PartitionTable)
def test_the_same_call_gives_the_same_bytes(table: PartitionTable, tmp_path: Path) -> None:
    digests = set()
    for name, umask in (("one", 0o022), ("two", 0o077)):
        before = os.umask(umask)
        try:
            (tmp_path / name).mkdir()
            digests.add(digest_of_file(build_disk_image(tmp_path / name / "disk.img", table=table).path))
        finally:
            os.umask(before)
    assert len(digests) == 1


@pytest.mark.needs(root=True)
def test_it_takes_no_root_and_makes_no_difference(tmp_path: Path) -> None:
    image = build_disk_image(tmp_path / "disk.img")
    with tempfile.TemporaryDirectory() as directory:
        os.chown(directory, 65534, 65534)
        process = multiprocessing.get_context("fork").Process(target=build_as_nobody, args=(Path(directory),))
        process.start()
        process.join(60)
        assert process.exitcode == 0
        assert digest_of_file(Path(directory) / "disk.img") == digest_of_file(image.path)


def build_as_nobody(directory: Path) -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    build_disk_image(directory / "disk.img")


@pytest.mark.needs(root=True)
def test_a_tree_of_others_becomes_roots_without_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = data_tree(tmp_path / "tree")
    (tree / "docker/with space").write_text("x")
    os.chown(tree / "docker/with space", 1000, 1000)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    image = build_disk_image(tmp_path / "disk.img", data=tree)
    monkeypatch.undo()
    with mounted_partition(image) as point:
        status = (point / "docker/with space").stat()
        assert (status.st_uid, status.st_gid) == (0, 0)
    run_tool("e2fsck", "-fn", at(image, "resin-data"))


def test_options_reach_the_data_partition(tmp_path: Path) -> None:
    image = build_disk_image(tmp_path / "disk.img", ext4_options=("-I", "128", "-O", "^metadata_csum,^64bit"))
    facts = run_tool("dumpe2fs", "-h", at(image, "resin-data"))
    assert "metadata_csum" not in facts
    assert [line.split()[-1] for line in facts.splitlines() if line.startswith("Inode size")] == ["128"]


def test_missing_tools_are_named_with_their_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "SEARCH_PATH", "/nonexistent")
    with pytest.raises(
        ToolError, match=r"mkfs\.ext4, .* are not installed: apt-get install dosfstools e2fsprogs fdisk mtools"
    ):
        build_disk_image(tmp_path / "disk.img")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.engine
@pytest.mark.parametrize("way", ["engine on the mounted partition", "mke2fs -d"])
def test_a_real_engine_fills_and_uses_the_data_partition(way: str, tmp_path: Path, served: ServedImages) -> None:
    reference = served.by_digest(SUPERVISOR)
    path = tmp_path / "disk.img"
    if way == "mke2fs -d":
        tree = data_tree(tmp_path / "tree")
        with DockerEngine(tree / "docker") as engine:
            add_supervisor(engine, reference, SUPERVISOR_VERSION)
        image = build_disk_image(path, data=tree)
    else:
        image = build_disk_image(path)
        with run_engine_on(image) as engine:
            add_supervisor(engine, reference, SUPERVISOR_VERSION)
    run_tool("e2fsck", "-fn", at(image, "resin-data"))

    with run_engine_on(image, offline=True) as engine:
        names = {(found.repository, found.tag) for found in engine.images()}
        assert names >= {("balena_supervisor", SUPERVISOR_VERSION), (reference.partition("@")[0], "latest")}
        assert engine.run(reference) == IMAGE_OUTPUT[SUPERVISOR]
        engine.save(tmp_path / "saved.tar", f"balena_supervisor:{SUPERVISOR_VERSION}")
    assert engine.complaints() == ()
    run_tool("e2fsck", "-fn", at(image, "resin-data"))


@pytest.mark.engine
def test_the_supervisor_is_pulled_by_digest_only(tmp_path: Path) -> None:
    with DockerEngine(tmp_path / "docker", offline=True) as engine:
        with pytest.raises(ToolError, match="has none"):
            add_supervisor(engine, "127.0.0.1:5000/supervisor:latest", "v1")


def at(image: DiskImage, label: str) -> str:
    return f"{image.path}?offset={image.partition(label).offset}"


def digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
