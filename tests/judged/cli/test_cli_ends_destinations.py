"""What an interrupt or a failure leaves of each kind of destination, at the moments when most is half done: nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drypoint.samples.applications import sample_images
from drypoint.samples.disk_images import IMAGE_TOOLS, MIB, Sizes, build_disk_image
from drypoint.samples.images import write_oci_layout

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "e2fsck", "resize2fs")

DESTINATIONS = {
    "plain": ["-o", "out.img"],
    "compressed": ["-o", "out.img.zst"],
    "with a block map": ["-o", "out.img.xz", "--bmap", "out.bmap"],
    "over an older one": ["-o", "old.img.gz", "--overwrite", "--bmap", "old.bmap"],
    "in place": ["--in-place"],
}
# Where the program stops and waits: a name that it looks up when it comes there.
MOMENTS = {
    "copying": "drypoint.disk.host.workspace.copy_sparse",
    "backing up": "drypoint.disk.host.in_place.copy_sparse",
    "writing": "drypoint.stores.overlay2.planned_store.write_store",
    "trimming": "drypoint.volumes.writable_volume.shrink_filesystem",
    "verifying": "drypoint.jobs.preload.verify_written",
    "mapping": "drypoint.disk.host.workspace.write_block_map",
    "compressing": "drypoint.disk.host.workspace.write_image",
    "publishing": "drypoint.disk.host.output._publish",
}
MEETINGS = [
    ("plain", "copying"),
    ("plain", "publishing"),
    ("compressed", "copying"),
    ("compressed", "writing"),
    ("compressed", "compressing"),
    ("with a block map", "compressing"),
    ("with a block map", "publishing"),
    ("over an older one", "verifying"),
    ("over an older one", "publishing"),
    ("in place", "backing up"),
    ("in place", "writing"),
    ("in place", "trimming"),
    ("in place", "verifying"),
]
PLANTED = """\
import importlib, sys, time
module, _, name = sys.argv.pop(1).rpartition(".")
how = sys.argv.pop(1)
module = importlib.import_module(module)
real = getattr(module, name)
def reached(*arguments, **options):
    if how == "fail":
        raise ZeroDivisionError("planted")
    # In a thread of its own the work has to ask whether it is still wanted, as compressing does.
    progress = options.get("progress")
    begin = getattr(progress, "begin", None)
    advance = begin("waiting").advance if begin else progress
    print("reached", file=sys.stderr, flush=True)
    for _ in range(600):
        time.sleep(0.1)
        advance and advance(0)
assert callable(real)
setattr(module, name, reached)
from drypoint.cli import main
main()
"""


def program(workplace: Path, destination: str, moment: str, how: str) -> subprocess.Popen[str]:
    arguments = [
        *DESTINATIONS[destination],
        "--image",
        "oci:../layout",
        "--shrink-to-fit",
    ]
    return subprocess.Popen(
        [sys.executable, "-c", PLANTED, MOMENTS[moment], how, "preload", "base.img", *arguments, "--additional-space", "40M"],
        cwd=workplace,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("inputs")
    build_disk_image(place / "base.img", sizes=Sizes(root_a=8 * MIB, root_b=8 * MIB, state=8 * MIB, data=16 * MIB))
    write_oci_layout(place / "layout", {"demo/weather:1.0": sample_images()["demo/weather:1.0"]})
    return place


@pytest.fixture
def workplace(tmp_path: Path, inputs: Path) -> Path:
    place = tmp_path / "workplace"
    place.mkdir()
    subprocess.run(["cp", "--sparse=always", inputs / "base.img", place], check=True)
    (tmp_path / "layout").symlink_to(inputs / "layout")
    for name in ("old.img.gz", "old.bmap"):
        (place / name).write_text("older")
    return place


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize(("destination", "moment"), MEETINGS)
def test_an_interrupt(workplace: Path, destination: str, moment: str) -> None:
    before = contents(workplace)
    running = program(workplace, destination, moment, "wait")
    assert running.stderr is not None
    while not (line := running.stderr.readline()).startswith("reached"):
        assert line, "the program ended by itself"
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert said.endswith("interrupted; nothing unfinished was left behind\n")
    assert running.returncode == 128 + signal.SIGINT
    assert contents(workplace) == before


@pytest.mark.parametrize(
    ("destination", "moment"),
    [
        ("with a block map", "mapping"),
        ("compressed", "compressing"),
        ("over an older one", "publishing"),
        ("in place", "verifying"),
    ],
)
def test_a_failure(workplace: Path, destination: str, moment: str) -> None:
    before = contents(workplace)
    running = program(workplace, destination, moment, "fail")
    _, said = running.communicate(timeout=60)
    assert "ZeroDivisionError: planted" in said
    assert running.returncode != 0
    assert contents(workplace) == before


def test_the_moments_come(workplace: Path) -> None:
    """Each destination's last moment is reached, so that none of the above ends before the work begins."""
    for destination in DESTINATIONS:
        running = program(workplace, destination, "trimming", "fail")
        _, said = running.communicate(timeout=60)
        assert "fetching 4 layers" in said
        assert "growing partition 6" in said
        assert "planted" in said
