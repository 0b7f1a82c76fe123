"""What inspect says of a store, against what the engine that wrote it says of the same images and containers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from drypoint.samples.disk_images import MIB, PartitionTable, Sizes, build_disk_image
from tests.support.docker_engine import DockerEngine
from tests.support.engine_images import add_supervisor, run_engine_on
from tests.support.userland import ALPHA, BETA, SUPERVISOR, SUPERVISOR_VERSION

from .conftest import ServedImages
from .judging import drypoint, mounted_data

pytestmark = [pytest.mark.engine, pytest.mark.needs("e2fsck", "setpriv", "sfdisk", "resize2fs")]


@pytest.mark.parametrize("table", list(PartitionTable), ids=lambda table: table.name)
def test_images_containers_and_sizes_are_the_engines(
    workplace: Path, served: ServedImages, table: PartitionTable
) -> None:
    base = build_disk_image(workplace / "base.img", table=table).path
    out = workplace / "out.img"
    drypoint(
        workplace, "preload", base, "-o", out, "--image", served.by_tag(BETA), "--additional-space", "300M",
    )  # fmt: skip
    with mounted_data(out, writable=True) as point, DockerEngine(point / "docker") as engine:
        add_supervisor(engine, served.by_digest(SUPERVISOR), SUPERVISOR_VERSION)
        engine.pull(served.by_tag(ALPHA))
        container = engine.docker("create", "--name", "resting", served.by_tag(ALPHA)).strip()
        engine.tag(served.by_tag(ALPHA), "my/own:name")
        told = {one.image_id: engine.inspect(one.image_id) for one in engine.images()}
    found: dict[str, Any] = json.loads(output(workplace, out))
    store = found["store"]
    assert store["findings"] == []
    images = {one["id"]: one for one in store["images"]}
    assert images.keys() == told.keys()
    for image_id, engines in told.items():
        ours = images[image_id]
        assert sorted(ours["references"]) == sorted(strings(engines["RepoTags"]) + strings(engines["RepoDigests"]))
        assert ours["size"] == engines["Size"]
        assert ours["created"] == engines["Created"]
        assert ours["platform"].split("/")[:2] == [engines["Os"], engines["Architecture"]]
        root = engines["RootFS"]
        assert isinstance(root, dict)
        diff_ids = {one["chain_id"]: one["diff_id"] for one in store["layers"]}
        assert [diff_ids[chain_id] for chain_id in ours["layers"]] == root["Layers"]
        assert ours["usable"] is True
    assert [(one["id"], one["name"]) for one in store["containers"]] == [(container, "resting")]
    assert store["containers"][0]["image_id"] in told
    assert [one["version"] for one in found["supervisors"]] == [SUPERVISOR_VERSION.removeprefix("v")]
    assert found["os"]["device_type"] == {"slug": "genericx86-64-ext", "arch": "amd64"}


def test_what_the_engine_calls_dangling_is_an_orphan(workplace: Path, served: ServedImages) -> None:
    image = build_disk_image(workplace / "base.img", sizes=Sizes(data=256 * MIB))
    with run_engine_on(image) as engine:
        engine.pull(served.by_tag(SUPERVISOR))
        archive = workplace / "dangling.tar"
        image_id = engine.images()[0].image_id
        engine.save(archive, image_id)
        engine.remove_image(served.by_tag(SUPERVISOR))
        engine.load(archive)
        dangling = engine.docker("images", "--filter", "dangling=true", "--quiet", "--no-trunc").split()
    assert dangling == [image_id]
    found = json.loads(output(workplace, image.path))
    assert found["store"]["orphans"]["images"] == dangling
    assert found["store"]["images"][0]["references"] == []


def output(directory: Path, image: Path) -> str:
    """The JSON object, as somebody without any privilege gets it."""
    subprocess.run(["chmod", "a+r", image], check=True)
    return drypoint(directory, "inspect", image, "--json")


def strings(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(one) for one in value]
