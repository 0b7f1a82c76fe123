"""Verify a whole store: its files against each other, and every layer against its tar."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator

from ..concurrency.pool import ordered_map
from ..digest import Digest
from ..fstree import TreeReader
from ..oci import Reference
from ..stores import KeptLayer, Severity, StoreContents, detect
from .finding import Finding, ImageVerdict, Report, ServiceVerdict, by_weight, finding
from .layer import LayerResult, check_layer
from .processes import LayerProcesses
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
    store = detect(data_root).read(reader)
    stored = store.contents
    checked = store.check(reader)
    findings = [finding(one.code, one.path, one.text) for one in checked.findings]
    if not stored.exists:
        findings.append(finding("no-store", data_root, "there is no engine's store here"))
    results = _check_layers(
        reader, [one for one in checked.layers if layers is None or one.chain_id in layers], threads, processes
    )
    for result in results:
        findings.extend(result.findings)
    findings.extend(_references(stored, references))
    services: tuple[ServiceVerdict, ...] = ()
    if required_images is not None:
        wanted = required_images(reader, stored.names)
        findings.extend(missing_images(wanted, stored))
        services = _services(stored, wanted)
    return Report(
        findings=tuple(sorted(findings, key=by_weight)),
        images=_verdicts(stored),
        layers=len(results),
        tar_bytes=sum(result.tar_bytes for result in results),
        services=services,
    )


def _check_layers(
    reader: TreeReader, layers: list[KeptLayer], threads: int | None, processes: LayerProcesses | None
) -> list[LayerResult]:
    # The largest first, so that no thread runs alone at the end.
    layers.sort(key=lambda layer: layer.size or 0, reverse=True)
    if processes is not None and processes.worthwhile(layers):
        return processes.check(layers)
    workers = threads or os.cpu_count() or 1
    return list(ordered_map(lambda layer: check_layer(reader, layer), layers, workers, "layer"))


def _verdicts(stored: StoreContents) -> tuple[ImageVerdict, ...]:
    names: dict[str, list[str]] = {}
    for references in stored.names.values():
        for reference, image_id in references.items():
            names.setdefault(image_id, []).append(reference)
    return tuple(
        ImageVerdict(image_id, tuple(sorted(names.get(image_id, []))), image.usable)
        for image_id, image in sorted(stored.images.items())
    )


def _references(stored: StoreContents, references: Iterable[Reference]) -> Iterator[Finding]:
    path = stored.names_path
    for reference in references:
        image_id = stored.find(reference)
        if image_id is None:
            yield finding("unresolved-reference", path, f"the store has no image named {reference}")
        elif not stored.loads(image_id):
            yield finding("image-does-not-load", path, f"{reference} names {image_id}, which the engine cannot load")


def missing_images(required: RequiredImages, stored: StoreContents) -> Iterator[Finding]:
    """The findings of *required*, and those of its images that the store, *stored*, does not have or cannot load."""
    yield from required.findings
    path = required.path or stored.names_path
    for image in required.images:
        if image.image_id is None:
            text = f"{image.service} runs {image.reference}, but the store has no image of that name"
            yield finding("unresolved-reference", path, text)
        elif not stored.loads(image.image_id):
            text = f"{image.service} runs {image.reference}, which is {image.image_id}, but the engine cannot load it"
            yield finding("image-does-not-load", path, text)


def _services(stored: StoreContents, required: RequiredImages) -> tuple[ServiceVerdict, ...]:
    """One missing image makes the whole lookup fail: see :class:`RequiredImages`."""
    found = [image.image_id is not None and stored.loads(image.image_id) for image in required.images]
    offline = all(found) and not any(one.severity is Severity.ERROR for one in required.findings)
    return tuple(ServiceVerdict(image.service, image.reference, image.image_id, offline) for image in required.images)
