"""Stores of container engines: their contents, plans for writing to them, and one package for each kind.

Only :mod:`.detect` refers to the kinds.
"""

from .checked import KeptLayer, StoreCheck
from .contents import Names, Orphans, StoreContents, StoredImage, StoreFinding
from .detect import FINDING_KINDS, detect, load_store
from .finding_kinds import Kind, Severity
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
    "FINDING_KINDS",
    "AppliedLayer",
    "KeptImage",
    "KeptLayer",
    "Kind",
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
    "Severity",
    "SharedLayer",
    "Store",
    "StoreCheck",
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
