"""The upper part of the picture: the disk as a bar, to scale, except that small partitions stay visible."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ..disk import FilesystemInfo, PartitionKind
from ..progress import human_size
from .disk import InspectedDisk, InspectedPartition
from .svg import Canvas, TextStyle

EXT, FAT, OTHER, UNKNOWN = "#6aa5dd", "#e3b341", "#b48ad8", "#aab2bb"
_PER_ROW = 10
_MOST_SHOWN = 100
_LEAST_WIDTH = 106.0
_LEAST_GAP = 5.0
_BAR = 46.0
_BRACKET = 18.0
_LABELS = 72.0


class _Segment(msgspec.Struct, frozen=True):
    """A range of the disk; *content* is None outside of partitions."""

    start: int
    size: int
    content: InspectedPartition | None


class DrawnDisk(msgspec.Struct, frozen=True):
    """The y below a disk, and by partition number the left and right edge and the y below the bar, for the last row."""

    y: float
    places: Mapping[int, tuple[float, float, float]]


def draw_disk(canvas: Canvas, disk: InspectedDisk, x: float, y: float, width: float) -> DrawnDisk:
    """Draw the bars, ten partitions in each."""
    drawn: dict[int, tuple[float, float, float]] = {}
    segments = list(_segments(disk))
    extended = [one for one in disk.partitions if one.partition.kind is PartitionKind.EXTENDED]
    for row in _rows(segments):
        drawn.clear()
        y = _draw_row(canvas, row, extended, x, y, width, drawn)
    hidden = sum(one.partition.kind is not PartitionKind.EXTENDED for one in disk.partitions) - _MOST_SHOWN
    if hidden > 0:
        canvas.text(x, y + 8, f"and {hidden} more partitions", TextStyle(kind="soft"))
        y += 20
    return DrawnDisk(y, drawn)


def colour_of(filesystem: FilesystemInfo | None) -> str:
    if filesystem is None:
        return UNKNOWN
    return EXT if filesystem.kind.is_ext else FAT if filesystem.kind.is_fat else OTHER


def _segments(disk: InspectedDisk) -> Iterator[_Segment]:
    """The partitions in the order of their starts, with the gaps between them."""
    real = [one for one in disk.partitions if one.partition.kind is not PartitionKind.EXTENDED]
    end = 0
    ordered = sorted(real, key=lambda one: one.partition.start)
    for one in ordered[:_MOST_SHOWN]:
        if one.partition.start > end:
            yield _Segment(end, one.partition.start - end, None)
        yield _Segment(one.partition.start, one.partition.size, one)
        end = one.partition.end
    if len(ordered) <= _MOST_SHOWN and disk.size > end:
        yield _Segment(end, disk.size - end, None)


def _rows(segments: Sequence[_Segment]) -> Iterator[list[_Segment]]:
    row: list[_Segment] = []
    count = 0
    for segment in segments:
        if segment.content is not None:
            if count == _PER_ROW:
                yield row
                row, count = [], 0
            count += 1
        row.append(segment)
    if row:
        yield row


def _widths(row: Sequence[_Segment], width: float) -> list[float]:
    """Widths to scale; narrow segments get the least width, and the others share the rest."""
    least = [_LEAST_GAP if segment.content is None else _LEAST_WIDTH for segment in row]
    fixed: set[int] = set()
    while True:
        room = width - sum(least[index] for index in fixed)
        total = sum(segment.size for index, segment in enumerate(row) if index not in fixed) or 1
        small = {
            index
            for index, segment in enumerate(row)
            if index not in fixed and room * segment.size / total < least[index]
        }
        if not small:
            return [
                least[index] if index in fixed else room * segment.size / total for index, segment in enumerate(row)
            ]
        fixed |= small


def _draw_row(
    canvas: Canvas,
    row: Sequence[_Segment],
    extended: Sequence[InspectedPartition],
    x: float,
    y: float,
    width: float,
    drawn: dict[int, tuple[float, float, float]],
) -> float:
    """Draw one bar, and add the places of its partitions to *drawn*; returns the y below their labels."""
    widths = _widths(row, width)
    places: list[tuple[_Segment, float, float]] = []
    position = x
    for segment, taken in zip(row, widths, strict=True):
        places.append((segment, position, taken))
        position += taken
    bar = y + (_BRACKET if extended else 0)
    for container in extended:
        _draw_bracket(canvas, container, places, bar)
    for segment, left, taken in places:
        if segment.content is None:
            title = f"{human_size(segment.size)} in no partition"
            canvas.rect(left, bar + 8, taken, _BAR - 16, fill="url(#free)", extra='fill-opacity="0.55"', title=title)
        else:
            _draw_partition(canvas, segment.content, left, bar, taken)
            drawn[segment.content.partition.number] = (left, left + taken, bar + _BAR)
    return bar + _BAR + _LABELS


def _draw_bracket(
    canvas: Canvas, container: InspectedPartition, places: Sequence[tuple[_Segment, float, float]], bar: float
) -> None:
    inside = [
        (left, left + taken)
        for segment, left, taken in places
        if container.partition.start <= segment.start and segment.start + segment.size <= container.partition.end
    ]
    if not inside:
        return
    left, right = inside[0][0] + 1, inside[-1][1] - 1
    canvas.line(left, bar - 6, right, bar - 6)
    canvas.line(left, bar - 6, left, bar - 2)
    canvas.line(right, bar - 6, right, bar - 2)
    text = f"{container.partition.number} extended, {human_size(container.partition.size)}"
    canvas.text(
        (left + right) / 2, bar - 10, text, TextStyle(size=11, kind="soft", anchor="middle"), width=right - left
    )


def _draw_partition(canvas: Canvas, one: InspectedPartition, left: float, top: float, taken: float) -> None:
    colour = colour_of(one.filesystem)
    left, taken = left + 1, taken - 2
    space = one.space
    kind = one.filesystem.kind.value if one.filesystem else "unknown"
    name = f"{one.partition.number} {one.label}".rstrip()
    about = [name, f"{kind}, {human_size(one.partition.size)} at {human_size(one.partition.start)}"]
    free = 0.0
    if space is not None and space.total:
        free = min(max(space.free / space.total, 0.0), 1.0)
        about.append(f"{human_size(space.free)} of {human_size(space.total)} free")
        if space.inodes is not None:
            about.append(f"{space.free_inodes} of {space.inodes} inodes free")
    about += one.notes
    title = "\n".join(about)
    canvas.rect(left, top, taken, _BAR, fill=colour, extra='fill-opacity="0.28"')
    used = taken * (1 - free)
    if space is not None:
        used = max(used, 2.0) if free < 1 else used
        canvas.rect(left + used, top, taken - used, _BAR, fill="url(#free)")
        canvas.rect(left, top, used, _BAR, fill=colour)
    outline = f'stroke="{"#d1242f" if one.notes else colour}" stroke-width="1.5" fill-opacity="0"'
    canvas.rect(left, top, taken, _BAR, fill=colour, extra=outline, title=title)
    room = taken - 4
    canvas.text(left + 1, top + _BAR + 16, name, TextStyle(bold=True), width=room, title=title)
    canvas.text(left + 1, top + _BAR + 31, kind, TextStyle(size=11, kind="soft"), width=room)
    canvas.text(left + 1, top + _BAR + 45, human_size(one.partition.size), TextStyle(size=11, kind="soft"), width=room)
    if space is not None:
        share = f"{human_size(space.free)} free"
        canvas.text(left + 1, top + _BAR + 59, share, TextStyle(size=11, kind="soft"), width=room)
