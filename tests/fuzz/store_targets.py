"""The engine's store on a disk image: its JSON, and a whole store with damage anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cache

from drypoint.digest import Digest, digest_of
from drypoint.errors import DrypointError, StoreError
from drypoint.fstree import Directory, HardLink, Metadata, Regular, Stat, Symlink, parent_and_name
from drypoint.layers import LayerReader
from drypoint.oci import Descriptor, Image, assemble_layers, parse_config, parse_reference
from drypoint.samples.layers import LayerBuilder
from drypoint.sinks import MemoryTree
from drypoint.stores import LayerStream, PlannedLayer
from drypoint.stores.overlay2 import (
    StoreState,
    plan_store,
    read_state,
    write_store,
)
from drypoint.stores.overlay2.distribution import metadata_text, parse_metadata
from drypoint.stores.overlay2.repositories import merge_repositories, parse_repositories, repositories_text

from .material import Material
from .material import patch as patch_number
from .target import PropertyError, Target

_ROOT = b"docker"
_STAMP = 1_600_000_000_000_000_000
_DIGEST = "sha256:" + "ab" * 32
_CONTENTS = (b"", b"null", b"{}", b"[]", b"sha256:" + b"0" * 64, b"\xff" * 9, b"0" * 64, b"[" * 3000, b"x" * (65 << 10))
_MOST_EDITS = 6


def read_any_store_json(data: bytes) -> None:
    if data[:1] == b"M":
        records = parse_metadata(data[1:])
        if parse_metadata(metadata_text(records)) != records:
            raise PropertyError("the records read back as others")
        return
    repositories = parse_repositories(data[1:])
    if parse_repositories(repositories_text(repositories)) != repositories:
        raise PropertyError("repositories.json reads back as another")
    merged = merge_repositories(repositories, [_image("base")], {})
    if any(
        references.items() - merged[name].items() - {("app:1", references.get("app:1"))}
        for name, references in repositories.items()
    ):
        raise PropertyError("a reference of somebody else was dropped")


def _store_json() -> Iterator[bytes]:
    yield (
        b"R" + json.dumps({"Repositories": {"app": {"app:1": _DIGEST, f"app@{_DIGEST}": _DIGEST}, "b": None}}).encode()
    )
    yield b'R{"Repositories":null}'
    yield b"M" + json.dumps([{"Digest": _DIGEST, "SourceRepository": "docker.io/library/a", "HMAC": ""}]).encode()
    yield b"Mnull"


def read_any_store(data: bytes) -> None:
    """A store with damage is read, and what is put into it is whole and makes nothing worse."""
    tree = _damaged(Material(data))
    state = read_state(tree, _ROOT)
    image = _image("base", "new")
    plan = plan_store(state, [image], timestamp=_STAMP)
    write_store(plan, tree, _open_layer)
    after = read_state(tree, _ROOT)
    if image.image_id not in _usable_images(after):
        raise PropertyError(f"the image is not usable after it was written: {after.findings}")
    if lost := _usable_images(state) - _usable_images(after):
        raise PropertyError(f"images that were usable are not any more: {lost}")
    # A layer that becomes whole can show what was wrong with the layer above it, so old parts may have new findings.
    written = [planned.cache_id.encode() for planned in plan.layers]
    written += [planned.chain_id.removeprefix("sha256:").encode() for planned in plan.layers]
    if wrong := [finding for finding in after.findings if any(name in finding.path for name in written)]:
        raise PropertyError(f"what was written is wrong: {wrong}")
    kept = {**state.repositories.get("app", {}), "app:1": image.image_id}
    if {**after.repositories, "app": {}} != {**state.repositories, "app": {}} or after.repositories["app"] != kept:
        raise PropertyError("a reference was changed that is nobody's here")
    again = plan_store(after, [image], timestamp=_STAMP)
    if not again.is_empty:
        raise PropertyError("writing again would change the store again")


def _usable_images(state: StoreState) -> set[Digest]:
    return {image_id for image_id, image in state.images.items() if image.usable}


def _image(*words: str) -> Image:
    diff_ids = [digest_of(_tar(word)) for word in words]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    config = parse_config(json.dumps({"os": "linux", "architecture": "arm64", "rootfs": rootfs}).encode(), "image")
    blobs = tuple(Descriptor("application/x", digest_of(f"blob of {word}".encode()), 100) for word in words)
    reference = parse_reference("app:1")
    return Image((reference,), config, assemble_layers(config, blobs, "image"), reference)


@cache
def _tar(word: str) -> bytes:
    return LayerBuilder().directory("d").file(f"d/{word}", word.encode()).symlink("s", "d").finish()


def _open_layer(planned: PlannedLayer) -> AbstractContextManager[LayerStream]:
    tar = next(tar for tar in map(_tar, ("base", "top", "new")) if digest_of(tar) == planned.layer.diff_id)
    return LayerReader(iter((tar,)), "layer")


@cache
def _store() -> tuple[tuple[Stat, bytes], ...]:
    """A store with one image of two layers, in the order in which it can be made."""
    tree = MemoryTree()
    write_store(plan_store(read_state(tree, _ROOT), [_image("base", "top")], timestamp=_STAMP), tree, _open_layer)
    return tuple(
        (found, tree.content(found.entry.path) if isinstance(found.entry, Regular) else b"") for found in tree.walk()
    )


def _damaged(material: Material) -> MemoryTree:
    store = _store()
    edits: dict[int, Material] = {}
    for _ in range(_MOST_EDITS):
        if not material:
            break
        edits[material.number(2) % len(store)] = Material(material.text())
    tree = MemoryTree()
    for number, (found, content) in enumerate(store):
        parent = tree.lookup(parent_and_name(found.entry.path)[0])
        if parent is not None and isinstance(parent.entry, Directory):
            _make(tree, found, content, edits.get(number))
    return tree


def _make(tree: MemoryTree, found: Stat, content: bytes, edit: Material | None) -> None:
    """Put one thing of the store into *tree*, or something else in its place."""
    entry = found.entry
    if edit is None:
        # What has several names in a store is whiteouts and layers' own files, which nobody reads.
        if not isinstance(entry, HardLink):
            tree.add(entry, (content,) if isinstance(entry, Regular) else None)
        return
    path, metadata = entry.path, Metadata(0o644)
    match edit.number() % 8:
        case 0:
            return
        case 1:
            content = edit.rest()
        case 2:
            content = edit.choice(_CONTENTS)
        case 3:
            tree.add(Directory(path, metadata))
            tree.add(
                Directory(path + b"/" + (edit.rest()[:200].translate(None, b"/\0").strip(b".") or b"in"), metadata)
            )
            return
        case 4:
            tree.add(Symlink(path, metadata, edit.rest()[:255].translate(None, b"\0") or b"../gone"))
            return
        case 5 if content:
            changed = bytearray(content)
            patch_number(changed, edit.number(2) % len(changed), edit)
            content = bytes(changed)
        case 6:
            content = content[: edit.number(2)]
        case _:
            # One more beside it.
            name = edit.rest()[:200].translate(None, b"/\0").strip(b".") or b"more"
            beside = path.rpartition(b"/")[0] + b"/" + name
            if (
                path.count(b"/")
                and tree.lookup(beside) is None
                and all(beside != one.entry.path for one, _ in _store())
            ):
                tree.add(Regular(beside, metadata, len(content)), (content,))
            tree.add(entry, (content,) if isinstance(entry, Regular) else None)
            return
    tree.add(Regular(path, metadata, len(content)), (content,))


def _damages() -> Iterator[bytes]:
    yield b""
    for number in range(len(_store())):
        for edit in (b"\0", b"\1sha256:x", b"\2\3", b"\3", b"\4", b"\5\3\0\0\x99", b"\6\1\0", b"\7zz"):
            if number % 8 == edit[0]:
                yield number.to_bytes(2, "little") + bytes([len(edit)]) + edit


TARGETS = (
    Target(
        "store_json",
        read_any_store_json,
        _store_json,
        ("drypoint.stores.overlay2",),
        (StoreError,),
        tokens=(b'"Repositories":', b'"Digest":', b"\\u2028"),
    ),
    Target(
        "store",
        read_any_store,
        _damages,
        ("drypoint.stores.overlay2",),
        (DrypointError,),
        longest=2048,
        tokens=(b"sha256:", b"committed", b"../"),
    ),
)
