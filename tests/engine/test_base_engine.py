"""What keeps a real engine from an overlay2 store: held against what drypoint refuses."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from drypoint.disk import FileDevice
from drypoint.errors import ToolError
from drypoint.system import StorePlace, find_store
from drypoint.volumes.partitioned_disk import PartitionedDisk
from tests.support.docker_engine import DockerEngine
from tests.support.ext4_images import make_ext4
from tests.support.mounts import mounted

pytestmark = [pytest.mark.engine, pytest.mark.needs("e2fsck", "debugfs")]

SIZE = 96 << 20
OVERLAY2 = "overlay2/l/LINK"
CASES: Mapping[str, tuple[str, ...]] = {
    "overlay2 alone": (OVERLAY2,),
    **{f"beside {name}": (OVERLAY2, f"{name}/x") for name in ("aufs", "btrfs", "devicemapper", "overlay", "zfs")},
    "beside fuse-overlayfs": (OVERLAY2, "fuse-overlayfs/x"),
    "beside an empty aufs": (OVERLAY2, "aufs/"),
    "beside a file aufs": (OVERLAY2, "aufs"),
    "beside vfs": (OVERLAY2, "vfs/dir/x"),
    "beside records of aufs": (OVERLAY2, "image/aufs/repositories.json"),
    "beside records of btrfs": (OVERLAY2, "image/btrfs/repositories.json"),
    "beside AUFS": (OVERLAY2, "AUFS/x"),
}


def fill(root: Path, names: tuple[str, ...]) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")


def place_of(image: Path) -> StorePlace:
    with FileDevice(image) as device:
        return find_store(PartitionedDisk(device).volume(0), b"docker")


def starts(root: Path, config: Mapping[str, object] | None = None) -> str | None:
    """The graph driver that an engine starts with that is left to choose; None if it does not start."""
    try:
        with DockerEngine(root, offline=True, driver=None, config=config) as engine:
            return engine.docker("info", "--format", "{{.Driver}}").strip()
    except ToolError as error:
        if "failed to start daemon" not in str(error) and "file exists" not in str(error):
            raise
        return None


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ext4(tmp_path_factory.mktemp("drivers") / "data.img", SIZE)


@pytest.mark.parametrize("case", CASES)
def test_drypoint_refuses_the_drivers_on_which_an_engine_does_not_start(image: Path, case: str) -> None:
    with mounted(image, offset=0, size=SIZE, writable=True) as point:
        fill(point / "docker", CASES[case])
    refused = bool(place_of(image).obstacles)
    with mounted(image, offset=0, size=SIZE, writable=True) as point:
        assert starts(point / "docker") == (None if refused else "overlay2")


def test_an_engine_starts_on_two_stores_if_its_driver_is_named(image: Path) -> None:
    with mounted(image, offset=0, size=SIZE, writable=True) as point:
        fill(point / "docker", CASES["beside aufs"])
        assert starts(point / "docker", {"storage-driver": "overlay2"}) == "overlay2"


@pytest.mark.parametrize(("target", "is_there"), [("engine", True), ("engine", False), ("./a/../engine", True)])
def test_a_linked_data_root(image: Path, target: str, is_there: bool) -> None:
    with mounted(image, offset=0, size=SIZE, writable=True) as point:
        for name in ("docker", "engine", "a"):
            path = point / name
            if path.is_symlink():
                path.unlink()
            shutil.rmtree(path, ignore_errors=True)
        (point / "docker").symlink_to(target)
        (point / "a").mkdir()
        if is_there:
            (point / "engine").mkdir()
    place = place_of(image)
    assert bool(place.obstacles) == (not is_there)
    with mounted(image, offset=0, size=SIZE, writable=True) as point:
        # The engine gets the link itself as its data root.
        assert starts(point / "docker") == ("overlay2" if is_there else None)
        if is_there:
            assert (point / place.data_root.decode() / "overlay2").is_dir()
        (point / "docker").unlink()
