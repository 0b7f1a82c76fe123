"""What tells sizes: the index of layers, and the ends of compressed blobs."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from pathlib import Path

from drypoint.digest import Digest
from drypoint.sizing.layer_index import FILE_NAME, IndexedLayer, LayerIndex
from drypoint.sources.hints import blob_hint

from .target import PropertyError, Target

_DIFF_ID = Digest("sha256:" + "0" * 64)
_KIND = "ext4-4096-256-20-40-400"
_LAYER = IndexedLayer(10_240, 5, 40, 3)


def read_any_index(data: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="drypoint-fuzz-") as name:
        directory = Path(name)
        (directory / FILE_NAME).write_bytes(data)
        LayerIndex(directory).find(_DIFF_ID, _KIND)
        LayerIndex(directory).note({_DIFF_ID: _LAYER}, _KIND)
        found = LayerIndex(directory).find(_DIFF_ID, _KIND)
        if found is None or found.tar_bytes != _LAYER.tar_bytes or found.blocks < _LAYER.blocks:
            raise PropertyError(f"noted {_LAYER}, found {found}")


def look_into_any_blob(data: bytes) -> None:
    told = blob_hint(len(data), lambda offset, size: data[offset : offset + size])
    if told is not None and not len(data) - len(data) // 1000 - 64 <= told <= len(data) * 1030:
        raise PropertyError(f"{len(data)} bytes are told to be {told}")


def _indexes() -> Iterator[bytes]:
    yield b'{"format":1,"layers":[]}'
    yield f'{{"format":1,"layers":[["{_DIFF_ID}","{_KIND}",10240,5,40,3]]}}'.encode()


def _blobs() -> Iterator[bytes]:
    yield gzip.compress(bytes(2000), mtime=0)
    yield b"\x28\xb5\x2f\xfd\x60\x00\x20" + bytes(200)


TARGETS = (
    Target(
        "layer_index",
        read_any_index,
        _indexes,
        ("drypoint.sizing.layer_index",),
        (),
        tokens=(b'"format":1', b'"layers":['),
    ),
    Target("length_hint", look_into_any_blob, _blobs, ("drypoint.sources",), ()),
)
