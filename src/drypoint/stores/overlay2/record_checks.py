"""Checking the smaller parts of a store: modes and owners, distribution records, unused objects."""

from __future__ import annotations

from collections.abc import Iterator

from ...digest import Digest, hex_of
from ...errors import FilesystemError
from ...fstree import Directory, Regular, Stat, TreeReader, join
from ..contents import StoreFinding
from . import paths as layout
from .findings import FindingCode
from .state import StoreState

_CACHE_MODES: tuple[tuple[bytes, type[Directory | Regular], int], ...] = (
    (b"", Directory, layout.CACHE_DIRECTORY_MODE),
    (b"work", Directory, layout.WORK_MODE),
    (b"link", Regular, layout.FILE_MODE),
    (b"lower", Regular, layout.FILE_MODE),
    (b"committed", Regular, layout.PRIVATE_FILE_MODE),
)
_LAYER_MODES: tuple[tuple[bytes, type[Directory | Regular], int], ...] = (
    (b"", Directory, layout.LAYER_DIRECTORY_MODE),
    *((name, Regular, layout.FILE_MODE) for name in (b"cache-id", b"diff", b"parent", b"size", b"tar-split.json.gz")),
)
"""The modes of files that are the same in all engines; all belong to root."""
_EMPTY_BLOB = "sha256:4f4fb700ef54461cfa02571ae0db9a0dc1e0cdb5577484a6d75e68dc38e8acc1"
"""1,024 zeros as Go's gzip compresses them."""
_NO_CACHE_NAMES = frozenset({"l", "backingFsBlockDev"})
_CACHE_NAME_LENGTHS = frozenset({64, 69})
"""64 digits, with or without ``-init`` after them: those are checked with the layers."""


def check_records(reader: TreeReader, state: StoreState) -> Iterator[StoreFinding]:
    """All findings of this module. What cannot be read is skipped: reading the state has reported it."""
    yield from _modes(reader, state)
    yield from _distribution(state)
    yield from _metadata(reader, state)
    yield from _unnamed(reader, state)
    for name in sorted(state.cache_names - _NO_CACHE_NAMES):
        if len(name) not in _CACHE_NAME_LENGTHS:
            yield _finding(
                "unknown-name", join(state.data_root, layout.cache_path(name)), "expected a layer's directory"
            )


def _modes(reader: TreeReader, state: StoreState) -> Iterator[StoreFinding]:
    wanted: list[tuple[bytes, type[Directory | Regular], int]] = [
        (layout.REPOSITORIES, Regular, layout.PRIVATE_FILE_MODE),
        *((layout.config_path(image_id), Regular, layout.PRIVATE_FILE_MODE) for image_id in state.images),
    ]
    for layer in state.layers.values():
        place = layout.layer_path(layer.chain_id)
        wanted += [(join(place, name), kind, mode) for name, kind, mode in _LAYER_MODES]
        if layer.cache_id is not None:
            cache = layout.cache_path(layer.cache_id)
            wanted += [(join(cache, name), kind, mode) for name, kind, mode in _CACHE_MODES]
    for path, kind, mode in wanted:
        stat = _lookup(reader, join(state.data_root, path))
        if stat is None or not isinstance(stat.entry, kind):
            continue
        metadata = stat.entry.metadata
        if (metadata.mode, metadata.uid, metadata.gid) != (mode, 0, 0):
            yield _finding(
                "wrong-store-mode",
                stat.entry.path,
                f"expected mode {mode:04o} and owner 0:0, found {metadata.mode:04o} and {metadata.uid}:{metadata.gid}",
            )


def _distribution(state: StoreState) -> Iterator[StoreFinding]:
    """Each blob in a layer's record must itself be recorded as that layer.

    The blob of an empty layer represents any unchanged layer in a delta, so the engine records it as the last of them.
    """
    for diff_id, origins in sorted(state.origins.items()):
        for digest in dict.fromkeys(origin.digest for origin in origins):
            known = state.diff_ids.get(Digest(digest))
            # Empty: a damaged record, reported already.
            if known not in (diff_id, ""):
                yield _finding(
                    "placeholder-record" if digest == _EMPTY_BLOB and known is not None else "inconsistent-record",
                    join(state.data_root, layout.metadata_record_path(diff_id)),
                    f"it says that the layer came as the blob {digest[:100]}, but that blob is recorded as "
                    f"{known or 'no layer'}",
                )


def _metadata(reader: TreeReader, state: StoreState) -> Iterator[StoreFinding]:
    known = {hex_of(image_id).encode("ascii") for image_id in (*state.images, *state.damaged_configs)}
    for stat in _children(reader, join(state.data_root, layout.ANNOTATIONS)):
        if stat.entry.path.rpartition(b"/")[2] not in known:
            yield _finding("orphan-metadata", stat.entry.path, "there is no image with this id")


def _unnamed(reader: TreeReader, state: StoreState) -> Iterator[StoreFinding]:
    named = {image_id for references in state.repositories.values() for image_id in references.values()}
    for image_id in sorted(state.images.keys() - named):
        yield _finding("unnamed-image", join(state.data_root, layout.config_path(image_id)), "no reference names it")
    used = {chain_id for image in state.images.values() for chain_id in image.chain_ids}
    pending = list(_mounted(reader, state))
    while pending:
        chain_id = pending.pop()
        if chain_id in used or chain_id not in state.layers:
            continue
        used.add(chain_id)
        pending += filter(None, (state.layers[chain_id].parent,))
    # A damaged config may be the one that refers to them.
    if not state.damaged_configs:
        for chain_id in sorted(state.layers.keys() - used):
            path = join(state.data_root, layout.layer_path(chain_id))
            yield _finding("unused-layer", path, "no image and no container uses it")


def _mounted(reader: TreeReader, state: StoreState) -> Iterator[Digest]:
    """The top layers of containers' images."""
    for mount in _children(reader, join(state.data_root, layout.MOUNTS)):
        stat = _lookup(reader, join(mount.entry.path, b"parent"))
        if stat is not None and isinstance(stat.entry, Regular) and stat.entry.size < 100:
            yield Digest(b"".join(bytes(chunk) for chunk in reader.read(stat)).decode("ascii", "replace").strip())


def _lookup(reader: TreeReader, path: bytes) -> Stat | None:
    try:
        return reader.lookup(path)
    except FilesystemError:
        return None


def _children(reader: TreeReader, path: bytes) -> list[Stat]:
    stat = _lookup(reader, path)
    if stat is None or not isinstance(stat.entry, Directory):
        return []
    try:
        return list(reader.children(stat.entry))
    except FilesystemError:
        return []


def _finding(code: FindingCode, path: bytes, text: str) -> StoreFinding:
    return StoreFinding(code, path, text)
