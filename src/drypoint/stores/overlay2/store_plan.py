"""Planning what to write so that a store holds more images: a pure function of the store's state and the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import TypeVar

from ...digest import Digest
from ...errors import FilesystemError, StoreError
from ...fstree import Directory, Metadata
from ...oci import Image, Reference
from ..contents import Names
from ..planned import PlannedFile
from . import paths as layout
from .distribution import V2Metadata, add_metadata, diff_id_text, metadata_text
from .go_time import go_time
from .orphans import find_orphans
from .placement import Placement, place_layers
from .planned_store import StorePlan
from .removal import plan_removal
from .repositories import merge_repositories, repositories_text
from .state import StoreState, store_path

MAX_LAYERS = 125
"""Most layers in one image: moby, layer/layer_store.go, maxLayerDepth. The engine refuses the 126th ("max depth exceeded")."""


def plan_store(
    state: StoreState, images: Sequence[Image], *, timestamp: int, replaced: Iterable[Reference] = ()
) -> StorePlan:
    """Plan how *images* get into the store *state*.

    Args:
        replaced: names of images to remove, unless something else needs them.
        timestamp: nanoseconds since the epoch, for the mtimes of files that drypoint itself creates.

    Raises:
        StoreError: repositories.json cannot be read, an image has more layers than the engine supports, or a reference
            cannot name its image.
        FilesystemError: something in the store cannot be read because its file system is damaged.
    """
    _check_state(state)
    for image in images:
        _check_image(image)
    before = state
    removal, state = plan_removal(state, images, replaced)
    placement = place_layers(state, images)
    origins, diff_ids = _records(state, images)
    usable = {image_id: image.usable for image_id, image in state.images.items()}
    merged = merge_repositories(state.repositories, images, usable)
    wanted = {image.image_id: image for image in images}
    records = (*origins, *diff_ids)
    tagged = _tagged(state, images)
    return StorePlan(
        root=state.data_root,
        timestamp=timestamp,
        removal=removal,
        directories=(
            *_missing_directories(state, bool(placement.layers), bool(records), timestamp),
            *_annotation_directories(state, tagged, timestamp),
        ),
        layers=placement.layers,
        shared=placement.shared,
        marks=_marks(state, placement),
        records=records,
        configs=_configs(state, wanted),
        annotations=_annotations(state, tagged, timestamp),
        repositories=_repositories(before, merged),
        known_images=tuple(image_id for image_id in wanted if usable.get(image_id)),
        orphans=find_orphans(state, images, placement, merged),
        stored_layers=len(before.layers),
    )


def _check_state(state: StoreState) -> None:
    unreadable = next((finding for finding in state.findings if finding.code == "unreadable"), None)
    if unreadable is not None:
        raise FilesystemError(
            f"{unreadable.path.decode('utf-8', 'backslashreplace')} in the store cannot be read: {unreadable.text}. Nothing is "
            "written to a damaged file system; run e2fsck -f on it, or start from an undamaged disk image"
        )
    if state.repositories_file == "unreadable":
        raise StoreError(
            "repositories.json in the store cannot be read, and the engine does not start with it: adding images would lose "
            "the names of the existing ones. Start from an undamaged disk image"
        )


def _check_image(image: Image) -> None:
    name = str(image.references[0]) if image.references else image.image_id
    if len(image.layers) > MAX_LAYERS:
        raise StoreError(
            f"{name} has {len(image.layers)} layers, and the engine supports no more than {MAX_LAYERS}: build it with fewer"
        )


def _missing_directories(state: StoreState, layers: bool, records: bool, timestamp: int) -> tuple[Directory, ...]:
    wanted: Iterable[tuple[bytes, int]] = chain(
        layout.BASIC_DIRECTORIES,
        layout.LAYER_DIRECTORIES if layers else (),
        layout.RECORD_DIRECTORIES if records else (),
    )
    above: list[Directory] = []
    if b"" not in state.directories:
        parts = state.data_root.split(b"/")
        missing_above = range(state.above + 1, len(parts))
        above = [Directory(b"/".join(parts[:end]), Metadata(0o755, mtime=timestamp)) for end in missing_above]
    missing = [
        Directory(store_path(state, path), Metadata(mode, mtime=timestamp))
        for path, mode in wanted
        if path not in state.directories and store_path(state, path)
    ]
    return (*above, *missing)


def _marks(state: StoreState, placement: Placement) -> tuple[PlannedFile, ...]:
    """``committed`` for layers in the store that have, or get, a child."""
    parents = {layer.parent for layer in state.layers.values()} | {planned.parent for planned in placement.layers}
    stored = ((shared.layer.chain_id, state.layers[shared.layer.chain_id]) for shared in placement.shared)
    return tuple(
        _file(state, layout.cache_path(layer.cache_id) + b"/committed", b"", layout.PRIVATE_FILE_MODE)
        for chain_id, layer in stored
        if chain_id in parents and not layer.committed and layer.cache_id is not None
    )


def _records(state: StoreState, images: Sequence[Image]) -> tuple[tuple[PlannedFile, ...], tuple[PlannedFile, ...]]:
    """The distribution records after a pull of *images*, in this order."""
    origins: dict[Digest, tuple[V2Metadata, ...]] = {}
    diff_ids: dict[Digest, Digest] = {}
    for image in images:
        if image.repository is None:
            continue
        for layer in image.layers:
            if not layer.distributable:
                continue
            known = origins.get(layer.diff_id, state.origins.get(layer.diff_id, ()))
            new = V2Metadata(layer.blob.digest, image.repository.name)
            # A pull moves an existing record to the end. Here it stays, so that a second preload does not differ from the
            # first.
            origins[layer.diff_id] = known if new in known else add_metadata(known, new)
            diff_ids[layer.blob.digest] = layer.diff_id
    return (
        _changed(state, origins, state.origins, layout.metadata_record_path, metadata_text),
        _changed(state, diff_ids, state.diff_ids, layout.diff_id_record_path, diff_id_text),
    )


_V = TypeVar("_V")


def _changed(
    state: StoreState,
    wanted: Mapping[Digest, _V],
    known: Mapping[Digest, _V],
    path: Callable[[Digest], bytes],
    text: Callable[[_V], bytes],
) -> tuple[PlannedFile, ...]:
    """The files for the items of *wanted* that are not in *known* with the same value."""
    return tuple(
        _file(state, path(key), text(value), layout.FILE_MODE, key in known)
        for key, value in wanted.items()
        if known.get(key) != value
    )


def _tagged(state: StoreState, images: Sequence[Image]) -> tuple[Digest, ...]:
    """The images that get a new name by tagging: the engine records the time of that."""

    def is_new(image: Image, tag: Reference) -> bool:
        return state.repositories.get(tag.familiar_name, {}).get(tag.familiar) != image.image_id

    found = {image.image_id: None for image in images if any(is_new(image, tag) for tag in image.tags)}
    return tuple(found)


def _annotation_directories(state: StoreState, tagged: tuple[Digest, ...], timestamp: int) -> tuple[Directory, ...]:
    return tuple(
        Directory(store_path(state, layout.annotation_path(image_id)), Metadata(0o700, mtime=timestamp))
        for image_id in tagged
        if image_id not in state.users.annotated
    )


def _repositories(state: StoreState, merged: Names) -> PlannedFile | None:
    if state.repositories_file == "readable" and merged == state.repositories:
        return None
    exists = state.repositories_file != "absent"
    return _file(state, layout.REPOSITORIES, repositories_text(merged), layout.PRIVATE_FILE_MODE, exists)


def _configs(state: StoreState, wanted: Mapping[Digest, Image]) -> tuple[PlannedFile, ...]:
    return tuple(
        _file(
            state,
            layout.config_path(image_id),
            image.config.content,
            layout.PRIVATE_FILE_MODE,
            image_id in state.damaged_configs,
        )
        for image_id, image in wanted.items()
        if image_id not in state.images
    )


def _annotations(state: StoreState, tagged: Iterable[Digest], timestamp: int) -> tuple[PlannedFile, ...]:
    return tuple(
        _file(
            state,
            layout.last_updated_path(image_id),
            go_time(timestamp),
            layout.PRIVATE_FILE_MODE,
            image_id in state.users.updated,
        )
        for image_id in tagged
    )


def _file(state: StoreState, path: bytes, content: bytes, mode: int, replaces: bool = False) -> PlannedFile:
    return PlannedFile(store_path(state, path), content, mode, replaces)
