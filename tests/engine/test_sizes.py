"""What layers are measured to take is what the kernel counts on the mounted disk image."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from drypoint.jobs.preload import preload
from drypoint.jobs.request import ImageRequest, PreloadRequest
from drypoint.jobs.write import WrittenLayer, to_be_noted
from drypoint.oci import Platform
from drypoint.samples.disk_images import MIB, DiskImage, Sizes, build_disk_image
from drypoint.samples.images import build_image, build_layer, write_oci_layout
from drypoint.samples.layers import LayerBuilder
from drypoint.sources import OciLayoutSource
from tests.support.engine_images import mounted_partition

pytestmark = [pytest.mark.engine, pytest.mark.needs("du", "e2fsck")]


def layers() -> dict[str, LayerBuilder]:
    small, attributes, links = LayerBuilder(), LayerBuilder(), LayerBuilder().file("file", b"x" * 5000)
    for number in range(4000):
        small.file(f"d{number % 40}/f{number}", b"y" * (number * 3))
    for number in range(600):
        attributes.file(f"f{number}", b"x", xattrs={b"user.note": bytes([number % 250 + 1]) * (number * 6)})
    many = LayerBuilder().directory("many")
    for number in range(10_000):
        many.file(f"many/entry-{number}", b"")
    for number in range(2000):
        links.symlink(f"s{number}", "t" * (number + 1)).hardlink(f"h{number}", "file")
    sparse = LayerBuilder().file("sparse", b"a" + bytes(200 * MIB) + b"b" + bytes(90 * MIB) + b"c")
    return {"small": small, "attributes": attributes, "many": many, "links": links, "sparse": sparse}


@pytest.mark.parametrize("data", [1024 * MIB, 48 * MIB], ids=["roomy", "growing"])
def test_blocks_and_inodes_are_those_of_du(tmp_path: Path, data: int) -> None:
    image = build_image([build_layer(builder.finish()) for builder in layers().values()])
    write_oci_layout(tmp_path, {"example.com/all:1": image})
    base = build_disk_image(tmp_path / "base.img", sizes=Sizes(data=data))
    source = OciLayoutSource(tmp_path)
    request = ImageRequest(source.references[0], source)
    result = preload(base.path, tmp_path / "out.img", PreloadRequest([request], Platform("linux", "amd64")))
    source.close()
    noted = to_be_noted(result.plan.store, result.layers, result.plan.block_size)
    grown = replace(base.partition("resin-data"), size=result.partition.size)
    out = DiskImage(result.output, base.table, (*base.partitions[:-1], grown))
    with mounted_partition(out) as point:
        for layer in result.layers:
            seen = noted[layer.planned.layer.diff_id]
            assert (seen.blocks, seen.inodes) == _counted(point / "docker", layer)


def _counted(root: Path, layer: WrittenLayer) -> tuple[int, int]:
    """Blocks of 4 KiB of diff/ and the tar-split, and inodes below diff/."""
    layerdb = root / "image/overlay2/layerdb/sha256" / layer.planned.chain_id[7:]
    diff = root / "overlay2" / (layerdb / "cache-id").read_text() / "diff"
    split = layerdb / "tar-split.json.gz"
    return _du("-B4096", diff) + _du("-B4096", split), _du("--inodes", diff) - 1


def _du(unit: str, path: Path) -> int:
    return int(subprocess.run(["du", "-s", unit, path], capture_output=True, text=True, check=True).stdout.split()[0])
