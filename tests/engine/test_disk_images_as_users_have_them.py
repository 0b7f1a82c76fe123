"""Whole jobs on disk images as people have them: packed, with the data partition in the middle, from other builders, or copied
from a device that ran. A real engine runs the images in the end, offline.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import zipfile
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from drypoint.disk import FileDevice, find_partition, read_table
from drypoint.samples.applications import sample_images
from drypoint.samples.disk_images import (
    ALIGNMENT,
    MIB,
    SECTOR,
    DiskImage,
    Partition,
    PartitionTable,
    build_disk_image,
    make_ext4_partition,
    make_fat,
)
from drypoint.samples.images import registry_content
from drypoint.samples.registry import serve_registry
from drypoint.samples.tools import run_tool
from tests.support.docker_engine import DockerEngine
from tests.support.engine_images import mounted_partition
from tests.support.ext4_images import judge_ext4
from tests.support.mounts import mounted
from tests.support.unprivileged import NOBODY
from tests.support.userland import ALPHA, BETA, SUPERVISOR, debian_layer

from .conftest import ServedImages
from .judging import (
    OUTPUT,
    base_with_supervisor,
    check_filesystem,
    digest_of_file,
    drypoint,
    drypoint_failing,
    mounted_data,
    verify_with_engine,
)

pytestmark = [
    pytest.mark.engine,
    pytest.mark.needs("e2fsck", "resize2fs", "sfdisk", "sgdisk", "mcopy", "mkfs.ext4", "mkfs.vfat", "tar"),
]


@pytest.mark.needs("zstd", "bmaptool", "cmp")
def test_a_download_becomes_what_bmaptool_writes(workplace: Path, served: ServedImages) -> None:
    base = base_with_supervisor(workplace, served, PartitionTable.GPT)
    behind = add_partition_behind(base.path)
    download = workplace / "balena.img.zip"
    with zipfile.ZipFile(download, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.write(base.path, "balena.img")
    base.path.unlink()
    packed, block_map = workplace / "out.img.zst", workplace / "out.img.bmap"
    images = ["--image", served.by_tag(ALPHA), "--image", served.by_digest(BETA)]
    boot = ["--set", "hostname=alpha-1", "--static-ip", "10.0.0.1/24"]
    said = drypoint(workplace, "preload", download, "-o", packed, "--bmap", block_map, *images, *boot)
    assert "grew from 64.0 MiB" in said
    # Beside the index of layers, which is kept in the user's cache.
    assert {path.name for path in workplace.iterdir()} == {".cache", download.name, block_map.name, packed.name}

    raw, written = workplace / "out.img", workplace / "written.img"
    run_tool("zstd", "-d", "-q", packed, "-o", raw)
    run_tool("bmaptool", "copy", "--bmap", block_map, packed, written)
    run_tool("cmp", raw, written)
    assert "No problems found" in run_tool("sgdisk", "-v", written)
    check_filesystem(written)
    assert content_of(written, 6) == behind
    config = run_tool("mcopy", "-n", "-i", f"{written}@@{ALIGNMENT}", "::config.json", "-")
    assert json.loads(config)["hostname"] == "alpha-1"
    seed = run_tool("mdir", "-b", "-i", f"{written}@@{ALIGNMENT}", "::system-connections")
    assert "static" in seed
    raw.unlink()
    verify_with_engine(written, workplace, served, [ALPHA, BETA, SUPERVISOR], [])


def add_partition_behind(path: Path) -> bytes:
    """Put a partition with noise behind the last one of a GPT; its bytes."""
    os.truncate(path, path.stat().st_size + 4 * MIB)
    run_tool("sgdisk", "--move-second-header", "--new=6:0:0", "--change-name=6:behind", path)
    with FileDevice(path, writable=True) as device:
        partition = find_partition(device, read_table(device), "behind").partition
        noise = os.urandom(partition.size)
        device.write(partition.start, noise)
    return noise


def content_of(path: Path, number: int) -> bytes:
    with FileDevice(path) as device:
        partition = find_partition(device, read_table(device), number).partition
        return device.read(partition.start, partition.size)


COMPOSE = """\
name: weather
services:
  alpha:
    image: {alpha}
    restart: always
  beta:
    image: "${{BETA:-{beta}}}"
    depends_on: [alpha]
  debugging:
    image: {alpha}-that-does-not-exist
    profiles: [debug]
