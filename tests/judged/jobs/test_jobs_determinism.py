"""The same input gives the same bytes, wherever, whenever and by whomever it is run."""

from __future__ import annotations

import filecmp
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.unprivileged import NOBODY, as_nobody

from drypoint.disk import FileDevice, Window, find_partition, read_table
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.fstree import Regular
from drypoint.samples.disk_images import EPOCH, IMAGE_TOOLS, MIB, PartitionTable, Sizes, build_disk_image
from drypoint.samples.images import Compression, build_image, build_layer, write_oci_layout
from drypoint.samples.layers import LayerBuilder

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "e2fsck", "resize2fs", "setpriv")

NAMES = ("example.com/one:1", "example.com/two:2")
NANOSECONDS = 1_700_000_000_123_456_789


@dataclass(frozen=True, slots=True)
class Setting:
    """What differs from one run to the next and must not show."""

    home: str
    timezone: str
    umask: int
    hash_seed: str
    user: int | None


HERE = Setting("/nonexistent", "UTC0", 0o022, "0", None)
ELSEWHERE = Setting("/tmp", "Asia/Kathmandu", 0o007, "12345", NOBODY if os.geteuid() == 0 else None)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that nobody may enter and write to: pytest's own are for one user alone."""
    with tempfile.TemporaryDirectory(prefix="drypoint-test-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture(scope="module")
def layout(place: Path) -> Path:
    """Two images on a common layer, with something of everything that could be written in more than one way."""
    base = LayerBuilder()
    for number in range(7):
        base.directory(f"d{number}")
    for number in range(400):
        base.file(f"d{number % 7}/f{number:03}", b"%d" % number * (number * 3))
    base.file("times", b"", mtime=NANOSECONDS).hardlink("again", "times", mtime=NANOSECONDS).symlink("long", "x" * 200)
    base.file("noted", b"n", xattrs={b"user.note": b"v" * 300, b"user.other": b"1"}).char_device("null", 1, 3)
    shared = build_layer(base.finish())
    noise = random.Random(7)
    images = []
    for number in range(2):
        top = LayerBuilder().whiteout("d1/f001").opaque("d2").file("deep/zeros", bytes(9 * MIB))
        top.file("deep/same", bytes([number + 1]) * (9 * MIB)).file("deep/noise", noise.randbytes(3 * MIB))
        created = f"2024-05-0{number + 1}T10:00:00.5Z"
        # In several members: nothing tells how long they are together, and the estimate falls short.
        images.append(build_image([shared, build_layer(top.finish(), Compression.GZIP_MEMBERS)], created=created))
    directory = place / "layout"
    directory.mkdir()
    write_oci_layout(directory, dict(zip(NAMES, images, strict=True)))
    return directory


def preload(
    place: Path,
    setting: Setting,
    base: Path,
    layout: Path,
    *options: str,
    epoch: str | None = None,
    cache: Path | None = None,
) -> Path:
    """Run the program in a directory of its own, on a copy of its inputs there, and give the output's path.

    Without a *cache*, there is no index of layers.
    """
    directory = Path(tempfile.mkdtemp(dir=place))
    own_base, own_layout = directory / "base.img", directory / "images"
    # Both images are mostly holes, and shall stay so.
    subprocess.run(["cp", "--sparse=always", base, own_base], check=True)
    shutil.copytree(layout, own_layout)
    drop: list[str] = []
    if setting.user is not None:
        drop = as_nobody()
        for path in (directory, *directory.rglob("*")):
            shutil.chown(path, setting.user, setting.user)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": setting.home,
        "TZ": setting.timezone,
        "PYTHONHASHSEED": setting.hash_seed,
        **({"SOURCE_DATE_EPOCH": epoch} if epoch else {}),
        **({"DRYPOINT_CACHE": str(cache)} if cache else {}),
    }
    if cache is None:
        options = (*options, "--no-index")
    images = [part for name in NAMES for part in ("--image", f"{name}=oci:{own_layout}:{name}")]
    program = Path(sys.executable).with_name("drypoint")
    done = subprocess.run(
        [*drop, str(program), "preload", own_base.name, "-o", "out.img", *images, *options],
        cwd=directory, env=environment, umask=setting.umask, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    (directory / "said").write_text(done.stdout)
    return directory / "out.img"


def wait_for_another_second() -> None:
    """Times in file systems count seconds: the next run shall note others if it looks at the clock."""
    time.sleep(1.01)


@pytest.mark.parametrize("table", list(PartitionTable), ids=lambda table: table.name)
@pytest.mark.parametrize("growth", ["none", "before", "amidst"])
def test_two_runs_give_the_same_bytes(place: Path, layout: Path, table: PartitionTable, growth: str) -> None:
    data = {"none": 128 * MIB, "before": 32 * MIB, "amidst": 20 * MIB}[growth]
    sizes = Sizes(boot=40 * MIB, root_a=4 * MIB, root_b=4 * MIB, state=4 * MIB, data=data)
    base = build_disk_image(place / f"base-{table.name}-{growth}.img", table=table, sizes=sizes).path
    options = ["--additional-space", "64M"] if growth == "before" else []
    one = preload(place, HERE, base, layout, *options)
    wait_for_another_second()
    other = preload(place, ELSEWHERE, base, layout, *options)
    assert (one.stat().st_size > base.stat().st_size) == (growth != "none")
    if growth == "amidst":
        said = one.with_name("said").read_text()
        foretold = "grows from" in said
        assert said.count("growing partition") > foretold, said
    assert filecmp.cmp(one, other, shallow=False)
    # Nor does a run on a run's output change anything.
    again = preload(place, ELSEWHERE, one, layout, *options)
    assert filecmp.cmp(one, again, shallow=False)
    for made in (one, other, again):
        shutil.rmtree(made.parent)


def test_the_index_of_layers_is_an_input_that_can_be_left_out(place: Path, layout: Path) -> None:
    """What it knows decides how the partition grows: alike whenever it knows the same, and nothing of it with --no-index."""
    sizes = Sizes(boot=40 * MIB, root_a=4 * MIB, root_b=4 * MIB, state=4 * MIB, data=20 * MIB)
    base = build_disk_image(place / "base-index.img", sizes=sizes).path
    cache = place / "cache"
    cache.mkdir()
    without = preload(place, HERE, base, layout)
    first, second, third = (preload(place, HERE, base, layout, cache=cache) for _ in range(3))
    assert filecmp.cmp(without, first, shallow=False), "an index that knows nothing"
    assert filecmp.cmp(second, third, shallow=False), "an index that knows all"
    # This holds of these images: it shows that the test would see a difference.
    assert not filecmp.cmp(first, second, shallow=False)
    wait_for_another_second()
    assert filecmp.cmp(without, preload(place, ELSEWHERE, base, layout), shallow=False)


def test_times_are_those_asked_for(place: Path, layout: Path) -> None:
    """Nanoseconds of the layers stay; what drypoint makes has the youngest image's time, or SOURCE_DATE_EPOCH."""
    base = build_disk_image(place / "base-times.img").path
    youngest = 1_714_644_000
    for epoch, expected in ((None, youngest), (str(EPOCH + 5), EPOCH + 5)):
        out = preload(place, HERE, base, layout, epoch=epoch)
        with FileDevice(out) as device:
            found = find_partition(device, read_table(device), "resin-data").partition
            reader = Ext4Reader(Window(device, found.start, found.size))
            repositories = reader.lookup(b"docker/image/overlay2/repositories.json")
            assert repositories is not None
            assert isinstance(repositories.entry, Regular)
            assert repositories.entry.metadata.mtime == expected * 1_000_000_000
            (time_of_file,) = [
                stat.entry.metadata.mtime
                for path in _cache_directories(reader)
                if (stat := reader.lookup(path + b"/diff/times")) is not None and isinstance(stat.entry, Regular)
            ]
            assert time_of_file == NANOSECONDS


def _cache_directories(reader: Ext4Reader) -> list[bytes]:
    top = reader.lookup(b"docker/overlay2")
    assert top is not None
    return [child.entry.path for child in reader.children(top.entry)]  # type: ignore[arg-type]
