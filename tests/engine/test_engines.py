"""The main job with engines of other versions than this machine's.

They read what 20.10 would have written; where they would have written it otherwise is known to the byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drypoint.samples.applications import sample_images
from drypoint.samples.images import registry_content
from tests.support.docker_engine import DockerEngine
from tests.support.docker_registry import DockerRegistry
from tests.support.engine_images import add_supervisor
from tests.support.engines import EngineSource, is_known_difference
from tests.support.oracle import compare_stores
from tests.support.userland import ALPHA, BETA, SUPERVISOR, SUPERVISOR_VERSION, userland_images

from .conftest import ServedImages
from .judging import base_with_supervisor, check_filesystem, drypoint, mounted_data, verify_with_engine

pytestmark = [
    pytest.mark.engine,
    pytest.mark.engines,
    pytest.mark.needs("debootstrap", "e2fsck", "setpriv", "sfdisk"),
]

WEATHER = "demo/weather:1.0"
GATEWAY = "demo/gateway:1.0"
NAMES = (ALPHA, BETA, GATEWAY, WEATHER)
LEAST_VERSION = {EngineSource.DEBIAN_13: 26, EngineSource.DEBIAN_TESTING: 28}


@pytest.fixture(scope="module")
def served_with_zstd() -> Iterator[ServedImages]:
    """The images of ``served``, and the samples with a zstd layer, which 20.10 cannot pull."""
    images = {**userland_images(), **sample_images(zstd=True)}
    with DockerRegistry() as registry:
        registry.push(registry_content(images))
        yield ServedImages(registry, images)


@pytest.mark.parametrize("source", list(LEAST_VERSION), ids=lambda source: str(source.name))
def test_images_by_tag(workplace: Path, served_with_zstd: ServedImages, source: EngineSource) -> None:
    served, root = served_with_zstd, source.root()
    base = base_with_supervisor(workplace, served, root=root)
    out = workplace / "out.img"
    references = [argument for name in NAMES for argument in ("--image", served.by_tag(name))]
    # docker save unpacks the image in the data root.
    drypoint(workplace, "preload", base.path, "-o", out, *references, "--additional-space", "400M")
    check_filesystem(out)

    reference = workplace / "reference"
    with DockerEngine(reference, root=root) as engine:
        major = int(engine.version.split(".")[0])
        assert major >= LEAST_VERSION[source]
        add_supervisor(engine, served.by_digest(SUPERVISOR), SUPERVISOR_VERSION)
        for name in NAMES:
            engine.pull(served.by_tag(name))
    with mounted_data(out) as point:
        ours = point / "docker"
        unexplained = [
            str(difference)
            for difference in compare_stores(reference, ours)
            if not is_known_difference(difference, reference, ours, major=major)
        ]
    assert unexplained == []

    verify_with_engine(out, workplace, served, [*NAMES, SUPERVISOR], NAMES, root=root)
