"""--fsck where the store lies in the disk image that a flasher installs; e2fsck, debugfs and cmp are the judges."""

from __future__ import annotations

import filecmp
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.ext4_images import judge_ext4
from tests.support.flasher_images import FlasherImage, build_flasher_image

from drypoint.cli.app import cli
from drypoint.disk import FileDevice, find_partition, read_table
from drypoint.errors import DiskImageError, FilesystemError
from drypoint.samples.disk_images import IMAGE_TOOLS, MIB, Sizes, build_disk_image
from drypoint.samples.images import build_image, build_layer, write_docker_archive
from drypoint.samples.layers import LayerBuilder
from drypoint.samples.tools import run_tool

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "e2fsck", "resize2fs", "debugfs")

SMALL = Sizes(boot=4 * MIB, root_a=4 * MIB, root_b=4 * MIB, state=4 * MIB, data=8 * MIB)
DATA = "resin-data"
NOISE = bytes(range(256)) * 64
ROOT = "flash-rootA"


def drypoint(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(one) for one in arguments], catch_exceptions=False, standalone_mode=False)
    assert not result.return_value
    return result.output


def flasher_with(directory: Path, *damage: str, pieces: int = 0) -> FlasherImage:
    """A flasher whose inner data partition is as debugfs leaves it after *damage*."""
    inner = build_disk_image(directory / "inner.img", sizes=SMALL)
    place = f"{inner.path}?offset={inner.partition(DATA).offset}"
    run_tool("debugfs", "-w", "-f", "-", place, script="\n".join(damage) + "\n")
    return build_flasher_image(directory / "flasher.img", inner.path, pieces=pieces)


def archive_in(directory: Path) -> tuple[str, str]:
    path = directory / "app.tar"
    layer = build_layer(LayerBuilder().file("greeting", b"hello").finish())
    write_docker_archive(path, {"example.com/app:1": build_image([layer])})
    return "--image", f"docker-archive:{path}"


def start_of(image: Path, label: str) -> int:
    with FileDevice(image) as disk:
        return find_partition(disk, read_table(disk), label).partition.start


def dump(flasher: FlasherImage, image: Path, target: Path) -> Path:
    """The disk image inside, after e2fsck has found nothing to say about its data partition and what surrounds it."""
    root = start_of(image, ROOT)
    judge_ext4(image, offset=root)
    run_tool("debugfs", "-R", f"dump /{flasher.path} {target}", f"{image}?offset={root}")
    judge_ext4(target, offset=start_of(target, DATA))
    return target


def times(flasher: FlasherImage, image: Path) -> set[str]:
    """The times of the file that is the disk image inside."""
    told = run_tool("debugfs", "-R", f"stat /{flasher.path}", f"{image}?offset={start_of(image, ROOT)}")
    return set(re.findall(r"^ *[acm]time: (\S+)", told, re.MULTILINE))


@pytest.mark.parametrize("pieces", [0, 40])
@pytest.mark.parametrize("damage", ["feature needs_recovery", "ssv state 3", "clri /resin-data"])
def test_the_inner_data_partition_is_repaired_first(tmp_path: Path, damage: str, pieces: int) -> None:
    flasher = flasher_with(tmp_path, damage, pieces=pieces)
    base, out = flasher.disk.path, tmp_path / "out.img"
    before = tmp_path / "before.img"
    run_tool("cp", "--sparse=always", base, before)
    image = archive_in(tmp_path)
    with pytest.raises(
        FilesystemError, match=r"partition 6 \('resin-data'\).*With --fsck, preload and plan run e2fsck -fp first"
    ):
        drypoint("preload", base, "-o", out, "--no-index", *image)
    assert not out.exists()
    assert "space needed" in drypoint("plan", base, "--no-index", "--fsck", *image)
    drypoint("preload", base, "-o", out, "--no-index", "--fsck", *image)
    assert filecmp.cmp(base, before, shallow=False), "the base stays as it is"
    dump(flasher, out, tmp_path / "dumped")
    drypoint("verify", out)


def test_a_journal_is_replayed_into_holes_and_the_clock_leaves_no_trace(tmp_path: Path) -> None:
    """What the journal holds belongs where the inner disk image has no blocks yet."""
    (tmp_path / "blocks").write_bytes(NOISE)
    flasher = flasher_with(tmp_path, "jo", f"jw -b 1500-1503 {tmp_path}/blocks", "jc")
    base, out, again = flasher.disk.path, tmp_path / "one.img", tmp_path / "two.img"
    for output in (out, again):
        drypoint("preload", base, "-o", output, "--no-index", "--fsck", *archive_in(tmp_path))
    assert filecmp.cmp(out, again, shallow=False)
    dumped = dump(flasher, out, tmp_path / "dumped")
    with FileDevice(dumped) as disk:
        assert disk.read(start_of(dumped, DATA) + 1500 * 4096, len(NOISE)) == NOISE
    assert times(flasher, out) == times(flasher, base)


