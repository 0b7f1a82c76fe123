"""What the base holds already: shared (A), put in again (B), put in for the first time (C), and damaged in every way."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from drypoint import ImageRequest, parse_platform, parse_reference, preload
from drypoint.digest import Digest
from drypoint.errors import FilesystemError, StoreError
from drypoint.jobs.preload import Result
from drypoint.jobs.request import PreloadRequest
from drypoint.samples.disk_images import EPOCH, DiskImage, build_disk_image, data_tree
from drypoint.samples.images import BuiltImage, BuiltLayer, build_image, build_layer, registry_content
from drypoint.samples.layers import LayerBuilder
from drypoint.samples.registry import TestRegistry, serve_registry
from drypoint.samples.tools import run_tool
from drypoint.sources.registry import RegistryOptions, RegistrySource, StaticCredentials
from tests.support.docker_engine import DockerEngine
from tests.support.engine_images import add_supervisor, run_engine_on
from tests.support.userland import SUPERVISOR, SUPERVISOR_VERSION

from .conftest import ServedImages
from .judging import check_filesystem, differences_from, drypoint, mounted_data

pytestmark = [pytest.mark.engine, pytest.mark.needs("e2fsck", "debugfs", "setpriv", "sfdisk")]

SHARING, APART = "apps/sharing:1", "apps/apart:1"
NAME = SUPERVISOR.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Shelf:
    """A registry that counts what it sends: the Supervisor, an image on its layers, and one that shares nothing with it.

    ``store`` is a data root in which a real engine has put the Supervisor, named as a balenaOS build names it.
    """

    registry: TestRegistry
    images: Mapping[str, BuiltImage]
    store: Path

    def reference(self, name: str) -> str:
        return f"{self.registry.host}/{name.partition(':')[0]}@{self.images[name].digest}"

    def sent_blobs(self) -> set[str]:
        """Digests of the blobs of which any byte was sent since this was asked the last time."""
        found = {
            path.rpartition("/")[2] for path, size in self.registry.bytes_sent.items() if "/blobs/" in path and size
        }
        self.registry.bytes_sent.clear()
        return found

    def preload(self, base: Path, output: Path, *names: str) -> Result:
        options = RegistryOptions(credentials=StaticCredentials({}), environment={})
        with RegistrySource(options) as source:
            requests = [ImageRequest(parse_reference(self.reference(name)), source) for name in names]
            return preload(base, output, PreloadRequest(requests, parse_platform(os.uname().machine), timestamp=EPOCH))

    def run(self, image: Path, *names: str) -> tuple[str, ...]:
        """Run them with a real engine, offline; its complaints."""
        with mounted_data(image, writable=True) as point, DockerEngine(point / "docker", offline=True) as engine:
            for name in names:
                assert engine.run(self.reference(name)) == f"{name}\n"
            return tuple(str(complaint) for complaint in engine.complaints())


@pytest.fixture(scope="module")
def shelf(served: ServedImages, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    supervisor = served.images[SUPERVISOR]
    userland = supervisor.layers[0]
    assert isinstance(userland.tar, bytes)
    other = build_layer(LayerBuilder().file("other", b"other").finish(end_of_archive=False) + userland.tar)
    images = {
        SUPERVISOR: supervisor,
        SHARING: saying(SHARING, supervisor.layers),
        APART: saying(APART, [other]),
    }
    with serve_registry(registry_content(images)) as registry:
        tree = data_tree(tmp_path_factory.mktemp("store") / "tree")
        shelf = Shelf(registry, images, tree)
        with DockerEngine(tree / "docker") as engine:
            add_supervisor(engine, shelf.reference(SUPERVISOR), SUPERVISOR_VERSION)
        registry.bytes_sent.clear()
        yield shelf


def saying(name: str, below: Sequence[BuiltLayer]) -> BuiltImage:
    layer = build_layer(LayerBuilder().file("say", f"echo {name}\n".encode()).finish())
    config = {"Cmd": ["/bin/sh", "/say"]}
    return build_image([*below, layer], config=config, platform=parse_platform(os.uname().machine))


@pytest.fixture(params=["mounted", "mke2fs"])
def base(request: pytest.FixtureRequest, shelf: Shelf, workplace: Path) -> DiskImage:
    """The Supervisor in it, by an engine on the mounted partition or by mke2fs from a directory."""
    if request.param == "mke2fs":
        return build_disk_image(workplace / "base.img", data=shelf.store)
    image = build_disk_image(workplace / "base.img")
    with run_engine_on(image) as engine:
        add_supervisor(engine, shelf.reference(SUPERVISOR), SUPERVISOR_VERSION)
    shelf.sent_blobs()
    return image


def test_a_nothing_that_is_there_is_fetched(shelf: Shelf, base: DiskImage, workplace: Path) -> None:
    out = workplace / "out.img"
    result = shelf.preload(base.path, out, SHARING)
    image = shelf.images[SHARING]
    assert shelf.sent_blobs() == {image.layers[-1].descriptor.digest, image.image_id}
    assert result.plan.store.fetch_bytes == image.layers[-1].descriptor.size
    assert [shared.layer.diff_id for shared in result.plan.store.shared] == [
        layer.diff_id for layer in image.layers[:-1]
    ]
    check_filesystem(out)
    assert shelf.run(out, SHARING) == ()


def supervisor_options(shelf: Shelf, *names: str) -> list[str]:
    images = [part for name in names for part in ("--image", shelf.reference(name))]
    return ["--supervisor-image", shelf.reference(SUPERVISOR), "--supervisor-version", SUPERVISOR_VERSION, *images]


def test_b_supervisor_over_itself(shelf: Shelf, base: DiskImage, workplace: Path) -> None:
    """Its layers are there, and so are its names: only the other image is added."""
    out = workplace / "out.img"
    said = drypoint(workplace, "preload", base.path, "-o", out, *supervisor_options(shelf, SHARING))
    assert "1 layer written" in said
    assert "orphan" not in said
    assert shelf.images[SUPERVISOR].layers[0].descriptor.digest not in shelf.sent_blobs()
    assert shelf.run(out, SHARING) == ()


def test_b_supervisor_over_a_store_without_layerdb(shelf: Shelf, workplace: Path) -> None:
    """Nothing leads to the old layers any more: they come again under other names, and what they leave is listed."""
    tree = copy_of(shelf.store, workplace)
    old = {path.name for path in (tree / "docker/overlay2").iterdir() if path.name != "l"}
    shutil.rmtree(tree / "docker/image")
    base = build_disk_image(workplace / "base.img", data=tree)
    out = workplace / "out.img"
    said = drypoint(workplace, "preload", base.path, "-o", out, *supervisor_options(shelf, SHARING))
    assert {line.split("/")[1].partition(":")[0] for line in said.splitlines() if line.startswith("orphan:")} == old
    check_filesystem(out)
    assert_supervisor_runs(shelf, out)


@pytest.mark.parametrize("base_has", ["an empty data root", "no data root"])
def test_c_supervisor_into_nothing(shelf: Shelf, workplace: Path, base_has: str) -> None:
    tree = data_tree(workplace / "tree")
    if base_has == "no data root":
        (tree / "docker").rmdir()
    base = build_disk_image(workplace / "base.img", data=tree)
    out = workplace / "out.img"
    drypoint(workplace, "preload", base.path, "-o", out, *supervisor_options(shelf, SHARING))
    check_filesystem(out)
    with DockerEngine(workplace / "reference") as engine:
        add_supervisor(engine, shelf.reference(SUPERVISOR), SUPERVISOR_VERSION)
        engine.pull(shelf.reference(SHARING))
    assert differences_from(workplace / "reference", out) == ""
    assert_supervisor_runs(shelf, out)


def assert_supervisor_runs(shelf: Shelf, image: Path) -> None:
    with mounted_data(image, writable=True) as point, DockerEngine(point / "docker", offline=True) as engine:
        for name in (
            shelf.reference(SUPERVISOR),
            f"{shelf.registry.host}/{NAME}:latest",
            f"balena_supervisor:{SUPERVISOR_VERSION}",
        ):
            assert engine.run(name) == "supervisor\n"
        assert engine.run(shelf.reference(SHARING)) == f"{SHARING}\n"
        assert engine.complaints() == ()


def test_damaged_file_system_is_an_error(shelf: Shelf, workplace: Path) -> None:
    """Not one that e2fsck notes in the superblock: an inode of the store whose checksum is wrong."""
    base = build_disk_image(workplace / "base.img", data=shelf.store)
    offset = base.partition("resin-data").offset
    command = "sif /docker/image/overlay2/layerdb/sha256 checksum 0x12345678"
    run_tool("debugfs", "-n", "-w", "-R", command, f"{base.path}?offset={offset}")
    with pytest.raises(FilesystemError, match=r"resin-data.* is damaged, and nothing was changed. e2fsck says"):
        shelf.preload(base.path, workplace / "out.img", APART)
    assert not (workplace / "out.img").exists()


# Damage, kind by kind


@dataclass(frozen=True, slots=True)
class Place:
    """The layers of the Supervisor in a data root, for spoiling them."""

    root: Path
    chain_ids: tuple[Digest, ...]

    def layer(self, number: int) -> Path:
        return self.root / "image/overlay2/layerdb/sha256" / self.chain_ids[number].removeprefix("sha256:")

    def cache(self, number: int) -> Path:
        return self.root / "overlay2" / (self.layer(number) / "cache-id").read_text()

    def link(self, number: int) -> Path:
        return self.root / "overlay2/l" / (self.cache(number) / "link").read_text()

    @property
    def config(self) -> Path:
        (only,) = (self.root / "image/overlay2/imagedb/content/sha256").iterdir()
        return only


def _orphan(place: Place) -> None:
    orphan = place.root / "overlay2" / ("0a" * 32)
    (orphan / "diff").mkdir(parents=True)
    (orphan / "diff/left").write_text("over")
    (orphan / "link").write_text("A" * 26)
    (place.root / "overlay2/l" / ("A" * 26)).symlink_to(f"../{orphan.name}/diff")


def _half_written(place: Place) -> None:
    half = place.root / "image/overlay2/layerdb/tmp/write-set-123456789"
    half.mkdir(parents=True)
    (half / "diff").write_text("sha256:")


def _relink(place: Place) -> None:
    link = place.link(0)
    link.unlink()
    link.symlink_to("../" + "0b" * 32 + "/diff")


DAMAGE: dict[str, tuple[str, Callable[[Place], object]]] = {
    "no cache-id": ("missing-file", lambda place: (place.layer(1) / "cache-id").unlink()),
    "no diff": ("missing-file", lambda place: (place.layer(0) / "diff").unlink()),
    "no size": ("missing-file", lambda place: (place.layer(1) / "size").unlink()),
    "no tar-split": ("missing-file", lambda place: (place.layer(0) / "tar-split.json.gz").unlink()),
    "no parent": ("wrong-chain-id", lambda place: (place.layer(1) / "parent").unlink()),
    "no lower": ("missing-file", lambda place: (place.cache(1) / "lower").unlink()),
    "no link file": ("missing-file", lambda place: (place.cache(0) / "link").unlink()),
    "no link": ("dangling-link", lambda place: place.link(0).unlink()),
    "no committed": ("missing-committed", lambda place: (place.cache(0) / "committed").unlink()),
    "no work": ("missing-file", lambda place: (place.cache(1) / "work").rmdir()),
    "no cache directory": ("missing-file", lambda place: shutil.rmtree(place.cache(1))),
    "dangling link": ("dangling-link", _relink),
    "layer without parent": ("layer-without-parent", lambda place: shutil.rmtree(place.layer(0))),
    "orphan cache directory": ("orphan-cache-directory", _orphan),
    "half-written layer": ("half-written-layer", _half_written),
    "empty cache-id": ("bad-content", lambda place: (place.layer(0) / "cache-id").write_text("")),
    "wrong size": ("bad-content", lambda place: (place.layer(0) / "size").write_text("-1")),
    "damaged config": ("damaged-config", lambda place: place.config.write_text("{")),
    "no config": ("reference-without-image", lambda place: place.config.unlink()),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_told_and_never_made_worse(shelf: Shelf, workplace: Path, kind: str) -> None:
    code, damage = DAMAGE[kind]
    tree = copy_of(shelf.store, workplace)
    damage(place_in(tree))
    base = build_disk_image(workplace / "base.img", data=tree)
    before = everything(base.path)

    # An image that shares nothing with what is damaged: nothing that was there changes.
    apart = workplace / "apart.img"
    result = shelf.preload(base.path, apart, APART)
    assert code in {finding.code for finding in result.plan.state.findings}
    check_filesystem(apart)
    after = everything(apart)
    changed = {path for path in before if before[path] != after.get(path)}
    assert changed == {"docker/image/overlay2/repositories.json"}
    shelf.run(apart, APART)

    # One that lies on what is damaged: that is made anew, and nothing else changes.
    sharing = workplace / "sharing.img"
    result = shelf.preload(base.path, sharing, SHARING)
    check_filesystem(sharing)
    after = everything(sharing)
    removed = [path.decode() for planned in result.plan.store.layers for path in planned.removes]
    changed = {
        path
        for path in before
        if before[path] != after.get(path) and not any(path == gone or path.startswith(f"{gone}/") for gone in removed)
    }
    assert changed <= {
        "docker/image/overlay2/repositories.json",
        *(file.path.decode() for file in result.plan.store.files if file.replaces and b"/distribution/" in file.path),
    }
    shelf.run(sharing, SHARING)
    shelf.sent_blobs()


def test_damage_is_warned_of(shelf: Shelf, workplace: Path) -> None:
    tree = copy_of(shelf.store, workplace)
    (place_in(tree).layer(1) / "size").unlink()
    _half_written(place_in(tree))
    base = build_disk_image(workplace / "base.img", data=tree)
    said = drypoint(workplace, "preload", base.path, "-o", workplace / "out.img", "--image", shelf.reference(APART))
    lines = [line for line in said.splitlines() if "in the store on the disk image" in line]
    assert sum("size" in line and "missing-file" in line for line in lines) == 1
    assert sum("layerdb/tmp" in line and "half-written-layer" in line for line in lines) == 1


@pytest.mark.parametrize("content", ["", "{", '{"Repositories": []}', '{"Repositories": {"a": {"a:1": 1}}}'])
def test_unreadable_repositories_are_refused(shelf: Shelf, workplace: Path, content: str) -> None:
    tree = copy_of(shelf.store, workplace)
    (tree / "docker/image/overlay2/repositories.json").write_text(content)
    base = build_disk_image(workplace / "base.img", data=tree)
    with pytest.raises(StoreError, match=r"repositories\.json"):
        shelf.preload(base.path, workplace / "out.img", APART)


def copy_of(store: Path, workplace: Path) -> Path:
    tree = workplace / "copy"
    run_tool("cp", "-a", store, tree)
    return tree


def place_in(tree: Path) -> Place:
    chain_ids = {}
    for layer in (tree / "docker/image/overlay2/layerdb/sha256").iterdir():
        chain_ids[(layer / "parent").exists()] = Digest(f"sha256:{layer.name}")
    return Place(tree / "docker", (chain_ids[False], chain_ids[True]))


def everything(image: Path) -> dict[str, tuple[object, ...]]:
    """Every path in resin-data with all that there is to know of it; for directories not what is in them."""
    found: dict[str, tuple[object, ...]] = {}
    with mounted_data(image) as point:
        for directory, directories, files in os.walk(point):
            for name in (*directories, *files):
                path = Path(directory) / name
                status = path.lstat()
                content: object = None
                if path.is_symlink():
                    content = path.readlink()
                elif path.is_file():
                    content = hashlib.sha256(path.read_bytes()).digest()
                attributes = {
                    key: os.getxattr(path, key, follow_symlinks=False)
                    for key in os.listxattr(path, follow_symlinks=False)
                }
                times = (status.st_mtime_ns, status.st_atime_ns)
                who = (status.st_mode, status.st_uid, status.st_gid, status.st_rdev)
                links = status.st_nlink if not path.is_dir() else 0
                found[str(path.relative_to(point))] = (status.st_ino, who, links, times, attributes, content)
    return found
