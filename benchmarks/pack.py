"""The speed of pack, compared with C programs on the same bytes, and its memory.

    .venv/bin/python -m benchmarks.pack [--size MIB] [--rounds N] [--directory DIR]
    .venv/bin/python -m benchmarks.pack --memory --size 4096

The application is one image of four layers, with files of 16 MiB and gzip in many members. It is generated in the
process each time it is fetched, and never stored. Without --memory, pack writes the archive to a pipe that another process
reads. It is compared with `cat` of the archive to the same pipe, and with the floor, the least work for the same layers:
hashing the blob, inflating, and hashing the tar, by igzip (or pigz) and openssl, in parallel, two layers at once. Compare
ratios, not seconds. Figures are medians of the rounds.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from drypoint import ImageRequest, pack, parse_platform, parse_reference
from drypoint.digest import Digest
from drypoint.fstree import Directory, Metadata, Regular
from drypoint.jobs.request import PreloadRequest
from drypoint.oci import Descriptor, Image, Layer, Platform, Reference, assemble_layers, parse_config
from drypoint.samples.disk_images import Sizes, build_disk_image
from drypoint.sinks.tar import END_OF_ARCHIVE, entry_header

MIB = 1 << 20
_FILE_BYTES = 16 * MIB
_LAYERS = 4
_NAME = "example.com/bench:latest"
_PLATFORM = parse_platform("linux/amd64")


@dataclass(frozen=True)
class SyntheticLayer:
    """A layer that is generated while it is read: directories of files, all with the same content."""

    number: int
    files: int

    def blob(self) -> Iterator[bytes]:
        """gzip, a member for each header and for each MiB of content."""
        for piece, packed in self._pieces():
            yield packed if packed is not None else gzip.compress(piece, 1, mtime=0)

    def tar(self) -> Iterator[bytes]:
        for piece, _ in self._pieces():
            yield piece

    @cached_property
    def described(self) -> tuple[Descriptor, Digest]:
        blob, tar = hashlib.sha256(), hashlib.sha256()
        size = 0
        for piece, packed in self._pieces():
            packed = gzip.compress(piece, 1, mtime=0) if packed is None else packed
            blob.update(packed)
            tar.update(piece)
            size += len(packed)
        media_type = "application/vnd.oci.image.layer.v1.tar+gzip"
        descriptor = Descriptor(media_type, Digest(f"sha256:{blob.hexdigest()}"), size)
        return descriptor, Digest(f"sha256:{tar.hexdigest()}")

    def _pieces(self) -> Iterator[tuple[bytes, bytes | None]]:
        content, packed = _content()
        root = b"srv/layer-%d" % self.number
        yield entry_header(Directory(b"srv", Metadata(0o755))) + entry_header(Directory(root, Metadata(0o755))), None
        for number in range(self.files):
            yield entry_header(Regular(root + b"/file-%d" % number, Metadata(0o644), _FILE_BYTES)), None
            for _ in range(_FILE_BYTES // MIB):
                yield content, packed
        yield END_OF_ARCHIVE, None


_made: list[tuple[bytes, bytes]] = []


def _content() -> tuple[bytes, bytes]:
    """A MiB that compresses about like user lands, raw and as a gzip member."""
    if not _made:
        noise = random.Random(1)
        words = [noise.randbytes(noise.randint(3, 12)) for _ in range(3000)]
        content = b"".join(noise.choice(words) for _ in range(MIB // 7))[:MIB].ljust(MIB, b"\0")
        _made.append((content, gzip.compress(content, 6, mtime=0)))
    return _made[0]


class SyntheticSource:
    """A source of one image, whose layers are generated while they are read."""

    def __init__(self, size: int) -> None:
        self.layers = [SyntheticLayer(number, max(1, size // _LAYERS // _FILE_BYTES)) for number in range(_LAYERS)]

    def resolve(self, reference: Reference, platform: Platform) -> Image:
        described = [layer.described for layer in self.layers]
        rootfs = {"type": "layers", "diff_ids": [diff_id for _, diff_id in described]}
        document = {"os": "linux", "architecture": "amd64", "created": "2024-01-01T00:00:00Z", "rootfs": rootfs}
        config = parse_config(json.dumps(document).encode(), str(reference))
        blobs = tuple(descriptor for descriptor, _ in described)
        return Image((reference,), config, assemble_layers(config, blobs, str(reference)), reference)

    def open_layer(self, image: Image, layer: Layer) -> Iterator[bytes]:
        return next(one for one in self.layers if one.described[1] == layer.diff_id).blob()

    def close(self) -> None:
        return


def pack_synthetic(base: Path, size: int, write: Callable[[bytes | memoryview], object]) -> int:
    """Pack *base* with an application of *size* bytes; returns the archive's length."""
    request = ImageRequest(parse_reference(_NAME), SyntheticSource(size))
    return pack(base, write, PreloadRequest([request], _PLATFORM)).archive_bytes


