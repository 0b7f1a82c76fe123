"""The layers of a store whose content can be verified."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ...digest import Digest
from ...fstree import Content, TreeSink, join
from ...layers.change import Change
from ..planned import AppliedLayer
from . import paths as layout
from .extraction import apply_changes
from .state import StoreState


class KeptLayer(msgspec.Struct, frozen=True):
    """A :class:`drypoint.stores.KeptLayer`."""

    chain_id: Digest
    diff_id: Digest
    size: int | None
    files: bytes
    tar_split: bytes
    size_file: bytes

    def unpack(self, changes: Iterable[tuple[Change, Content | None]], sink: TreeSink, timestamp: int) -> AppliedLayer:
        return apply_changes(changes, sink, b"", timestamp, f"layer {self.chain_id}")


def kept_layers(state: StoreState) -> tuple[KeptLayer, ...]:
    """The layers that have the files needed for it; the state's findings report what others lack."""
    return tuple(
        KeptLayer(
            layer.chain_id,
            layer.diff_id,
            layer.size,
            join(state.data_root, layout.cache_path(layer.cache_id), b"diff"),
            join(state.data_root, layout.layer_path(layer.chain_id), b"tar-split.json.gz"),
            join(state.data_root, layout.layer_path(layer.chain_id), b"size"),
        )
        for layer in state.layers.values()
        if layer.diff_id is not None
        and layer.cache_id is not None
        and layer.has_tar_split
        and layer.cache_id in state.cache_names
    )
