"""The layers of a store as a forest: a layer has one parent, and images share the lower ones.

In the order of a walk through that forest, the images that share a layer are side by side, so that it can be drawn as one band.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..digest import Digest
from ..stores import ListedImage, ListedLayer, StoreListing

MOST_IMAGES = 100
"""More columns would not be readable."""


class Node(msgspec.Struct, eq=False):
    """A layer in the forest: its children, and the images that end with it; *layer* is None if the store lacks it."""

    chain_id: Digest
    layer: ListedLayer | None
    children: dict[Digest, Node] = msgspec.field(default_factory=dict)
    images: list[ListedImage] = msgspec.field(default_factory=list)

    @property
    def size(self) -> int:
        return (self.layer.size or 0) if self.layer is not None else 0


class Band(msgspec.Struct, frozen=True):
    """A drawn layer: over the columns *first* to *last*, at *depth* from below, 0 for a base."""

    node: Node
    first: int
    last: int
    depth: int
    parent: Band | None


class Columns(msgspec.Struct, frozen=True):
    """The images from left to right, the bands with lower ones first, and the number of images that did not fit."""

    images: tuple[ListedImage, ...]
    bands: tuple[Band, ...]
    hidden: int


def arrange(store: StoreListing) -> Columns:
    """Arrange the images of *store* side by side, so that those that share most are together."""
    layers = {layer.chain_id: layer for layer in store.layers}
    # Named images first, if not all can be shown; the store has this order.
    shown = store.images[:MOST_IMAGES]
    bare: list[ListedImage] = []
    roots: dict[Digest, Node] = {}
    for image in shown:
        level, node = roots, None
        for chain_id in image.layers:
            node = level.setdefault(chain_id, Node(chain_id, layers.get(chain_id)))
            level = node.children
        (bare if node is None else node.images).append(image)
    images: list[ListedImage] = []
    bands = list(_walk(roots, images))
    return Columns((*images, *bare), tuple(bands), len(store.images) - len(shown))


def _walk(roots: dict[Digest, Node], images: list[ListedImage]) -> Iterator[Band]:
    """Walk depth first, without recursion: chains have up to 127 layers, and a damaged store may have any depth."""
    weights = _weights(roots)
    pending: list[tuple[Node, int, Band | None]] = []

    def put_off(nodes: dict[Digest, Node], depth: int, parent: Band | None) -> None:
        ordered = sorted(nodes.values(), key=lambda node: (*weights[node.chain_id], node.chain_id), reverse=True)
        pending.extend((node, depth, parent) for node in reversed(ordered))

    put_off(roots, 0, None)
    while pending:
        node, depth, parent = pending.pop()
        first = len(images)
        band = Band(node, first, first + weights[node.chain_id][0] - 1, depth, parent)
        yield band
        images.extend(node.images)
        put_off(node.children, depth + 1, band)


def _weights(roots: dict[Digest, Node]) -> dict[Digest, tuple[int, int]]:
    """For each layer, the number of images on it, and the bytes of it and all layers above."""
    weights: dict[Digest, tuple[int, int]] = {}
    pending = [(node, False) for node in roots.values()]
    while pending:
        node, seen = pending.pop()
        if seen:
            below = [weights[child] for child in node.children]
            weights[node.chain_id] = (
                len(node.images) + sum(count for count, _ in below),
                node.size + sum(size for _, size in below),
            )
        else:
            pending.append((node, True))
            pending.extend((child, False) for child in node.children.values())
    return weights
