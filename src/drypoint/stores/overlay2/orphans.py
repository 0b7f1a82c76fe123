"""Finding what takes space in a store and is used by no image."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...digest import Digest
from ...oci import Image
from ..contents import Names, Orphans
from . import paths as layout
from .placement import Placement
from .state import StoreState

_CACHE_DIRECTORY = re.compile(r"[a-f0-9]{64}(?:-init)?")
_FATE = "balenaEngine removes it when it starts"
"""Docker keeps it."""


def find_orphans(state: StoreState, images: Sequence[Image], placement: Placement, repositories: Names) -> Orphans:
    """The orphans after a plan is carried out.

    Args:
        state: the store without what the plan removes.
        repositories: the names after the plan.
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
        place=layout.CACHE.decode("ascii"),
        fate=_FATE,
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
