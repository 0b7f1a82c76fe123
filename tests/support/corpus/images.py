"""Cases of whole images: the number of layers, and repeated layers."""

from __future__ import annotations

from dataclasses import replace

from tests.support.corpus.case import Case, case, layer
from tests.support.gzip_framings import Cut, framed

from drypoint.digest import digest_of
from drypoint.oci import Descriptor
from drypoint.samples.images import BuiltLayer, Compression, build_layer

_STACK = tuple(build_layer(layer().file(f"layer-{number}", b"%d" % number).finish()) for number in range(130))


def _stacked(count: int) -> tuple[BuiltLayer, ...]:
    return _STACK[:count]


# Tars that no other case has: an engine takes a repeated layer from any image that has it.
_TWICE = layer().file("twice", b"1").finish()
_APART = layer().file("apart", b"1").finish()
_EMPTY = layer().raw(bytes(512)).finish()


def _odd_end(name: str, end: bytes) -> bytes:
    return layer().file(name, b"1").finish(end_of_archive=False) + end


def _flushed() -> BuiltLayer:
    tar = _odd_end("flushed", bytes(10_240))
    blob = framed(tar, [(5000, Cut.SYNC_FLUSH), (len(tar), Cut.SYNC_FLUSH)])
    return replace(
        build_layer(tar),
        descriptor=Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", digest_of(blob), len(blob)),
        content=blob,
    )


_FLUSHED = _flushed()

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
    case(
        "layers-same-padded", "the same layer twice, padded to 10,240 bytes", *[_odd_end("padded", bytes(10_240))] * 2
    ),
    Case("layers-same-flushed", "the same, with a flush before its end", (_FLUSHED, _FLUSHED)),
    case(
        "layers-same-plain",
        "the same without compression",
        *[_odd_end("p", bytes(9216))] * 2,
        compression=Compression.NONE,
    ),
    case("layers-same-no-end", "the same layer twice, without zero blocks", *[_odd_end("no-end", b"")] * 2),
    case(
        "layers-same-one-block", "the same layer twice, with one zero block", *[_odd_end("one-block", bytes(512))] * 2
    ),
    case("layers-empty-many", "ten empty layers", *[_EMPTY] * 10),
    Case("layers-125", "125 layers, as many as engines take (moby, layer/layer_store.go)", _stacked(125)),
    Case("layers-126", "126 layers", _stacked(126), refused="126 layers"),
    Case("layers-128", "128 layers, as many as overlay2 by itself could stack", _stacked(128), refused="128 layers"),
    Case("layers-130", "130 layers", _stacked(130), refused="130 layers"),
)
