"""Listing a store: images, layers, containers, and what is left over."""

from __future__ import annotations

from collections import defaultdict

import msgspec

from ...digest import Digest, parse_digest
from ...errors import ContentError, ManifestError
from ...fstree import Directory, TreeReader, join
from ...go_json import JsonError, decode_go
from ...oci import parse_config
from ...oci.manifest import MAX_CONFIG_BYTES
from ..listing import ListedContainer, ListedImage, ListedLayer, StoreListing
from . import paths as layout
from .layerdb import StoredLayer
from .orphans import find_orphans
from .placement import Placement
from .reading import StoreReader
from .state import StoreState

_MAX_CONTAINER_BYTES = 4 << 20
_MAX_TEXT = 255
"""More characters than any name that an engine gives; one in a config may have millions."""


class _Container(msgspec.Struct, rename="pascal"):
    name: str = ""
    image: str = ""


def list_store(reader: TreeReader, state: StoreState) -> StoreListing:
    """The listing of *state*, with more details from *reader*."""
    store = StoreReader(reader, state.data_root)
    orphans = find_orphans(state, (), Placement((), ()), state.repositories)
    return StoreListing(
        state.data_root, _images(store, state), _layers(state), _containers(store), orphans, state.findings
    )


def _images(store: StoreReader, state: StoreState) -> tuple[ListedImage, ...]:
    names: dict[str, list[str]] = defaultdict(list)
    for references in state.repositories.values():
        for reference, image_id in references.items():
            names[image_id].append(reference)
    found: list[ListedImage] = []
    for image_id, image in state.images.items():
        content = store.content(layout.config_path(image_id), MAX_CONFIG_BYTES)
        try:
            config = parse_config(content or b"", f"image {image_id}")
        except ManifestError:
            # Already among the state's findings.
            continue
        found.append(
            ListedImage(
                image_id,
                tuple(sorted(names[image_id], key=_tags_first)),
                str(config.platform)[:_MAX_TEXT],
                config.created[:_MAX_TEXT] if config.created is not None else None,
                image.chain_ids,
                _size([state.layers.get(chain_id) for chain_id in image.chain_ids]),
                image.usable,
            )
        )
    return tuple(sorted(found, key=lambda one: (not one.references, one.references, one.image_id)))


def _tags_first(reference: str) -> tuple[bool, str]:
    return "@" in reference, reference


def _size(layers: list[StoredLayer | None]) -> int | None:
    sizes = [layer.size if layer is not None else None for layer in layers]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _layers(state: StoreState) -> tuple[ListedLayer, ...]:
    owners: dict[Digest, list[Digest]] = defaultdict(list)
    for image_id, image in sorted(state.images.items()):
        for chain_id in image.chain_ids:
            owners[chain_id].append(image_id)
    return tuple(
        ListedLayer(
            chain_id,
            layer.diff_id,
            layer.parent,
            (("cache_id", layer.cache_id),),
            layer.size,
            tuple(owners.get(chain_id, ())),
            layer.usable,
        )
        for chain_id, layer in sorted(state.layers.items())
    )


def _containers(store: StoreReader) -> tuple[ListedContainer, ...]:
    found: list[ListedContainer] = []
    for name, stat in store.names(layout.CONTAINERS):
        if not isinstance(stat.entry, Directory):
            continue
        content = store.content(join(layout.CONTAINERS, name.encode("ascii"), b"config.v2.json"), _MAX_CONTAINER_BYTES)
        try:
            container = decode_go(content or b"{}", _Container, first=True)
        except JsonError:
            container = _Container()
        found.append(ListedContainer(name, container.name.lstrip("/")[:_MAX_TEXT], _digest(container.image)))
    return tuple(found)


def _digest(text: str | None) -> Digest | None:
    try:
        return parse_digest(text or "")
    except ContentError:
        return None
