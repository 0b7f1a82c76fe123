"""The engine's configuration in the system on a disk image: where its store is, and whether it will use overlay2."""

from .engine import Obstacle, StorePlace, find_store
from .roots import root_directories
from .settings import DEFAULT_DATA_ROOT

__all__ = ["DEFAULT_DATA_ROOT", "Obstacle", "StorePlace", "find_store", "root_directories"]
