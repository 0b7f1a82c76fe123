"""Packed from a real registry, injected, and judged by a real engine that starts on the result."""

from __future__ import annotations

import filecmp
from pathlib import Path

import pytest

from drypoint.samples.disk_images import PartitionTable
from tests.support.userland import ALPHA, BETA, SUPERVISOR, SUPERVISOR_VERSION

from .conftest import ServedImages
from .judging import base_with_supervisor, check_filesystem, drypoint, verify_with_engine

pytestmark = [pytest.mark.engine, pytest.mark.needs("e2fsck", "setpriv", "sfdisk")]


@pytest.mark.parametrize("table", list(PartitionTable), ids=lambda table: table.name)
def test_what_is_packed_and_injected_is_what_is_preloaded(
    workplace: Path, served: ServedImages, table: PartitionTable
) -> None:
    base = base_with_supervisor(workplace, served, table)
    images = ["--image", served.by_tag(ALPHA), "--image", served.by_tag(BETA)]
    # docker save unpacks the image in the data root.
    images += ["--additional-space", "400M", "--no-index"]
    drypoint(workplace, "preload", base.path, "-o", workplace / "expected.img", *images)
    drypoint(workplace, "pack", base.path, "-o", workplace / "a.etch", *images)
    drypoint(workplace, "inject", workplace / "a.etch", workplace / "out.img")
    assert filecmp.cmp(workplace / "expected.img", workplace / "out.img", shallow=False)
    check_filesystem(workplace / "out.img")
    verify_with_engine(workplace / "out.img", workplace, served, [ALPHA, BETA, SUPERVISOR], [ALPHA, BETA])


def test_a_base_that_streams_by(workplace: Path, served: ServedImages) -> None:
    """Once with its manifest, sharing what it holds; once without, with the Supervisor over the Supervisor."""
    base = base_with_supervisor(workplace, served)
    known = workplace / "base.manifest"
    drypoint(workplace, "inspect", base.path, "--base-manifest", known)
    compressed = workplace / "base.img.gz"
    drypoint(workplace, "preload", base.path, "-o", compressed, "--image", served.by_tag(ALPHA), "--no-index")
    drypoint(workplace, "inspect", compressed, "--base-manifest", known)
    common = ["--platform", "linux/amd64", "--additional-space", "400M", "--image", served.by_tag(BETA), "--overwrite"]
    supervisor = ["--supervisor-image", served.by_digest(SUPERVISOR), "--supervisor-version", SUPERVISOR_VERSION]
    for name, options in (("a", ["--base-manifest", known]), ("b", supervisor)):
        said = drypoint(workplace, "pack", compressed, "-o", workplace / "a.etch", *common, *options)
        assert ("what base.img.gz holds is not known" in said) == (name == "b")
        out = workplace / f"{name}.img"
        drypoint(workplace, "inject", workplace / "a.etch", out)
        check_filesystem(out)
        verify_with_engine(out, workplace, served, [ALPHA, BETA, SUPERVISOR], [ALPHA, BETA])
        out.unlink()
