"""Images that are odd as a whole: how many layers they have, and which."""

from __future__ import annotations

from ..images import BuiltLayer, build_layer
from .case import Case, case, layer

_STACK = tuple(build_layer(layer().file(f"layer-{number}", b"%d" % number).finish()) for number in range(130))


def _stacked(count: int) -> tuple[BuiltLayer, ...]:
    return _STACK[:count]


# Tars that no other case has: an engine takes a repeated layer from the first one of its kind, wherever that came from.
_TWICE = layer().file("twice", b"1").finish()
_APART = layer().file("apart", b"1").finish()
_EMPTY = layer().raw(bytes(512)).finish()

IMAGES: tuple[Case, ...] = (
    Case("layers-none", "an image without layers", ()),
    case("layers-same", "the same layer twice, one upon the other", _TWICE, _TWICE),
    case(
        "layers-same-apart",
        "the same layer three times, others between",
        _APART,
        layer().whiteout("apart"),
        _APART,
        layer().file("between"),
        _APART,
    ),
    case("layers-empty-many", "ten empty layers", *[_EMPTY] * 10),
    Case("layers-125", "125 layers, as many as engines take (moby, layer/layer_store.go)", _stacked(125)),
    Case("layers-126", "126 layers", _stacked(126), refused="126 layers"),
    Case("layers-128", "128 layers, as many as overlay2 by itself could stack", _stacked(128), refused="128 layers"),
    Case("layers-130", "130 layers", _stacked(130), refused="130 layers"),
)