def test_what_cannot_be_repaired_is_reported_of_the_inner_disk_image(tmp_path: Path) -> None:
    flasher = flasher_with(tmp_path, "clri <2>")
    with pytest.raises(
        FilesystemError, match=r"balenaos-img.*damaged beyond what e2fsck repairs automatically"
    ) as caught:
        drypoint(
            "preload", flasher.disk.path, "-o", tmp_path / "out.img", "--no-index", "--fsck", *archive_in(tmp_path)
        )
    assert "partition 6 ('resin-data')" in str(caught.value)
    assert not (tmp_path / "out.img").exists()


def test_the_file_system_around_it_is_not_repaired(tmp_path: Path) -> None:
    """It holds an operating system, and e2fsck is asked for the data partition only."""
    flasher = flasher_with(tmp_path, "ssv state 3")
    run_tool("debugfs", "-w", "-R", "feature needs_recovery", flasher.root)
    with pytest.raises(
        FilesystemError, match=rf"offset {start_of(flasher.disk.path, ROOT)}\) was not unmounted.*run e2fsck"
    ):
        drypoint(
            "preload", flasher.disk.path, "-o", tmp_path / "out.img", "--no-index", "--fsck", *archive_in(tmp_path)
        )
    assert not (tmp_path / "out.img").exists()


def apps_json() -> str:
    release = {"id": 1, "services": {}, "volumes": {}, "networks": {}}
    app = {"id": 1, "name": "app", "isHost": False, "class": "fleet", "releases": {"b" * 32: release}}
    return json.dumps({"apps": {"a" * 32: app}, "config": {}})


def test_the_supervisor_is_looked_for_where_only_a_repair_makes_the_store_readable(tmp_path: Path) -> None:
    """The root directory's content is in the journal only, as after a crash."""
    base, out = build_disk_image(tmp_path / "base.img", sizes=SMALL), tmp_path / "out.img"
    start = base.partition(DATA).offset
    place = f"{base.path}?offset={start}"
    block, size = int(run_tool("debugfs", "-R", "blocks <2>", place).split()[-1]), 4096
    with base.path.open("r+b") as disk:
        disk.seek(start + block * size)
        (tmp_path / "block").write_bytes(disk.read(size))
        run_tool("debugfs", "-w", "-f", "-", place, script=f"jo\njw -b {block} {tmp_path}/block\njc\n")
        disk.seek(start + block * size)
        disk.write(b"\xff" * size)
    (tmp_path / "apps.json").write_text(apps_json())
    options = "--no-index", "--fsck", "--apps-json", tmp_path / "apps.json", *archive_in(tmp_path)
    with pytest.raises(FilesystemError, match=r"not known which Supervisor.*--supervisor-version"):
        drypoint("preload", base.path, "-o", out, *options)
    drypoint("preload", base.path, "-o", out, *options, "--supervisor-version", "16.0.0")
    drypoint("verify", out)


@pytest.mark.parametrize("block_size", [1024, 2048, 4096])
def test_a_destroyed_superblock_is_named_with_the_command_that_repairs_it(tmp_path: Path, block_size: int) -> None:
    """e2fsck -p does not go on with a copy of it, so --fsck does not either."""
    options = "-b", str(block_size), "-g", str(8 * block_size)
    sizes = Sizes(boot=4 * MIB, root_a=4 * MIB, root_b=4 * MIB, state=4 * MIB, data=140 * MIB)
    base, out = build_disk_image(tmp_path / "base.img", sizes=sizes, ext4_options=options), tmp_path / "out.img"
    with base.path.open("r+b") as disk:
        disk.seek(base.partition(DATA).offset + 1024)
        disk.write(bytes(1024))
    repair = re.compile(
        r"6 'resin-data' \(unknown content, with a copy of an ext4 superblock.*: (e2fsck -f .*), on a plain disk image"
    )
    asked = "preload", base.path, "-o", out, "--fsck", *archive_in(tmp_path)
    with pytest.raises(DiskImageError, match=repair):
        drypoint(*asked, "--data-partition", "6")
    with pytest.raises(DiskImageError, match=repair) as caught:
        drypoint(*asked)
    found = repair.search(str(caught.value))
    assert found is not None
    command = shlex.split(found[1].replace("DISK", str(base.path)))
    assert subprocess.run([*command, "-y"], capture_output=True, check=False).returncode == 1
    drypoint("preload", base.path, "-o", out, "--no-index", *archive_in(tmp_path))
    drypoint("verify", out)
