"""The whole job, judged by real parts: images from a real registry, preloaded, and a real engine that starts on the result.

The program runs as a user without any privilege; only the judges are root.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from drypoint.disk import FileDevice, find_partition, read_table
from drypoint.testing.disk_images import (
    EPOCH,
    DiskImage,
    PartitionTable,
    add_supervisor,
    build_disk_image,
    data_tree,
    run_engine_on,
)
from drypoint.testing.docker_engine import DockerEngine
from drypoint.testing.mounts import mounted
from drypoint.testing.oracle import compare_stores, describe
from drypoint.testing.userland import ALPHA, BETA, PROOF, SUPERVISOR, SUPERVISOR_VERSION

from .conftest import ServedImages

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.needs("e2fsck", "setpriv", "sfdisk")]

NOBODY = 65534


@pytest.fixture
def workplace() -> Iterator[Path]:
    """A directory that belongs to nobody: pytest's own are root's alone."""
    with tempfile.TemporaryDirectory(prefix="drypoint-test-") as name:
        shutil.chown(name, NOBODY, NOBODY)
        yield Path(name)


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
    drop = [
        "setpriv",
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
    ]
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(directory),
        "LC_ALL": "C.UTF-8",
        "SOURCE_DATE_EPOCH": str(EPOCH),
    }
    program = Path(sys.executable).with_name("drypoint")
    return subprocess.run(
        [*drop, str(program), *map(str, arguments)],
        cwd=directory, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False,
    )  # fmt: skip


def base_with_supervisor(
    directory: Path, served: ServedImages, table: PartitionTable = PartitionTable.MBR, *, by_mke2fs: bool = False
) -> DiskImage:
    """A balenaOS-like disk image whose store a real engine has filled with the Supervisor."""
    path = directory / "base.img"
    supervisor = served.by_digest(SUPERVISOR)
    if by_mke2fs:
        tree = data_tree(directory / "tree")
        with DockerEngine(tree / "docker") as engine:
            add_supervisor(engine, supervisor, SUPERVISOR_VERSION)
        return build_disk_image(path, table=table, data=tree)
    image = build_disk_image(path, table=table)
    with run_engine_on(image) as engine:
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


def prove_with_engine(
    image: Path, scratch: Path, served: ServedImages, names: Sequence[str], by_tag: Sequence[str]
) -> None:
    """Start a real engine, offline, on a finished disk image: everything is listed, runs, and can be saved whole."""
    offset, size = data_partition(image)
    with (
        mounted(image, offset=offset, size=size, writable=True) as point,
        DockerEngine(point / "docker", offline=True) as engine,
    ):
        listed = {(item.repository, item.digest, item.image_id) for item in engine.images()}
        for name in names:
            repository = served.by_tag(name).rpartition(":")[0]
            assert (repository, served.images[name].digest, served.images[name].image_id) in listed
            assert engine.run(served.by_digest(name)) == PROOF[name]
        assert engine.run(f"balena_supervisor:{SUPERVISOR_VERSION}") == PROOF[SUPERVISOR]
        for name in by_tag:
            archive = scratch / "saved.tar"
            engine.save(archive, served.by_tag(name))
            diff_ids = [layer.diff_id for layer in served.images[name].layers]
            assert saved_layers(archive) == {served.by_tag(name): diff_ids}
            archive.unlink()
        assert engine.complaints() == ()


def differences_from(reference: Path, image: Path) -> str:
    """What the oracle finds between a data root that an engine filled and the store on a disk image; "" for nothing."""
    offset, size = data_partition(image)
    with mounted(image, offset=offset, size=size) as point:
        return describe(compare_stores(reference, point / "docker"))


@pytest.mark.parametrize("table", list(PartitionTable), ids=lambda table: table.name)
def test_images_by_tag(workplace: Path, served: ServedImages, table: PartitionTable) -> None:
    base = base_with_supervisor(workplace, served, table)
    before = digest_of_file(base.path)
    out = workplace / "out.img"
    images = ["--image", served.by_tag(ALPHA), "--image", served.by_tag(BETA)]
    # docker save unpacks the image in the data root.
    said = drypoint(workplace, "preload", base.path, "-o", out, *images, "--additional-space", "400M")
    assert "grew from 64.0 MiB" in said
    assert digest_of_file(base.path) == before
    check_filesystem(out)

    reference = workplace / "reference"
    with DockerEngine(reference) as engine:
        add_supervisor(engine, served.by_digest(SUPERVISOR), SUPERVISOR_VERSION)
        engine.pull(served.by_tag(ALPHA))
        engine.pull(served.by_tag(BETA))
    assert differences_from(reference, out) == ""

    prove_with_engine(out, workplace, served, [ALPHA, BETA, SUPERVISOR], [ALPHA, BETA])


def test_services_of_an_apps_json(workplace: Path, served: ServedImages) -> None:
    base = base_with_supervisor(workplace, served, by_mke2fs=True)
    apps_json = workplace / "apps.json"
    apps_json.write_text(json.dumps(target_state(served.by_digest(ALPHA), served.by_digest(BETA)), indent=1))
    out = workplace / "out.img"
    drypoint(workplace, "preload", base.path, "-o", out, "--apps-json", apps_json)
    check_filesystem(out)

    reference = workplace / "reference"
    with DockerEngine(reference) as engine:
        add_supervisor(engine, served.by_digest(SUPERVISOR), SUPERVISOR_VERSION)
        engine.pull(served.by_digest(ALPHA))
        engine.pull(served.by_digest(BETA))
    # mke2fs of this version drops the nanoseconds of what it copies: the Supervisor's layers, and nothing else.
    differences = differences_from(reference, out).splitlines()
    assert all("mtime" in line for line in differences)
    offset, size = data_partition(out)
    with mounted(out, offset=offset, size=size) as point:
        copied = point / "apps.json"
        assert copied.read_bytes() == apps_json.read_bytes()
        assert (copied.stat().st_uid, copied.stat().st_mode & 0o7777) == (0, 0o644)

    prove_with_engine(out, workplace, served, [ALPHA, BETA, SUPERVISOR], [])


def target_state(*images: str) -> dict[str, object]:
    """An apps.json of version 3 with a service for each image."""
    services = {
        f"service-{number}": {
            "id": 100 + number,
            "image_id": 200 + number,
            "image": image,
            "environment": {},
            "labels": {},
            "composition": {},
        }
        for number, image in enumerate(images)
    }
    release = {"id": 10, "services": services, "volumes": {}, "networks": {}}
    app = {"id": 1, "name": "app", "is_host": False, "class": "fleet", "releases": {"cafe" * 8: release}}
    return {"apps": {"beef" * 8: app}, "config": {"HOST_CONFIG:gpu_mem": "16"}, "pinDevice": False}


@pytest.mark.parametrize("spoil", ["missing image", "wrong blob", "no disk image", "not ext4", "no such partition"])
def test_bad_input_names_the_thing_and_leaves_nothing(workplace: Path, served: ServedImages, spoil: str) -> None:
    base = build_disk_image(workplace / "base.img").path
    image, expected, options = served.by_tag(ALPHA), "", []
    match spoil:
        case "missing image":
            image = served.by_tag("apps/gamma:9")
            expected = "apps/gamma"
        case "wrong blob":
            image = served.by_digest(ALPHA).replace(served.images[ALPHA].digest[-4:], "0000")
            expected = image[-64:]
        case "no disk image":
            base.write_bytes(b"no disk image" * 1000)
            expected = "base.img"
        case "not ext4":
            options = ["--data-partition", "resin-boot"]
            expected = "partition 1 holds FAT"
        case "no such partition":
            options = ["--data-partition", "nowhere"]
            expected = "'nowhere'"
    said = drypoint_failing(workplace, "preload", base, "-o", workplace / "out.img", "--image", image, *options)
    assert expected in said
    assert "Traceback" not in said
    assert sorted(path.name for path in workplace.iterdir()) == ["base.img"]


def test_a_full_disk_leaves_nothing(workplace: Path, served: ServedImages) -> None:
    base = build_disk_image(workplace / "base.img").path
    small = workplace / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=60m,uid={NOBODY}", "tmpfs", small], check=True)
    try:
        said = drypoint_failing(small, "preload", base, "-o", small / "out.img", "--image", served.by_tag(ALPHA))
        assert "is full" in said
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interrupt_leaves_nothing(workplace: Path, served: ServedImages, sent: signal.Signals) -> None:
    base = build_disk_image(workplace / "base.img").path
    program = Path(sys.executable).with_name("drypoint")
    process = subprocess.Popen(
        [program, "preload", base, "-o", workplace / "out.img", "--image", served.by_tag(ALPHA)],
        text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("writing"):
            process.send_signal(sent)
            break
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + sent
    assert "nothing was left behind" in said
    assert [path.name for path in workplace.iterdir()] == ["base.img"]
