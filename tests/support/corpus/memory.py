"""Preloading an image into a tree in memory, without a registry or a disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.corpus.case import SECONDS

from drypoint.layers import LayerReader, tar_chunks
from drypoint.oci import Image, Manifest, Reference, assemble_layers, parse_config, parse_manifest
from drypoint.samples.images import BuiltImage, blob_chunks
from drypoint.sinks.memory import MemoryTree
from drypoint.stores import PlannedLayer
from drypoint.stores.overlay2 import StoreState, plan_store, write_store

_REPOSITORY = Reference("docker.io", "corpus")


def preload_into_memory(built: BuiltImage) -> MemoryTree:
    """The store, in ``docker/``, with only the image *built*.

    Raises:
        DrypointError: engines do not accept the image.
    """
    manifest = parse_manifest(built.manifest, built.media_type, "image")
    assert isinstance(manifest, Manifest)
    config = parse_config(built.config, "image")
    layers = assemble_layers(config, manifest.layers, "image")
    image = Image((_REPOSITORY.with_digest(built.digest),), config, layers, _REPOSITORY)
    plan = plan_store(StoreState(b"docker"), [image], timestamp=SECONDS * 1_000_000_000)
    tree = MemoryTree()

    @contextmanager
    def open_layer(planned: PlannedLayer) -> Iterator[LayerReader]:
        blob = blob_chunks(built.blobs[planned.layer.blob.digest])
        chunks = tar_chunks(blob, planned.layer, f"layer {planned.layer.blob.digest}")
        try:
            with LayerReader(chunks, f"layer {planned.layer.blob.digest}") as reader:
                yield reader
        finally:
            chunks.close()

    write_store(plan, tree, open_layer)
    tree.finish()
    return tree
