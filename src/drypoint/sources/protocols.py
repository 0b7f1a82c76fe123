"""The protocols of sources: resolving images and streaming layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from ..oci import Image, Layer, Platform, Reference


class BlobSource(Protocol):
    def open_layer(self, image: Image, layer: Layer) -> Iterator[bytes]:
        """The bytes of ``layer.blob`` as stored, unchecked, in chunks of about 1 MiB.

        Broken transfers are resumed. May be called from several threads, for different layers. Closing the iterator
        (``close()`` on the generator) closes the connection.

        Raises:
            SourceError: the bytes are not available.
        """


class ImageSource(BlobSource, Protocol):
    def resolve(self, reference: Reference, platform: Platform) -> Image:
        """The image that *reference* names, for *platform*: manifest and config, checked against their digests.

        Raises:
            SourceError: it is not available (ImageNotFoundError, AuthenticationError, TransferError say why).
            ContentError: manifest or config is malformed or has a wrong digest.
        """

    def close(self) -> None:
        """Close connections and files."""


@runtime_checkable
class SizeHints(Protocol):
    """An optional ability of sources: the uncompressed length of layers, at little cost."""

    def uncompressed_hint(self, image: Image, layer: Layer) -> int | None:
        """The length of the layer's tar by the blob's own length field, or None. It may be wrong.

        May be called from several threads.

        Raises:
            SourceError: the blob cannot be read.
        """
