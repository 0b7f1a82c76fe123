"""The engine's store (overlay2): reading it as a value, planning what to add, and writing that into any tree."""

from .extraction import apply_changes
from .identity import choose_cache_id, choose_link
from .layerdb import StoredLayer
from .placement import PlacedLayer
from .planned_store import StorePlan
from .state import StoreState, read_state
from .store import Overlay2
from .store_plan import MAX_LAYERS, plan_store
from .store_write import remove_replaced, write_store

__all__ = [
    "MAX_LAYERS",
    "Overlay2",
    "PlacedLayer",
    "StorePlan",
    "StoreState",
    "StoredLayer",
    "apply_changes",
    "choose_cache_id",
    "choose_link",
    "plan_store",
    "read_state",
    "remove_replaced",
    "write_store",
]
