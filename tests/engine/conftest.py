"""Real images on a real registry, made once for a test session."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from drypoint.samples.images import BuiltImage, registry_content
from tests.support.docker_registry import DockerRegistry
from tests.support.unprivileged import NOBODY
from tests.support.userland import userland_images


@dataclass(frozen=True, slots=True)
class ServedImages:
    """The userland images (ALPHA, BETA, SUPERVISOR of tests.support.userland) on a running registry."""

    registry: DockerRegistry
    images: Mapping[str, BuiltImage]

    def by_tag(self, name: str) -> str:
        """The reference by tag of the image *name*, on this registry."""
        return self.registry.reference(*name.split(":"))

    def by_digest(self, name: str) -> str:
        return self.registry.reference(name.split(":")[0], self.images[name].digest)


@pytest.fixture(scope="session")
def served() -> Iterator[ServedImages]:
    images = userland_images()
    with DockerRegistry() as registry:
        registry.push(registry_content(images))
        yield ServedImages(registry, images)


@pytest.fixture
def workplace() -> Iterator[Path]:
    """A directory that belongs to nobody: pytest's own are root's alone."""
    with tempfile.TemporaryDirectory(prefix="drypoint-test-") as name:
        shutil.chown(name, NOBODY, NOBODY)
        yield Path(name)