def pack_to_nowhere(directory: Path, size: int) -> None:
    """Pack, and drop the output, to measure memory."""
    base = build_disk_image(directory / "base.img", sizes=Sizes(data=64 * MIB)).path
    pack_synthetic(base, size, lambda _: None)


def peak_memory() -> int:
    """The peak resident memory of this process, in bytes. That of getrusage includes its parent's, from before exec."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) << 10


def main() -> None:
    parser = argparse.ArgumentParser(description="measure pack")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the application, uncompressed (default: 1024)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="only the highest resident memory of packing once")
    parser.add_argument("--directory", type=Path, help="where files go (default: a temporary directory)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="drypoint-bench-", dir=arguments.directory) as name:
        if arguments.memory:
            pack_to_nowhere(Path(name), arguments.size * MIB)
            print(f"packing an application of {arguments.size} MiB: peak resident memory {peak_memory() / MIB:.0f} MiB")
        else:
            _measure(Path(name), arguments.size * MIB, arguments.rounds)


def _measure(directory: Path, size: int, rounds: int) -> None:
    base = build_disk_image(directory / "base.img", sizes=Sizes(data=64 * MIB)).path
    source = SyntheticSource(size)
    for layer in source.layers:
        with (directory / f"layer-{layer.number}.gz").open("wb") as file:
            file.writelines(layer.blob())
    archive = directory / "archive.etch"
    with archive.open("wb") as file:
        length = pack_synthetic(base, size, file.write)
    request = ImageRequest(parse_reference(_NAME), source)
    # So that descriptors are known, as from a registry.
    source.resolve(request.reference, _PLATFORM)
    inflate = "igzip" if shutil.which("igzip") else "pigz"
    one = f"openssl dgst -sha256 $0 & {inflate} -dc < $0 | openssl dgst -sha256; wait"
    floor = f"ls layer-*.gz | xargs -P 2 -I @ sh -c '{one}' @ > /dev/null"
    runs: dict[str, Callable[[], object]] = {
        "pack": lambda: _through_pipe(lambda write: pack(base, write, PreloadRequest([request], _PLATFORM))),
        "cat": lambda: subprocess.run("cat archive.etch | cat > /dev/null", shell=True, check=True, cwd=directory),
        "floor": lambda: subprocess.run(floor, shell=True, check=True, cwd=directory),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    blobs = sum(layer.described[0].size for layer in source.layers)
    print(
        f"an application of {size / 1e6:.0f} MB ({blobs / 1e6:.0f} MB compressed); the archive has {length / 1e6:.0f} MB"
    )
    for name, label in (
        ("pack", "pack"),
        ("cat", "cat of the archive"),
        ("floor", f"floor: sha256, {inflate}, sha256"),
    ):
        print(f"{label:<40}{median[name]:8.2f} s{length / 1e6 / median[name]:9.0f} MB/s of the archive")
    print(
        f"pack to cat: {median['pack'] / median['cat']:.1f}; pack to the floor: {median['pack'] / median['floor']:.2f}"
    )


def _through_pipe(run: Callable[[Callable[[bytes | memoryview], object]], object]) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader:
        assert reader.stdin is not None
        fd = reader.stdin.fileno()

        def write(data: bytes | memoryview) -> None:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]

        run(write)


if __name__ == "__main__":
    main()
