"""What inject makes of an archive: disk images packed like preload's, block maps, partitions trimmed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from drypoint import inject
from drypoint.cli.app import cli
from drypoint.disk import FileDevice, Window, find_partition, read_table
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.disk.formats import opened_image
from drypoint.disk.host.workspace import Destination
from drypoint.errors import DrypointError, OutputError, UsageError
from drypoint.injection.request import InjectRequest
from drypoint.samples.disk_images import IMAGE_TOOLS, MIB, PartitionTable, Sizes, build_disk_image

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "tar", "e2fsck", "resize2fs")

SIZES = Sizes(boot=4 * MIB, root_a=4 * MIB, root_b=4 * MIB, state=8 * MIB, data=8 * MIB)


def archive_of(place: Path, table: PartitionTable = PartitionTable.MBR, **files: bytes) -> Path:
    """A disk image, and *files* ("6_name") for its partitions."""
    build_disk_image(place / "disk.img", table=table, sizes=SIZES)
    (place / "inject").mkdir()
    for name, content in files.items():
        path = place / "inject" / name.removeprefix("in_").replace("_", "/", 1)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    subprocess.run(["tar", "cf", "a.tar", "--sort=name", "disk.img", "inject"], cwd=place, check=True)
    return place / "a.tar"


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst", ".zip"])
def test_the_suffix_of_the_output_says_how_it_is_packed(tmp_path: Path, suffix: str) -> None:
    archive = archive_of(tmp_path, in_6_file=b"content")
    inject(archive, Destination(tmp_path / "plain.img", block_map=tmp_path / "plain.bmap"))
    packed = tmp_path / f"packed.img{suffix}"
    inject(archive, Destination(packed, block_map=tmp_path / "packed.bmap"))
    assert packed.stat().st_size < (tmp_path / "plain.img").stat().st_size
    with opened_image(packed) as one, FileDevice(tmp_path / "plain.img") as other:
        assert one.device.read(0, one.device.size) == other.read(0, other.size)
    ranges = [
        [line for line in (tmp_path / f"{name}.bmap").read_text().splitlines() if "<Range" in line]
        for name in ("plain", "packed")
    ]
    assert ranges[0] == ranges[1] != []
    # The same archive gives the same bytes.
    inject(archive, Destination(packed, overwrite=True))
    again = packed.read_bytes()
    inject(archive, Destination(packed, overwrite=True))
    assert packed.read_bytes() == again


def test_outputs_that_cannot_be_meant(tmp_path: Path) -> None:
    archive = archive_of(tmp_path)
    before = archive.read_bytes()
    wrong: list[tuple[Path, dict[str, Path], type[DrypointError], str]] = [
        (tmp_path / "out.7z", {}, UsageError, "cannot be written as .7z"),
        (tmp_path / "a.img", {"block_map": tmp_path / "a.img"}, UsageError, "cannot both be"),
        (tmp_path / "a.img", {"block_map": archive}, OutputError, "it is the input"),
    ]
    for output, options, error, says in wrong:
        with pytest.raises(error, match=says):
            inject(archive, Destination(output, overwrite=True, block_map=options.get("block_map")))
    archive = archive.rename(tmp_path / "a.etch")
    with pytest.raises(OutputError, match=r"it is the input .*a.etch, which is never modified"):
        inject(archive, Destination(archive, overwrite=True))
    with pytest.raises(UsageError, match=r"cannot read .*: No such file"):
        inject(tmp_path / "nothing.etch", tmp_path / "a.img")
    sent = CliRunner().invoke(cli, ["inject", str(archive), "-", "--bmap", str(tmp_path / "map")])
    assert isinstance(sent.exception, UsageError)
    assert "not for one that is sent on" in str(sent.exception)
    with pytest.raises(UsageError, match="no disk image to change in place"):
        inject(archive, Destination(None))
    assert archive.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.etch", "disk.img", "inject"]


@pytest.mark.parametrize(
    "table",
    [PartitionTable.MBR, PartitionTable.GPT],
    ids=lambda table: table.name,
)
def test_what_growth_has_left_over_is_given_back(tmp_path: Path, table: PartitionTable) -> None:
    """In each partition that grew, not only the last: the first moves the second twice."""
    noise = os.urandom(12 * MIB)
    numbers = (5, 6) if table is PartitionTable.MBR else (4, 5)
    archive = archive_of(tmp_path, table, **{f"in_{number}_noise": noise for number in numbers})
    loose = inject(archive, tmp_path / "loose.img")
    tight = inject(archive, tmp_path / "tight.img", InjectRequest(shrink_to_fit=True))
    assert [one.number for one in tight.partitions] == list(numbers)
    for before, after in zip(loose.partitions, tight.partitions, strict=True):
        assert before.size >= 64 * MIB
        assert len(noise) < after.size <= 24 * MIB
    assert tight.size <= loose.size - 80 * MIB
    with FileDevice(tmp_path / "tight.img") as disk:
        assert disk.size == tight.size
        for number in numbers:
            found = find_partition(disk, read_table(disk), number).partition
            reader = Ext4Reader(Window(disk, found.start, found.size))
            stat = reader.lookup(b"noise")
            assert stat is not None
            assert b"".join(bytes(piece) for piece in reader.read(stat)) == noise
            device = f"{tmp_path / 'tight.img'}?offset={found.start}"
            subprocess.run(["e2fsck", "-fn", device], check=True, capture_output=True)


def test_what_never_grew_is_not_trimmed(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, in_6_file=b"content")
    done = inject(archive, tmp_path / "out.img", InjectRequest(shrink_to_fit=True))
    assert done.size == (tmp_path / "disk.img").stat().st_size
    assert done.partitions[0].size == done.partitions[0].before
