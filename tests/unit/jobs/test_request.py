"""The request of a job, as one value."""

from __future__ import annotations

import pytest

from drypoint.errors import UsageError
from drypoint.fstree.extra_file import ExtraFile
from drypoint.jobs.request import PreloadRequest
from drypoint.oci import Platform
from drypoint.volumes.target import DEFAULT_PARTITION, Container, Target

PLATFORM = Platform("linux", "amd64")


def test_without_a_target_the_store_is_that_of_balena_os() -> None:
    request = PreloadRequest([], PLATFORM)
    assert request.target == Target(DEFAULT_PARTITION)
    assert (request.additional_space, request.shrink_to_fit, request.timestamp) == (0, False, None)


def test_files_around_an_inner_disk_image_need_one() -> None:
    files = [ExtraFile(b"pinned", b"1")]
    with pytest.raises(UsageError, match="but the target names none"):
        PreloadRequest([], PLATFORM, container_files=files)
    container = Container("flash-rootA", b"opt/inner.img")
    assert PreloadRequest([], PLATFORM, target=Target(container=container), container_files=files).container_files
