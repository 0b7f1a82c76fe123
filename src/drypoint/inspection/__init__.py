"""What a disk image holds, as values and as a picture; nothing is changed, and nothing is verified (see verification)."""

from .disk import InspectedDisk, InspectedPartition, SpaceUsage, inspect_disk
from .store import InspectedContainer, InspectedImage, InspectedLayer, InspectedStore, inspect_store

__all__ = [
    "InspectedContainer",
    "InspectedDisk",
    "InspectedImage",
    "InspectedLayer",
    "InspectedPartition",
    "InspectedStore",
    "SpaceUsage",
    "inspect_disk",
    "inspect_store",
]
