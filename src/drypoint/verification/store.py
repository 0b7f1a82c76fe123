"""A whole store, proved: its files against each other, and every layer against its tar."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from ..digest import Digest
from ..engine import StoredLayer, StoreState, layout, read_state
from ..errors import FilesystemError
from ..fstree import Directory, Regular, TreeReader, join
from ..oci import Reference
from .finding import Finding, ImageVerdict, Report, by_weight, finding
from .layer import LayerResult, check_layer

_MODES = (
    (b"", Directory, layout.CACHE_DIRECTORY_MODE),
    (b"work", Directory, layout.WORK_MODE),
    (b"link", Regular, layout.FILE_MODE),
    (b"lower", Regular, layout.FILE_MODE),
    (b"committed", Regular, layout.PRIVATE_FILE_MODE),
)
"""Modes below a layer's cache directory that are the same in all engines; all of it belongs to root."""


def verify_store(
    reader: TreeReader,
    data_root: bytes,
    *,
    references: Iterable[Reference] = (),
    layers: Collection[Digest] | None = None,
    threads: int | None = None,
) -> Report:
    """Prove the store at *data_root*. Nothing is changed.

    Args:
        reader: must take calls from several threads at once if *threads* is not 1.
        references: names that something else relies on (apps.json); each must lead to an image that loads.
        layers: chain-ids of the layers whose content is to be proved; None for all. The store's own files are checked in full.
        threads: how many layers are read at once; as many as there are processors by default.

    Raises:
        StoreError: the data root is no directory, or holds more than anything real does.
        FilesystemError: the data root itself cannot be reached.
    """
    state = read_state(reader, data_root)
    findings = [finding(one.code, one.path, one.text) for one in state.findings]
    findings.extend(_modes(reader, state))
    results = _check_layers(reader, state, layers, threads)
    for result in results:
        findings.extend(result.findings)
    findings.extend(_references(state, references))
    return Report(
        findings=tuple(sorted(findings, key=by_weight)),
        images=_verdicts(state),
        layers=len(results),
        tar_bytes=sum(result.tar_bytes for result in results),
    )


def _check_layers(
    reader: TreeReader, state: StoreState, wanted: Collection[Digest] | None, threads: int | None
) -> list[LayerResult]:
    def check(layer: StoredLayer) -> LayerResult | None:
        # What is missing without these three is among the state's findings already.
        if layer.diff_id is None or layer.cache_id is None or not layer.has_tar_split:
            return None
        if layer.cache_id not in state.cache_names:
            return None
        return check_layer(reader, state.data_root, layer, layer.diff_id, layer.cache_id)

    # The largest first, so that no thread is left alone with it at the end.
    chosen = [layer for layer in state.layers.values() if wanted is None or layer.chain_id in wanted]
    layers = sorted(chosen, key=lambda layer: layer.size or 0, reverse=True)
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        return [result for result in pool.map(check, layers) if result is not None]


def _modes(reader: TreeReader, state: StoreState) -> Iterator[Finding]:
    for layer in state.layers.values():
        if layer.cache_id is None:
            continue
        cache = join(state.data_root, layout.cache_path(layer.cache_id))
        for name, kind, mode in _MODES:
            path = join(cache, name)
            try:
                stat = reader.lookup(path)
            except FilesystemError:
                # Reading the state has met it before, and has told.
                continue
            if stat is None or not isinstance(stat.entry, kind):
                continue
            metadata = stat.entry.metadata
            if (metadata.mode, metadata.uid, metadata.gid) != (mode, 0, 0):
                yield finding(
                    "wrong-store-mode",
                    path,
                    f"expected mode {mode:04o} and owner 0:0, found {metadata.mode:04o} and {metadata.uid}:{metadata.gid}",
                )


def _verdicts(state: StoreState) -> tuple[ImageVerdict, ...]:
    names: dict[str, list[str]] = {}
    for references in state.repositories.values():
        for reference, image_id in references.items():
            names.setdefault(image_id, []).append(reference)
    return tuple(
        ImageVerdict(image_id, tuple(sorted(names.get(image_id, []))), image.usable)
        for image_id, image in sorted(state.images.items())
    )


def _references(state: StoreState, references: Iterable[Reference]) -> Iterator[Finding]:
    path = join(state.data_root, layout.REPOSITORIES)
    for reference in references:
        image_id = _resolve(state, reference)
        if image_id is None:
            yield finding("unresolved-reference", path, f"nothing in the store is called {reference}")
        elif (image := state.images.get(Digest(image_id))) is None or not image.usable:
            yield finding("image-does-not-load", path, f"{reference} names {image_id}, which the engine cannot load")


def _resolve(state: StoreState, reference: Reference) -> str | None:
    """The image id that the engine gives for *reference*; where there is a digest, that decides, as in the engine."""
    known = state.repositories.get(reference.familiar_name, {})
    wanted = reference if reference.digest is None else reference.with_digest(reference.digest)
    return known.get(wanted.familiar)
