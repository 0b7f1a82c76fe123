"""Chain-ids: the identity of a layer together with all layers below it.

Format: OCI image-spec, config.md, "Layer ChainID".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ..digest import Digest


def chain_ids(diff_ids: Iterable[Digest]) -> tuple[Digest, ...]:
    """The chain-id of each layer, base first: the base's is its diff-id."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(next_chain_id(chain[-1] if chain else None, diff_id))
    return tuple(chain)


def next_chain_id(parent: Digest | None, diff_id: Digest) -> Digest:
    """The chain-id of the layer *diff_id* on top of the chain *parent* (None for a base layer)."""
    if parent is None:
        return diff_id
    return Digest("sha256:" + hashlib.sha256(f"{parent} {diff_id}".encode("ascii")).hexdigest())
