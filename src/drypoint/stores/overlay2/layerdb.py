"""Reading the layers of a store: layerdb, the cache directories of overlay2, and their links.

Format: moby, layer/filestore.go and daemon/graphdriver/overlay2/overlay.go.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from ...digest import Digest
from ...fstree import Directory, Regular, Symlink, join
from ...oci import next_chain_id
from . import paths as layout
from .identity import CACHE_ID, LINK
from .reading import StoreReader

_LINK_TARGET = re.compile(rb"\.\./([a-f0-9]{64}(?:-init)?)/diff")
_MOUNT_ID = re.compile(r"[a-f0-9]{64}(?:-init)?")
_MAX_SIZE_DIGITS = 19


class StoredLayer(msgspec.Struct, frozen=True):
    """A layer in layerdb, with its recorded values; None where a file is missing or malformed.

    Attributes:
        lower: the links of the layers below from its ``lower`` file, nearest first.
        size: the layer's size in bytes, as the engine recorded it.
        committed: whether it is marked as having a child.
        complete: all its own files are there and agree with each other.
        usable: it is complete, and so are all layers below, and ``lower`` has exactly their links. Only then is it shared.
    """

    chain_id: Digest
    diff_id: Digest | None
    parent: Digest | None
    cache_id: str | None
    link: str | None
    lower: tuple[str, ...]
    size: int | None
    committed: bool
    has_tar_split: bool
    complete: bool
    usable: bool


class FoundLayers(msgspec.Struct, frozen=True):
    layers: dict[Digest, StoredLayer]
    cache_names: frozenset[str]
    links: dict[str, str]
    mounts: frozenset[str]


def read_layers(store: StoreReader) -> FoundLayers:
    """All layers, with everything in ``overlay2/`` accounted for."""
    links = _read_links(store)
    cache_names = frozenset(name for name, _ in store.names(layout.CACHE) if name != "l")
    layers: dict[Digest, StoredLayer] = {}
    for name, stat in store.names(layout.LAYERS):
        path = join(layout.LAYERS, name.encode("ascii"))
        if CACHE_ID.fullmatch(name) and isinstance(stat.entry, Directory):
            chain_id = Digest(f"sha256:{name}")
            layers[chain_id] = _read_layer(store, path, chain_id, links)
        elif name.endswith("-removing"):
            store.report("half-removed-layer", path, "the engine was stopped while it removed this layer")
        else:
            store.report("unknown-name", path, "expected a directory named by a chain-id")
    for name, _ in store.names(layout.LAYERS_TMP):
        store.report(
            "half-written-layer", join(layout.LAYERS_TMP, name.encode("ascii")), "left over from an interrupted pull"
        )
    layers = _judge(store, layers)
    mounts = frozenset(_read_mounts(store))
    _report_orphans(store, layers, cache_names, links, mounts)
    return FoundLayers(layers, cache_names, links, mounts)


def _read_links(store: StoreReader) -> dict[str, str]:
    links: dict[str, str] = {}
    for name, stat in store.names(layout.LINKS):
        target = stat.entry.target if isinstance(stat.entry, Symlink) else b""
        match = _LINK_TARGET.fullmatch(target)
        links[name] = match[1].decode("ascii") if match else ""
    return links


def _read_layer(store: StoreReader, path: bytes, chain_id: Digest, links: dict[str, str]) -> StoredLayer:
    findings = len(store.findings)
    diff_id = store.digest(join(path, b"diff"))
    parent = store.digest(join(path, b"parent")) if store.exists(join(path, b"parent")) else None
    has_parent = store.exists(join(path, b"parent"))
    if diff_id and not (has_parent and parent is None) and next_chain_id(parent, diff_id) != chain_id:
        store.report(
            "wrong-chain-id", path, f"its diff-id {diff_id} and parent {parent} make {next_chain_id(parent, diff_id)}"
        )
    tar_split = store.lookup(join(path, b"tar-split.json.gz"))
    has_tar_split = tar_split is not None and isinstance(tar_split.entry, Regular) and tar_split.entry.size > 0
    if not has_tar_split:
        store.report("missing-file", join(path, b"tar-split.json.gz"), "without it the layer's tar cannot be rebuilt")
    size = _size(store, join(path, b"size"))
    cache_id = _cache_id(store, join(path, b"cache-id"))
    link: str | None = None
    lower: tuple[str, ...] = ()
    committed = False
    if cache_id is not None:
        link, lower, committed = _read_cache(store, cache_id, has_parent, links)
    complete = len(store.findings) == findings
    return StoredLayer(
        chain_id, diff_id, parent, cache_id, link, lower, size, committed, has_tar_split, complete, usable=False
    )


def _read_cache(
    store: StoreReader, cache_id: str, has_parent: bool, links: dict[str, str]
) -> tuple[str | None, tuple[str, ...], bool]:
    """The link, the lower links and whether committed, of a cache directory."""
    path = layout.cache_path(cache_id)
    for name in (b"", b"diff", b"work") if has_parent else (b"", b"diff"):
        if not store.is_directory(join(path, name)):
            store.report("missing-file", join(path, name), "expected a directory")
    link = store.text(join(path, b"link"))
    if link is not None and LINK.fullmatch(link) is None:
        store.report("bad-content", join(path, b"link"), "expected 26 characters of base32 and nothing else")
        link = None
    if link is not None and links.get(link) != cache_id:
        store.report(
            "dangling-link", layout.link_path(link), f"expected a symbolic link to {layout.link_target(cache_id)!r}"
        )
    lower: tuple[str, ...] = ()
    if has_parent and (text := store.text(join(path, b"lower"))) is not None:
        parts = text.split(":")
        if all(part.startswith("l/") and LINK.fullmatch(part[2:]) for part in parts):
            lower = tuple(part[2:] for part in parts)
        else:
            store.report("bad-content", join(path, b"lower"), "expected links joined by colons")
    if not has_parent and store.exists(join(path, b"lower")):
        store.report("wrong-lower", join(path, b"lower"), "a base layer has nothing below it")
    return link, lower, store.exists(join(path, b"committed"))


def _judge(store: StoreReader, layers: dict[Digest, StoredLayer]) -> dict[Digest, StoredLayer]:
    """Find out which layers are usable, parents before children."""
    shared = {
        cache_id
        for cache_id, count in Counter(one.cache_id for one in layers.values()).items()
        if cache_id and count > 1
    }
    judged: dict[Digest, StoredLayer] = {}
    for chain_id in layers:
        pending: dict[Digest, None] = {}
        current: Digest | None = chain_id
        # A damaged store can hold a cycle of parents: a layer that is pending already ends the walk.
        while current is not None and current in layers and current not in judged and current not in pending:
            pending[current] = None
            current = layers[current].parent
        for one in reversed(pending):
            judged[one] = _judge_one(store, layers[one], judged, layers[one].cache_id in shared)
    parents = {layer.parent for layer in layers.values() if layer.parent}
    for chain_id, layer in judged.items():
        if chain_id in parents and not layer.committed and layer.cache_id:
            path = join(layout.cache_path(layer.cache_id), b"committed")
            store.report("missing-committed", path, "the layer has a child, so that it must be marked as committed")
    return {chain_id: judged[chain_id] for chain_id in layers}


def _judge_one(store: StoreReader, layer: StoredLayer, judged: dict[Digest, StoredLayer], shares: bool) -> StoredLayer:
    path = layout.layer_path(layer.chain_id)
    complete = layer.complete
    if shares:
        store.report("shared-cache-id", join(path, b"cache-id"), f"another layer has the cache-id {layer.cache_id} too")
        complete = False
    if layer.parent is None:
        return replace(layer, complete=complete, usable=complete)
    below = judged.get(layer.parent)
    if below is None:
        store.report("layer-without-parent", path, f"its parent {layer.parent} is not in the store")
        return replace(layer, complete=complete, usable=False)
    # A damaged layer below has no reliable link to compare with: planning compares, once that layer has its new names.
    if complete and below.complete and below.link is not None and layer.lower != (below.link, *below.lower):
        store.report(
            "wrong-lower", join(layout.cache_path(layer.cache_id or ""), b"lower"), "it does not name the layers below"
        )
        complete = False
    return replace(layer, complete=complete, usable=complete and below.usable)


def _read_mounts(store: StoreReader) -> Iterator[str]:
    for name, _ in store.names(layout.MOUNTS):
        for file in (b"mount-id", b"init-id"):
            path = join(layout.MOUNTS, name.encode("ascii"), file)
            if store.exists(path) and (text := store.text(path)) is not None:
                if _MOUNT_ID.fullmatch(text.strip()):
                    yield text.strip()
                else:
                    store.report("bad-content", path, "expected the name of a cache directory")


def _report_orphans(
    store: StoreReader,
    layers: dict[Digest, StoredLayer],
    cache_names: frozenset[str],
    links: dict[str, str],
    mounts: frozenset[str],
) -> None:
    used = {layer.cache_id for layer in layers.values()} | mounts
    for name in sorted(name for name in cache_names - used if _MOUNT_ID.fullmatch(name)):
        store.report("orphan-cache-directory", layout.cache_path(name), "no layer and no container names it")
    for link, cache_id in links.items():
        if not cache_id:
            store.report(
                "dangling-link", layout.link_path(link), "expected a symbolic link to a layer's diff directory"
            )
        elif cache_id not in cache_names:
            store.report("dangling-link", layout.link_path(link), f"it leads to {cache_id}, which is missing")
    known = {layer.link for layer in layers.values()}
    for link, cache_id in links.items():
        if cache_id in used and cache_id not in mounts and link not in known:
            store.report("orphan-link", layout.link_path(link), f"{cache_id} calls itself by another link")


def _size(store: StoreReader, path: bytes) -> int | None:
    text = store.text(path)
    if text is None:
        return None
    if not text.isdecimal() or len(text) > _MAX_SIZE_DIGITS:
        store.report("bad-content", path, "expected a number of bytes")
        return None
    return int(text)


def _cache_id(store: StoreReader, path: bytes) -> str | None:
    text = store.text(path)
    if text is None:
        return None
    if CACHE_ID.fullmatch(text.strip()) is None:
        store.report("bad-content", path, "expected 64 hexadecimal digits")
        return None
    return text.strip()
