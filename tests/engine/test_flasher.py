"""A flasher preloaded, and what it installs started: the kernel copies the inner disk image out, as the flasher would do.

The outer and the inner disk image are judged by e2fsck and sfdisk, the store by a real engine.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from drypoint import ImageRequest, RegistrySource, Target, parse_reference, preload
from drypoint.balena.flasher import find_flasher, pinning_file
from drypoint.disk import FileDevice, find_partition, read_table
from drypoint.jobs.request import PreloadRequest
from drypoint.oci import Platform
from drypoint.samples.disk_images import EPOCH, PartitionTable
from drypoint.samples.tools import run_tool
from tests.support.docker_engine import DockerEngine
from tests.support.engine_images import add_supervisor
from tests.support.ext4_images import judge_ext4
from tests.support.flasher_images import FlasherImage, build_flasher_image
from tests.support.mounts import mounted
from tests.support.userland import ALPHA, BETA, SUPERVISOR, SUPERVISOR_VERSION

from .conftest import ServedImages
from .judging import base_with_supervisor, check_filesystem, differences_from, digest_of_file, verify_with_engine

pytestmark = [pytest.mark.engine, pytest.mark.needs("e2fsck", "sfdisk", "resize2fs")]

ROOT = "flash-rootA"


def root_of(image: Path) -> tuple[int, int]:
    """Offset and size of flash-rootA."""
    with FileDevice(image) as disk:
        partition = find_partition(disk, read_table(disk), ROOT).partition
    return partition.start, partition.size


def judge(image: Path) -> None:
    run_tool("sfdisk", "--verify", image)
    judge_ext4(image, offset=root_of(image)[0])


def files_of(image: Path) -> dict[str, tuple[object, ...]]:
    """All in flash-rootA as the kernel shows it, but for the inner disk image."""
    offset, size = root_of(image)
    found: dict[str, tuple[object, ...]] = {}
    with mounted(image, offset=offset, size=size) as point:
        for place, directories, files in os.walk(point):
            for name in (*directories, *files):
                path = Path(place) / name
                status = path.lstat()
                content = ""
                if stat.S_ISREG(status.st_mode):
                    if path.suffix == ".balenaos-img":
                        continue
                    content = hashlib.sha256(path.read_bytes()).hexdigest()
                about = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_ino, content)
                found[str(path.relative_to(point))] = about
    return found


def copied_by_the_kernel(image: Path, flasher: FlasherImage, target: Path) -> Path:
    """What a flasher does: it reads the file and writes it to the device."""
    offset, size = root_of(image)
    with mounted(image, offset=offset, size=size) as point:
        run_tool("dd", f"if={point / flasher.path}", f"of={target}", "bs=4M", "conv=sparse", "status=none")
    return target


def preloaded(base: Path, out: Path, served: ServedImages, names: tuple[str, ...], *, extra: int = 0) -> None:
    with FileDevice(base) as device:
        found = find_flasher(device)
    assert found is not None
    references = [parse_reference(served.by_tag(name)) for name in names]
    preload(
        base,
        out,
        PreloadRequest(
            [ImageRequest(reference, RegistrySource()) for reference in references],
            Platform("linux", "amd64"),
            target=Target(container=found.container),
            container_files=[pinning_file(4711)],
            additional_space=extra,
            timestamp=EPOCH,
        ),
    )


@pytest.mark.parametrize(
    ("table", "pieces"), [(PartitionTable.GPT, 0), (PartitionTable.MBR, 200)], ids=["GPT", "MBR in pieces"]
)
def test_a_flasher_installs_what_was_preloaded(
    tmp_path: Path, served: ServedImages, table: PartitionTable, pieces: int
) -> None:
    inner = base_with_supervisor(tmp_path, served, table)
    flasher = build_flasher_image(tmp_path / "flasher.img", inner.path, table=table, pieces=pieces)
    judge(flasher.disk.path)
    before, files = digest_of_file(flasher.disk.path), files_of(flasher.disk.path)
    out = tmp_path / "out.img"
    # docker save unpacks the images in the data root.
    preloaded(flasher.disk.path, out, served, (ALPHA, BETA), extra=400 << 20)
    assert digest_of_file(flasher.disk.path) == before

    judge(out)
    after = files_of(out)
    assert set(after) - set(files) == {"etc/resin-device-pinning.conf"}
    assert {name: about for name, about in after.items() if name in files} == files

    installed = copied_by_the_kernel(out, flasher, tmp_path / "installed.img")
    run_tool("sfdisk", "--verify", installed)
    check_filesystem(installed)
    reference = tmp_path / "reference"
    with DockerEngine(reference) as engine:
        add_supervisor(engine, served.by_digest(SUPERVISOR), SUPERVISOR_VERSION)
        engine.pull(served.by_tag(ALPHA))
        engine.pull(served.by_tag(BETA))
    assert differences_from(reference, installed) == ""
    verify_with_engine(installed, tmp_path, served, [ALPHA, BETA, SUPERVISOR], [ALPHA])
    check_filesystem(installed)


def test_twice_gives_the_same_bytes_and_again_changes_nothing(tmp_path: Path, served: ServedImages) -> None:
    inner = base_with_supervisor(tmp_path, served)
    flasher = build_flasher_image(tmp_path / "flasher.img", inner.path, pieces=50)
    outputs = [tmp_path / "one.img", tmp_path / "two.img", tmp_path / "again.img"]
    for out in outputs[:2]:
        preloaded(flasher.disk.path, out, served, (ALPHA,))
    preloaded(outputs[0], outputs[2], served, (ALPHA,))
    assert len({digest_of_file(out) for out in outputs}) == 1


def test_a_second_preload_adds_to_the_first(tmp_path: Path, served: ServedImages) -> None:
    inner = base_with_supervisor(tmp_path, served)
    flasher = build_flasher_image(tmp_path / "flasher.img", inner.path)
    first, second = tmp_path / "first.img", tmp_path / "second.img"
    preloaded(flasher.disk.path, first, served, (ALPHA,))
    preloaded(first, second, served, (BETA,))
    judge(second)
    installed = copied_by_the_kernel(second, flasher, tmp_path / "installed.img")
    check_filesystem(installed)
    verify_with_engine(installed, tmp_path, served, [ALPHA, BETA, SUPERVISOR], [])
