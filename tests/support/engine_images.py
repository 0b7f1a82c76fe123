"""Mounting a partition of a disk image, and running a real engine on it. Needs root."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.docker_engine import DockerEngine
from tests.support.mounts import mounted

from drypoint.errors import ToolError
from drypoint.samples.disk_images import DiskImage


@contextmanager
def mounted_partition(image: DiskImage, label: str = "resin-data", *, writable: bool = False) -> Iterator[Path]:
    """Mount the partition *label* and yield the mount point, see :func:`.mounts.mounted`."""
    partition = image.partition(label)
    with mounted(image.path, offset=partition.offset, size=partition.size, writable=writable) as point:
        yield point


@contextmanager
def run_engine_on(image: DiskImage, *, writable: bool = True, offline: bool = False) -> Iterator[DockerEngine]:
    """Mount resin-data and run a real engine on its ``docker/``; afterwards stop it and unmount (root only)."""
    with (
        mounted_partition(image, writable=writable) as point,
        DockerEngine(point / "docker", offline=offline) as engine,
    ):
        yield engine


def add_supervisor(engine: DockerEngine, reference: str, version: str) -> None:
    """Pull the Supervisor by digest and tag it as a balenaOS build does: NAME:latest and balena_supervisor:VERSION."""
    name, at, _ = reference.partition("@")
    if not at:
        raise ToolError(f"the Supervisor is pulled by digest, but {reference} has none")
    engine.pull(reference)
    engine.tag(reference, f"{name}:latest")
    engine.tag(reference, f"balena_supervisor:{version}")
