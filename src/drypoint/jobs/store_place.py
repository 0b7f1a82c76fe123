"""The data root that a target means, refused where the engine would not read it."""

from __future__ import annotations

from ..errors import StoreError
from ..progress import Progress
from ..system import StorePlace, find_store
from ..volumes.target import Target
from ..volumes.volume import PartitionVolume


def usable_store(volume: PartitionVolume, target: Target, progress: Progress) -> StorePlace:
    """Where the store of *target* is in *volume*; what is not known for certain is a note.

    Raises:
        StoreError: the engine would not read what is put there, or not start on it.
        DiskImageError: the partition cannot be read.
    """
    place = find_store(volume, target.data_root)
    if place.obstacles:
        raise StoreError(f"{volume.disk.device.name}: " + ". ".join(str(obstacle) for obstacle in place.obstacles))
    for warning in place.warnings:
        progress.note(f"warning: {warning}")
    if target.data_root is None and place.source is not None:
        shown = place.data_root.decode("utf-8", "backslashreplace")
        progress.note(f"the data root is {shown!r}, as {place.source.source} says")
    return place
