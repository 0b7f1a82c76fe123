"""A file of more than 8 GiB: drypoint leaves its zeros as a hole, an engine writes them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from drypoint.jobs.preload import preload
from drypoint.jobs.request import ImageRequest, PreloadRequest
from drypoint.oci import parse_platform, parse_reference
from drypoint.samples.disk_images import EPOCH, build_disk_image
from drypoint.samples.images import registry_content
from drypoint.sources.registry import RegistryOptions, RegistrySource, StaticCredentials
from tests.support.corpus import HUGE_BYTES, huge_image
from tests.support.docker_engine import DockerEngine
from tests.support.docker_registry import DockerRegistry
from tests.support.mounts import mounted
from tests.support.oracle import compare_stores, describe

pytestmark = [pytest.mark.engine, pytest.mark.needs("e2fsck", "mkfs.ext4", "sfdisk")]

MAX_HOST_BYTES = 300 << 20


def test_a_file_of_more_than_8_gib(tmp_path: Path) -> None:
    base, output, reference = tmp_path / "base.img", tmp_path / "out.img", tmp_path / "reference"
    disk = build_disk_image(base)
    with DockerRegistry() as registry:
        registry.push(registry_content({"corpus:huge": huge_image()}))
        name = registry.reference("corpus", "huge")
        with RegistrySource(RegistryOptions(credentials=StaticCredentials({}))) as source:
            request = ImageRequest(parse_reference(name), source)
            preload(base, output, PreloadRequest([request], parse_platform("linux/amd64"), timestamp=EPOCH))
        assert output.stat().st_blocks * 512 < MAX_HOST_BYTES
        with DockerEngine(reference) as engine:
            engine.pull(name)
    offset = disk.partition("resin-data").offset
    with mounted(output, offset=offset) as point:
        (huge,) = (point / "docker/overlay2").glob("*/diff/huge")
        assert huge.stat().st_size == HUGE_BYTES
        assert huge.stat().st_blocks * 512 < 1 << 20
        assert describe(compare_stores(reference, point / "docker")) == ""
