"""A picture of a disk image: its partitions to scale, and the images in its store with the layers that they share.

The same inspection gives the same bytes. It is self-contained: no font, script or image is fetched.
"""

from __future__ import annotations

import msgspec

from ..progress import human_size
from ..stores import StoreListing
from .disk import InspectedDisk
from .disk_map import EXT, FAT, OTHER, UNKNOWN, DrawnDisk, draw_disk
from .layer_map import GREY, columns_of, draw_layers, width_of
from .svg import Canvas, TextStyle, measured

_WIDTH = 1120.0
_MARGIN = 28.0
_PADDING = 12.0
_FUNNEL = 26.0


class InnerDisk(msgspec.Struct, frozen=True):
    """A disk image that is a file in the partition of that number, with a title and a short description."""

    partition: int
    disk: InspectedDisk
    title: str
    subtitle: str = ""


def draw(
    disk: InspectedDisk,
    store: StoreListing | None,
    *,
    title: str,
    subtitle: str = "",
    inner: InnerDisk | None = None,
) -> str:
    """The picture as an SVG document.

    Args:
        store: None if there is none: then only the disk is drawn. It may be in *inner*.
        title: the name of the disk image.
        subtitle: a short description.
        inner: a disk image in one of the partitions, to be drawn too.
    """
    canvas = Canvas()
    columns = columns_of(store) if store is not None else None
    width = _WIDTH if store is None or columns is None else width_of(columns, store, _WIDTH)
    y = 46.0
    canvas.text(_MARGIN, y, title, TextStyle(size=20, bold=True), width=width)
    about = _about(disk, subtitle)
    canvas.text(_MARGIN, y + 21, about, TextStyle(size=13, kind="soft"), width=width)
    drawn = draw_disk(canvas, disk, _MARGIN, y + 44, width)
    y = drawn.y if inner is None else _draw_inner(canvas, inner, drawn, width)
    y = _legend_of_disk(canvas, _MARGIN, y + 8)
    if store is not None and columns is not None:
        y += 16
        canvas.line(_MARGIN, y, _MARGIN + width, y, kind="rule")
        y += 32
        canvas.text(_MARGIN, y, "Images and their layers", TextStyle(size=16, bold=True))
        shared = sum(len(layer.images) > 1 for layer in store.layers)
        counts = f"{_count(len(store.images), 'image')}, {_count(len(store.layers), 'layer')}, {shared} of them shared"
        summary = f"{counts}; {human_size(store.size)}"
        canvas.text(_MARGIN, y + 20, summary, TextStyle(size=13, kind="soft"))
        y = draw_layers(canvas, store, columns, _MARGIN, y + 40, width)
        y = _legend_of_layers(canvas, _MARGIN, y + 16)
    return canvas.document(width + 2 * _MARGIN, y + 20, f"{title}: {about}")


def _draw_inner(canvas: Canvas, inner: InnerDisk, outer: DrawnDisk, width: float) -> float:
    """Draw the inner disk in a frame, with lines from its partition; returns the y below it."""
    top = outer.y + _FUNNEL
    place = outer.places.get(inner.partition)
    if place is not None:
        left, right, bottom = place
        # A little inside, so that it does not touch the text of the next partition.
        for edge, corner in ((left, _MARGIN - _PADDING), (right - 4, _MARGIN + width + _PADDING)):
            canvas.line(edge, bottom, edge, outer.y)
            canvas.line(edge, outer.y, corner, top)
    about = _about(inner.disk, inner.subtitle)
    canvas.text(_MARGIN, top + 24, f"inside: {inner.title}", TextStyle(size=14, bold=True), width=width)
    canvas.text(_MARGIN, top + 43, about, TextStyle(size=13, kind="soft"), width=width)
    end = draw_disk(canvas, inner.disk, _MARGIN, top + 60, width).y
    canvas.rect(_MARGIN - _PADDING, top, width + 2 * _PADDING, end - top, kind="frame", extra='rx="4"')
    return end + 16


def _about(disk: InspectedDisk, subtitle: str) -> str:
    table = {"mbr": "MBR", "gpt": "GPT", "none": "no partition table"}[disk.table]
    return f"{human_size(disk.size)}, {table}" + (f" – {subtitle}" if subtitle else "")


def _legend_of_disk(canvas: Canvas, x: float, y: float) -> float:
    for colour, text in ((EXT, "ext"), (FAT, "FAT"), (OTHER, "other"), (UNKNOWN, "unknown")):
        canvas.rect(x, y - 10, 14, 12, fill=colour, extra='rx="2"')
        x = _caption(canvas, x + 20, y, text)
    canvas.rect(x, y - 10, 14, 12, fill=EXT, extra='fill-opacity="0.28" rx="2"')
    canvas.rect(x, y - 10, 14, 12, fill="url(#free)", extra='rx="2"')
    x = _caption(canvas, x + 20, y, "free in it")
    canvas.rect(x, y - 10, 14, 12, fill="url(#free)", extra='fill-opacity="0.55" rx="2"')
    _caption(canvas, x + 20, y, "in no partition; to scale, but small ones are widened")
    return y


def _legend_of_layers(canvas: Canvas, x: float, y: float) -> float:
    canvas.text(
        x,
        y,
        "Base layers at the bottom; height grows with the square root of the size.",
        TextStyle(size=11, kind="soft"),
    )
    y += 16
    text = "A layer that images share is one band across them. Its colour comes from its digest: the same in every picture."
    canvas.text(x, y, text, TextStyle(size=11, kind="soft"))
    y += 18
    canvas.rect(x, y - 10, 14, 12, fill=GREY, extra='rx="2"')
    x = _caption(canvas, x + 20, y, "orphaned: no name leads to it")
    canvas.rect(x, y - 10, 14, 12, fill=GREY, extra='stroke="#d1242f" stroke-width="1.5" stroke-dasharray="4 3" rx="2"')
    _caption(canvas, x + 20, y, "missing or damaged")
    return y


def _caption(canvas: Canvas, x: float, y: float, text: str) -> float:
    canvas.text(x, y, text, TextStyle(size=11, kind="soft"))
    return x + measured(text, 11) + 18


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
