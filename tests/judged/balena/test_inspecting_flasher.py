"""A flasher and the disk image in it, shown together; nothing about the inner one keeps the outer one from being shown."""

from __future__ import annotations

import gzip
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.flasher_images import build_flasher_image
from tests.support.stores import fill_store

from drypoint.balena.inspecting import inspect
from drypoint.cli.app import cli
from drypoint.cli.inspected_json import inspection_object
from drypoint.disk import FileDevice, Window
from drypoint.samples.disk_images import IMAGE_TOOLS, MIB, DiskImage, Sizes, build_disk_image
from drypoint.samples.images import build_image, build_layer
from drypoint.samples.layers import LayerBuilder
from drypoint.samples.tools import run_tool

pytestmark = pytest.mark.needs(*IMAGE_TOOLS)

SMALL = Sizes(boot=4 * MIB, root_a=4 * MIB, root_b=4 * MIB, state=4 * MIB, data=8 * MIB)
SIGNATURE = {"opt/balena-image-genericx86-64-ext.balenaos-img.sig": b"x"}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory) -> DiskImage:
    image = build_disk_image(tmp_path_factory.mktemp("inner") / "inner.img", sizes=SMALL)
    data = image.partition("resin-data")
    built = build_image([build_layer(LayerBuilder().file("x", b"content").finish())])
    with FileDevice(image.path, writable=True) as device:
        fill_store(Window(device, data.offset, data.size), b"docker", {"app:1": built, "other:1": built})
    return image


def command(*arguments: object) -> str:
    result = CliRunner().invoke(cli, ["inspect", *map(str, arguments)], catch_exceptions=False, standalone_mode=False)
    assert result.exit_code == 0
    return result.stdout


def test_what_is_inside_is_what_it_is_alone(tmp_path: Path, inner: DiskImage) -> None:
    flasher = build_flasher_image(tmp_path / "flasher.img", inner.path, pieces=30)
    found, alone = inspect(flasher.disk.path), inspect(inner.path)
    assert found.inner is not None
    assert (found.inner.path, found.inner.partition) == (
        flasher.path.encode(),
        flasher.disk.partition("flash-rootA").number,
    )
    inside = found.inner.found
    assert (found.store, found.notes) == (None, ())
    assert (inside.os, inside.store, inside.data, inside.apps) == (alone.os, alone.store, alone.data, alone.apps)
    assert inside.disk.partitions == alone.disk.partitions
    told, told_alone = inspection_object(found), inspection_object(alone)
    assert told_alone.pop("inner") is None
    assert told["inner"] == {"partition": found.inner.partition, "path": flasher.path, **told_alone}


def test_both_are_in_the_table_and_in_the_picture(tmp_path: Path, inner: DiskImage) -> None:
    flasher = build_flasher_image(tmp_path / "flasher.img", inner.path)
    said = command(flasher.disk.path, "--svg", tmp_path / "x.svg")
    assert command(flasher.disk.path, "--data-partition", "resin-data") == said
    outer, _, inside = said.partition("the disk image inside, which it installs, in partition 2:\n")
    assert "flash-rootA" in outer
    assert "resin-data" not in outer
    assert "no partition with an engine's store" not in outer
    assert inside.startswith(f"/{flasher.path}: ")
    assert "\nstore at docker in partition " in inside
    document = ElementTree.fromstring((tmp_path / "x.svg").read_text())
    texts = [one.text or "" for one in document.iter(f"{SVG}text")]
    assert [text for text in texts if "rootA" in text] == ["2 flash-rootA", "2 resin-rootA"]
    assert f"inside: /{flasher.path}" in texts
    assert "app:1" in texts


def test_a_signature_alone_is_no_secure_boot(tmp_path: Path, inner: DiskImage) -> None:
    flasher = build_flasher_image(tmp_path / "flasher.img", inner.path, beside=SIGNATURE)
    said = command(flasher.disk.path)
    assert "signed (checked only by secure boot)" in said
    assert "to be installed with secure boot" not in said
    assert json.loads(command(flasher.disk.path, "--json"))["os"]["secure_boot"] is False


def test_what_cannot_be_preloaded_can_be_looked_at(tmp_path: Path, inner: DiskImage) -> None:
    config = {"installer": {"secureboot": True}}
    flasher = build_flasher_image(tmp_path / "flasher.img", inner.path, beside=SIGNATURE, config=config)
    said = command(flasher.disk.path)
    assert "installs with secure boot, so the disk image in it must stay as it was signed" in said
    assert "\nstore at docker in partition " in said


def test_a_compressed_one_is_named(tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(b"a disk image" * 1000))
    flasher = build_flasher_image(tmp_path / "flasher.img", packed, suffix=".gz")
    found = inspect(flasher.disk.path)
    assert found.inner is None
    note = f"the disk image that is installed, /{flasher.path}, is gzip-compressed, and was not inspected"
    assert found.notes == (note,)
    assert [one.label for one in found.disk.partitions][:2] == ["flash-boot", "flash-rootA"]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("rm /{path}", id="gone"),
        pytest.param("sif /{path} block[0] 0", id="without its extents"),
        pytest.param("sif /{path} size 100", id="without a table"),
    ],
)
def test_one_that_cannot_be_read_is_a_note(tmp_path: Path, inner: DiskImage, damage: str) -> None:
    flasher = build_flasher_image(tmp_path / "flasher.img", inner.path)
    run_tool("debugfs", "-w", "-R", damage.format(path=flasher.path), flasher.root)
    found = inspect(flasher.disk.path)
    assert found.inner is None
    assert [note.partition(": ")[0] for note in found.notes] == ["the disk image that is installed cannot be read"]
    assert found.os is not None
    assert found.os.systems[0].partition == "flash-rootA"


def test_one_that_was_not_unmounted_is_looked_into(tmp_path: Path, inner: DiskImage) -> None:
    flasher = build_flasher_image(tmp_path / "flasher.img", inner.path)
    run_tool("debugfs", "-w", "-R", "feature needs_recovery", flasher.root)
    found = inspect(flasher.disk.path)
    assert found.inner is not None
    assert found.inner.found.store is not None


def test_a_flasher_in_a_flasher_is_not_followed(tmp_path: Path, inner: DiskImage) -> None:
    once = build_flasher_image(tmp_path / "once.img", inner.path)
    twice = build_flasher_image(tmp_path / "twice.img", once.disk.path)
    found = inspect(twice.disk.path)
    assert found.inner is not None
    assert found.inner.found.inner is None
