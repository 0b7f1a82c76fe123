"""Block devices that are changed where they are: by the kernel's own rules of who may, and as they were if anything fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from drypoint.cli.app import cli
from drypoint.disk import FileDevice, find_partition, read_table
from drypoint.errors import DiskImageError, OutputError
from drypoint.samples.applications import sample_images
from drypoint.samples.disk_images import IMAGE_TOOLS, MIB, PartitionTable, Sizes, build_disk_image
from drypoint.samples.images import write_oci_layout
from drypoint.samples.tools import run_tool
from tests.support.mounts import mounted

from .judging import digest_of_file

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "e2fsck", "resize2fs", "losetup", "mount", "umount", "sgdisk", root=True)

MEDIUM = 256 * MIB


@contextmanager
def attached(path: Path) -> Iterator[str]:
    loop = run_tool("losetup", "--find", "--show", path).strip()
    try:
        yield loop
    finally:
        run_tool("losetup", "--detach", loop)


def preload(base: str | Path, *options: str | Path) -> Result:
    return CliRunner().invoke(cli, ["preload", *map(str, (base, *options))])


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    write_oci_layout(tmp_path / "layout", {"demo/weather:1.0": sample_images()["demo/weather:1.0"]})
    return tmp_path / "layout"


@pytest.fixture
def medium(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A disk image written to a larger medium."""
    sizes = Sizes(root_a=8 * MIB, root_b=8 * MIB, state=8 * MIB, data=16 * MIB)
    path = build_disk_image(tmp_path / "medium", table=request.param, sizes=sizes).path
    os.truncate(path, MEDIUM)
    return path


BOTH = pytest.mark.parametrize("medium", list(PartitionTable), indirect=True, ids=lambda table: table.name)
ONE = pytest.mark.parametrize("medium", [PartitionTable.MBR], indirect=True)


@BOTH
def test_a_device_in_place(medium: Path, layout: Path) -> None:
    with attached(medium) as loop:
        done = preload(loop, "--in-place", "--image", f"oci:{layout}", "--additional-space", "60M")
        assert done.exit_code == 0, done.exception
        assert "grew from 16.0 MiB" in done.stdout
        content = digest_of_file(medium)
        again = preload(loop, "--in-place", "--image", f"oci:{layout}")
        assert again.exit_code == 0, again.exception
        assert digest_of_file(medium) == content
    assert medium.stat().st_size == MEDIUM
    with FileDevice(medium) as device:
        partition = find_partition(device, read_table(device), "resin-data").partition
    run_tool("e2fsck", "-fn", f"{medium}?offset={partition.start}")
    with mounted(medium, offset=partition.start, size=partition.size) as point:
        status = os.statvfs(point)
        assert status.f_bavail * status.f_frsize >= 60 * MIB
        assert len(list((point / "docker/overlay2").iterdir())) == 5


@BOTH
def test_a_device_is_as_it_was_when_a_layer_is_bad(medium: Path, layout: Path) -> None:
    largest = max((layout / "blobs/sha256").iterdir(), key=lambda blob: blob.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[-1] ^= 1
    largest.write_bytes(content)
    before = digest_of_file(medium)
    with attached(medium) as loop:
        done = preload(
            loop, "--in-place", "--image", f"oci:{layout}", "--additional-space", "60M", "--platform", "linux/amd64"
        )
        assert done.exit_code != 0
        assert "growing partition" in done.stderr
        assert largest.name[:12] in str(done.exception)
    assert digest_of_file(medium) == before


@ONE
def test_a_device_is_only_read_without_in_place(medium: Path, layout: Path, tmp_path: Path) -> None:
    before = digest_of_file(medium)
    with attached(medium) as loop:
        done = preload(loop, "-o", tmp_path / "out.img", "--image", f"oci:{layout}")
        assert done.exit_code == 0, done.exception
        for options in ([], ["--overwrite"]):
            refused = preload(medium, "-o", loop, *options, "--image", f"oci:{layout}")
            assert isinstance(refused.exception, OutputError)
            assert f"cannot write {loop}: it is a block device, and the result is a file" in str(refused.exception)
            assert f"--in-place with {loop} as the base" in str(refused.exception)
    assert digest_of_file(medium) == before


@ONE
def test_after_a_kill_a_device_can_be_put_back(
    medium: Path, layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = digest_of_file(medium)
    planted = (
        "import os, signal; import drypoint.jobs.preload as job; from drypoint.cli import main\n"
        "job.verify_written = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\nmain()"
    )
    with attached(medium) as loop:
        killed = subprocess.run(
            [sys.executable, "-c", planted, "preload", loop, "--in-place", "--image", f"oci:{layout}"], check=False
        )
        assert killed.returncode == -9
        assert digest_of_file(medium) != before
        refused = preload(loop, "--in-place", "--image", f"oci:{layout}")
        assert isinstance(refused.exception, OutputError)
        assert f"drypoint restore {loop} puts that back" in str(refused.exception)
        done = CliRunner().invoke(cli, ["restore", loop])
        assert done.exit_code == 0, done.exception
    assert digest_of_file(medium) == before
    assert not list(tmp_path.glob("*.drypoint-undo"))


@ONE
def test_a_device_its_file_and_its_partitions_have_one_lock(medium: Path) -> None:
    with medium.open("rb") as file, ExitStack() as stack:
        loop = run_tool("losetup", "--find", "--show", "--partscan", medium).strip()
        stack.callback(run_tool, "losetup", "--detach", loop)
        names = [medium, Path(loop), *Path("/dev").glob(f"{Path(loop).name}p1")]
        for one in names:
            for other in names:
                with FileDevice(one) as writer, FileDevice(other) as reader:
                    writer.lock(exclusive=True)
                    with pytest.raises(DiskImageError, match="another program is changing it now"):
                        reader.lock(exclusive=False)
        assert file.read(1)


def test_a_file_that_is_mounted_is_refused(tmp_path: Path, layout: Path) -> None:
    medium = tmp_path / "medium"
    medium.touch()
    os.truncate(medium, 64 * MIB)
    run_tool("mkfs.ext4", "-q", "-L", "resin-data", medium)
    with mounted(medium):
        refused = preload(medium, "--in-place", "--image", f"oci:{layout}")
        assert isinstance(refused.exception, OutputError)
        assert f"cannot change {medium} in place: it is in use through /dev/loop" in str(refused.exception)


def test_a_device_that_is_mounted_is_refused(tmp_path: Path, layout: Path) -> None:
    medium = tmp_path / "medium"
    medium.touch()
    os.truncate(medium, 64 * MIB)
    run_tool("mkfs.ext4", "-q", "-L", "resin-data", medium)
    point = tmp_path / "point"
    point.mkdir()
    with attached(medium) as loop:
        subprocess.run(["mount", loop, point], check=True)
        try:
            (point / "docker").mkdir()
            os.sync()
            refused = preload(loop, "--in-place", "--fsck", "--image", f"oci:{layout}")
        finally:
            subprocess.run(["umount", point], check=True)
        assert isinstance(refused.exception, OutputError)
        assert f"cannot change {loop} in place: it is in use. Unmount its partitions first" in str(refused.exception)
        # The same without the mount: that it was mounted is all that was wrong.
        done = preload(loop, "--in-place", "--image", f"oci:{layout}")
        assert done.exit_code == 0, done.exception
        run_tool("e2fsck", "-fn", loop)
