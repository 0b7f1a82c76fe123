"""Deciding which layers are written, which are shared, and under which names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from ...digest import Digest
from ...oci import Image, Layer
from ..planned import PlannedLayer, SharedLayer
from . import paths as layout
from .identity import choose_cache_id, choose_link
from .layerdb import StoredLayer
from .state import StoreState, store_path


class PlacedLayer(PlannedLayer, frozen=True):
    """A layer to write, with its names.

    Attributes:
        cache_id: name of its directory in ``overlay2/``.
        link: its name in ``overlay2/l/``.
        lower: links of the layers below, nearest first; empty for a base layer.
        committed: whether it has a child, in the plan or in the store.
    """

    cache_id: str
    link: str
    lower: tuple[str, ...]
    committed: bool


class Placement(msgspec.Struct, frozen=True):
    layers: tuple[PlacedLayer, ...]
    shared: tuple[SharedLayer, ...]


class _Place(msgspec.Struct, frozen=True):
    """The names of a layer; ``stored`` if the store has it, complete."""

    layer: Layer
    image: Image
    cache_id: str
    link: str
    lower: tuple[str, ...]
    stored: StoredLayer | None
    removes: tuple[bytes, ...]


def place_layers(state: StoreState, images: Sequence[Image]) -> Placement:
    """Give every layer of *images* its names, once if several images have it."""
    places: dict[Digest, _Place] = {}
    users: dict[Digest, dict[Digest, None]] = {}
    chooser = _Names(state)
    for image in images:
        lower: tuple[str, ...] = ()
        for layer in image.layers:
            place = places.get(layer.chain_id)
            if place is None:
                place = places[layer.chain_id] = _place(state, chooser, image, layer, lower)
            lower = (place.link, *place.lower)
            users.setdefault(layer.chain_id, {})[image.image_id] = None
    parents = {place.layer.parent for place in places.values()} | {layer.parent for layer in state.layers.values()}
    return Placement(
        tuple(
            PlacedLayer(
                place.layer,
                place.image,
                tuple(users[chain_id]),
                place.removes,
                place.cache_id,
                place.link,
                place.lower,
                chain_id in parents,
            )
            for chain_id, place in places.items()
            if place.stored is None
        ),
        tuple(
            SharedLayer(
                place.layer,
                place.stored.size or 0,
                tuple(users[chain_id]),
                tuple(image.image_id for image in state.images.values() if chain_id in image.chain_ids),
            )
            for chain_id, place in places.items()
            if place.stored is not None
        ),
    )


def _place(state: StoreState, names: _Names, image: Image, layer: Layer, lower: tuple[str, ...]) -> _Place:
    stored = state.layers.get(layer.chain_id)
    if stored is None:
        return _Place(layer, image, names.new_cache_id(layer), names.new_link(layer), lower, None, ())
    # Not "usable", which needs complete layers below: a damaged layer below gets its old names again, and then this one is
    # correct. With other names below, its lower file is wrong and it must be written again.
    if stored.complete and stored.cache_id and stored.link and stored.lower == lower:
        return _Place(layer, image, stored.cache_id, stored.link, lower, stored, ())
    # A damaged copy is written again under its old names, by which layers and containers above it refer to it.
    removes = [layout.layer_path(layer.chain_id)]
    cache_id = stored.cache_id
    if cache_id is None or cache_id in names.ambiguous:
        cache_id = names.new_cache_id(layer)
    elif cache_id in state.cache_names:
        removes.append(layout.cache_path(cache_id))
    link = names.link_of(stored, cache_id)
    if link is None:
        link = names.new_link(layer)
    elif link in state.links:
        removes.append(layout.link_path(link))
    return _Place(layer, image, cache_id, link, lower, None, tuple(store_path(state, path) for path in removes))


class _Names:
    """The cache-ids and links in use, in the store or in the plan so far."""

    def __init__(self, state: StoreState) -> None:
        known = [layer.cache_id for layer in state.layers.values() if layer.cache_id is not None]
        self.ambiguous = {cache_id for cache_id, count in Counter(known).items() if count > 1} | state.mounts
        self._links = state.links
        self._claimed: set[str] = set()
        self._taken_cache_ids = set(state.cache_names) | set(known) | state.mounts
        self._taken_links = set(state.links) | {
            link for layer in state.layers.values() for link in (layer.link, *layer.lower) if link
        }

    def new_cache_id(self, layer: Layer) -> str:
        cache_id = choose_cache_id(layer.chain_id, self._taken_cache_ids)
        self._taken_cache_ids.add(cache_id)
        return cache_id

    def new_link(self, layer: Layer) -> str:
        link = choose_link(layer.chain_id, self._taken_links)
        self._taken_links.add(link)
        return link

    def link_of(self, stored: StoredLayer, cache_id: str) -> str | None:
        """The link that a damaged layer had, if no other has it."""
        if stored.cache_id != cache_id:
            return None
        candidates = [link for link, target in sorted(self._links.items()) if target == cache_id]
        if stored.link is not None and self._links.get(stored.link, cache_id) == cache_id:
            candidates.insert(0, stored.link)
        link = next((link for link in candidates if link not in self._claimed), None)
        if link is not None:
            self._claimed.add(link)
        return link
