"""What a real engine wrote alone has no findings: after pulls, runs, tags and removals; nor has the same made by mke2fs -d."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drypoint.disk.device import FileDevice, Window
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.errors import ToolError
from drypoint.samples.disk_images import DiskImage, Sizes, build_disk_image, data_tree
from drypoint.samples.images import build_image, build_layer, registry_content
from drypoint.samples.layers import LayerBuilder
from drypoint.verification import Report, Severity, check_file_system, verify_store
from tests.support.docker_engine import DockerEngine
from tests.support.docker_registry import DockerRegistry
from tests.support.engine_images import add_supervisor, run_engine_on
from tests.support.userland import ALPHA, BETA, SUPERVISOR, SUPERVISOR_VERSION

from .conftest import ServedImages

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(os.geteuid() != 0, reason="a real engine needs root"),
]


def verify(image: DiskImage) -> Report:
    partition = image.partition("resin-data")
    with FileDevice(image.path) as device:
        window = Window(device, partition.offset, partition.size)
        assert check_file_system(window) == ()
        return verify_store(Ext4Reader(window), b"docker")


def use(engine: DockerEngine, served: ServedImages) -> None:
    """All that a user may do before the image is taken from the device."""
    add_supervisor(engine, served.by_digest(SUPERVISOR), SUPERVISOR_VERSION)
    engine.pull(served.by_tag(ALPHA))
    engine.pull(served.by_digest(BETA))
    engine.tag(served.by_tag(ALPHA), "renamed:now")
    engine.docker("run", "--name", "left", "--network=none", "renamed:now", "touch", "/made-here")
    engine.docker("commit", "left", "committed:1")
    engine.tag(served.by_digest(BETA), "kept:1")
    engine.remove_image(served.by_digest(BETA))


def test_a_partition_filled_by_the_engine_has_no_findings(tmp_path: Path, served: ServedImages) -> None:
    image = build_disk_image(tmp_path / "disk.img", sizes=Sizes(data=1 << 30))
    with run_engine_on(image) as engine:
        use(engine, served)
    report = verify(image)
    assert report.findings == ()
    assert {reference for verdict in report.images for reference in verdict.references} >= {
        "renamed:now",
        "committed:1",
        "kept:1",
        f"balena_supervisor:{SUPERVISOR_VERSION}",
    }
    assert all(verdict.loads for verdict in report.images)
    assert report.layers >= 6
    with run_engine_on(image) as engine:
        engine.docker("rm", "left")
        engine.docker("image", "prune", "--all", "--force")
        engine.pull(served.by_tag(BETA))
    assert verify(image).findings == ()


def test_a_partition_made_by_mke2fs_has_lost_nanoseconds_only(tmp_path: Path, served: ServedImages) -> None:
    tree = data_tree(tmp_path / "tree")
    with DockerEngine(tree / "docker") as engine:
        engine.pull(served.by_tag(ALPHA))
    report = verify(build_disk_image(tmp_path / "disk.img", sizes=Sizes(data=1 << 30), data=tree))
    assert {finding.code for finding in report.findings} == {"shortened-time"}
    assert all(finding.severity is Severity.NOTE for finding in report.findings)
    assert report.sound
    assert report.layers > 1


def test_what_the_kernel_notes_when_an_image_is_saved_is_a_note(tmp_path: Path, served: ServedImages) -> None:
    """An engine mounts a top layer to be written to when it saves it. Which marks that leaves depends on the kernel."""
    image = build_disk_image(tmp_path / "disk.img", sizes=Sizes(data=1 << 30))
    with run_engine_on(image) as engine:
        engine.pull(served.by_tag(ALPHA))
        engine.save(tmp_path / "saved.tar", served.by_tag(ALPHA))
    report = verify(image)
    assert {finding.code for finding in report.findings} <= {"overlay-mark"}
    assert report.sound


def test_a_tar_that_is_cut_off_in_its_padding_is_a_note(tmp_path: Path) -> None:
    image = build_disk_image(tmp_path / "disk.img", sizes=Sizes(data=512 << 20))
    tar = LayerBuilder().file("file", b"content" * 100).finish(end_of_archive=False)[:-99]
    with DockerRegistry() as registry, run_engine_on(image) as engine:
        registry.push(registry_content({"cut:1": build_image([build_layer(tar)])}))
        engine.pull(registry.reference("cut", "1"))
        with pytest.raises(ToolError, match="could not verify layer data"):
            engine.save(tmp_path / "saved.tar", registry.reference("cut", "1"))
    codes = {finding.code for finding in verify(image).findings}
    assert codes - {"overlay-mark"} == {"cut-off-tar"}
