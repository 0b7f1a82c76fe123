"""A preloaded store in use: an engine may do with it whatever it does with a store of its own, and nothing is left over.

Each engine goes through the same day twice, on a disk image that was preloaded and on a data root into which it pulled the
same images itself. What it says on the way is checked, and at the end both data roots have to be equal.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3

from drypoint.digest import Digest, hex_of
from drypoint.samples.disk_images import build_disk_image
from drypoint.samples.images import BuiltImage, build_image, build_layer, registry_content
from drypoint.samples.layers import LayerBuilder
from tests.support.docker_engine import DockerEngine
from tests.support.docker_registry import DockerRegistry
from tests.support.engines import EngineSource
from tests.support.oracle import compare_stores, describe
from tests.support.userland import SUPERVISOR, userland_images

from .conftest import ServedImages
from .judging import check_filesystem, drypoint, mounted_data

pytestmark = [pytest.mark.engine, pytest.mark.needs("e2fsck", "setpriv", "sfdisk")]

ONE, TWO, THREE = "use/one:1", "use/two:1", "use/three:1"
ENGINES = [
    EngineSource.HOST,
    pytest.param(EngineSource.DEBIAN_13, marks=[pytest.mark.engines, pytest.mark.needs("debootstrap")]),
    pytest.param(EngineSource.DEBIAN_TESTING, marks=[pytest.mark.engines, pytest.mark.needs("debootstrap")]),
]


@dataclass(frozen=True, slots=True)
class Day:
    """What there is to use: the images on their registry, another registry, and a repository's name of this day's own."""

    served: ServedImages
    elsewhere: DockerRegistry
    own_name: str


@pytest.fixture(scope="module")
def small_images() -> Mapping[str, BuiltImage]:
    """Three images with a shell: all share their base, and THREE has one layer more on top of ONE."""
    base = userland_images()[SUPERVISOR].layers[0]
    one = build_layer(LayerBuilder().file("etc/one", b"one\n").file("etc/gone", b"").whiteout("usr/bin/true").finish())
    two = build_layer(LayerBuilder().file("etc/two", b"two\n").hardlink("etc/second", "etc/two").finish())
    three = build_layer(LayerBuilder().file("etc/three", b"three\n").whiteout("etc/gone").finish())
    config = {"Cmd": ["/bin/sh", "-c", "cat /etc/one /etc/two /etc/three 2>&-; :"]}
    return {
        ONE: build_image([base, one], config=config),
        TWO: build_image([base, two], config=config),
        THREE: build_image([base, one, three], config=config),
    }


@pytest.fixture
def served_small(small_images: Mapping[str, BuiltImage]) -> Iterator[ServedImages]:
    with DockerRegistry() as registry:
        registry.push(registry_content(small_images))
        yield ServedImages(registry, small_images)


@pytest.mark.parametrize("source", ENGINES, ids=lambda source: str(source.name))
def test_a_preloaded_store_serves_like_a_pulled_one(
    workplace: Path, served_small: ServedImages, source: EngineSource
) -> None:
    served, root = served_small, source.root()
    references = [served.by_tag(ONE), served.by_tag(TWO)]
    pulled = workplace / "pulled"
    with DockerEngine(pulled, root=root) as engine:
        for reference in references:
            engine.pull(reference)
    base, out = build_disk_image(workplace / "base.img").path, workplace / "out.img"
    options = [word for reference in references for word in ("--image", reference)]
    drypoint(workplace, "preload", base, "-o", out, *options, "--additional-space", "100M")

    with DockerRegistry() as elsewhere:
        use(pulled, root, Day(served, elsewhere, "use/by-pulled"))
        with mounted_data(out, writable=True) as point:
            use(point / "docker", root, Day(served, elsewhere, "use/by-preloaded"))
            differences = [
                difference
                for difference in compare_stores(pulled, point / "docker")
                if without_chance(difference.left) != without_chance(difference.right)
            ]
    assert differences == [], describe(differences)
    check_filesystem(out)


def without_chance(records: str) -> str:
    """Records of where blobs came from, without the day's own name and what is derived from it."""
    return re.sub(r"use/by-\w+|'HMAC': '[0-9a-f]+'", "...", records)


def use(data_root: Path, root: Path | None, day: Day) -> None:
    """A device's life, with a restart of the engine after each part."""
    for part in (change_and_commit, pull_and_push, remove_and_pull_again, prune):
        with DockerEngine(data_root, root=root) as engine:
            # What an engine cannot make sense of it says when it starts.
            assert engine.complaints() == ()
            part(engine, day)
    with DockerEngine(data_root, root=root) as engine:
        assert engine.images() == ()
        assert engine.complaints() == ()


