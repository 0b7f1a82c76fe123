"""The use case: images from sources into the engine's store on a disk image, wherever on it that lies."""

from ..system import DEFAULT_DATA_ROOT
from .forecast import Growth
from .gathering import Plan, plan
from .request import DEFAULT_PARTITION, ExtraFile, FindReplaced, ImageRequest, Target
from .room import Room
from .run import Result, preload
from .seen import LayerIndex
from .sizes import Found, LayerSize
from .summary import how_found, summary
from .writing import WrittenLayer

__all__ = [
    "DEFAULT_DATA_ROOT",
    "DEFAULT_PARTITION",
    "ExtraFile",
    "FindReplaced",
    "Found",
    "Growth",
    "ImageRequest",
    "LayerIndex",
    "LayerSize",
    "Plan",
    "Result",
    "Room",
    "Target",
    "WrittenLayer",
    "how_found",
    "plan",
    "preload",
    "summary",
]
