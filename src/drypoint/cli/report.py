"""Plans and results as text and as JSON."""

from __future__ import annotations

from .. import Growth, Partition, Plan, Removal, Result, how_found
from ..progress import counted
from . import render
from .plan_table import image_name, layer_lines, layer_object, show_layers

_SHORT = 19
"""``sha256:`` and twelve digits, as ``docker images`` shows."""
_INSIDE = " of the disk image inside"


def show_plan(plan: Plan) -> None:
    """The plan as a table of images and layers, and its totals."""
    store = plan.store
    show_layers(plan)
    render.line()
    count = len(store.layers)
    render.line(f"to fetch: {render.size(store.fetch_bytes)} in {counted(count, 'layer')}")
    count = len(store.shared)
    render.line(f"there already: {counted(count, 'layer')} ({render.size(store.shared_bytes)})")
    show_removal(plan)
    needed, free = plan.space, plan.free
    render.line(f"space needed: {render.size(needed.blocks * plan.block_size)} and {needed.inodes:,} inodes")
    render.line(f"  {how_found(plan)}")
    render.line(f"space free: {render.size(max(free.blocks, 0) * plan.block_size)} and {free.inodes:,} inodes")
    _show_growth(plan)
    show_orphans(plan)
    show_findings(plan)


def _show_growth(plan: Plan) -> None:
    if plan.outer is None:
        _show_growth_of(plan, plan.partition, plan.growth, "", "disk image")
    else:
        _show_growth_of(plan, plan.partition, plan.growth, _INSIDE, "disk image inside")
        _show_growth_of(plan, plan.outer.partition, plan.outer.growth, " around it", "disk image")


def _show_growth_of(plan: Plan, partition: Partition, growth: Growth | None, where: str, disk: str) -> None:
    what, size = f"partition {partition.number}{where}", render.size(partition.size)
    if growth is None:
        render.line(f"{what}: {size}; how far it grows depends on what is removed first")
    elif growth.partition_size == partition.size:
        render.line(f"{what}: stays at {size}")
    else:
        about = "" if plan.is_exact else "about "
        why = " (for the inodes)" if growth.for_inodes else ""
        render.line(f"{what}: grows from {size} to {about}{render.size(growth.partition_size)}{why}")
        render.line(f"{disk}: becomes {about}{render.size(growth.disk_size)}")


def show_result(result: Result) -> None:
    """The result of a job, in a few lines."""
    plan = result.plan
    for image in plan.images:
        state = "was there already" if image.image_id in plan.store.known_images else "added"
        render.line(f"{image_name(image)}  {image.image_id[:_SHORT]}  {state}")
    show_removal(plan)
    if plan.images:
        layers = counted(len(result.layers), "layer")
        inodes = sum(layer.applied.inodes for layer in result.layers)
        size = sum(layer.applied.size for layer in result.layers)
        render.line(
            f"{layers} written ({inodes} inodes, {render.size(size)}), {len(plan.store.shared)} shared "
            f"with the store; {render.size(plan.store.fetch_bytes)} fetched"
        )
        before, after = plan.partition.size, result.partition.size
        grew = f"grew from {render.size(before)} to {render.size(after)}"
        what = f"partition {result.partition.number}{'' if plan.outer is None else _INSIDE}"
        render.line(f"{what} {grew if after > before else f'has {render.size(after)}'}")
    for file in result.fat_files:
        render.line(f"partition {file.partition}: {file.path} ({render.size(len(file.content))})")
    show_orphans(plan)
    show_findings(plan)
    render.line(f"wrote {result.output}")


def show_removal(plan: Plan) -> None:
    """The images that are replaced, and those that are kept."""
    removal = plan.store.removal
    for gone in removal.images:
        render.line(f"replaced: {gone.image_id[:_SHORT]} ({', '.join(gone.references)})")
    for kept in removal.kept:
        render.line(f"kept: {kept.image_id[:_SHORT]} ({kept.reference}): {kept.reason}")
    if removal.images:
        render.line(f"removed: {len(removal.layers)} layers ({render.size(removal.freed_bytes)})")


def show_orphans(plan: Plan) -> None:
    """The contents of the store that take space and are not used."""
    orphans = plan.store.orphans
    for directory in orphans.directories:
        render.line(f"orphan: {orphans.place}/{directory}: not used by any layer; {orphans.fate}")
    for chain_id in orphans.layers:
        render.line(f"orphan: layer {chain_id}: not used by any image")
    for image_id in orphans.images:
        render.line(f"orphan: image {image_id}: it has no name")


def show_findings(plan: Plan) -> None:
    """The problems of the store on the base, which is not changed."""
    for finding in plan.state.findings:
        path = finding.path.decode("utf-8", "backslashreplace")
        render.warning(f"in the store on the disk image: {path}: {finding.text} ({finding.code})")


def plan_object(plan: Plan) -> dict[str, object]:
    """The plan as ``plan --json`` prints it; documented in docs/reference/json.md."""
    return {
        "images": [
            {
                "references": [reference.familiar for reference in image.references],
                "id": image.image_id,
                "platform": str(image.config.platform),
                "present": image.image_id in plan.store.known_images,
                "layers": [layer_object(plan, line) for line in layer_lines(plan, image)],
            }
            for image in plan.images
        ],
        "fetch_bytes": plan.store.fetch_bytes,
        "shared_bytes": plan.store.shared_bytes,
        "partition": _partition_object(plan.partition),
        "room": _space_object(plan),
        "growth": _growth_object(plan.growth),
        "outer": None
        if plan.outer is None
        else {
            "partition": _partition_object(plan.outer.partition),
            "growth": _growth_object(plan.outer.growth),
        },
        "removal": _removal_object(plan.store.removal),
        "orphans": {
            "directories": list(plan.store.orphans.directories),
            "layers": list(plan.store.orphans.layers),
            "images": list(plan.store.orphans.images),
        },
        "findings": [
            {"code": finding.code, "path": finding.path.decode("utf-8", "backslashreplace"), "text": finding.text}
            for finding in plan.state.findings
        ],
    }


def _partition_object(partition: Partition) -> dict[str, object]:
    return {"number": partition.number, "start": partition.start, "size": partition.size}


def _growth_object(growth: Growth | None) -> dict[str, object] | None:
    return None if growth is None else {"partition_bytes": growth.partition_size, "disk_bytes": growth.disk_size}


def _space_object(plan: Plan) -> dict[str, object]:
    return {
        "estimated": not plan.is_exact,
        "found": how_found(plan),
        "needed_bytes": plan.space.blocks * plan.block_size,
        "needed_inodes": plan.space.inodes,
        "free_bytes": max(plan.free.blocks, 0) * plan.block_size,
        "free_inodes": plan.free.inodes,
    }


def _removal_object(removal: Removal) -> dict[str, object]:
    return {
        "images": [{"id": gone.image_id, "references": list(gone.references)} for gone in removal.images],
        "kept": [{"id": kept.image_id, "reference": kept.reference, "reason": kept.reason} for kept in removal.kept],
        "layers": list(removal.layers),
        "freed_bytes": removal.freed_bytes,
    }