"""


def test_a_raspberry_pi_os_and_a_compose_file(workplace: Path, served: ServedImages) -> None:
    base = raspberry_pi_os(workplace / "pios.img")
    root = base.partition("rootfs")
    with mounted_partition(base, "rootfs", writable=True) as point, DockerEngine(point / "var/lib/docker") as engine:
        engine.pull(served.by_tag(SUPERVISOR))
    before, digest = snapshot(base.path), digest_of_file(base.path)
    compose = workplace / "compose.yaml"
    compose.write_text(COMPOSE.format(alpha=served.by_tag(ALPHA), beta=served.by_tag(BETA)))

    out = workplace / "out.img"
    where = ["--data-partition", "rootfs", "--data-root", "/var/lib/docker"]
    said = drypoint(workplace, "preload", base.path, "-o", out, *where, "--compose", compose, "--shrink-to-fit")
    assert "partition 2 grew from 160.0 MiB" in said
    assert "not preloaded, because these services have a profile: debugging" in said
    assert digest_of_file(base.path) == digest
    assert "No errors detected" in run_tool("sfdisk", "--verify", out)
    judge_ext4(out, offset=root.offset)
    assert snapshot(out) == before
    with mounted_root(out) as point:
        status = os.statvfs(point)
        # Trimmed to the last 4 MiB, and what the margins of the plan are.
        assert status.f_bavail * status.f_frsize < 12 * MIB
    grow_as_at_first_boot(out)
    with (
        mounted_root(out, writable=True) as point,
        DockerEngine(point / "var/lib/docker", offline=True) as engine,
    ):
        for name in (ALPHA, BETA, SUPERVISOR):
            assert engine.run(served.by_tag(name)) == OUTPUT[name]
        assert engine.complaints() == ()


def grow_as_at_first_boot(path: Path) -> None:
    """The root partition and its file system to the end of a larger medium."""
    os.truncate(path, path.stat().st_size + 400 * MIB)
    run_tool("sfdisk", "-q", "--no-reread", "-N", "2", path, script=", +\n")
    offset, size = root_partition(path)
    options = ["--find", "--show", "--offset", str(offset), "--sizelimit", str(size)]
    loop = run_tool("losetup", *options, path).strip()
    try:
        run_tool("resize2fs", "-f", loop)
    finally:
        run_tool("losetup", "--detach", loop)
    with mounted_root(path) as point:
        assert os.statvfs(point).f_blocks * 4096 > size * 9 // 10


def raspberry_pi_os(path: Path) -> DiskImage:
    """An MBR with a FAT boot partition and a Debian system behind it, as Raspberry Pi OS has them."""
    boot = Partition(1, "bootfs", ALIGNMENT, 40 * MIB)
    root = Partition(2, "rootfs", boot.offset + boot.size, 160 * MIB)
    with path.open("wb") as file:
        file.truncate(root.offset + root.size)
    places = "\n".join(
        f"{item.number}: start={item.offset // SECTOR}, size={item.size // SECTOR}, type={kind}"
        for item, kind in ((boot, "c"), (root, "83"))
    )
    run_tool("sfdisk", "-q", "--no-reread", path, script=f"label: dos\nlabel-id: 0x0f5a0001\n{places}\n")
    make_fat(
        path, boot, {"cmdline.txt": b"root=PARTUUID=0f5a0001-02 rootfstype=ext4\n", "config.txt": b"arm_64bit=1\n"}
    )
    tree = path.with_name("tree")
    tree.mkdir(mode=0o755)
    archive = debian_layer().tar
    assert isinstance(archive, Path)
    run_tool("tar", "--numeric-owner", "--xattrs", "-C", tree, "-xf", archive)
    (tree / "var/lib/docker").mkdir(mode=0o710)
    make_ext4_partition(path, root, tree, deterministic=False)
    run_tool("rm", "-rf", tree)
    return DiskImage(path, PartitionTable.MBR, (boot, root))


def root_partition(path: Path) -> tuple[int, int]:
    with FileDevice(path) as device:
        partition = find_partition(device, read_table(device), "rootfs").partition
    return partition.start, partition.size


def mounted_root(path: Path, *, writable: bool = False) -> AbstractContextManager[Path]:
    offset, size = root_partition(path)
    return mounted(path, offset=offset, size=size, writable=writable)


def snapshot(path: Path) -> dict[str, tuple[object, ...]]:
    """All in the root file system but the engine's store, as the kernel shows it; and what lies in front of it."""
    offset, _ = root_partition(path)
    with path.open("rb") as disk:
        disk.seek(ALIGNMENT)
        found: dict[str, tuple[object, ...]] = {"boot": (hashlib.sha256(disk.read(offset - ALIGNMENT)).hexdigest(),)}
    with mounted_root(path) as point:
        for place, directories, files in os.walk(point):
            if Path(place) == point / "var/lib":
                directories.remove("docker")
            for name in (*directories, *files):
                file = Path(place) / name
                found[str(file.relative_to(point))] = _described(file)
    return found


