"""Stores of container engines: what they hold, what is to be written to them, and one package for each kind.

Only :mod:`.detect` knows the kinds.
"""

from .contents import Names, Orphans, StoreContents, StoredImage, StoreFinding
from .detect import detect, load_store
from .interface import LayerStream, OnLayer, OpenLayer, ReadStore, Store, StorePlan, TarSplitContent
from .listing import ListedContainer, ListedImage, ListedLayer, StoreListing
from .planned import (
    AppliedLayer,
    KeptImage,
    LayerRecords,
    PlannedFile,
    PlannedLayer,
    Removal,
    RemovedImage,
    SharedLayer,
    StoreSpace,
)

__all__ = [
    "AppliedLayer",
    "KeptImage",
    "LayerRecords",
    "LayerStream",
    "ListedContainer",
    "ListedImage",
    "ListedLayer",
    "Names",
    "OnLayer",
    "OpenLayer",
    "Orphans",
    "PlannedFile",
    "PlannedLayer",
    "ReadStore",
    "Removal",
    "RemovedImage",
    "SharedLayer",
    "Store",
    "StoreContents",
    "StoreFinding",
    "StoreListing",
    "StorePlan",
    "StoreSpace",
    "StoredImage",
    "TarSplitContent",
    "detect",
    "load_store",
]
