"""What takes room in a store and serves no image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from ...digest import Digest
from ...oci import Image
from .placement import Placement
from .state import StoreState

_CACHE_DIRECTORY = re.compile(r"[a-f0-9]{64}(?:-init)?")


class Orphans(msgspec.Struct, frozen=True):
    """What is left over when a plan is carried out. It is unused, and drypoint does not remove it.

    Attributes:
        directories: names in ``overlay2/`` that no layer and no container has; balenaEngine removes them when it starts,
            Docker leaves them.
        layers: chain-ids in layerdb that no image and no container has; engines leave them.
        images: ids of images without a name; ``docker image prune`` removes them, with their layers.
    """

    directories: tuple[str, ...] = ()
    layers: tuple[Digest, ...] = ()
    images: tuple[Digest, ...] = ()


def find_orphans(
    state: StoreState, images: Sequence[Image], placement: Placement, repositories: Mapping[str, Mapping[str, str]]
) -> Orphans:
    """The orphans there will be.

    Args:
        state: the store without what the plan removes.
        repositories: the names as they will be.
    """
    cache_ids = {layer.cache_id for layer in state.layers.values()} | {planned.cache_id for planned in placement.layers}
    directories = state.cache_names - cache_ids - state.mounts
    known = {chain_id for image in state.images.values() for chain_id in image.chain_ids}
    known |= {layer.chain_id for image in images for layer in image.layers}
    known |= _with_parents(state, state.users.mount_layers)
    named = {image_id for references in repositories.values() for image_id in references.values()}
    named |= state.users.parent_images | state.users.container_images
    return Orphans(
        tuple(sorted(name for name in directories if _CACHE_DIRECTORY.fullmatch(name))),
        tuple(sorted(state.layers.keys() - known)),
        tuple(sorted(state.images.keys() - named - {image.image_id for image in images})),
    )


def _with_parents(state: StoreState, chain_ids: frozenset[Digest]) -> set[Digest]:
    found: set[Digest] = set()
    for chain_id in chain_ids:
        current: Digest | None = chain_id
        while current is not None and current not in found:
            found.add(current)
            layer = state.layers.get(current)
            current = layer.parent if layer is not None else None
    return found
