"""What the tests with a real engine share: the program run as a user without any privilege, and the judges."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from drypoint.disk import FileDevice, find_partition, read_table
from drypoint.samples.disk_images import EPOCH, DiskImage, PartitionTable, build_disk_image, data_tree
from tests.support.docker_engine import DockerEngine
from tests.support.engine_images import add_supervisor, mounted_partition
from tests.support.mounts import mounted
from tests.support.oracle import compare_stores, describe
from tests.support.unprivileged import as_nobody
from tests.support.userland import IMAGE_OUTPUT, SUPERVISOR, SUPERVISOR_VERSION

from .conftest import ServedImages

OUTPUT = {
    **IMAGE_OUTPUT,
    **{f"demo/{name}:1.0": f"{name}: hello from the preloaded image\n" for name in ("weather", "gateway")},
}
"""What ``docker run IMAGE`` prints, by name, of everything that is served here."""


LOCAL = ("--allow-host", "127.0.0.0/8")
"""For an apps.json from a file: its registry is on this machine."""


def drypoint(directory: Path, *arguments: str | Path) -> str:
    """Run the program as nobody, in *directory*, and return all that it said."""
    done = run_as_nobody(directory, arguments)
    assert done.returncode == 0, done.stdout
    return done.stdout


def drypoint_failing(directory: Path, *arguments: str | Path) -> str:
    """The same, where it has to fail."""
    done = run_as_nobody(directory, arguments)
    assert done.returncode not in (0, 1), done.stdout
    return done.stdout


def run_as_nobody(directory: Path, arguments: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(directory),
        "LC_ALL": "C.UTF-8",
        "SOURCE_DATE_EPOCH": str(EPOCH),
    }
    program = Path(sys.executable).with_name("drypoint")
    return subprocess.run(
        [*as_nobody(capabilities=False), str(program), *map(str, arguments)],
        cwd=directory, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False,
    )  # fmt: skip


def base_with_supervisor(
    directory: Path,
    served: ServedImages,
    table: PartitionTable = PartitionTable.MBR,
    *,
    by_mke2fs: bool = False,
    root: Path | None = None,
) -> DiskImage:
    """A balenaOS-like disk image whose store a real engine (*root*: of that system) has filled with the Supervisor."""
    path = directory / "base.img"
    supervisor = served.by_digest(SUPERVISOR)
    if by_mke2fs:
        tree = data_tree(directory / "tree")
        with DockerEngine(tree / "docker", root=root) as engine:
            add_supervisor(engine, supervisor, SUPERVISOR_VERSION)
        return build_disk_image(path, table=table, data=tree)
    image = build_disk_image(path, table=table)
    with mounted_partition(image, writable=True) as point, DockerEngine(point / "docker", root=root) as engine:
        add_supervisor(engine, supervisor, SUPERVISOR_VERSION)
    return image


def digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_partition(image: Path) -> tuple[int, int]:
    """Offset and size of resin-data."""
    with FileDevice(image) as device:
        partition = find_partition(device, read_table(device), "resin-data").partition
    return partition.start, partition.size


def check_filesystem(image: Path) -> None:
    offset, _ = data_partition(image)
    done = subprocess.run(
        ["/sbin/e2fsck", "-fn", f"{image}?offset={offset}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def saved_layers(archive: Path) -> dict[str, list[str]]:
    """What ``docker save`` wrote: for each tag the digests of its layers' tars, hashed here, base first."""
    found: dict[str, list[str]] = {}
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        for image in json.load(manifest):
            digests = []
            for name in image["Layers"]:
                layer = tar.extractfile(name)
                assert layer is not None, name
                digests.append(f"sha256:{hashlib.file_digest(layer, 'sha256').hexdigest()}")  # type: ignore[arg-type]
            for tag in image["RepoTags"] or ["untagged"]:
                found[tag] = digests
    return found


def verify_with_engine(
    image: Path,
    scratch: Path,
    served: ServedImages,
    names: Sequence[str],
    by_tag: Sequence[str],
    *,
    root: Path | None = None,
) -> None:
    """Start a real engine, offline, on a finished disk image: everything is listed, runs, and can be saved whole."""
    with (
        mounted_data(image, writable=True) as point,
        DockerEngine(point / "docker", root=root, offline=True) as engine,
    ):
        listed = {(item.repository, item.digest, item.image_id) for item in engine.images()}
        for name in names:
            repository = served.by_tag(name).rpartition(":")[0]
            assert (repository, served.images[name].digest, served.images[name].image_id) in listed
            assert engine.run(served.by_digest(name)) == OUTPUT[name]
        assert engine.run(f"balena_supervisor:{SUPERVISOR_VERSION}") == OUTPUT[SUPERVISOR]
        for name in by_tag:
            archive = scratch / "saved.tar"
            engine.save(archive, served.by_tag(name))
            diff_ids = [layer.diff_id for layer in served.images[name].layers]
            assert saved_layers(archive) == {served.by_tag(name): diff_ids}
            archive.unlink()
        assert engine.complaints() == ()


def differences_from(reference: Path, image: Path) -> str:
    """What the oracle finds between a data root that an engine filled and the store on a disk image; "" for nothing."""
    with mounted_data(image) as point:
        return describe(compare_stores(reference, point / "docker"))


@contextmanager
def mounted_data(image: Path, *, writable: bool = False) -> Iterator[Path]:
    """Mount resin-data of a finished disk image for a moment."""
    offset, size = data_partition(image)
    with mounted(image, offset=offset, size=size, writable=writable) as point:
        yield point
