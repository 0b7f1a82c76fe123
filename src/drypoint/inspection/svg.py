"""The parts of SVG 1.1 that a picture needs. All text, which is untrusted, is made printable and escaped here."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

import msgspec

from ..text import printable

FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Arial, sans-serif"
_NARROW = frozenset("iIjlft.,:;'|!()[] -/")
_WIDE = frozenset("mwMW@%")
_BOLDER = 1.1
_MOST_CHARACTERS = 4000
_STYLE = """\
.card{fill:#ffffff;stroke:#d0d7de}
.ink{fill:#1f2328}
.soft{fill:#59636e}
.on{fill:#15181c}
.rule{stroke:#d0d7de}
.edge{stroke:#59636e}
.frame{fill:none;stroke:#59636e}
@media (prefers-color-scheme:dark){
.card{fill:#161b22;stroke:#3d444d}
.ink{fill:#e6edf3}
.soft{fill:#9ea7b0}
.rule{stroke:#3d444d}
.edge{stroke:#9ea7b0}
.frame{stroke:#9ea7b0}
}
"""


class TextStyle(msgspec.Struct, frozen=True):
    """The style of a line of text: *size* in pixels, *kind* a class of the style sheet, *anchor* SVG's text-anchor."""

    size: float = 12
    kind: str = "ink"
    anchor: str = "start"
    bold: bool = False


_PLAIN = TextStyle()


class Canvas:
    """The elements in painting order; coordinates are pixels from the upper left corner."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str = "",
        kind: str = "",
        extra: str = "",
        title: str = "",
    ) -> None:
        """A rectangle. *kind* is a class of the style sheet, *extra* further attributes, *title* the text on hovering."""
        attributes = _attributes(x=x, y=y, width=max(width, 0), height=max(height, 0))
        attributes += _named(fill=fill, kind=kind) + (f" {extra}" if extra else "")
        self._parts.append(f"<rect{attributes}>{_title(title)}</rect>" if title else f"<rect{attributes}/>")

    def line(self, x1: float, y1: float, x2: float, y2: float, *, kind: str = "edge") -> None:
        self._parts.append(f"<line{_attributes(x1=x1, y1=y1, x2=x2, y2=y2)}{_named(kind=kind)}/>")

    def text(
        self,
        x: float,
        y: float,
        text: str,
        style: TextStyle = _PLAIN,
        *,
        width: float | None = None,
        title: str = "",
    ) -> None:
        """One line of text with its baseline at *y*; shortened in the middle if it is longer than *width*."""
        shown = (
            printable(text)
            if width is None
            else fitted(text, width, style.size * _BOLDER if style.bold else style.size)
        )
        if not shown:
            return
        attributes = _attributes(x=x, y=y) + _named(kind=style.kind) + f' font-size="{number(style.size)}"'
        attributes += f' text-anchor="{style.anchor}"' if style.anchor != "start" else ""
        attributes += ' font-weight="bold"' if style.bold else ""
        self._parts.append(f"<text{attributes}>{escape(shown)}{_title(title) if title else ''}</text>")

    def document(self, width: float, height: float, title: str) -> str:
        """The whole SVG document, with its own background, so that it is readable on any page."""
        size = f'width="{number(width)}" height="{number(height)}" viewBox="0 0 {number(width)} {number(height)}"'
        head = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family={quoteattr(FONT)} role="img">',
            _title(title),
            f"<style>{_STYLE}</style>",
            "<defs>",
            '<pattern id="free" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">',
            '<line x1="0" y1="0" x2="0" y2="7" stroke="#8a929b" stroke-width="2" stroke-opacity="0.6"/>',
            "</pattern>",
            "</defs>",
            f'<rect class="card" x="0.5" y="0.5" width="{number(width - 1)}" height="{number(height - 1)}" rx="8"/>',
        ]
        return "\n".join([*head, *self._parts, "</svg>", ""])


def fitted(text: str, width: float, size: float) -> str:
    """*text*, made printable and shortened to *width*: in the middle, because names differ at their ends."""
    shown = printable(text[:_MOST_CHARACTERS])
    if measured(shown, size) <= width:
        return shown
    room = width - measured("…", size)
    if room <= 0:
        return ""
    head = _as_far(shown, room * 0.45, size)
    tail = _as_far(shown[::-1], room - measured(head, size), size)[::-1]
    return f"{head}…{tail}" if head or tail else ""


def measured(text: str, size: float) -> float:
    """The estimated width of *text*, rather too large, because fonts differ."""
    return size * sum(_advance(one) for one in text)


def number(value: float) -> str:
    """A coordinate with at most one decimal, so that the document is the same on every machine."""
    return f"{value:.1f}".removesuffix(".0")


def _advance(character: str) -> float:
    if not character.isascii():
        return 1.0
    if character in _NARROW:
        return 0.38
    if character in _WIDE:
        return 0.98
    return 0.7 if character.isupper() else 0.62


def _as_far(text: str, width: float, size: float) -> str:
    used = 0.0
    for index, character in enumerate(text):
        used += size * _advance(character)
        if used > width:
            return text[:index]
    return text


def _title(text: str) -> str:
    return f"<title>{escape(printable(text[:_MOST_CHARACTERS], chr(10)))}</title>"


def _attributes(**values: float) -> str:
    return "".join(f' {name}="{number(value)}"' for name, value in values.items())


def _named(*, fill: str = "", kind: str = "") -> str:
    return (f' class="{kind}"' if kind else "") + (f' fill="{fill}"' if fill else "")
