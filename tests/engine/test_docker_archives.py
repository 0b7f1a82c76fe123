"""docker archives as tools write them: what docker load takes is taken, as the same image, and what it refuses is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from drypoint.errors import DrypointError, ToolError
from drypoint.oci import Platform, parse_reference
from drypoint.samples.images import build_image, build_layer
from drypoint.samples.layers import LayerBuilder
from drypoint.sources import DockerArchiveSource
from tests.support.docker_engine import DockerEngine
from tests.support.ext4_images import make_ext4
from tests.support.mounts import mounted

pytestmark = [pytest.mark.engine, pytest.mark.needs("e2fsck", "debugfs")]

SIZE = 96 << 20
IMAGE = build_image([build_layer(LayerBuilder().file("hello", b"hi").finish())])
assert isinstance(IMAGE.layers[0].tar, bytes)
TAR = IMAGE.layers[0].tar
CONFIG, LAYER = f"{IMAGE.image_id[7:]}.json", "x/layer.tar"
OTHER = "0" * 64


@dataclass(frozen=True, slots=True)
class Archive:
    """*config* and *layer* are what manifest.json says; the others say where these are in the tar."""

    config: str | None = CONFIG
    layer: str | None = LAYER
    tags: object = field(default_factory=lambda: ["a:1"])
    keys: tuple[str, str, str] = ("Config", "RepoTags", "Layers")
    prefix: str = ""
    config_at: str = CONFIG
    layer_at: str = LAYER
    symlinks: tuple[tuple[str, str], ...] = ()
    hard_links: tuple[tuple[str, str], ...] = ()
    manifest: bytes | None = None

    def write(self, path: Path) -> Path:
        builder = LayerBuilder().file(self.prefix + self.config_at, IMAGE.config)
        builder.file(self.prefix + self.layer_at, TAR)
        for name, target in self.symlinks:
            builder.symlink(name, target)
        for name, target in self.hard_links:
            builder.hardlink(name, target)
        layers = None if self.layer is None else [self.layer]
        said = [dict(zip(self.keys, (self.config, self.tags, layers), strict=True))]
        content = json.dumps(said).encode() if self.manifest is None else self.manifest
        builder.file(self.prefix + "manifest.json", content)
        path.write_bytes(builder.finish())
        return path


TAKEN: Mapping[str, Archive] = {
    "plain": Archive(),
    "absolute members": Archive(prefix="/"),
    "absolute in manifest.json": Archive("/" + CONFIG, "/" + LAYER),
    "dot members": Archive(prefix="./"),
    "dot in manifest.json": Archive("./" + CONFIG, "./x/./layer.tar"),
    "members above the root": Archive(prefix="../"),
    "members above an absolute root": Archive(prefix="/../"),
    "up and down in manifest.json": Archive("y/../" + CONFIG, "x/y/../layer.tar"),
    "keys as Jib wrote them": Archive(keys=("config", "repoTags", "layers")),
    "upper-case keys": Archive(keys=("CONFIG", "REPOTAGS", "LAYERS")),
    "another digest's name": Archive(OTHER + ".json", config_at=OTHER + ".json"),
    "another blob's name": Archive("blobs/sha256/" + OTHER, config_at="blobs/sha256/" + OTHER),
    "no digest": Archive("config.json", config_at="config.json"),
    "symbolic link": Archive(layer_at="y/layer.tar", symlinks=((LAYER, "../y/layer.tar"),)),
    "absolute symbolic link": Archive(layer_at="y/layer.tar", symlinks=((LAYER, "/y/layer.tar"),)),
    "hard link": Archive(layer_at="y/layer.tar", hard_links=((LAYER, "y/layer.tar"),)),
    "linked directory": Archive(layer_at="y/layer.tar", symlinks=(("x", "y"),)),
}
REFUSED: Mapping[str, Archive] = {
    "out of the archive": Archive("../" + CONFIG),
    "out of an absolute root": Archive("/../" + CONFIG, "/../" + LAYER),
    "a null tag": Archive(tags=[None]),
    "no config": Archive(config=None),
    "no layers": Archive(layer=None),
    "a null image": Archive(manifest=b"[null]"),
    "a tag that is a digest": Archive(tags=["a@sha256:" + "1" * 64]),
    "a name that is not one": Archive(tags=["A B"]),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerEngine]:
    image = make_ext4(tmp_path_factory.mktemp("load") / "data.img", SIZE)
    with (
        mounted(image, offset=0, size=SIZE, writable=True) as point,
        DockerEngine(point / "docker", offline=True) as one,
    ):
        yield one


@pytest.mark.parametrize("case", TAKEN)
def test_what_docker_load_takes(engine: DockerEngine, tmp_path: Path, case: str) -> None:
    path = TAKEN[case].write(tmp_path / "a.tar")
    engine.load(path)
    assert [(one.repository, one.tag, one.image_id) for one in engine.images()] == [("a", "1", IMAGE.image_id)]
    engine.remove_image("a:1")
    source = DockerArchiveSource(path)
    assert source.references == (parse_reference("a:1"),)
    image = source.resolve(parse_reference("a:1"), Platform("linux", "amd64"))
    assert image.image_id == IMAGE.image_id
    assert b"".join(source.open_layer(image, image.layers[0])) == TAR


@pytest.mark.parametrize("case", REFUSED)
def test_what_docker_load_refuses(engine: DockerEngine, tmp_path: Path, case: str) -> None:
    path = REFUSED[case].write(tmp_path / "a.tar")
    with pytest.raises(ToolError):
        engine.load(path)
    with pytest.raises(DrypointError):
        DockerArchiveSource(path)
