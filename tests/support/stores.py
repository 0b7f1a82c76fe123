"""Engine stores in ext4 file systems, written without a registry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.ext4_images import make_ext4

from drypoint.digest import Digest
from drypoint.disk import Device, FileDevice
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.errors import VerificationError
from drypoint.fstree import Metadata, Regular
from drypoint.layers import LayerReader
from drypoint.oci import Image, parse_reference
from drypoint.oci.image import assemble_layers, parse_config
from drypoint.samples.applications import sample_images
from drypoint.samples.images import BuiltImage
from drypoint.samples.tools import run_tool
from drypoint.sinks.ext4 import Ext4Sink
from drypoint.stores import PlannedLayer
from drypoint.stores.overlay2 import StoreState, plan_store, read_state, write_store

_NOW = 1_700_000_000


def as_image(name: str, built: BuiltImage) -> Image:
    """*built* as resolved by a source for the tag *name*."""
    reference = parse_reference(name)
    config = parse_config(built.config, name)
    layers = assemble_layers(config, tuple(layer.descriptor for layer in built.layers), name)
    return Image((reference, reference.with_digest(built.digest)), config, layers, reference)


def fill_store(
    device: Device, data_root: bytes, images: Mapping[str, BuiltImage], files: Mapping[bytes, bytes] | None = None
) -> StoreState:
    """Write *images*, by name, to the store at *data_root*, and *files* to the file system.

    Raises:
        VerificationError: the tar of a layer is a file and not bytes.
    """
    tars: dict[Digest, bytes] = {}
    for image in images.values():
        for layer in image.layers:
            if not isinstance(layer.tar, bytes):
                raise VerificationError(f"the tar of {layer.diff_id} is no bytes")
            tars[layer.diff_id] = layer.tar

    @contextmanager
    def open_layer(planned: PlannedLayer) -> Iterator[LayerReader]:
        with LayerReader(iter((tars[planned.layer.diff_id],)), "layer") as reader:
            yield reader

    state = read_state(Ext4Reader(device), data_root)
    plan = plan_store(state, [as_image(name, image) for name, image in images.items()], timestamp=_NOW * 10**9)
    with Ext4Sink(device, now=_NOW) as sink:
        write_store(plan, sink, open_layer)
        for path, content in (files or {}).items():
            sink.add(Regular(path, Metadata(0o644), len(content)), (content,))
        sink.finish()
    return read_state(Ext4Reader(device), data_root)


def make_flawed_store(image: Path) -> Path:
    """A bare ext4 file system with the sample images in the store ``docker``; one file has a wrong mode."""
    make_ext4(image, 64 << 20)
    run_tool("debugfs", "-w", "-R", "mkdir docker", image)
    with FileDevice(image, writable=True) as device:
        state = fill_store(device, b"docker", sample_images())
    cache_id = next(iter(state.layers.values())).cache_id
    run_tool("debugfs", "-w", "-R", f"sif docker/overlay2/{cache_id}/diff mode 040700", image)
    return image
