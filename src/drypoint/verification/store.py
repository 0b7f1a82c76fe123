"""Verify a whole store: its files against each other, and every layer against its tar."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator

from ..concurrency.pool import ordered_map
from ..digest import Digest
from ..fstree import TreeReader, join
from ..oci import Reference
from ..stores.overlay2 import StoreState, read_state
from ..stores.overlay2 import paths as layout
from .finding import Finding, ImageVerdict, Report, ServiceVerdict, by_weight, finding
from .kinds import Severity
from .layer import LayerResult, LayerTask, check_layer
from .processes import LayerProcesses
from .records import check_records
from .required_images import RequiredImages, RequiredImagesReader


def verify_store(
    reader: TreeReader,
    data_root: bytes,
    *,
    references: Iterable[Reference] = (),
    required_images: RequiredImagesReader | None = None,
    layers: Collection[Digest] | None = None,
    threads: int | None = None,
    processes: LayerProcesses | None = None,
) -> Report:
    """Verify the store at *data_root*. Changes nothing.

    Args:
        reader: must be thread-safe if *threads* is not 1.
        references: names that must resolve to an image that loads.
        required_images: finds the images that the device will ask for.
        layers: chain-ids of the layers whose content is verified; None for all. The store's own files are checked in full.
        threads: how many layers are read at once; by default the number of processors.
        processes: processes to read layers with instead, where that pays off.

    Raises:
        StoreError: the data root is not a directory, or exceeds the bounds of any real store.
        FilesystemError: the data root itself cannot be reached.
    """
    state = read_state(reader, data_root)
    findings = [finding(one.code, one.path, one.text) for one in state.findings]
    findings.extend(check_records(reader, state))
    if not state.directories - {b""}:
        findings.append(finding("no-store", data_root, "there is no engine's store here"))
    results = _check_layers(reader, state, layers, threads, processes)
    for result in results:
        findings.extend(result.findings)
    findings.extend(_references(state, references))
    services: tuple[ServiceVerdict, ...] = ()
    if required_images is not None:
        wanted = required_images(reader, state.repositories)
        findings.extend(missing_images(wanted, state))
        services = _services(state, wanted)
    return Report(
        findings=tuple(sorted(findings, key=by_weight)),
        images=_verdicts(state),
        layers=len(results),
        tar_bytes=sum(result.tar_bytes for result in results),
        services=services,
    )


def _check_layers(
    reader: TreeReader,
    state: StoreState,
    wanted: Collection[Digest] | None,
    threads: int | None,
    processes: LayerProcesses | None,
) -> list[LayerResult]:
    # Where one of these is missing, the state's findings say so already.
    tasks = [
        LayerTask(layer, layer.diff_id, layer.cache_id)
        for layer in state.layers.values()
        if (wanted is None or layer.chain_id in wanted)
        and layer.diff_id is not None
        and layer.cache_id is not None
        and layer.has_tar_split
        and layer.cache_id in state.cache_names
    ]
    # The largest first, so that no thread runs alone at the end.
    tasks.sort(key=lambda task: task.layer.size or 0, reverse=True)
    if processes is not None and processes.worthwhile(tasks):
        return processes.check(state.data_root, tasks)
    workers = threads or os.cpu_count() or 1
    return list(ordered_map(lambda task: check_layer(reader, state.data_root, *task), tasks, workers, "layer"))


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
            yield finding("unresolved-reference", path, f"the store has no image named {reference}")
        elif not _loads(state, Digest(image_id)):
            yield finding("image-does-not-load", path, f"{reference} names {image_id}, which the engine cannot load")


def missing_images(required: RequiredImages, state: StoreState) -> Iterator[Finding]:
    """The findings of *required*, and those of its images that the store *state* does not have or cannot load."""
    yield from required.findings
    path = required.path or join(state.data_root, layout.REPOSITORIES)
    for image in required.images:
        if image.image_id is None:
            text = f"{image.service} runs {image.reference}, but the store has no image of that name"
            yield finding("unresolved-reference", path, text)
        elif not _loads(state, image.image_id):
            text = f"{image.service} runs {image.reference}, which is {image.image_id}, but the engine cannot load it"
            yield finding("image-does-not-load", path, text)


def _services(state: StoreState, required: RequiredImages) -> tuple[ServiceVerdict, ...]:
    """One missing image makes the whole lookup fail: see :class:`RequiredImages`."""
    found = [image.image_id is not None and _loads(state, image.image_id) for image in required.images]
    offline = all(found) and not any(one.severity is Severity.ERROR for one in required.findings)
    return tuple(ServiceVerdict(image.service, image.reference, image.image_id, offline) for image in required.images)


def _loads(state: StoreState, image_id: Digest) -> bool:
    image = state.images.get(image_id)
    return image is not None and image.usable


def _resolve(state: StoreState, reference: Reference) -> str | None:
    """The image id that the engine finds for *reference*; as in the engine, a digest takes precedence over a tag."""
    known = state.repositories.get(reference.familiar_name, {})
    wanted = reference if reference.digest is None else reference.with_digest(reference.digest)
    return known.get(wanted.familiar)
