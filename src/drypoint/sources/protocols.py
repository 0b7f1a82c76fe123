"""What a source can do: say what an image is, and give its layers' bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from ..oci import Image, Layer, Platform, Reference


class BlobSource(Protocol):
    def open_layer(self, image: Image, layer: Layer) -> Iterator[bytes]:
        """The bytes of ``layer.blob`` as they are stored, in chunks of about 1 MiB; nothing is checked here.

        A transfer that breaks is resumed inside. May be called from several threads at once, for different layers.
        Closing the iterator (``close()`` on the generator) lets go of the connection.

        Raises:
            SourceError: the bytes cannot be had.
        """


class ImageSource(BlobSource, Protocol):
    def resolve(self, reference: Reference, platform: Platform) -> Image:
        """What *reference* names, for *platform*: manifest and config fetched and checked against their digests.

        Raises:
            SourceError: it cannot be had (ImageNotFoundError, AuthenticationError, TransferError tell why).
            ContentError: what was had is not what it claims to be.
        """

    def close(self) -> None:
        """Let go of connections and files."""


@runtime_checkable
class SizeHints(Protocol):
    """What a source may do besides: tell without much effort how long layers are when they are not compressed."""

    def uncompressed_hint(self, image: Image, layer: Layer) -> int | None:
        """The length of the layer's tar as the compressed blob itself tells it, or None. A hint: it may be wrong.

        May be called from several threads at once.

        Raises:
            SourceError: the blob cannot be looked at.
        """
