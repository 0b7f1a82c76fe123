"""What a disk image holds, as values and as a picture; nothing is changed, and nothing is verified (see verification)."""

from .disk import InspectedDisk, InspectedPartition, SpaceUsage, inspect_disk

__all__ = [
    "InspectedDisk",
    "InspectedPartition",
    "SpaceUsage",
    "inspect_disk",
]
