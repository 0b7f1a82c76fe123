"""The picture of an inspection: well-formed whatever it shows, the same each time, and saying what it should."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drypoint.digest import Digest, digest_of
from drypoint.disk import FilesystemInfo, FilesystemKind, Partition, PartitionKind
from drypoint.inspection import (
    InspectedDisk,
    InspectedPartition,
    SpaceUsage,
)
from drypoint.inspection.layer_tree import MOST_IMAGES, arrange
from drypoint.inspection.picture import draw
from drypoint.inspection.svg import Canvas, fitted, measured
from drypoint.stores import ListedContainer, ListedImage, ListedLayer, Orphans, StoreListing

MIB = 1 << 20
SVG = "{http://www.w3.org/2000/svg}"
EVIL = "<script>alert('&\"')</script>]]>\x1b[31m\0\ud800\u202e"


def disk_of(labels: Sequence[str], sizes: Sequence[int] | None = None) -> InspectedDisk:
    start = 4 * MIB
    partitions = []
    for index, label in enumerate(labels):
        size = (sizes or [(index % 7 + 1) ** 3 * MIB for index in range(len(labels))])[index]
        info = FilesystemInfo(FilesystemKind.EXT4, label)
        partition = Partition(index + 1, start, size, PartitionKind.GPT, "type", name=label)
        partitions.append(InspectedPartition(partition, info, SpaceUsage(size, size // 3, 0, 10, 5)))
        start += size
    return InspectedDisk("disk", start + MIB, 512, "gpt", "id", tuple(partitions))


def store_of(chains: Sequence[Sequence[str]], names: Sequence[str] = ()) -> StoreListing:
    """One image a chain; each layer's name says what it is, base first."""
    sizes: dict[Digest, int] = {}
    parents: dict[Digest, Digest | None] = {}
    owners: dict[Digest, list[Digest]] = {}
    images = []
    for number, chain in enumerate(chains):
        image_id = digest_of(f"image {number}".encode())
        ids: list[Digest] = []
        for depth in range(len(chain)):
            chain_id = digest_of(" ".join(chain[: depth + 1]).encode())
            parents[chain_id] = ids[-1] if ids else None
            sizes[chain_id] = len(chain[depth]) * 1000
            owners.setdefault(chain_id, []).append(image_id)
            ids.append(chain_id)
        references = (names[number],) if number < len(names) else ()
        images.append(
            ListedImage(image_id, references, "linux/arm64", None, tuple(ids), sum(sizes[one] for one in ids), True)
        )
    layers = tuple(
        ListedLayer(one, digest_of(one.encode()), parents[one], (), sizes[one], tuple(owners[one]), True)
        for one in sizes
    )
    return StoreListing(b"docker", tuple(images), layers, (), Orphans(), ())


def texts(picture: str) -> list[str]:
    return [one.text or "" for one in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def test_it_says_what_is_there() -> None:
    picture = draw(
        disk_of(["resin-boot", "resin-data"]), store_of([["b", "x"], ["b", "y"]], ["app/one:1", "app/two:2"]),
        title="x.img", subtitle="balenaOS 6",
    )  # fmt: skip
    shown = texts(picture)
    for expected in ("x.img", "1 resin-boot", "2 resin-data", "app/one:1", "app/two:2"):
        assert expected in shown
    assert "2 images, 3 layers, 1 of them shared; 2.9 KiB" in shown
    assert "in 2 images" in shown


def test_a_shared_layer_is_one_band_over_the_images_that_share_it() -> None:
    columns = arrange(store_of([["a"], ["b", "c", "d"], ["a", "x"], ["b", "c"], ["b", "z"], []]))
    bands = {band.node.chain_id: band for band in columns.bands}
    assert len(bands) == len(columns.bands) == 6
    for band in bands.values():
        assert band.node.layer is not None
        over = {image.image_id for image in columns.images[band.first : band.last + 1]}
        assert over == set(band.node.layer.images)
    assert len(columns.images) == 6


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=6), max_size=12))
def test_bands_never_cross_and_cover_exactly_their_images(chains: list[list[str]]) -> None:
    columns = arrange(store_of(chains))
    assert sorted(image.image_id for image in columns.images) == sorted(
        digest_of(f"image {number}".encode()) for number in range(len(chains))
    )
    for band in columns.bands:
        assert band.node.layer is not None
        assert {one.image_id for one in columns.images[band.first : band.last + 1]} == set(band.node.layer.images)
        if band.parent is not None:
            assert band.parent.first <= band.first <= band.last <= band.parent.last
            assert band.depth == band.parent.depth + 1
    for depth in {band.depth for band in columns.bands}:
        level = sorted((band.first, band.last) for band in columns.bands if band.depth == depth)
        assert all(one[1] < other[0] for one, other in pairwise(level))


