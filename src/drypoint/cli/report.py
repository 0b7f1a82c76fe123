"""Plans and results as people and programs read them."""

from __future__ import annotations

from ..digest import Digest
from ..oci import Image, Layer
from ..preloading import Plan, Result
from . import render

_SHORT = 19
"""``sha256:`` and twelve digits, as ``docker images`` shows."""


def show_plan(plan: Plan) -> None:
    """The plan as a table of images and layers, and what it comes to."""
    written = {planned.layer.chain_id for planned in plan.store.layers}
    rows: list[tuple[str, str, str, str]] = []
    for image in plan.images:
        known = image.image_id in plan.store.known_images
        rows.append((_name(image), image.image_id[:_SHORT], "", "there already" if known else "to be added"))
        rows += [
            (
                f"  layer {number}",
                layer.diff_id[:_SHORT],
                render.size(layer.blob.size),
                _fate(plan, image, layer, written),
            )
            for number, layer in enumerate(image.layers, 1)
        ]
    render.table(("image", "id", "compressed", ""), rows, right=frozenset({2}))
    render.line()
    render.line(f"to fetch: {render.size(plan.store.fetch_bytes)} in {len(plan.store.layers)} layers")
    render.line(f"shared with what is there: {len(plan.store.shared)} layers ({render.size(plan.store.shared_bytes)})")
    show_removal(plan)
    needed, free = plan.room.blocks * plan.block_size, max(plan.free.blocks, 0) * plan.block_size
    render.line(f"room needed (estimated from compressed sizes): {render.size(needed)}; free: {render.size(free)}")
    show_orphans(plan)
    show_findings(plan)


def show_result(result: Result) -> None:
    """What was done, in a few lines."""
    plan = result.plan
    for image in plan.images:
        state = "was there already" if image.image_id in plan.store.known_images else "added"
        render.line(f"{_name(image)}  {image.image_id[:_SHORT]}  {state}")
    show_removal(plan)
    inodes = sum(layer.applied.inodes for layer in result.layers)
    size = sum(layer.applied.size for layer in result.layers)
    render.line(
        f"{len(result.layers)} layers written ({inodes} inodes, {render.size(size)}), {len(plan.store.shared)} shared with "
        f"what was there; {render.size(plan.store.fetch_bytes)} fetched"
    )
    before, after = plan.partition.size, result.partition.size
    growth = (
        f"grew from {render.size(before)} to {render.size(after)}" if after > before else f"has {render.size(after)}"
    )
    render.line(f"partition {result.partition.number} {growth}")
    show_orphans(plan)
    show_findings(plan)
    render.line(f"wrote {result.output}")


def show_removal(plan: Plan) -> None:
    """What goes because it is replaced, and what stays although it was to go."""
    removal = plan.store.removal
    for gone in removal.images:
        render.line(f"replaced: {gone.image_id[:_SHORT]} ({', '.join(gone.references)})")
    for kept in removal.kept:
        render.line(f"kept: {kept.image_id[:_SHORT]} ({kept.reference}): {kept.reason}")
    if removal.images:
        render.line(f"removed: {len(removal.layers)} layers ({render.size(removal.freed_bytes)})")


def show_orphans(plan: Plan) -> None:
    """What takes room in the store and serves nothing."""
    orphans = plan.store.orphans
    for directory in orphans.directories:
        render.line(f"orphan: overlay2/{directory}: no layer has it; balenaEngine removes it when it starts")
    for chain_id in orphans.layers:
        render.line(f"orphan: layer {chain_id}: no image has it")
    for image_id in orphans.images:
        render.line(f"orphan: image {image_id}: it has no name")


def show_findings(plan: Plan) -> None:
    """What is wrong with the store that was there; it is left as it is."""
    for finding in plan.state.findings:
        path = finding.path.decode("utf-8", "backslashreplace")
        render.warning(f"in the store on the disk image: {path}: {finding.text} ({finding.code})")


def plan_object(plan: Plan) -> dict[str, object]:
    """The plan as ``plan --json`` prints it; documented in docs/reference/json.md."""
    written = {planned.layer.chain_id for planned in plan.store.layers}
    return {
        "images": [
            {
                "references": [reference.familiar for reference in image.references],
                "id": image.image_id,
                "platform": str(image.config.platform),
                "present": image.image_id in plan.store.known_images,
                "layers": [
                    {
                        "digest": layer.blob.digest,
                        "diff_id": layer.diff_id,
                        "chain_id": layer.chain_id,
                        "media_type": layer.blob.media_type,
                        "compressed_bytes": layer.blob.size,
                        "present": layer.chain_id not in written,
                    }
                    for layer in image.layers
                ],
            }
            for image in plan.images
        ],
        "fetch_bytes": plan.store.fetch_bytes,
        "shared_bytes": plan.store.shared_bytes,
        "partition": {"number": plan.partition.number, "start": plan.partition.start, "size": plan.partition.size},
        "room": {
            "estimated": True,
            "needed_bytes": plan.room.blocks * plan.block_size,
            "needed_inodes": plan.room.inodes,
            "free_bytes": max(plan.free.blocks, 0) * plan.block_size,
            "free_inodes": plan.free.inodes,
        },
        "removal": {
            "images": [
                {"id": gone.image_id, "references": list(gone.references)} for gone in plan.store.removal.images
            ],
            "kept": [
                {"id": kept.image_id, "reference": kept.reference, "reason": kept.reason}
                for kept in plan.store.removal.kept
            ],
            "layers": list(plan.store.removal.layers),
            "freed_bytes": plan.store.removal.freed_bytes,
        },
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


def _fate(plan: Plan, image: Image, layer: Layer, written: set[Digest]) -> str:
    if layer.chain_id not in written:
        return "there already"
    planned = next(planned for planned in plan.store.layers if planned.chain_id == layer.chain_id)
    first = planned.images[0]
    if first == image.image_id:
        return "to be written"
    owner = next(other for other in plan.images if other.image_id == first)
    return f"shared with {_name(owner)}"


def _name(image: Image) -> str:
    return image.references[0].familiar if image.references else image.image_id