def _described(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    content = ""
    if stat.S_ISREG(status.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = os.fsdecode(path.readlink())
    attributes = {
        name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
    }
    return (
        status.st_ino, status.st_mode, status.st_nlink, status.st_uid, status.st_gid, status.st_rdev, status.st_size,
        status.st_mtime_ns, status.st_ctime_ns, attributes, content,
    )  # fmt: skip


def test_an_engine_that_never_ran(workplace: Path) -> None:
    """There is /var/lib, and no data root in it yet."""
    tree = workplace / "tree"
    (tree / "var/lib").mkdir(parents=True)
    base, out = workplace / "base.img", workplace / "out.img"
    base.touch()
    os.truncate(base, 64 * MIB)
    run_tool("mkfs.ext4", "-q", "-L", "rootfs", "-d", tree, base)
    os.chown(base, NOBODY, NOBODY)
    where = ["--data-partition", "rootfs", "--data-root", "/var/lib/docker"]
    with serve_registry(registry_content(sample_images())) as registry:
        name = f"{registry.host}/demo/weather:1.0"
        drypoint(workplace, "preload", base, "-o", out, *where, "--image", name)
    judge_ext4(out)
    with mounted(out, writable=True) as point, DockerEngine(point / "var/lib/docker", offline=True) as engine:
        assert engine.run(name) == OUTPUT["demo/weather:1.0"]
        assert engine.complaints() == ()


def test_a_base_copied_from_a_device_that_ran(workplace: Path) -> None:
    """Its journal holds what the file system does not have yet; the kernel itself wrote it."""
    image = build_disk_image(workplace / "device.img")
    base = workplace / "base.img"
    names = {b"docker/tmp/left": b"by an engine\n", b"resin-data/service/state": b"of a service\n"}
    with serve_registry(registry_content(sample_images())) as registry:
        with mounted_partition(image, writable=True) as point:
            os.sync()
            for name, content in names.items():
                file = point / os.fsdecode(name)
                file.parent.mkdir()
                with file.open("wb", buffering=0) as out:
                    out.write(content)
                    # Into the journal with it; where it belongs it is written later.
                    os.fsync(out.fileno())
            subprocess.run(["cp", "--sparse=always", image.path, base], check=True)
        os.chown(base, NOBODY, NOBODY)
        place = f"{base}?offset={image.partition('resin-data').offset}"
        assert "needs_recovery" in run_tool("dumpe2fs", "-h", place)
        # What is only in the journal, debugfs does not see.
        assert "left" not in run_tool("debugfs", "-R", "ls -l docker/tmp", place)
        digest = digest_of_file(base)
        image_option = ("--image", f"{registry.host}/demo/weather:1.0")
        output = workplace / "out.img"
        said = drypoint_failing(workplace, "preload", base, "-o", output, *image_option)
        assert "partition 6 ('resin-data') was not cleanly unmounted" in said
        assert "With --fsck, preload and plan run e2fsck -fp first" in said
        assert "space needed" in drypoint(workplace, "plan", base, "--fsck", *image_option)
        drypoint(workplace, "preload", base, "-o", output, "--fsck", *image_option)
        assert digest_of_file(base) == digest
        check_filesystem(output)
        with mounted_data(output, writable=True) as point:
            for name, content in names.items():
                assert (point / os.fsdecode(name)).read_bytes() == content
            with DockerEngine(point / "docker", offline=True) as engine:
                assert engine.run(f"{registry.host}/demo/weather:1.0") == OUTPUT["demo/weather:1.0"]
                assert engine.complaints() == ()
