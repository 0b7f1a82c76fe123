"""What a source can do: say what an image is, and give its layers' bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

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
