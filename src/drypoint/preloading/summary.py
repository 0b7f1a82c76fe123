"""A plan in a line."""

from __future__ import annotations

from collections import Counter

from ..progress import human_size
from .gathering import Plan
from .sizes import Found


def summary(plan: Plan) -> str:
    """What is fetched, what room it takes and how that was found, and how far the partition grows."""
    if plan.is_empty:
        return "nothing to do: the disk image holds all of it"
    layers = f"{len(plan.store.layers)} of {len(plan.store.layers) + len(plan.store.shared)} layers to fetch"
    needed = human_size(plan.room.blocks * plan.block_size)
    parts = [f"{layers} ({human_size(plan.store.fetch_bytes)})", f"room needed: {needed} ({how_found(plan)})"]
    if plan.growth is not None and plan.growth.partition_size > plan.partition.size:
        before, after = human_size(plan.partition.size), human_size(plan.growth.partition_size)
        parts.append(f"partition {plan.partition.number} grows from {before} to {after}")
    return "; ".join(parts)


def how_found(plan: Plan) -> str:
    """Whether the room is exact or estimated, and from what."""
    if plan.is_exact:
        return "exact: all layers were seen before" if plan.sizes else "exact: no layer is written"
    counts = Counter(size.found for size in plan.sizes.values())
    told = [
        f"{counts[found]} {'layer' if counts[found] == 1 else 'layers'} {_WORDS[found]}"
        for found in Found
        if counts[found]
    ]
    return "estimated: " + ", ".join(told)


_WORDS = {
    Found.SEEN: "seen before",
    Found.TAR: "by the tar's length",
    Found.HINT: "by the length that the blob tells",
    Found.GUESS: "by compressed size",
}
