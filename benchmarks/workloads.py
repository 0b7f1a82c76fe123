"""The workloads of the stages: generated images, equal on every machine.

Content is cut from two pools, words and program-like bytes, so that it deflates about like user lands (2.5 to 3 times).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from drypoint.oci import Layer
from drypoint.samples.images import BuiltImage, BuiltLayer, Compression, build_image, build_layer
from drypoint.samples.layers import LayerBuilder
from drypoint.samples.registry import RegistryContent

MIB = 1 << 20
_POOL_BYTES = 32 * MIB
_PIECE_BYTES = 4 * MIB


@dataclass(frozen=True, slots=True)
class Workload:
    """An image, its layers as files: *tars* and the same compressed by zstd; *entries* in all of them."""

    name: str
    what: str
    image: BuiltImage
    tars: tuple[Path, ...]
    zstd_blobs: tuple[Path, ...]
    entries: int

    @property
    def tar_bytes(self) -> int:
        return sum(tar.stat().st_size for tar in self.tars)

    @property
    def blob_bytes(self) -> int:
        return sum(layer.descriptor.size for layer in self.image.layers)

    @property
    def zstd_bytes(self) -> int:
        return sum(blob.stat().st_size for blob in self.zstd_blobs)

    @property
    def blobs(self) -> tuple[Path, ...]:
        return tuple(layer.content for layer in self.image.layers if isinstance(layer.content, Path))

    @property
    def oci_layers(self) -> tuple[Layer, ...]:
        """The layers for reading them one by one, without their parents."""
        return tuple(Layer(layer.descriptor, layer.diff_id, layer.diff_id, None) for layer in self.image.layers)

    def registry_content(self) -> RegistryContent:
        """The content of a registry with the image as ``bench:latest``."""
        content = RegistryContent(blobs=dict(self.image.blobs))
        content.add_manifest("bench", "latest", self.image.media_type, self.image.manifest)
        return content


class _Tree:
    """Adds files, directory by directory, and counts them."""

    def __init__(self, layer: LayerBuilder, seed: str) -> None:
        self._layer = layer
        self._random = random.Random(seed)
        self._made: set[str] = set()
        self.entries = 0

    def directory(self, path: str) -> None:
        if path and path not in self._made:
            self.directory(path.rpartition("/")[0])
            self._made.add(path)
            self._layer.directory(path, mtime=self._time())
            self.entries += 1

    def file(self, path: str, size: int, pool: Callable[[], bytes]) -> None:
        self.directory(path.rpartition("/")[0])
        self._layer.file(path, _pieces(self._random, pool(), size), size=size, mtime=self._time())
        self.entries += 1

    def symlink(self, path: str, target: str) -> None:
        self._layer.symlink(path, target, mtime=self._time())
        self.entries += 1

    def size(self, mean: int, longest: int) -> int:
        """A random size, distributed like those of files: many small ones, few large ones."""
        return min(longest, int(self._random.paretovariate(1.2) * mean / 6))

    def between(self, least: int, most: int) -> int:
        return self._random.randint(least, most)

    def _time(self) -> int:
        return (1_600_000_000 + self._random.randrange(100_000_000)) * 1_000_000_000


def small_files(directory: Path, scale: float) -> Workload:
    def fill(tree: _Tree) -> None:
        for number in range(int(50_000 * scale)):
            size = tree.between(1 << 10, 8 << 10)
            tree.file(f"srv/data/{number // 2500:02}/{number // 100:04}/record-{number:06}.json", size, _text)

    return _workload(directory, "small", "50,000 files of 1 to 8 KiB, one layer", scale, [fill])


def large_files(directory: Path, scale: float) -> Workload:
    def fill(tree: _Tree) -> None:
        for number in range(4):
            tree.file(f"srv/model-{number}.bin", int(128 * MIB * scale), _text if number % 2 else _binary)

    return _workload(directory, "large", "4 files of 128 MiB, one layer", scale, [fill])


def mixed(directory: Path, scale: float) -> Workload:
    """Like a Debian base with two language stacks: 45,000 files, about 1 GiB."""

    def base(tree: _Tree) -> None:
        for number in range(int(600 * scale)):
            tree.file(
                f"usr/lib/x86_64-linux-gnu/lib{number:03}.so.{number % 9}.0", tree.size(150_000, 8 * MIB), _binary
            )
            tree.symlink(f"usr/lib/x86_64-linux-gnu/lib{number:03}.so", f"lib{number:03}.so.{number % 9}.0")
        for number in range(int(600 * scale)):
            tree.file(f"usr/bin/tool-{number:03}", tree.size(90_000, 4 * MIB), _binary)
        for number in range(int(6_000 * scale)):
            tree.file(f"usr/share/doc/package-{number // 12:03}/file-{number % 12:02}", tree.size(9_000, MIB), _text)

    def node(tree: _Tree) -> None:
        for number in range(int(26_000 * scale)):
            package, inner = number // 40, number % 40
            folder = f"srv/node_modules/package-{package:03}/{('dist/esm', 'lib', 'src', 'test')[inner // 10]}"
            tree.file(f"{folder}/module-{inner:02}.js", tree.size(8_000, 2 * MIB), _text)

    def science(tree: _Tree) -> None:
        for number in range(int(11_000 * scale)):
            folder = f"opt/venv/lib/python3/site-packages/stack{number // 500:02}/part{number // 50 % 10}"
            tree.file(f"{folder}/module{number % 50:02}.py", tree.size(12_000, 2 * MIB), _text)
        for number in range(int(500 * scale)):
            folder = f"opt/venv/lib/python3/site-packages/stack{number % 22:02}"
            tree.file(f"{folder}/_native{number:03}.so", tree.size(900_000, 40 * MIB), _binary)

    return _workload(
        directory,
        "mixed",
        "a user land and two language stacks, 45,000 files, three layers",
        scale,
        [base, node, science],
    )


def _workload(directory: Path, name: str, what: str, scale: float, fills: list[Callable[[_Tree], None]]) -> Workload:
    built: list[BuiltLayer] = []
    tars: list[Path] = []
    zstd_blobs: list[Path] = []
    entries = 0
    for number, fill in enumerate(fills):
        tar = directory / f"{name}-{number}.tar"
        with tar.open("wb") as out:
            layer = LayerBuilder(out)
            tree = _Tree(layer, f"{name} {number}")
            fill(tree)
            layer.finish()
        entries += tree.entries
        tars.append(tar)
        built.append(build_layer(tar, Compression.GZIP, store=tar.with_suffix(".tar.gz")))
        zstd_blob = tar.with_suffix(".tar.zst")
        build_layer(tar, Compression.ZSTD, store=zstd_blob)
        zstd_blobs.append(zstd_blob)
    said = what if scale == 1 else f"{what}; here {scale:.0%} of that"
    return Workload(name, said, build_image(built), tuple(tars), tuple(zstd_blobs), entries)


def _pieces(source: random.Random, pool: bytes, size: int) -> list[bytes]:
    pieces = []
    while size > 0:
        piece = min(size, _PIECE_BYTES)
        start = source.randrange(len(pool) - piece)
        pieces.append(pool[start : start + piece])
        size -= piece
    return pieces


@cache
def _text() -> bytes:
    """Words of a made-up language, the frequent ones often."""
    source = random.Random("text")
    words = [bytes(source.choices(b"etaoinsrhldcumfpgwybvk", k=source.randint(2, 10))) for _ in range(6000)]
    weights = [1 / (rank + 10) for rank in range(len(words))]
    text = b" ".join(source.choices(words, weights, k=1_000_000))
    return _grown(source, text)


@cache
def _binary() -> bytes:
    """Like machine code and tables: runs of zeros, repeated patterns, noise between them."""
    source = random.Random("binary")
    patterns = [source.randbytes(source.randint(4, 24)) for _ in range(400)]
    parts: list[bytes] = []
    for _ in range(250_000):
        parts.append(source.choice(patterns))
        parts.append(source.randbytes(source.randint(1, 6)))
        if source.random() < 0.08:
            parts.append(bytes(source.randint(8, 200)))
    return _grown(source, b"".join(parts))


def _grown(source: random.Random, content: bytes) -> bytes:
    """*content*, cut and shuffled until the pool is full, with repetitions beyond the window of deflate."""
    pool = bytearray(content)
    while len(pool) < _POOL_BYTES:
        start = source.randrange(len(content) - MIB)
        pool += content[start : start + MIB]
    return bytes(pool)
