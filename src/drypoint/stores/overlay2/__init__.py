"""The engine's store (overlay2) as values: what it holds, what it needs, and writing that into any tree. Knows no disk."""

from .extraction import AppliedLayer, apply_changes
from .identity import choose_cache_id, choose_link
from .imagedb import StoredImage
from .layerdb import StoredLayer
from .orphans import Orphans
from .placement import PlannedLayer, SharedLayer
from .reading import Finding, FindingCode
from .removal import KeptImage, Removal, RemovedImage
from .state import StoreState, read_state
from .store_plan import MAX_LAYERS, PlannedFile, StorePlan, plan_store
from .store_write import (
    LayerStream,
    OnLayer,
    OpenLayer,
    TarSplitContent,
    prepare_store,
    publish_images,
    remove_replaced,
    write_layer,
    write_store,
)
from .users import StoreUsers

__all__ = [
    "MAX_LAYERS",
    "AppliedLayer",
    "Finding",
    "FindingCode",
    "KeptImage",
    "LayerStream",
    "OnLayer",
    "OpenLayer",
    "Orphans",
    "PlannedFile",
    "PlannedLayer",
    "Removal",
    "RemovedImage",
    "SharedLayer",
    "StorePlan",
    "StoreState",
    "StoreUsers",
    "StoredImage",
    "StoredLayer",
    "TarSplitContent",
    "apply_changes",
    "choose_cache_id",
    "choose_link",
    "plan_store",
    "prepare_store",
    "publish_images",
    "read_state",
    "remove_replaced",
    "write_layer",
    "write_store",
]
