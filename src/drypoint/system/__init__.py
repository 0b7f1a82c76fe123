"""What the system on a disk image says of its engine: where its store is, and whether it will read one of overlay2."""

from .engine import Obstacle, StorePlace, find_store
from .settings import DEFAULT_DATA_ROOT

__all__ = ["DEFAULT_DATA_ROOT", "Obstacle", "StorePlace", "find_store"]
