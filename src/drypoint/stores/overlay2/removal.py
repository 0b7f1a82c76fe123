"""Planning what is removed when images are replaced: the inverse of a pull, as ``docker rmi`` does it.

Source: moby, daemon/images/image_delete.go, and what dockerd 20.10.24 keeps: the records of where layers came from, and the
``committed`` file of a layer that had a child.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from ...digest import Digest
from ...oci import Image, Reference
from ..planned import KeptImage, Removal, RemovedImage
from . import paths as layout
from .state import StoreState, store_path


def plan_removal(
    state: StoreState, images: Sequence[Image], replaced: Iterable[Reference]
) -> tuple[Removal, StoreState]:
    """Plan to remove the images called *replaced*, unless *images* need them. Returns also the store after that.

    An image is removed with its last name, unless a container or another image was made from it. A layer is removed when no
    image, no container and no layer above it is left.
    """
    names = _Names(state, images)
    for reference in dict.fromkeys(replaced):
        names.drop(reference)
    if not names.dropped:
        return Removal(kept=tuple(names.kept)), state
    gone = names.nameless()
    layers = _unneeded_layers(state, images, gone)
    paths = [path for image_id in gone for path in _image_paths(state, image_id)]
    paths += [path for chain_id in layers for path in _layer_paths(state, chain_id)]
    removal = Removal(
        tuple(RemovedImage(image_id, tuple(names.dropped[image_id])) for image_id in gone),
        tuple(names.kept),
        layers,
        sum(state.layers[chain_id].size or 0 for chain_id in layers),
        tuple(store_path(state, path) for path in paths),
    )
    return removal, _without(state, names.repositories, gone, layers, frozenset(paths))


class _Names:
    """The names in the store, from which some are removed."""

    def __init__(self, state: StoreState, images: Sequence[Image]) -> None:
        self.repositories: dict[str, dict[str, str]] = {
            name: dict(references) for name, references in state.repositories.items()
        }
        self.dropped: dict[Digest, list[str]] = {}
        self.kept: list[KeptImage] = []
        self._state = state
        self._wanted = {image.image_id for image in images}
        self._wanted_names = {reference.familiar for image in images for reference in (*image.references, *image.tags)}

    def drop(self, reference: Reference) -> None:
        """Remove the name *reference*, as ``docker rmi`` finds it: of tag and digest, the digest counts."""
        exact = reference if reference.digest is None else reference.with_digest(reference.digest)
        known = self.repositories.get(exact.familiar_name, {})
        if exact.familiar in self._wanted_names or exact.familiar not in known:
            return
        image_id = Digest(known[exact.familiar])
        if image_id not in self._wanted and (reason := _in_use(self._state, image_id)) is not None:
            self.kept.append(KeptImage(image_id, exact.familiar, reason))
            return
        self._forget(exact.familiar_name, exact.familiar, image_id)
        of_image = [name for name, named in known.items() if named == image_id]
        if exact.digest is None and all("@" in name for name in of_image):
            # The digests of a repository are removed with its last tag.
            for name in of_image:
                if name not in self._wanted_names:
                    self._forget(exact.familiar_name, name, image_id)

    def _forget(self, repository: str, name: str, image_id: Digest) -> None:
        del self.repositories[repository][name]
        if not self.repositories[repository]:
            del self.repositories[repository]
        self.dropped.setdefault(image_id, []).append(name)

    def nameless(self) -> tuple[Digest, ...]:
        """The images that have lost their last name and are not needed; the others are recorded as kept."""
        named: dict[str, str] = {}
        for references in self.repositories.values():
            for name, image_id in references.items():
                named.setdefault(image_id, name)
        gone: list[Digest] = []
        for image_id, names in self.dropped.items():
            if image_id in named and image_id not in self._wanted:
                reason = f"it has another name, {named[image_id]}"
                self.kept.append(KeptImage(image_id, names[0], reason))
            elif image_id not in self._wanted:
                gone.append(image_id)
        return tuple(gone)


def _in_use(state: StoreState, image_id: Digest) -> str | None:
    """Why the image *image_id* must be kept, other than its names; None if there is no reason."""
    users = state.users
    if users.uncertain:
        shown = store_path(state, users.uncertain[0]).decode("utf-8", "backslashreplace")
        return f"{shown} cannot be read, so it may be in use"
    if image_id in users.container_images:
        return "a container was made from it"
    if image_id in users.parent_images:
        return "another image was built from it"
    image = state.images.get(image_id)
    if image is not None and image.chain_ids and image.chain_ids[-1] in users.mount_layers:
        return "a container uses its layers"
    return None


def _unneeded_layers(state: StoreState, images: Sequence[Image], gone: tuple[Digest, ...]) -> tuple[Digest, ...]:
    """Layers of the removed images *gone* that nothing else needs."""
    candidates = {
        chain_id: None
        for image_id in gone
        if image_id in state.images
        for chain_id in reversed(state.images[image_id].chain_ids)
        if chain_id in state.layers
    }
    needed = {
        chain_id for image_id, image in state.images.items() if image_id not in gone for chain_id in image.chain_ids
    }
    needed |= {layer.chain_id for image in images for layer in image.layers}
    needed |= state.users.mount_layers | (state.layers.keys() - candidates.keys())
    kept: set[Digest] = set()
    for chain_id in needed:
        current: Digest | None = chain_id
        while current is not None and current not in kept:
            kept.add(current)
            layer = state.layers.get(current)
            current = layer.parent if layer is not None else None
    return tuple(chain_id for chain_id in candidates if chain_id not in kept)


def _image_paths(state: StoreState, image_id: Digest) -> list[bytes]:
    paths: list[bytes] = []
    if image_id in state.images or image_id in state.damaged_configs:
        paths.append(layout.config_path(image_id))
    if image_id in state.users.annotated:
        paths.append(layout.annotation_path(image_id))
    return paths


def _layer_paths(state: StoreState, chain_id: Digest) -> list[bytes]:
    """The paths of all files of a layer; of a damaged one, only those that no other layer has too."""
    cache_id = state.layers[chain_id].cache_id
    paths = [layout.layer_path(chain_id)]
    claims = Counter(layer.cache_id for layer in state.layers.values())
    if cache_id is None or claims[cache_id] > 1 or cache_id in state.mounts:
        return paths
    paths += [layout.link_path(link) for link, target in sorted(state.links.items()) if target == cache_id]
    if cache_id in state.cache_names:
        paths.append(layout.cache_path(cache_id))
    return paths


def _without(
    state: StoreState,
    repositories: Mapping[str, Mapping[str, str]],
    gone: tuple[Digest, ...],
    layers: tuple[Digest, ...],
    paths: frozenset[bytes],
) -> StoreState:
    users = state.users
    return replace(
        state,
        repositories=repositories,
        images={image_id: image for image_id, image in state.images.items() if image_id not in gone},
        damaged_configs=state.damaged_configs - set(gone),
        layers={chain_id: layer for chain_id, layer in state.layers.items() if chain_id not in layers},
        cache_names=frozenset(name for name in state.cache_names if layout.cache_path(name) not in paths),
        links={link: target for link, target in state.links.items() if layout.link_path(link) not in paths},
        users=replace(users, updated=users.updated - set(gone), annotated=users.annotated - set(gone)),
    )
