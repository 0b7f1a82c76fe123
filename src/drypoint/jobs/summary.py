"""The one-line summary of a plan."""

from __future__ import annotations

from collections import Counter

from ..disk import Partition
from ..progress import counted, human_size
from ..sizing.growth_forecast import Growth
from ..sizing.layer_sizes import Found
from .plan import Plan


def summary(plan: Plan) -> str:
    """The bytes to fetch, the space with its source, and the growth of the partition."""
    if plan.is_empty:
        return "nothing to do: the disk image holds all of it"
    layers = f"{len(plan.store.layers)} of {len(plan.store.layers) + len(plan.store.shared)} layers to fetch"
    needed = human_size(plan.space.blocks * plan.block_size)
    parts = [f"{layers} ({human_size(plan.store.fetch_bytes)})", f"space needed: {needed} ({how_found(plan)})"]
    inside = "" if plan.outer is None else " of the disk image inside"
    parts += _growth(plan.partition, plan.growth, inside)
    if plan.outer is not None:
        parts += _growth(plan.outer.partition, plan.outer.growth, " around it")
    return "; ".join(parts)


def _growth(partition: Partition, growth: Growth | None, where: str) -> list[str]:
    if growth is None or growth.partition_size <= partition.size:
        return []
    before, after = human_size(partition.size), human_size(growth.partition_size)
    return [f"partition {partition.number}{where} grows from {before} to {after}"]


def how_found(plan: Plan) -> str:
    """Whether the space is exact or estimated, and from what."""
    if plan.is_exact:
        return "exact: all layers were seen before" if plan.sizes else "exact: no layer is written"
    counts = Counter(size.found for size in plan.sizes.values())
    parts = [f"{counted(counts[found], 'layer')} {_WORDS[found]}" for found in Found if counts[found]]
    return "estimated: " + ", ".join(parts)


_WORDS = {
    Found.SEEN: "seen before",
    Found.TAR: "by the tar's length",
    Found.HINT: "by the length that the blob gives",
    Found.GUESS: "by compressed size",
}
