"""The state of a store as JSON, to be kept with a disk image: the fields of :class:`.StoreState`, with paths in base64."""

from __future__ import annotations

from typing import get_args

import msgspec

from ...decoders import json_decoder
from ...digest import parse_digest
from ...errors import ContentError
from ...fstree import clean_path
from .findings import FindingCode
from .identity import CACHE_ID, LINK
from .state import StoreState

_CODES = frozenset(get_args(FindingCode))


def dump_state(state: StoreState) -> bytes:
    """One JSON object; the same state gives the same bytes."""
    return msgspec.json.encode(state, order="deterministic")


def load_state(content: bytes | memoryview) -> StoreState:
    """Read what :func:`dump_state` has written.

    Raises:
        ContentError: *content* is not that, or is damaged.
    """
    try:
        state = json_decoder(StoreState).decode(content)
        _check(state)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise ContentError(f"in its store: {error}") from error
    return state


def _check(state: StoreState) -> None:
    """Check the values that become part of paths, and the numbers."""
    if not 0 <= state.above < 1 << 62:
        raise ValueError("a number in it is out of range")
    for path in (state.data_root, *state.directories):
        if clean_path(path) != path:
            raise ValueError(f"{path[:200]!r} is not a clean path")
    for chain_id, layer in state.layers.items():
        if parse_digest(chain_id) != layer.chain_id:
            raise ValueError(f"the layer {chain_id} calls itself {layer.chain_id[:100]!r}")
        words = [word for word in (layer.cache_id,) if word is not None and CACHE_ID.fullmatch(word) is None]
        words += [word for word in (layer.link, *layer.lower) if word is not None and LINK.fullmatch(word) is None]
        if words:
            raise ValueError(f"the layer {chain_id} has the name {words[0][:100]!r}, which no engine gives")
    for digest in (*state.images, *state.damaged_configs, *state.users.updated, *state.users.annotated):
        parse_digest(digest)
    for name in (*state.cache_names, *state.links):
        if "/" in name or "\0" in name or name in ("", ".", ".."):
            raise ValueError(f"{name[:100]!r} is not a name of a file")
    for finding in state.findings:
        if finding.code not in _CODES:
            raise ValueError(f"{finding.code[:100]!r} is not the code of a finding")
