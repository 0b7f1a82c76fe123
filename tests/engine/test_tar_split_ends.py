"""How the engine ends its tar-splits, which depends on how its inflater hands out its output: held to a real pull."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from drypoint.digest import digest_of, hex_of
from drypoint.layers import LayerReader, tar_chunks
from drypoint.oci import Descriptor, Layer, chain_ids
from drypoint.samples.applications import sample_content
from drypoint.samples.images import BuiltLayer, build_image, registry_content
from drypoint.samples.layers import LayerBuilder
from tests.support.docker_engine import DockerEngine
from tests.support.docker_registry import DockerRegistry
from tests.support.gzip_framings import Cut, framed, like_pgzip, random_framing

pytestmark = [pytest.mark.engine]

END = 1024
LAYERS_OF_AN_IMAGE = 60


def built(tar: bytes, blob: bytes) -> BuiltLayer:
    descriptor = Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", digest_of(blob), len(blob))
    return BuiltLayer(descriptor, digest_of(tar), blob, tar)


def tar_named(name: str, size: int, behind: bytes) -> bytes:
    return LayerBuilder().file(name, sample_content(name, size)).finish() + behind


def named_layers() -> dict[str, BuiltLayer]:
    """Framings that a writer makes, or that lie just at a boundary."""
    found: dict[str, BuiltLayer] = {}
    for padding in (0, 512, 9216, 31744, 32768, 100_000):
        for size in (100, 3_000_000):
            name = f"{padding}-{size}"
            tar = tar_named(f"pgzip-{name}", size, bytes(padding))
            found[f"pgzip-{name}"] = built(tar, like_pgzip(tar))
            tar = tar_named(f"go-{name}", size, bytes(padding))
            found[f"zlib-{name}"] = built(tar, zlib.compress(tar, wbits=31))
    for cut in Cut:
        for at in (-1024, -512, 0, 1, 4000, 9216):
            tar = tar_named(f"{cut.name}-{at}", 5000, bytes(9216))
            where = len(tar) - 9216 + at
            found[f"{cut.name}-{at}"] = built(tar, framed(tar, [(where, cut)]))
            tar = tar_named(f"{cut.name}-{at}-and-end", 5000, bytes(9216))
            found[f"{cut.name}-{at}-and-end"] = built(tar, framed(tar, [(where, cut), (len(tar), Cut.SYNC_FLUSH)]))
    return found


def random_layers(count: int, seed: int) -> dict[str, BuiltLayer]:
    chance = random.Random(seed)
    found: dict[str, BuiltLayer] = {}
    for number in range(count):
        size = chance.choice((0, 10, 511, 40_000, 1_200_000))
        length = chance.choice((0, 1, 512, 9216, 31744, 40_000, chance.randint(0, 200_000)))
        behind = bytes(length) if chance.random() < 0.7 else chance.randbytes(length)
        tar = tar_named(f"random-{seed}-{number}", size, behind)
        framing = random_framing(len(tar), len(tar) - length, chance)
        level = chance.choice((0, 1, 6, 9))
        found[f"{number}: {size}, {length}, level {level}, {framing}"] = built(tar, framed(tar, framing, level))
    return found


def tar_splits_of_the_engine(directory: Path, layers: Sequence[BuiltLayer]) -> list[bytes]:
    """What a pull of all *layers* records for each."""
    found: list[bytes] = []
    parts = [layers[start : start + LAYERS_OF_AN_IMAGE] for start in range(0, len(layers), LAYERS_OF_AN_IMAGE)]
    with DockerRegistry() as registry, DockerEngine(directory) as engine:
        registry.push(registry_content({f"ends:{number}": build_image(part) for number, part in enumerate(parts)}))
        for number, part in enumerate(parts):
            engine.pull(registry.reference("ends", str(number)))
            for chain_id in chain_ids([layer.diff_id for layer in part]):
                path = directory / "image/overlay2/layerdb/sha256" / hex_of(chain_id) / "tar-split.json.gz"
                found.append(gzip.decompress(path.read_bytes()))
    return found


def tar_split_of(layer: BuiltLayer) -> bytes:
    assert isinstance(layer.content, bytes)
    described = Layer(layer.descriptor, layer.diff_id, layer.diff_id, None)
    blob = (layer.content[start : start + 70_000] for start in range(0, len(layer.content), 70_000))
    with tar_chunks(blob, described, "layer") as chunks, LayerReader(chunks, "layer") as reader:
        for _ in reader:
            pass
        return gzip.decompress(b"".join(reader.tar_split.chunks()))


def differing(layers: dict[str, BuiltLayer], expected: Sequence[bytes]) -> list[str]:
    pairs = zip(layers.items(), expected, strict=True)
    return [name for (name, layer), wanted in pairs if tar_split_of(layer) != wanted]


@pytest.mark.parametrize("seed", [1, 2])
def test_random_framings(tmp_path: Path, seed: int) -> None:
    layers = random_layers(180, seed)
    expected = tar_splits_of_the_engine(tmp_path / "engine", list(layers.values()))
    assert differing(layers, expected) == []


def test_framings_of_writers(tmp_path: Path) -> None:
    layers = named_layers()
    expected = tar_splits_of_the_engine(tmp_path / "engine", list(layers.values()))
    assert differing(layers, expected) == []
    # The judge judges: the same tar in another framing is recorded in other pieces.
    tar = layers["pgzip-9216-100"].tar
    assert isinstance(tar, bytes)
    layers["pgzip-9216-100"] = built(tar, zlib.compress(tar, wbits=31))
    assert differing(layers, expected) == ["pgzip-9216-100"]
