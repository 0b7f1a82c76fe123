"""A case of the corpus: an unusual image, and the verdict of engines."""

from __future__ import annotations

from dataclasses import dataclass

from drypoint.samples.images import BuiltImage, BuiltLayer, Compression, build_image, build_layer
from drypoint.samples.layers import DEFAULT_MTIME, LayerBuilder
from drypoint.sinks.tar import UstarHeader, pax_header

GNU_MAGIC = b"ustar  \0"
SECONDS = DEFAULT_MTIME // 1_000_000_000


@dataclass(frozen=True, slots=True)
class Case:
    """An image that is unusual in one way.

    Attributes:
        name: a word, valid as a tag.
        odd: what is unusual, in one line.
        layers: base first.
        refused: None if engines accept it. Otherwise a text that an error must contain: the name of the entry, or for an
            invalid archive, the fault.
    """

    name: str
    odd: str
    layers: tuple[BuiltLayer, ...]
    refused: str | None = None

    def image(self) -> BuiltImage:
        return build_image(self.layers)


def case(
    name: str,
    odd: str,
    *tars: bytes | LayerBuilder,
    refused: str | None = None,
    compression: Compression = Compression.GZIP,
) -> Case:
    """A case from its layers' tars, base first; builders are finished."""
    built = (tar if isinstance(tar, bytes) else tar.finish() for tar in tars)
    return Case(name, odd, tuple(build_layer(tar, compression) for tar in built), refused)


def layer() -> LayerBuilder:
    return LayerBuilder()


def with_records(records: dict[bytes, bytes], name: bytes, typeflag: bytes = b"0", content: bytes = b"") -> bytes:
    """An entry after an extended header with exactly these *records*, in their order; the header itself says size 0."""
    return (
        pax_header(records, name)
        + UstarHeader(name[:100], typeflag, mode=0o644, seconds=SECONDS).pack()
        + padded(content)
    )


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)
