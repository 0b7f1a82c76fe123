"""Finding out the kind of a store: the only module that refers to every kind."""

from __future__ import annotations

from .finding_kinds import Kind
from .interface import ReadStore, Store
from .overlay2.findings import KINDS
from .overlay2.state_json import load_state
from .overlay2.store import Overlay2, Overlay2Store

FINDING_KINDS: dict[str, Kind] = KINDS
"""The kinds of findings of all kinds of stores."""


def detect(data_root: bytes) -> Store:
    """The store that the engine with the data root *data_root*, a clean path of a tree, reads.

    It is overlay2: :func:`drypoint.system.find_store` refuses disk images whose engine has another one.
    """
    return Overlay2(data_root)


def load_store(content: bytes | memoryview) -> ReadStore:
    """Read what :meth:`.ReadStore.dump` has written.

    Raises:
        ContentError: *content* is not that, or is damaged.
    """
    return Overlay2Store.of(load_state(content))