@settings(max_examples=80, deadline=None)
@given(st.text(st.characters(), max_size=60), st.text(st.characters(), max_size=120))
def test_any_text_gives_a_well_formed_document(label: str, name: str) -> None:
    picture = draw(disk_of([label, EVIL]), store_of([["a"], ["a", "b"]], [name, EVIL]), title=name, subtitle=label)
    picture.encode()
    root = ElementTree.fromstring(picture)
    assert {one.tag.removeprefix(SVG) for one in root.iter()} <= {
        "svg", "title", "style", "defs", "pattern", "line", "rect", "text",
    }  # fmt: skip
    assert all(text.isprintable() for text in texts(picture))


def test_nothing_is_fetched_and_equal_input_gives_equal_bytes() -> None:
    chains = [["a", "b"], ["a", "c"]]
    picture = draw(disk_of(["one"]), store_of(chains, ["x", "y"]), title="t")
    assert picture == draw(disk_of(["one"]), store_of(chains, ["x", "y"]), title="t")
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "")
    assert "@import" not in picture
    assert "href" not in picture


@pytest.mark.parametrize("sizes", [[1 << 40, 1, 1, MIB], [MIB] * 10, [1] * 25, [5 << 30, 20 * MIB]])
def test_small_partitions_stay_visible_and_nothing_leaves_the_card(sizes: list[int]) -> None:
    picture = draw(disk_of([f"p{index}" for index in range(len(sizes))], sizes), None, title="t")
    root = ElementTree.fromstring(picture)
    width = float(root.attrib["width"])
    outlines = [one for one in root.iter(f"{SVG}rect") if one.get("stroke") and one.get("class") is None]
    assert len(outlines) == len(sizes)
    for one in outlines:
        assert float(one.attrib["width"]) >= 90
        assert float(one.attrib["x"]) + float(one.attrib["width"]) <= width - 20


def test_a_large_partition_is_drawn_larger() -> None:
    picture = draw(disk_of(["a", "b"], [100 * MIB, 300 * MIB]), None, title="t")
    outlines = [one for one in ElementTree.fromstring(picture).iter(f"{SVG}rect") if one.get("stroke")]
    first, second = (float(one.attrib["width"]) for one in outlines)
    assert second / first == pytest.approx(3, rel=0.05)


def test_many_images_and_deep_ones_stay_bounded() -> None:
    rnd = random.Random(1)
    chains = [[f"base {rnd.randint(0, 3)}", *(f"{number} {depth}" for depth in range(125))] for number in range(130)]
    picture = draw(
        disk_of(["p"] * 150), store_of(chains, [f"name-{'x' * 80}-{number}" for number in range(130)]), title="t"
    )
    shown = texts(picture)
    assert f"and {130 - MOST_IMAGES} more images" in shown
    assert "and 50 more partitions" in shown
    root = ElementTree.fromstring(picture)
    assert float(root.attrib["height"]) < 8000
    assert len(picture) < 16 << 20


def test_orphans_and_damage_can_be_told_apart() -> None:
    store = store_of([["a"], ["b"]], ["named"])
    lost = ListedLayer(digest_of(b"lost"), digest_of(b"diff"), None, (), 5 * MIB, (), True)
    unnamed = store.images[1].image_id
    broken = ListedImage(digest_of(b"broken"), ("broken",), "", None, (digest_of(b"nowhere"),), None, False)
    store = StoreListing(
        b"docker", (*store.images, broken), (*store.layers, lost),
        (ListedContainer("c", "name", store.images[0].image_id),),
        Orphans(("f" * 64,), (lost.chain_id,), (unnamed,), "overlay2"), (),
    )  # fmt: skip
    picture = draw(disk_of(["p"]), store, title="t")
    shown = "\n".join(texts(picture))
    for expected in ("2 orphaned", "5.0 MiB", "overlay2/ffffffff", "1 container", "size unknown, damaged", "orphaned"):
        assert expected in shown
    assert "layer that is missing in the store" in picture


def test_an_empty_store_is_no_trouble() -> None:
    assert "0 images, 0 layers, 0 of them shared; 0 B" in texts(draw(disk_of([]), store_of([]), title="t"))
    assert "1 image, 1 layer, 0 of them shared; 1000 B" in texts(draw(disk_of(["p"]), store_of([["a"]]), title="t"))


def test_text_is_shortened_in_its_middle() -> None:
    name = "registry.example/" + "x" * 80 + ":1.2.3"
    short = fitted(name, 200, 12)
    assert short.startswith("regis")
    assert short.endswith("1.2.3")
    assert measured(short, 12) <= 200
    assert fitted("short", 200, 12) == "short"
    assert fitted(name, 1, 12) == ""
    canvas = Canvas()
    canvas.text(0, 0, "", title="nothing")
    assert "<text" not in canvas.document(1, 1, "t")
