"""What an engine's store holds: images, layers, containers, and what is left over."""

from __future__ import annotations

from collections import defaultdict

import msgspec

from ..digest import Digest, parse_digest
from ..errors import ContentError, ManifestError
from ..fstree import Directory, TreeReader, join
from ..go_json import JsonError, decode_go
from ..oci import parse_config
from ..oci.manifest import MAX_CONFIG_BYTES
from ..stores.overlay2 import Finding, Orphans, StoredLayer, StoreState, read_state
from ..stores.overlay2 import paths as layout
from ..stores.overlay2.orphans import find_orphans
from ..stores.overlay2.placement import Placement
from ..stores.overlay2.reading import StoreReader

_MAX_CONTAINER_BYTES = 4 << 20
_MAX_TEXT = 255
"""More characters than any name that an engine gives; a config itself may have millions."""


class InspectedImage(msgspec.Struct, frozen=True):
    """An image in a store.

    Attributes:
        references: its names, familiar, tags first.
        platform: ``OS/ARCHITECTURE[/VARIANT]`` as its config says.
        created: RFC 3339, as its config says; None if it does not.
        layers: chain-ids, base first.
        size: bytes of all its layers, as ``docker images`` counts; None if one is missing.
        usable: whether the engine can load it: all layers are there and complete.
    """

    image_id: Digest
    references: tuple[str, ...]
    platform: str
    created: str | None
    layers: tuple[Digest, ...]
    size: int | None
    usable: bool


class InspectedLayer(msgspec.Struct, frozen=True):
    """A layer in a store.

    Attributes:
        size: bytes it takes, as the engine notes; None if it does not.
        images: ids of the images that have it.
        usable: whether it is complete, and all below it.
    """

    chain_id: Digest
    diff_id: Digest | None
    parent: Digest | None
    cache_id: str | None
    size: int | None
    images: tuple[Digest, ...]
    usable: bool


class InspectedContainer(msgspec.Struct, frozen=True):
    """A container: *name* as people know it; *image_id* is None where its configuration does not tell."""

    container_id: str
    name: str
    image_id: Digest | None


class InspectedStore(msgspec.Struct, frozen=True):
    """An engine's store.

    Attributes:
        partition: number of the partition that it lies in.
        data_root: the engine's data root, a path in that partition.
        repositories: name → reference → image id, as repositories.json has them.
        images: those whose config is sound, in the order of their names; unnamed ones last.
        layers: by chain-id.
        orphans: what serves no image.
        findings: what is wrong with the store.
    """

    partition: int
    data_root: bytes
    repositories: dict[str, dict[str, str]]
    images: tuple[InspectedImage, ...]
    layers: tuple[InspectedLayer, ...]
    containers: tuple[InspectedContainer, ...]
    orphans: Orphans
    findings: tuple[Finding, ...]

    @property
    def size(self) -> int:
        """Bytes of all layers, each once."""
        return sum(layer.size or 0 for layer in self.layers)


class _Container(msgspec.Struct, rename="pascal"):
    name: str = ""
    image: str = ""


def inspect_store(reader: TreeReader, partition: int, data_root: bytes) -> InspectedStore | None:
    """Look into the store at *data_root* of the partition numbered *partition*, whose tree is *reader*; None if none is there.

    Raises:
        StoreError: the data root is not a directory, or holds more than anything real does.
        FilesystemError: the data root itself cannot be reached.
    """
    state = read_state(reader, data_root)
    if not state.directories - {b""}:
        return None
    store = StoreReader(reader, data_root)
    repositories = {name: dict(references) for name, references in state.repositories.items()}
    orphans = find_orphans(state, (), Placement((), ()), repositories)
    return InspectedStore(
        partition,
        data_root,
        repositories,
        _images(store, state),
        _layers(state),
        _containers(store),
        orphans,
        state.findings,
    )


def _images(store: StoreReader, state: StoreState) -> tuple[InspectedImage, ...]:
    names: dict[str, list[str]] = defaultdict(list)
    for references in state.repositories.values():
        for reference, image_id in references.items():
            names[image_id].append(reference)
    found: list[InspectedImage] = []
    for image_id, image in state.images.items():
        content = store.content(layout.config_path(image_id), MAX_CONFIG_BYTES)
        try:
            config = parse_config(content or b"", f"image {image_id}")
        except ManifestError:
            # The state has it among its findings.
            continue
        found.append(
            InspectedImage(
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


def _layers(state: StoreState) -> tuple[InspectedLayer, ...]:
    owners: dict[Digest, list[Digest]] = defaultdict(list)
    for image_id, image in sorted(state.images.items()):
        for chain_id in image.chain_ids:
            owners[chain_id].append(image_id)
    return tuple(
        InspectedLayer(
            chain_id,
            layer.diff_id,
            layer.parent,
            layer.cache_id,
            layer.size,
            tuple(owners.get(chain_id, ())),
            layer.usable,
        )
        for chain_id, layer in sorted(state.layers.items())
    )


def _containers(store: StoreReader) -> tuple[InspectedContainer, ...]:
    found: list[InspectedContainer] = []
    for name, stat in store.names(layout.CONTAINERS):
        if not isinstance(stat.entry, Directory):
            continue
        content = store.content(join(layout.CONTAINERS, name.encode("ascii"), b"config.v2.json"), _MAX_CONTAINER_BYTES)
        try:
            container = decode_go(content or b"{}", _Container, first=True)
        except JsonError:
            container = _Container()
        found.append(InspectedContainer(name, container.name.lstrip("/")[:_MAX_TEXT], _digest(container.image)))
    return tuple(found)


def _digest(text: str | None) -> Digest | None:
    try:
        return parse_digest(text or "")
    except ContentError:
        return None