def change_and_commit(engine: DockerEngine, day: Day) -> None:
    served = day.served
    script = "cat /etc/one; echo changed > /etc/one; echo new > /etc/new"
    name = ("--network=none", "--name=changed", served.by_tag(ONE))
    assert engine.docker("run", *name, "/bin/sh", "-c", script) == "one\n"
    assert set(engine.docker("diff", "changed").splitlines()) == {"C /etc", "C /etc/one", "A /etc/new"}
    engine.docker("commit", "changed", "local/committed:1")
    assert engine.run("local/committed:1", "/bin/sh", "-c", "cat /etc/one /etc/new") == "changed\nnew\n"


def pull_and_push(engine: DockerEngine, day: Day) -> None:
    """An image that shares layers brings the others only; what is pushed has the layers that it came with."""
    served = day.served
    assert engine.run("local/committed:1", "/bin/sh", "-c", "cat /etc/one") == "changed\n"
    said = engine.docker("pull", served.by_tag(THREE))
    assert (said.count("Already exists"), said.count("Pull complete")) == (2, 1)
    assert engine.run(served.by_tag(THREE)) == "one\nthree\n"

    blobs = [layer.descriptor.digest for layer in served.images[ONE].layers]
    again, mounted = served.registry.reference("use/one", "again"), served.registry.reference(day.own_name, "1")
    for target, expected in ((again, "Layer already exists"), (mounted, "Mounted from use/one")):
        engine.tag(served.by_tag(ONE), target)
        assert engine.docker("push", target).count(expected) == len(blobs)
        assert pushed_layers(target) == blobs

    foreign = day.elsewhere.reference("use/one", "1")
    engine.tag(served.by_tag(ONE), foreign)
    engine.docker("push", foreign)
    # Compressed anew from what lies in the store, so it is the content that has to be the same.
    assert [diff_id_of(foreign, blob) for blob in pushed_layers(foreign)] == [
        layer.diff_id for layer in served.images[ONE].layers
    ]


def remove_and_pull_again(engine: DockerEngine, day: Day) -> None:
    served = day.served
    own = layer_directories(engine.data_root, served.images[TWO])
    assert all(path.is_dir() for path in own)
    engine.remove_image(served.by_tag(TWO))
    shared, alone = own[:2], own[2:]
    assert all(path.is_dir() for path in shared)
    assert not any(path.exists() for path in alone)
    assert engine.run(served.by_tag(ONE)) == "one\n"

    said = engine.docker("pull", served.by_tag(TWO))
    assert (said.count("Already exists"), said.count("Pull complete")) == (1, 1)
    assert engine.run(served.by_tag(TWO)) == "two\n"
    assert "Image is up to date" in engine.docker("pull", served.by_tag(ONE))


def prune(engine: DockerEngine, day: Day) -> None:
    """With everything gone, nothing is left on disk but what an engine forgets nowhere: where blobs came from."""
    engine.prune()
    assert engine.images() == ()
    data_root = engine.data_root
    assert [path.name for path in (data_root / "overlay2").iterdir() if path.name != "l"] == []
    for directory in ("overlay2/l", "image/overlay2/layerdb/sha256", "image/overlay2/imagedb/content/sha256"):
        assert list((data_root / directory).iterdir()) == []
    assert json.loads((data_root / "image/overlay2/repositories.json").read_bytes()) == {"Repositories": {}}


def layer_directories(data_root: Path, image: BuiltImage) -> list[Path]:
    """For each layer, base first, its directory in layerdb and the one in overlay2."""
    found: list[Path] = []
    chain_id: str = ""
    for layer in image.layers:
        text = f"{chain_id} {layer.diff_id}"
        chain_id = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" if chain_id else layer.diff_id
        directory = data_root / "image/overlay2/layerdb/sha256" / hex_of(Digest(chain_id))
        found += [directory, data_root / "overlay2" / (directory / "cache-id").read_text()]
    return found


def pushed_layers(reference: str) -> list[Digest]:
    """The layers that the manifest of *reference* (by tag) names in its registry, base first."""
    name, _, tag = reference.rpartition(":")
    address, _, repository = name.partition("/")
    accept = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
    answer = fetch(f"http://{address}/v2/{repository}/manifests/{tag}", accept)
    return [Digest(layer["digest"]) for layer in json.loads(answer)["layers"]]


def diff_id_of(reference: str, blob: Digest) -> Digest:
    """The digest of the inflated *blob*, as the registry of *reference* serves it."""
    address, _, repository = reference.rpartition(":")[0].partition("/")
    content = zlib.decompress(fetch(f"http://{address}/v2/{repository}/blobs/{blob}"), wbits=31)
    return Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")


def fetch(url: str, accept: str = "*/*") -> bytes:
    with urllib3.PoolManager(maxsize=1) as client:
        answer = client.request("GET", url, headers={"Accept": accept}, retries=False, timeout=30.0)
    assert answer.status == 200, answer.data
    return answer.data
