"""The lower part of the picture: images side by side, each a stack of layers, with shared layers as bands across them."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Sequence

from ..digest import Digest, hex_of
from ..progress import human_size
from ..stores import ListedImage, StoreListing
from .layer_tree import Band, Columns, arrange
from .svg import Canvas, TextStyle

GREY = "#b6bcc3"
_DAMAGED = 'stroke="#d1242f" stroke-width="1.5" stroke-dasharray="4 3"'
_STACK = 400.0
_TALLEST_LAYER = 150.0
_LEAST_LAYER = 16.0
_THINNEST_LAYER = 5.0
_LABELLED = 12.5
_COLUMN = (34.0, 320.0)
_ORPHAN_COLUMN = 150.0
_MOST_ORPHANS = 16
_KEY = 1120.0
_ROW = 19.0


def columns_of(store: StoreListing) -> Columns:
    return arrange(store)


def width_of(columns: Columns, store: StoreListing, least: float) -> float:
    """The width of the map, at least *least*."""
    orphans = _ORPHAN_COLUMN + 24 if _orphans(store) else 0
    return max(least, len(columns.images) * _COLUMN[0] + orphans)


def draw_layers(canvas: Canvas, store: StoreListing, columns: Columns, x: float, y: float, width: float) -> float:
    """Draw the map, and below it the images by number; returns the y below them."""
    orphans = _orphans(store)
    for_images = width - (_ORPHAN_COLUMN + 24 if orphans else 0)
    column = min(max(for_images / max(len(columns.images), 1), _COLUMN[0]), _COLUMN[1])
    heights = _heights(columns.bands)
    tops = _tops(columns.bands, heights)
    tallest = max([*tops.values(), 0.0])
    tallest = max(tallest, _LEAST_LAYER * min(len(orphans), _MOST_ORPHANS) if orphans else 0.0)
    floor = y + tallest
    unnamed = set(store.orphans.images)
    for band in columns.bands:
        serving = columns.images[band.first : band.last + 1]
        grey = all(image.image_id in unnamed for image in serving)
        left = x + band.first * column
        taken = (band.last - band.first + 1) * column
        top, height = floor - tops[band.node.chain_id], heights[band.node.chain_id]
        _draw_band(canvas, band, serving, (left, top, taken, height), grey=grey)
    right = x + len(columns.images) * column
    if columns.images:
        canvas.line(x, floor + 1.5, right, floor + 1.5)
    for index, image in enumerate(columns.images):
        _draw_foot(canvas, index, image, x + index * column, floor, column)
    if orphans:
        _draw_orphans(canvas, orphans, right + 24, floor)
    return _draw_key(canvas, store, columns, x, floor + 56, min(width, _KEY))


def _heights(bands: Sequence[Band]) -> dict[Digest, float]:
    """Heights in proportion to the square root of the size, scaled so that the tallest stack has about the intended height."""
    roots = {band.node.chain_id: band.node.size**0.5 for band in bands}
    deepest = max((band.depth + 1 for band in bands), default=1)
    least = max(min(_LEAST_LAYER, _STACK / deepest), _THINNEST_LAYER)
    low, high = 0.0, _TALLEST_LAYER / max([*roots.values(), 1.0])
    for _ in range(40):
        middle = (low + high) / 2
        tallest = max(_tops(bands, {key: max(least, middle * root) for key, root in roots.items()}).values(), default=0)
        if tallest > _STACK:
            high = middle
        else:
            low = middle
    return {key: max(least, high * root) for key, root in roots.items()}


def _tops(bands: Sequence[Band], heights: dict[Digest, float]) -> dict[Digest, float]:
    """The height of the upper edge of each layer above the floor."""
    tops: dict[Digest, float] = {}
    for band in bands:
        below = tops[band.parent.node.chain_id] if band.parent is not None else 0.0
        tops[band.node.chain_id] = below + heights[band.node.chain_id]
    return tops


def _draw_band(
    canvas: Canvas,
    band: Band,
    serving: Sequence[ListedImage],
    place: tuple[float, float, float, float],
    *,
    grey: bool,
) -> None:
    left, top, taken, height = place
    layer = band.node.layer
    size = human_size(layer.size) if layer is not None and layer.size is not None else "size unknown"
    diff_id = layer.diff_id if layer is not None else None
    about = [f"layer {diff_id or 'without a diff-id'}", f"chain-id {band.node.chain_id}", size]
    if layer is None:
        about[0] = "layer that is missing in the store"
    elif not layer.usable:
        about.append("damaged")
    about += [f"in {_name(image)}" for image in serving[:12]]
    about += [f"and {len(serving) - 12} more images"] if len(serving) > 12 else []
    inset = 1.5 if taken >= 60 else 1.0
    broken = layer is None or not layer.usable
    fill = GREY if grey or layer is None else _colour(diff_id or band.node.chain_id)
    extra = f'{_DAMAGED} rx="2"' if broken else 'rx="2"'
    gap = 1.0 if height > 2 * _THINNEST_LAYER else 0.5
    canvas.rect(left + inset, top, taken - 2 * inset, height - gap, fill=fill, extra=extra, title="\n".join(about))
    if height < _LABELLED:
        return
    middle = top + (height - gap) / 2 + 4
    room = taken - 2 * inset - 6
    if room > 150:
        canvas.text(
            left + inset + 4,
            middle,
            hex_of(diff_id)[:12] if diff_id else "missing",
            TextStyle(size=11, kind="on"),
            width=room - 62,
        )
        canvas.text(left + taken - inset - 4, middle, size, TextStyle(size=11, kind="on", anchor="end"), width=62)
        if len(serving) > 1 and room > 270:
            text = f"in {len(serving)} images"
            canvas.text(left + taken / 2, middle, text, TextStyle(size=11, kind="on", anchor="middle"))
    elif room > 48:
        canvas.text(left + taken / 2, middle, size, TextStyle(size=10.5, kind="on", anchor="middle"), width=room + 4)


def _draw_foot(canvas: Canvas, index: int, image: ListedImage, left: float, floor: float, column: float) -> None:
    middle = left + column / 2
    title = _name(image)
    canvas.text(middle, floor + 18, str(index + 1), TextStyle(bold=True, anchor="middle"), title=title)
    if column >= 84:
        canvas.text(
            middle,
            floor + 33,
            _short(image),
            TextStyle(size=11, kind="soft", anchor="middle"),
            width=column - 8,
            title=title,
        )


def _draw_orphans(canvas: Canvas, orphans: Sequence[tuple[str, str]], left: float, floor: float) -> None:
    shown = orphans[:_MOST_ORPHANS]
    for index, (name, title) in enumerate(shown):
        top = floor - (index + 1) * _LEAST_LAYER
        canvas.rect(left, top, _ORPHAN_COLUMN, _LEAST_LAYER - 1, fill=GREY, extra='rx="2"', title=title)
        canvas.text(left + 4, top + 11.5, name, TextStyle(size=10.5, kind="on"), width=_ORPHAN_COLUMN - 8)
    canvas.line(left, floor + 1.5, left + _ORPHAN_COLUMN, floor + 1.5)
    canvas.text(
        left + _ORPHAN_COLUMN / 2, floor + 18, f"{len(orphans)} orphaned", TextStyle(bold=True, anchor="middle")
    )
    if len(orphans) > len(shown):
        more = f"{len(shown)} of them drawn"
        canvas.text(left + _ORPHAN_COLUMN / 2, floor + 33, more, TextStyle(size=11, kind="soft", anchor="middle"))


def _draw_key(canvas: Canvas, store: StoreListing, columns: Columns, x: float, y: float, width: float) -> float:
    """The images by the numbers under their columns, with their full names as far as they fit."""
    owners = {layer.chain_id: layer for layer in store.layers}
    containers = Counter(one.image_id for one in store.containers)
    unnamed = set(store.orphans.images)
    for index, image in enumerate(columns.images):
        own = sum(
            owners[chain_id].size or 0
            for chain_id in image.layers
            if chain_id in owners and len(owners[chain_id].images) == 1
        )
        said = [f"{human_size(image.size)}, {human_size(own)} its own" if image.size is not None else "size unknown"]
        count = containers[image.image_id]
        said += [f"{count} container{'s' if count > 1 else ''}"] if count else []
        said += [] if image.usable else ["damaged"]
        said += ["orphaned"] if image.image_id in unnamed else []
        more = f" and {len(image.references) - 1} more" if len(image.references) > 1 else ""
        title = "\n".join([image.image_id, *image.references[:20]])
        canvas.text(x + 22, y + 4, str(index + 1), TextStyle(anchor="end", bold=True))
        canvas.text(x + 32, y + 4, _name(image) + more, width=width - 310, title=title)
        canvas.text(x + width, y + 4, ", ".join(said), TextStyle(kind="soft", anchor="end"), width=270)
        y += _ROW
    if columns.hidden > 0:
        canvas.text(x + 32, y + 4, f"and {columns.hidden} more images", TextStyle(kind="soft"))
        y += _ROW
    return y


def _orphans(store: StoreListing) -> list[tuple[str, str]]:
    """Orphans, with a short and a long text each; images without a name are not among them, because they have columns."""
    sizes = {layer.chain_id: layer.size for layer in store.layers}
    found = []
    for chain_id in store.orphans.layers:
        size = sizes.get(chain_id)
        said = human_size(size) if size is not None else "size unknown"
        found.append((f"{hex_of(chain_id)[:8]} {said}", f"orphaned layer {chain_id}\n{said}"))
    for name in store.orphans.directories:
        place = store.orphans.place
        found.append((f"{place}/{name[:8]}…", f"orphaned directory {place}/{name}"))
    return found


def _colour(digest: Digest) -> str:
    """The colour of a layer in every picture: hue, lightness and saturation from its digest, light enough for dark text."""
    digits = hex_of(digest)
    hue = int(digits[:4], 16) % 60 / 60
    lightness = 0.64 + int(digits[4:6], 16) % 5 * 0.035
    saturation = 0.48 + int(digits[6:8], 16) % 4 * 0.07
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _name(image: ListedImage) -> str:
    return image.references[0] if image.references else f"{image.image_id[:19]} (no name)"


def _short(image: ListedImage) -> str:
    """A short name of an image: the last part of its name, its tag, or the start of its digest."""
    if not image.references:
        return image.image_id[7:19]
    name, at, digest = image.references[0].partition("@")
    return name.rpartition("/")[2] + (f"@{digest[7:13]}" if at else "")
