"""What `drypoint plan` shows: layers, whom they are shared with, sums; on terminals of any width."""

from __future__ import annotations

import json
import os
import pty
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from drypoint.cli.plan_table import shortened
from drypoint.samples.disk_images import IMAGE_TOOLS, MIB, Sizes, build_disk_image
from drypoint.samples.images import build_image, build_layer, write_oci_layout
from drypoint.samples.layers import LayerBuilder

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "e2fsck", "resize2fs")

PROGRAM = Path(sys.executable).with_name("drypoint")
LONG = "registry.example.com/a-team/with/a/long/path/to/its/repository/of/applications:latest"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images on one base layer; a disk image that holds the first."""
    directory = tmp_path_factory.mktemp("plan")
    base = build_layer(LayerBuilder().file("base", b"b" * 3_000_000).finish())
    images = {
        name: build_image([base, build_layer(LayerBuilder().file("name", name.encode()).finish())])
        for name in ("example.com/one:1", "example.com/two:2", LONG)
    }
    write_oci_layout(directory, images)
    sizes = Sizes(boot=8 * MIB, root_a=4 * MIB, root_b=4 * MIB, state=4 * MIB, data=16 * MIB)
    build_disk_image(directory / "base.img", sizes=sizes)
    (directory / "cache").mkdir()
    drypoint(directory, "preload", "base.img", "-o", "one.img", "--image", "oci:.:example.com/one:1")
    return directory


def drypoint(place: Path, *arguments: str) -> str:
    environment = {**os.environ, "DRYPOINT_CACHE": str(place / "cache")}
    return subprocess.run(
        [PROGRAM, *arguments], cwd=place, env=environment, capture_output=True, text=True, check=True
    ).stdout


def planned(place: Path, base: str, *names: str) -> list[str]:
    return drypoint(
        place, "plan", base, *(part for name in names for part in ("--image", f"oci:.:{name}"))
    ).splitlines()


def test_layers_are_shared_within_the_plan(place: Path) -> None:
    lines = planned(place, "base.img", "example.com/two:2", LONG)
    assert lines[0].split() == ["layer", "compressed", "unpacked", "files"]
    assert lines[1].startswith("example.com/two:2  (")
    assert lines[2].endswith(f"1  to fetch, also for {LONG}")
    assert lines[3].endswith("to fetch")
    assert lines[4].startswith(f"{LONG}  (")
    assert lines[5].endswith("shared with example.com/two:2")
    assert "2.9 MiB " in lines[2], "seen before, and so exact"
    assert "~" in lines[3]
    assert any(
        line.strip() == "estimated: 1 layer seen before, 2 layers by the length that the blob gives" for line in lines
    )
    assert "partition 6: stays at 16.0 MiB" in lines


def test_layers_are_shared_with_images_that_are_there(place: Path) -> None:
    lines = planned(place, "one.img", "example.com/two:2", "example.com/one:1")
    assert lines[2].endswith("there, in example.com/one:1")
    assert lines[4].startswith("example.com/one:1  (")
    assert lines[4].endswith("there already)")
    assert lines[5].endswith("there already")


def test_what_was_seen_is_exact(place: Path) -> None:
    lines = planned(place, "base.img", "example.com/one:1")
    assert not any("~" in line for line in lines)
    assert "  exact: all layers were seen before" in lines
    grown = drypoint(place, "plan", "base.img", "--image", "oci:.:example.com/one:1", "--additional-space", "32M")
    assert "partition 6: grows from 16.0 MiB to " in grown
    assert "about" not in grown
    assert "about" in drypoint(
        place, "plan", "base.img", "--image", "oci:.:example.com/one:1", "--additional-space", "32M", "--no-index"
    )


def test_json_says_all_of_it(place: Path) -> None:
    said: Any = json.loads(drypoint(place, "plan", "one.img", "--image", "oci:.:example.com/two:2", "--json"))
    below, above = said["images"][0]["layers"]
    assert (below["present"], below["shared_with"], below["size"]) == (True, ["example.com/one:1"], None)
    assert (above["present"], above["shared_with"], above["size"]["found"]) == (False, [], "hint")
    assert said["room"]["estimated"] is True
    assert said["growth"]["partition_bytes"] == said["partition"]["size"]
    assert said["growth"]["disk_bytes"] == (place / "one.img").stat().st_size


@pytest.mark.parametrize("columns", [72, 80, 120])
def test_no_line_of_the_table_is_wider_than_the_terminal(place: Path, columns: int) -> None:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    command = [str(PROGRAM), "plan", "base.img", "--image", f"oci:.:{LONG}", "--image", "oci:.:example.com/two:2"]
    with subprocess.Popen(command, cwd=place, env=environment, stdout=theirs, stderr=subprocess.DEVNULL) as process:
        os.close(theirs)
        shown = b""
        while piece := _read(ours):
            shown += piece
    os.close(ours)
    assert process.returncode == 0
    lines = shown.decode().replace("\r", "").splitlines()
    lines = lines[: lines.index("")]
    assert max(map(len, lines)) <= columns
    assert any("…" in line for line in lines)
    assert any("shared with" in line for line in lines)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:
        # Linux says so when the other side of a terminal is closed.
        return b""


@pytest.mark.parametrize(
    ("width", "expected"),
    [(None, "abcdefghij"), (10, "abcdefghij"), (9, "abcd…ghij"), (8, "abcd…hij"), (2, "a…"), (1, "…")],
)
def test_long_names_lose_their_middle(width: int | None, expected: str) -> None:
    assert shortened("abcdefghij", width) == expected
