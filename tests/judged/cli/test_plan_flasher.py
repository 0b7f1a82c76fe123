"""What plan foretells of a flasher, against what preload makes of it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.flasher_images import build_flasher_image

from drypoint.cli.app import cli
from drypoint.disk import FileDevice, find_partition, read_table
from drypoint.samples.disk_images import IMAGE_TOOLS, MIB, Sizes, build_disk_image
from drypoint.samples.images import build_image, build_layer, write_docker_archive
from drypoint.samples.layers import LayerBuilder
from drypoint.volumes.partitioned_disk import open_disk
from drypoint.volumes.target import Container

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "e2fsck", "resize2fs")

SMALL = Sizes(boot=4 * MIB, root_a=4 * MIB, root_b=4 * MIB, state=4 * MIB, data=8 * MIB)


def drypoint(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(one) for one in arguments], catch_exceptions=False, standalone_mode=False)
    assert not result.return_value
    return result.stdout


def sizes_of(path: Path, container: Container) -> dict[str, int]:
    """What a flasher and the disk image in it measure."""
    with FileDevice(path) as device:
        inner = open_disk(device, container).device
        data = find_partition(inner, read_table(inner), "resin-data").partition
        root = find_partition(device, read_table(device), container.partition).partition
        return {"inner": inner.size, "data": data.size, "outer": device.size, "root": root.size}


def test_both_growths_are_foretold_and_nothing_grows_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRYPOINT_CACHE", str(tmp_path / "cache"))
    layer = LayerBuilder()
    for number in range(20):
        layer.file(f"file-{number}", random.Random(number).randbytes(MIB))
    archive = tmp_path / "app.tar"
    write_docker_archive(archive, {"example.com/app:1": build_image([build_layer(layer.finish())])})
    inner = build_disk_image(tmp_path / "inner.img", sizes=SMALL)
    flasher = build_flasher_image(tmp_path / "flasher.img", inner.path)
    base, out, exact = flasher.disk.path, tmp_path / "out.img", tmp_path / "exact.img"
    container = Container("flash-rootA", flasher.path.encode())
    before = sizes_of(base, container)

    image = ("--image", f"docker-archive:{archive}")
    rough = json.loads(drypoint("plan", base, *image, "--json"))
    assert rough["room"]["estimated"]
    assert rough["outer"]["partition"]["size"] == before["root"]
    assert rough["partition"]["size"] == before["data"]
    drypoint("preload", base, "-o", out, *image)

    told = json.loads(drypoint("plan", base, *image, "--json"))
    assert not told["room"]["estimated"]
    drypoint("preload", base, "-o", exact, *image)
    after = sizes_of(exact, container)
    assert after["outer"] > before["outer"]
    assert told["growth"] == {"partition_bytes": after["data"], "disk_bytes": after["inner"]}
    assert told["outer"]["growth"] == {"partition_bytes": after["root"], "disk_bytes": after["outer"]}
    lines = drypoint("plan", base, *image)
    assert f"partition {told['partition']['number']} of the disk image inside: grows from 8.0 MiB to " in lines
    assert f"partition {told['outer']['partition']['number']} around it: grows from " in lines

    again = json.loads(drypoint("plan", exact, *image, "--json"))
    assert again["outer"]["growth"] == {"partition_bytes": after["root"], "disk_bytes": after["outer"]}
    assert again["growth"] == {"partition_bytes": after["data"], "disk_bytes": after["inner"]}
    assert "around it: stays at" in drypoint("plan", exact, *image)


def test_other_disk_images_have_nothing_around(tmp_path: Path) -> None:
    archive = tmp_path / "app.tar"
    write_docker_archive(archive, {"example.com/app:1": build_image([build_layer(LayerBuilder().finish())])})
    base = build_disk_image(tmp_path / "disk.img", sizes=SMALL).path
    image = ("--no-index", "--image", f"docker-archive:{archive}")
    assert json.loads(drypoint("plan", base, *image, "--json"))["outer"] is None
    assert "around it" not in drypoint("plan", base, *image)
