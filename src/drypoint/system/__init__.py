"""The engine's configuration in the system on a disk image: where its store is, and whether it will use overlay2."""

from .engine import Obstacle, StorePlace, find_store
from .roots import root_directories

__all__ = ["Obstacle", "StorePlace", "find_store", "root_directories"]
