"""Every odd image of the corpus, judged by a real engine: what it takes is written alike, what it refuses is refused.

The engine works on ext4, as on a device, since what extended attributes and times become is the file system's to say; and in
memory where there is some, since an engine syncs every file it writes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from drypoint.errors import ContentError, StoreError, ToolError
from drypoint.jobs.preload import preload
from drypoint.jobs.request import ImageRequest, PreloadRequest
from drypoint.oci import parse_platform, parse_reference
from drypoint.samples.disk_images import EPOCH, MIB, Sizes, build_disk_image
from drypoint.samples.images import registry_content
from drypoint.sources.registry import RegistryOptions, RegistrySource, StaticCredentials
from tests.support.corpus import CORPUS, Case
from tests.support.docker_engine import DockerEngine
from tests.support.docker_registry import DockerRegistry
from tests.support.ext4_images import judge_ext4, make_ext4
from tests.support.mounts import mounted
from tests.support.oracle import compare_stores, describe

pytestmark = [pytest.mark.engine, pytest.mark.needs("e2fsck", "mkfs.ext4", "sfdisk")]

TAKEN = [case for case in CORPUS if case.refused is None]
REFUSED = [case for case in CORPUS if case.refused is not None]
MEMORY = Path("/dev/shm")
PULLS_AT_ONCE = 3


@pytest.fixture
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as name:
        yield Path(name)


@contextmanager
def registry_with(cases: Sequence[Case]) -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        content = registry_content({f"corpus:{case.name}": case.image() for case in cases})
        for repository, reference in list(content.manifests):
            if ":" in reference:
                # The registry serves what has a tag by its digest too.
                del content.manifests[repository, reference]
        registry.push(content)
        yield registry


@contextmanager
def engine_on_ext4(scratch: Path) -> Iterator[DockerEngine]:
    """An engine on a file system made as balenaOS makes them."""
    image = make_ext4(scratch / "reference.img", 2048 * MIB, "-T", "default", "-i", "8192")
    with mounted(image, writable=True) as point, DockerEngine(point / "docker") as engine:
        yield engine


def pull_all(engine: DockerEngine, registry: DockerRegistry, cases: Sequence[Case]) -> dict[str, str]:
    """What the engine says about each image: "" when it takes it."""

    def pull(case: Case) -> str:
        try:
            engine.pull(registry.reference("corpus", case.name))
        except ToolError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(PULLS_AT_ONCE) as pool:
        return dict(zip([case.name for case in cases], pool.map(pull, cases), strict=True))


def preload_all(base: Path, output: Path, registry: DockerRegistry, cases: Sequence[Case]) -> None:
    with RegistrySource(RegistryOptions(credentials=StaticCredentials({}))) as source:
        requests = [ImageRequest(parse_reference(registry.reference("corpus", case.name)), source) for case in cases]
        preload(base, output, PreloadRequest(requests, parse_platform("linux/amd64"), timestamp=EPOCH))


def test_what_the_engine_takes_is_written_alike(scratch: Path) -> None:
    with registry_with(TAKEN) as registry:
        with engine_on_ext4(scratch) as engine:
            said = pull_all(engine, registry, TAKEN)
        assert {name: message for name, message in said.items() if message} == {}

        base = build_disk_image(scratch / "base.img", sizes=Sizes(data=512 * MIB))
        preload_all(base.path, scratch / "out.img", registry, TAKEN)
    partition = base.partition("resin-data")
    judge_ext4(scratch / "out.img", offset=partition.offset)
    with (
        mounted(scratch / "reference.img") as reference,
        mounted(scratch / "out.img", offset=partition.offset, size=partition.size) as ours,
    ):
        differences = compare_stores(reference / "docker", ours / "docker")
        assert describe(differences) == ""


def test_what_the_engine_refuses_is_refused_by_name(scratch: Path) -> None:
    with registry_with(REFUSED) as registry:
        with engine_on_ext4(scratch) as engine:
            said = pull_all(engine, registry, REFUSED)
        assert [name for name, message in said.items() if not message] == []

        base = build_disk_image(scratch / "base.img", sizes=Sizes(data=128 * MIB)).path
        for case in REFUSED:
            with pytest.raises((ContentError, StoreError)) as caught:
                preload_all(base, scratch / "out.img", registry, [case])
            assert case.refused is not None
            assert case.refused in str(caught.value)
            assert not (scratch / "out.img").exists()
