"""The workloads of the contest: images in a registry, and a disk image for them."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.userland import debian_layer

from drypoint.samples.disk_images import DiskImage, Sizes, build_disk_image
from drypoint.samples.images import BuiltImage, BuiltLayer, Compression, build_image, build_layer
from drypoint.samples.layers import LayerBuilder
from drypoint.samples.registry import RegistryContent

from .packages import node_modules, science_stack

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Contest:
    """A workload.

    Attributes:
        images: by repository, tagged latest; all of them are preloaded.
        before: images that the disk image holds already, by repository.
        new_layers: the layers to fetch, each once.
        files: roughly how many inodes the new layers hold.
    """

    name: str
    what: str
    images: dict[str, BuiltImage]
    before: dict[str, BuiltImage]
    files: int

    @property
    def new_layers(self) -> tuple[tuple[str, BuiltLayer], ...]:
        known = {layer.diff_id for image in self.before.values() for layer in image.layers}
        found = {
            layer.diff_id: (repository, layer)
            for repository, image in self.images.items()
            for layer in image.layers
            if layer.diff_id not in known
        }
        return tuple(found.values())

    @property
    def tar_bytes(self) -> int:
        return sum(_size(layer.tar) for _, layer in self.new_layers)

    @property
    def blob_bytes(self) -> int:
        return sum(layer.descriptor.size for _, layer in self.new_layers)

    def content(self) -> RegistryContent:
        """The content of the registry."""
        content = RegistryContent()
        for repository, image in (*self.before.items(), *self.images.items()):
            content.blobs.update(image.blobs)
            content.add_manifest(repository, "latest", image.media_type, image.manifest)
        return content


def base_image(path: Path) -> DiskImage:
    """A disk image like a fresh balenaOS, whose small data partition must grow."""
    return build_disk_image(path, sizes=Sizes())


def packages(directory: Path, _scale: float) -> Contest:
    """A: two images on a common Debian base, one with node_modules, one with a Python science stack."""
    base = debian_layer()
    node = _from_tar(node_modules(), directory / "node.tar.gz")
    science = _from_tar(science_stack(), directory / "science.tar.gz")
    images = {"bench/node": _image(base, node), "bench/science": _image(base, science)}
    return Contest("A", "two images of public packages on one Debian base, about 1 GiB", images, {}, 46_000)


def large_files(directory: Path, scale: float) -> Contest:
    """B: few large files, cut from the science stack, so that they deflate as its libraries do."""
    pool = science_stack().read_bytes()[: 256 * MIB]
    size = int((4 << 30) * scale) // 20

    def fill(layer: LayerBuilder) -> None:
        source = random.Random("large")
        for number in range(20):
            layer.file(f"srv/models/model-{number:02}.bin", list(_pieces(source, pool, size, 4 * MIB)), size=size)

    image = _image(_layer(directory / "large", fill))
    return Contest("B", f"20 files of {size / MIB:.0f} MiB in one layer", {"bench/large": image}, {}, 20)


def small_files(directory: Path, scale: float) -> Contest:
    """C: many small files, cut from node_modules."""
    pool = node_modules().read_bytes()[: 128 * MIB]
    count = int(200_000 * scale)

    def fill(layer: LayerBuilder) -> None:
        source = random.Random("small")
        for number in range(count):
            if number % 1000 == 0:
                layer.directory(f"srv/data/{number // 1000:03}")
            size = source.randint(1 << 10, 8 << 10)
            start = source.randrange(len(pool) - size)
            layer.file(f"srv/data/{number // 1000:03}/record-{number:06}.json", [pool[start : start + size]], size=size)

    image = _image(_layer(directory / "small", fill))
    return Contest("C", f"{count} files of 1 to 8 KiB in one layer", {"bench/small": image}, {}, count)


def many_layers(directory: Path, _scale: float) -> Contest:
    """D: 40 small layers."""
    return Contest("D", "40 layers of 20 files of 1 to 64 KiB", {"bench/layers": _layered(directory, 40)}, {}, 800)


def one_more(directory: Path, scale: float) -> Contest:
    """E: the disk image has all layers except the uppermost one."""
    before = packages(directory, scale).images["bench/science"]
    small = _small_layer(directory / "more", "more")
    after = _image(*before.layers, small)
    return Contest(
        "E", "the science image with one small layer more", {"bench/more": after}, {"bench/science": before}, 20
    )


CONTESTS: dict[str, Callable[[Path, float], Contest]] = {
    "A": packages, "B": large_files, "C": small_files, "D": many_layers, "E": one_more,
}  # fmt: skip


def fill_base(image: DiskImage, references: list[str]) -> None:
    """Write to *image* what it holds before the contest."""
    part = image.path.with_suffix(".before")
    image.path.rename(part)
    program = [
        sys.executable,
        "-c",
        "from drypoint.cli import main; main()",
        "preload",
        str(part),
        "-o",
        str(image.path),
    ]
    subprocess.run([*program, "--quiet", *(f"--image={reference}" for reference in references)], check=True)
    part.unlink()


def _layered(directory: Path, count: int) -> BuiltImage:
    return _image(*(_small_layer(directory / f"layer-{number:02}", f"layer {number}") for number in range(count)))


def _small_layer(path: Path, seed: str) -> BuiltLayer:
    pool = node_modules().read_bytes()[: 16 * MIB]

    def fill(layer: LayerBuilder) -> None:
        source = random.Random(seed)
        for number in range(20):
            size = source.randint(1 << 10, 64 << 10)
            start = source.randrange(len(pool) - size)
            layer.file(f"srv/{path.name}/file-{number:02}", [pool[start : start + size]], size=size)

    return _layer(path, fill)


def _layer(path: Path, fill: Callable[[LayerBuilder], None]) -> BuiltLayer:
    tar = path.with_suffix(".tar")
    with tar.open("wb") as out:
        layer = LayerBuilder(out)
        fill(layer)
        layer.finish()
    return _from_tar(tar, path.with_suffix(".tar.gz"))


def _from_tar(tar: Path, blob: Path) -> BuiltLayer:
    return build_layer(tar, Compression.GZIP, store=blob)


def _image(*layers: BuiltLayer) -> BuiltImage:
    return build_image(layers, config={"Cmd": ["/bin/true"]})


def _pieces(source: random.Random, pool: bytes, size: int, piece: int) -> list[bytes]:
    pieces = []
    while size > 0:
        part = min(size, piece)
        start = source.randrange(len(pool) - part)
        pieces.append(pool[start : start + part])
        size -= part
    return pieces


def _size(blob: bytes | Path) -> int:
    return blob.stat().st_size if isinstance(blob, Path) else len(blob)
