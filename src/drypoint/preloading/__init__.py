"""The use case: images from sources into the engine's store on a disk image, wherever on it that lies."""

from .gathering import Plan, plan
from .request import DEFAULT_DATA_ROOT, DEFAULT_PARTITION, ExtraFile, FindReplaced, ImageRequest, Target
from .room import Room
from .run import Result, preload
from .writing import WrittenLayer

__all__ = [
    "DEFAULT_DATA_ROOT",
    "DEFAULT_PARTITION",
    "ExtraFile",
    "FindReplaced",
    "ImageRequest",
    "Plan",
    "Result",
    "Room",
    "Target",
    "WrittenLayer",
    "plan",
    "preload",
]
