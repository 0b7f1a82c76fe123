"""The data root of a target, refused if the engine would not use it."""

from __future__ import annotations

from ..errors import StoreError
from ..progress import Progress
from ..system import StorePlace, find_store
from ..volumes.target import Target
from ..volumes.volume import PartitionVolume


def usable_store(volume: PartitionVolume, target: Target, progress: Progress) -> StorePlace:
    """The place of the store of *target* in *volume*; uncertainties become notes.

    Raises:
        StoreError: the engine would not use a store there, or not start with it.
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
