"""Inspection: the content of a disk image as values and as a picture. It changes nothing, and verifies nothing."""

from .disk import InspectedDisk, InspectedPartition, SpaceUsage, inspect_disk

__all__ = [
    "InspectedDisk",
    "InspectedPartition",
    "SpaceUsage",
    "inspect_disk",
]
