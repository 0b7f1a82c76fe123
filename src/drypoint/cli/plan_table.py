"""The layers of a plan, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .. import Digest, Image, Layer, LayerSize, Plan, PlannedLayer, SharedLayer
from . import render

_SHORT = 12
"""Digits of an id, as ``docker images`` shows."""
_HEADER = ("layer", "compressed", "unpacked", "files")
_LEAST_NAME = 8


class LayerLine(msgspec.Struct, frozen=True):
    """One layer of one image.

    Attributes:
        planned: set if it is written.
        shared: set if the store has it.
        others: names of the other images that have it: those in the store if it is there, else those in the plan.
        is_first: whether this image is the first in the plan that has it.
    """

    layer: Layer
    planned: PlannedLayer | None
    shared: SharedLayer | None
    others: tuple[str, ...]
    is_first: bool


def show_layers(plan: Plan) -> None:
    """Each image's name, and its layers below it."""
    width = render.width()
    blocks = [(image, [(_cells(plan, line), line) for line in layer_lines(plan, image)]) for image in plan.images]
    rows = [cells for _, lines in blocks for cells, _ in lines]
    widths = [max(len(row[column]) for row in (_HEADER, *rows)) for column in range(len(_HEADER))]
    left = None if width is None else width - sum(widths) - 2 * len(widths)

    def show(row: tuple[str, ...], fate: str) -> None:
        first, *numbers = row
        aligned = [cell.rjust(size) for cell, size in zip(numbers, widths[1:], strict=True)]
        render.line("  ".join([first.ljust(widths[0]), *aligned, fate]).rstrip())

    show(_HEADER, "")
    for image, lines in blocks:
        state = "there already" if image.image_id in plan.store.known_images else "to be added"
        said = f"  ({_short(image.image_id)}, {state})"
        render.line(shortened(image_name(image), None if width is None else width - len(said)) + said)
        for cells, line in lines:
            show(cells, _fate(line, left))


def layer_lines(plan: Plan, image: Image) -> Iterator[LayerLine]:
    """The layers of *image*, base first."""
    planned_by_id = {planned.chain_id: planned for planned in plan.store.layers}
    shared_by_id = {shared.layer.chain_id: shared for shared in plan.store.shared}
    names = {other.image_id: image_name(other) for other in plan.images}
    stored = _stored_names(plan)
    for layer in image.layers:
        planned, shared = planned_by_id.get(layer.chain_id), shared_by_id.get(layer.chain_id)
        if planned is not None:
            ids, known = planned.images, names
        else:
            ids, known = shared.shared_with if shared is not None else (), stored
        others = tuple(known.get(image_id, image_id) for image_id in ids if image_id != image.image_id)
        yield LayerLine(layer, planned, shared, others, planned is not None and planned.images[0] == image.image_id)


def layer_object(plan: Plan, line: LayerLine) -> dict[str, object]:
    """A layer as ``plan --json`` prints it; documented in docs/reference/json.md."""
    layer = line.layer
    size = plan.sizes.get(layer.chain_id)
    return {
        "digest": layer.blob.digest,
        "diff_id": layer.diff_id,
        "chain_id": layer.chain_id,
        "media_type": layer.blob.media_type,
        "compressed_bytes": layer.blob.size,
        "present": line.planned is None,
        "shared_with": list(line.others),
        "size": None if size is None else _size_object(size),
    }


def image_name(image: Image) -> str:
    """The name of an image for display: its first one, or its id."""
    return image.references[0].familiar if image.references else image.image_id


def shortened(text: str, width: int | None) -> str:
    """*text*, without its middle if it has more than *width* characters: the ends of a name matter most."""
    if width is None or len(text) <= width:
        return text
    tail = max(0, (width - 1) // 2)
    return text[: max(0, width - 1 - tail)] + "…" + (text[-tail:] if tail else "")


def _short(digest: Digest) -> str:
    return digest.partition(":")[2][:_SHORT]


def _size_object(size: LayerSize) -> dict[str, object]:
    return {
        "found": size.found.name.lower(),
        "uncompressed_bytes": size.tar_bytes,
        "uncompressed_is_exact": size.tar_is_exact,
        "blocks": size.blocks,
        "inodes": size.inodes,
    }


def _cells(plan: Plan, line: LayerLine) -> tuple[str, ...]:
    unpacked, files = "", ""
    size = plan.sizes.get(line.layer.chain_id)
    if size is not None:
        unpacked = ("" if size.tar_is_exact else "~") + render.size(size.tar_bytes)
        files = ("" if size.is_exact else "~") + f"{size.inodes:,}"
    elif line.shared is not None:
        unpacked = render.size(line.shared.size)
    number = f"  {_short(line.layer.diff_id)}"
    return number, render.size(line.layer.blob.size), unpacked, files


def _fate(line: LayerLine, width: int | None) -> str:
    """What is done with the layer, and which images share it, in *width* columns; names are shortened first."""
    if line.planned is None:
        words = "there, in " if line.others else "there already"
    elif line.is_first:
        words = "to fetch, also for " if line.others else "to fetch"
    else:
        words = "shared with "
    if not line.others:
        return words
    more = f" and {len(line.others) - 1} more" if len(line.others) > 1 else ""
    left = None if width is None else max(_LEAST_NAME, width - len(words) - len(more))
    return words + shortened(line.others[0], left) + more


def _stored_names(plan: Plan) -> dict[Digest, str]:
    """A name of each image in the store: a tag where there is one."""
    found: dict[Digest, str] = {}
    for references in plan.state.names.values():
        for reference, image_id in sorted(references.items(), key=lambda item: "@" in item[0]):
            found.setdefault(Digest(image_id), reference)
    return found
