"""What layers take is measured rightly, and the second time the partition grows once, by just that."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.ext4_images import ask_dumpe2fs

from drypoint.disk import FileDevice, Window, find_partition, read_table
from drypoint.disk.ext4.resize.geometry import read_geometry
from drypoint.jobs.plan import Plan, plan
from drypoint.jobs.preload import Result, preload
from drypoint.jobs.request import ImageRequest, PreloadRequest
from drypoint.oci import Platform
from drypoint.progress import Step
from drypoint.samples.disk_images import IMAGE_TOOLS, MIB, DiskImage, Sizes, build_disk_image
from drypoint.samples.images import build_image, build_layer, write_oci_layout
from drypoint.samples.layers import LayerBuilder
from drypoint.sizing import layer_sizes as sizes
from drypoint.sizing.layer_index import LayerIndex
from drypoint.sizing.layer_sizes import Found, LayerSize
from drypoint.sizing.space import space_taken
from drypoint.sources import OciLayoutSource

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "e2fsck", "resize2fs", "dumpe2fs")

PLATFORM = Platform("linux", "amd64")
ALIGNMENT = 4 * MIB


def small_files() -> LayerBuilder:
    layer = LayerBuilder()
    for number in range(1500):
        if number % 100 == 0:
            layer.directory(f"d{number // 100}")
        layer.file(f"d{number // 100}/f{number:04}", b"%d" % number * (number * 7 % 3000))
    return layer


def attributes() -> LayerBuilder:
    layer = LayerBuilder()
    for number in range(120):
        layer.file(f"f{number}", b"x", xattrs={b"user.note": bytes([number + 1]) * (number * 25)})
        layer.directory(f"d{number}", xattrs={b"user.note": bytes([number + 1]) * (number * 25)})
    return layer


def sparse() -> LayerBuilder:
    noise = random.Random(1)
    layer = LayerBuilder().file("holes", b"a" + bytes(9 * MIB) + b"b" + bytes(3 * MIB)).file("zeros", bytes(5 * MIB))
    return layer.file("full", noise.randbytes(3 * MIB))


def large_directory() -> LayerBuilder:
    layer = LayerBuilder().directory("many")
    for number in range(3000):
        layer.file(f"many/a-name-that-is-not-short-{number:05}", b"")
    return layer


def links() -> LayerBuilder:
    layer = LayerBuilder().file("file", b"x" * 5000)
    for number in range(200):
        layer.symlink(f"s{number}", "t" * (number + 1)).hardlink(f"h{number}", "file")
    return layer


def replaced() -> LayerBuilder:
    """Files that the same layer replaces, by another path, take nothing in the end."""
    layer = LayerBuilder().directory("d").symlink("alias", "d")
    for number in range(300):
        layer.file(f"{'alias' if number % 2 else 'd'}/f{number // 2}", b"r" * (number * 40))
    return layer.whiteout("gone").opaque("d")


KINDS = {builder.__name__: builder for builder in (small_files, attributes, sparse, large_directory, links, replaced)}


class Listener:
    """Counts how often the partition grows."""

    def __init__(self) -> None:
        self.growths = 0
        self.notes: list[str] = []

    def begin(self, what: str, total: int | None = None) -> Step:
        self.growths += what.startswith("growing")
        return self

    def note(self, text: str) -> None:
        self.notes.append(text)

    def advance(self, amount: int) -> None:
        return

    def end(self) -> None:
        return


@dataclass(frozen=True, slots=True)
class Setup:
    source: OciLayoutSource
    small: DiskImage
    large: DiskImage

    def requests(self, *names: str) -> list[ImageRequest]:
        references = [r for r in self.source.references if not names or r.familiar.partition("/")[2][:-2] in names]
        return [ImageRequest(reference, self.source) for reference in references]


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    """An image for each kind, on a common base; a data partition that has to grow, and one that has not."""
    directory = tmp_path_factory.mktemp("room")
    base = build_layer(LayerBuilder().directory("etc").file("etc/os-release", b"ID=test\n").finish())
    images = {
        f"example.com/{name}:1": build_image([base, build_layer(builder().finish())]) for name, builder in KINDS.items()
    }
    write_oci_layout(directory, images)
    others = {"boot": 8 * MIB, "root_a": 4 * MIB, "root_b": 4 * MIB, "state": 4 * MIB}
    # Enough inodes not to grow for those.
    options = ("-i", "2048")
    small = build_disk_image(directory / "small.img", sizes=Sizes(**others, data=20 * MIB), ext4_options=options)
    large = build_disk_image(directory / "large.img", sizes=Sizes(**others, data=96 * MIB), ext4_options=options)
    source = OciLayoutSource(directory)
    yield Setup(source, small, large)
    source.close()


def run(
    setup: Setup, base: DiskImage, output: Path, index: LayerIndex, *names: str, additional_space: int = 0
) -> tuple[Result, Listener]:
    listener = Listener()
    result = preload(
        base.path,
        output,
        PreloadRequest(setup.requests(*names), PLATFORM, index=index, additional_space=additional_space),
        verify=False,
        progress=listener,
    )
    return result, listener


def look(setup: Setup, base: DiskImage, index: LayerIndex | None, *names: str) -> Plan:
    return plan(base.path, PreloadRequest(setup.requests(*names), PLATFORM, index=index))


def told_by_dumpe2fs(path: Path) -> tuple[int, int]:
    """Free blocks and inodes of the data partition, as the real tool says."""
    with FileDevice(path) as device:
        start = find_partition(device, read_table(device), "resin-data").partition.start
    found = ask_dumpe2fs(path, offset=start)
    return int(found["Free blocks"]), int(found["Free inodes"])


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_and_inodes_are_those_that_dumpe2fs_misses(setup: Setup, tmp_path: Path, kind: str) -> None:
    index = LayerIndex(tmp_path / "cache")
    result, listener = run(setup, setup.large, tmp_path / "out.img", index, kind)
    assert listener.growths == 0
    before, after = told_by_dumpe2fs(setup.large.path), told_by_dumpe2fs(result.output)
    seen = look(setup, setup.large, index, kind)
    assert seen.is_exact
    taken = space_taken(seen.store, seen.sizes, (), seen.block_size)
    assert (before[0] - after[0], before[1] - after[1]) == (taken.blocks, taken.inodes)


def test_the_second_time_it_grows_once_to_what_is_needed(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = LayerIndex(tmp_path / "cache")
    with monkeypatch.context() as changed:
        # An estimate that falls short, so that layers are measured while the partition grows.
        changed.setattr(sizes, "BLOCK_OVERHEAD", 0.05)
        first, listener = run(setup, setup.small, tmp_path / "first.img", index, additional_space=7 * MIB)
    assert not first.plan.is_exact
    assert first.plan.growth is not None
    assert listener.growths > (first.plan.growth.partition_size > first.plan.partition.size), "none amidst the writing"
    second, listener = run(setup, setup.small, tmp_path / "second.img", index, additional_space=7 * MIB)
    assert second.plan.is_exact
    assert listener.growths == 1
    assert "exact: all layers were seen before" in listener.notes[0]
    with FileDevice(second.output) as device:
        partition = find_partition(device, read_table(device), "resin-data").partition
        geometry = read_geometry(Window(device, partition.start, partition.size))
    beyond = (geometry.free_blocks - geometry.reserved_blocks) * geometry.block_size - 7 * MIB
    assert 0 <= beyond < ALIGNMENT + MIB
    assert second.plan.growth is not None
    assert second.plan.growth.partition_size == partition.size
    assert second.plan.growth.disk_size == second.output.stat().st_size
    # Measured on another disk, without growth, it would have been the same.
    other = LayerIndex(tmp_path / "other")
    run(setup, setup.large, tmp_path / "third.img", other)
    wanted, found = look(setup, setup.small, other), second.plan
    assert {k: (s.blocks, s.inodes) for k, s in wanted.sizes.items()} == {
        k: (s.blocks, s.inodes) for k, s in found.sizes.items()
    }


def test_another_kind_of_file_system_is_not_measured_yet(setup: Setup, tmp_path: Path) -> None:
    index = LayerIndex(tmp_path / "cache")
    run(setup, setup.large, tmp_path / "out.img", index, "links")
    assert look(setup, setup.small, index, "links").is_exact
    other = build_disk_image(tmp_path / "other.img", ext4_options=("-O", "^metadata_csum"))
    assert not look(setup, other, index, "links").is_exact


@pytest.mark.parametrize(
    "numbers",
    ["10240,1000000000000,1000000000000,1", "10240,1,1,1000000000", "1,1,100000000,1", "281474976710655,1,1,1"],
)
def test_a_poisoned_index_does_not_make_it_grow_without_measure(setup: Setup, tmp_path: Path, numbers: str) -> None:
    index = LayerIndex(tmp_path)
    run(setup, setup.large, tmp_path / "out.img", index, "links")
    path = tmp_path / "layers.json"
    path.write_text(re.sub(r"(\",)\d+,\d+,\d+,\d+\]", rf"\g<1>{numbers}]", path.read_text()))
    poisoned = look(setup, setup.large, LayerIndex(tmp_path), "links")
    assert not poisoned.is_exact
    assert poisoned.space == look(setup, setup.large, None, "links").space


def test_what_is_known_of_nothing_is_estimated_from_what_the_blobs_tell(setup: Setup) -> None:
    found = look(setup, setup.large, None)
    assert {size.found for size in found.sizes.values()} == {Found.HINT}
    tars = {name: len(builder().finish()) for name, builder in KINDS.items()}
    assert sorted(tars.values()) == sorted(size.tar_bytes for size in found.sizes.values())[1:]


def test_a_plan_of_nothing_needs_the_additional_space_only(setup: Setup, tmp_path: Path) -> None:
    result, _ = run(setup, setup.large, tmp_path / "out.img", LayerIndex(tmp_path), "links")
    again = plan(result.output, PreloadRequest(setup.requests("links"), PLATFORM, additional_space=8 * MIB))
    assert again.is_empty
    assert again.is_exact
    assert (again.space.blocks, again.space.inodes) == (8 * MIB // 4096 + 1, 0)


def test_only_what_was_seen_is_exact() -> None:
    assert [LayerSize(1, 1, 1, 1, found).is_exact for found in Found] == [True, False, False, False]


@pytest.mark.parametrize("own_layers", [True, False])
def test_many_services_on_one_base_grow_the_partition_once_and_by_no_step(own_layers: bool, tmp_path: Path) -> None:
    """What each of them adds is small, and nearly all of it is the store's own records: the estimate has to count them."""
    base = build_layer(LayerBuilder().file("base", random.Random(3).randbytes(MIB)).finish())
    images = {}
    for number in range(150):
        own = build_layer(LayerBuilder().file(f"f{number}", b"%d" % number).finish())
        layers = [base, own] if own_layers else [base]
        images[f"example.com/s{number}:1"] = build_image(layers, config={"Cmd": [str(number)]})
    write_oci_layout(tmp_path / "layout", images)
    disk = build_disk_image(tmp_path / "base.img", sizes=Sizes(4 * MIB, 4 * MIB, 4 * MIB, 4 * MIB, data=32 * MIB))
    listener = Listener()
    source = OciLayoutSource(tmp_path / "layout")
    requests = [ImageRequest(reference, source) for reference in source.references]
    wanted = PreloadRequest(requests, PLATFORM, additional_space=40 * MIB)
    result = preload(disk.path, tmp_path / "out.img", wanted, verify=False, progress=listener)
    source.close()
    with FileDevice(tmp_path / "out.img") as device:
        geometry = read_geometry(Window(device, result.partition.start, result.partition.size))
    assert listener.growths == 1
    free = (geometry.free_blocks - geometry.reserved_blocks) * geometry.block_size
    assert 40 * MIB <= free < 40 * MIB + 2 * ALIGNMENT
