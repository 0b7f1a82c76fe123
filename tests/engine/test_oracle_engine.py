"""The oracle acquits what a real engine wrote twice, and convicts when one of the two is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.docker_engine import DockerEngine
from tests.support.oracle import DifferenceKind, compare_stores, describe
from tests.support.userland import ALPHA, BETA

from .conftest import ServedImages

pytestmark = [pytest.mark.engine]


def test_two_pulls_are_equal(tmp_path: Path, served: ServedImages) -> None:
    for name in ("one", "two"):
        with DockerEngine(tmp_path / name) as engine:
            engine.pull(served.by_tag(ALPHA))
            engine.pull(served.by_digest(BETA))
    differences = compare_stores(tmp_path / "one", tmp_path / "two")
    assert differences == (), describe(differences)

    [capable] = (tmp_path / "two/overlay2").glob("*/diff/usr/local/bin/capable")
    capable.chmod(0o700)
    [difference] = compare_stores(tmp_path / "one", tmp_path / "two")
    assert difference.kind is DifferenceKind.MODE


def test_the_order_of_pulls_shows_in_the_distribution_records(tmp_path: Path, served: ServedImages) -> None:
    for name, order in (("one", (ALPHA, BETA)), ("two", (BETA, ALPHA))):
        with DockerEngine(tmp_path / name) as engine:
            for image in order:
                engine.pull(served.by_tag(image))
    differences = compare_stores(tmp_path / "one", tmp_path / "two")
    assert {difference.kind for difference in differences} == {DifferenceKind.JSON}, describe(differences)
    assert all(b"/v2metadata-by-diffid/" in difference.path for difference in differences)
