"""Registries as a source of images."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from ...digest import digest_of
from ...errors import DigestMismatchError, ManifestError, SourceError
from ...http.zones import Zone
from ...oci import (
    Descriptor,
    Image,
    Index,
    Layer,
    Manifest,
    Platform,
    Reference,
    assemble_layers,
    choose_platform,
    parse_config,
    parse_manifest,
)
from ..hints import GZIP_TAIL_BYTES, ZSTD_HEAD_BYTES, gzip_hint, zstd_hint
from .blob import read_blob, read_part
from .options import RegistryOptions

if TYPE_CHECKING:
    from .client import RegistryClient

# For smaller layers an estimate is good enough.
_HINT_BYTES = 1 << 20


class RegistrySource:
    """Images from any registry that a reference names; an :class:`~drypoint.sources.ImageSource`.

    Thread-safe. Connections are kept between requests until :meth:`close`.

    Args:
        named_from: by registry domain, the zone of who names that registry; default: as *options* say.
    """

    def __init__(self, options: RegistryOptions | None = None, named_from: Mapping[str, Zone] | None = None) -> None:
        self._options = options if options is not None else RegistryOptions()
        self._named_from = named_from or {}
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._clients: dict[str, RegistryClient] = {}

    def __enter__(self) -> RegistrySource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and end all waits; running transfers fail at their next retry."""
        self._closing.set()
        with self._lock:
            for client in self._clients.values():
                client.close()

    def resolve(self, reference: Reference, platform: Platform) -> Image:
        """The image that *reference* names, for *platform*.

        ``references`` is what the engine records of it: the tag, if one was requested, and the digest that the
        reference resolves to, which is the index's if it is one. As in the engine, a tag next to a digest is dropped, and an
        image without an index is taken whatever its platform.

        Raises:
            SourceError: it is not available (ImageNotFoundError, AuthenticationError, TransferError say why).
            ContentError: manifest or config is malformed or has a wrong digest.
        """
        client = self._client(reference.domain)
        what = reference.familiar
        named = client.fetch_manifest(reference.path, reference.digest or reference.tag or "latest")
        parsed = parse_manifest(named.content, named.media_type, what)
        match parsed:
            case Index():
                entry = choose_platform(parsed, platform, what)
                manifest = self._manifest_of(client, reference.path, entry.descriptor, what)
            case Manifest():
                manifest = parsed
            case _:
                assert_never(parsed)
        content = b"".join(read_blob(client, reference.path, manifest.config))
        if digest_of(content) != manifest.config.digest:
            raise DigestMismatchError(
                f"{what}: the config's digest is {digest_of(content)}, but the manifest says {manifest.config.digest}"
            )
        config = parse_config(content, what)
        by_digest = reference.with_digest(named.digest)
        by_tag = (Reference(reference.domain, reference.path, reference.tag or "latest"),)
        return Image(
            references=(by_digest,) if reference.digest else (*by_tag, by_digest),
            config=config,
            layers=assemble_layers(config, manifest.layers, what),
            repository=Reference(reference.domain, reference.path),
        )

    def open_layer(self, image: Image, layer: Layer) -> Iterator[bytes]:
        """The ``layer.blob.size`` bytes of ``layer.blob`` in chunks of about 1 MiB; the digest is not checked. The first
        request is sent when the first chunk is read.

        Raises:
            SourceError: they are not available, or *image* is not from a registry.
            ContentError: there are more or fewer than the descriptor says.
        """
        if image.repository is None:
            raise SourceError(
                f"image {image.image_id} did not come from a registry, so its layers are not there either"
            )
        client = self._client(image.repository.domain)
        return read_blob(client, image.repository.path, layer.blob)

    def uncompressed_hint(self, image: Image, layer: Layer) -> int | None:
        """See :class:`~drypoint.sources.SizeHints`. One small request, and none for a layer of less than 1 MiB.

        Raises:
            SourceError: the registry refuses it.
        """
        blob = layer.blob
        if image.repository is None or blob.size < _HINT_BYTES:
            return None
        client, repository = self._client(image.repository.domain), image.repository.path
        if "gzip" in blob.media_type:
            tail = read_part(client, repository, blob, blob.size - GZIP_TAIL_BYTES, GZIP_TAIL_BYTES)
            return None if tail is None else gzip_hint(tail, blob.size)
        if "zstd" in blob.media_type:
            head = read_part(client, repository, blob, 0, ZSTD_HEAD_BYTES)
            return None if head is None else zstd_hint(head, blob.size)
        return None

    def _manifest_of(self, client: RegistryClient, repository: str, descriptor: Descriptor, what: str) -> Manifest:
        fetched = client.fetch_manifest(repository, descriptor.digest)
        if len(fetched.content) != descriptor.size:
            raise ManifestError(
                f"{what}: manifest {descriptor.digest} has {len(fetched.content)} bytes, but the index says {descriptor.size}"
            )
        parsed = parse_manifest(fetched.content, fetched.media_type or descriptor.media_type, what)
        if isinstance(parsed, Index):
            raise ManifestError(
                f"{what}: the index names another index, {descriptor.digest}, where an image is expected"
            )
        return parsed

    def _client(self, domain: str) -> RegistryClient:
        # Imported late: HTTP and TLS take 50 ms, during which a disk image is being copied already.
        from .client import RegistryClient

        with self._lock:
            if self._closing.is_set():
                raise SourceError("the registry source was closed")
            client = self._clients.get(domain)
            if client is None:
                named_from = self._named_from.get(domain, self._options.named_from)
                options = replace(self._options, named_from=named_from)
                client = self._clients[domain] = RegistryClient(domain, options, self._closing)
            return client
