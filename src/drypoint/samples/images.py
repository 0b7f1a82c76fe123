"""Building images from layer tars, and writing them as registry content, OCI layout or docker archive.

    layer = build_layer(LayerBuilder().file("hello", program, mode=0o755).finish())
    image = build_image([layer], config={"Entrypoint": ["/hello"]})
    write_oci_layout(directory, {"example.com/hello:1": image})

Everything is deterministic: the same layers and config give the same digests.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeAlias, assert_never

from ..digest import Digest, digest_of, hex_of
from ..oci import Descriptor, Platform, parse_reference
from ..oci.manifest import (
    MEDIA_TYPE_DOCKER_CONFIG,
    MEDIA_TYPE_DOCKER_LIST,
    MEDIA_TYPE_DOCKER_MANIFEST,
    MEDIA_TYPE_OCI_CONFIG,
    MEDIA_TYPE_OCI_INDEX,
    MEDIA_TYPE_OCI_MANIFEST,
)
from ..oci.reference import DEFAULT_DOMAIN
from .layers import LayerBuilder
from .registry import RegistryContent

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_CHUNK = 1 << 20
_GZIP_MEMBER_BYTES = 64 << 10
LINUX_AMD64 = Platform("linux", "amd64")
Blob: TypeAlias = bytes | Path
"""Content in memory, or in a file: large layers stay on disk."""


class Compression(Enum):
    """The compression of a layer blob; the value is the media type's suffix."""

    NONE = ""
    GZIP = "gzip"
    GZIP_MEMBERS = "gzip members"
    """Many gzip members one after another, as written by pigz -i and some registries' tools."""
    ZSTD = "zstd"


@dataclass(frozen=True, slots=True)
class BuiltLayer:
    """A layer blob; ``tar`` is its uncompressed form."""

    descriptor: Descriptor
    diff_id: Digest
    content: Blob
    tar: Blob


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image for one platform: ``manifest`` and ``config`` are exact bytes."""

    manifest: bytes
    media_type: str
    config: bytes
    platform: Platform
    layers: tuple[BuiltLayer, ...]

    @property
    def digest(self) -> Digest:
        return digest_of(self.manifest)

    @property
    def image_id(self) -> Digest:
        return digest_of(self.config)

    @property
    def blobs(self) -> dict[Digest, Blob]:
        """Config and layers by digest, as a registry serves them."""
        return {self.image_id: self.config, **{layer.descriptor.digest: layer.content for layer in self.layers}}


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """Several images, one for each platform, under a common name."""

    content: bytes
    media_type: str
    images: tuple[BuiltImage, ...]

    @property
    def digest(self) -> Digest:
        return digest_of(self.content)


def build_layer(
    tar: Blob, compression: Compression = Compression.GZIP, *, docker: bool = False, store: Path | None = None
) -> BuiltLayer:
    """Make a layer blob of the layer *tar*.

    Args:
        docker: use Docker's media types in place of the OCI's. Docker has none for zstd.
        store: for a tar that is a file: the file for the compressed blob. Not needed without compression.
    """
    if isinstance(tar, bytes):
        content: Blob = b"".join(_compressed(iter((tar,)), compression))
    elif compression is Compression.NONE:
        content = tar
    elif store is None:
        raise ValueError("a layer that is a file is compressed into a file: name it with store=")
    else:
        with store.open("wb") as out:
            out.writelines(_compressed(blob_chunks(tar), compression))
        content = store
    digest, size = _digest_and_size(content)
    diff_id, _ = _digest_and_size(tar)
    return BuiltLayer(Descriptor(_layer_type(compression, docker), digest, size), diff_id, content, tar)


def build_image(
    layers: Sequence[BuiltLayer],
    *,
    config: Mapping[str, object] | None = None,
    platform: Platform = LINUX_AMD64,
    created: str = "2024-01-01T00:00:00Z",
    docker: bool = False,
) -> BuiltImage:
    """Build an image.

    Args:
        layers: base first.
        config: the image config's ``config`` object (``Entrypoint``, ``Cmd``, ``Env``, ``Labels``…).
        docker: Docker schema 2 in place of OCI media types.
    """
    document: dict[str, object] = {
        "architecture": platform.architecture,
        **({"variant": platform.variant} if platform.variant else {}),
        "config": dict(config or {}),
        "created": created,
        "history": [{"created": created, "created_by": f"layer {number}"} for number, _ in enumerate(layers)],
        "os": platform.os,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }
    config_bytes = _json(document)
    media_type = MEDIA_TYPE_DOCKER_MANIFEST if docker else MEDIA_TYPE_OCI_MANIFEST
    config_type = MEDIA_TYPE_DOCKER_CONFIG if docker else MEDIA_TYPE_OCI_CONFIG
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": _descriptor(Descriptor(config_type, digest_of(config_bytes), len(config_bytes))),
        "layers": [_descriptor(layer.descriptor) for layer in layers],
    }
    return BuiltImage(_json(manifest), media_type, config_bytes, platform, tuple(layers))


def build_index(images: Sequence[BuiltImage], *, docker: bool = False) -> BuiltIndex:
    """An OCI index, or Docker manifest list, of *images*."""
    media_type = MEDIA_TYPE_DOCKER_LIST if docker else MEDIA_TYPE_OCI_INDEX
    content = {"schemaVersion": 2, "mediaType": media_type, "manifests": [_index_entry(image) for image in images]}
    return BuiltIndex(_json(content), media_type, tuple(images))


def registry_content(images: Mapping[str, BuiltImage | BuiltIndex]) -> RegistryContent:
    """The content of a registry to which *images* were pushed; keys are ``repository:tag``, a domain in them is ignored."""
    content = RegistryContent()
    for name, built in images.items():
        reference = parse_reference(name)
        repository = reference.familiar_name if reference.domain == DEFAULT_DOMAIN else reference.path
        add_to_registry(content, repository, reference.tag or "latest", built)
    return content


def add_to_registry(content: RegistryContent, repository: str, tag: str, built: BuiltImage | BuiltIndex) -> None:
    """Push *built* to *content* as ``repository:tag`` and by its digest, with its blobs."""
    for digest, media_type, manifest in _manifests(built):
        content.manifests[repository, digest] = (media_type, manifest)
    content.manifests[repository, tag] = content.manifests[repository, built.digest]
    for image in _images(built):
        content.blobs.update(image.blobs)


def write_oci_layout(directory: Path, images: Mapping[str, BuiltImage | BuiltIndex]) -> None:
    """Write an OCI image layout; each key becomes the annotation ``org.opencontainers.image.ref.name``, "" becomes none."""
    store = directory / "blobs" / "sha256"
    store.mkdir(parents=True)
    (directory / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    (directory / "index.json").write_bytes(_layout_index(images))
    for built in images.values():
        for digest, content in _all_blobs(built):
            with (store / hex_of(digest)).open("wb") as out:
                out.writelines(blob_chunks(content))


def write_oci_archive(path: Path, images: Mapping[str, BuiltImage | BuiltIndex]) -> None:
    """Write an OCI image layout as a tar archive."""
    with path.open("wb") as out:
        archive = LayerBuilder(out)
        archive.file("oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        archive.file("index.json", _layout_index(images))
        blobs = {digest: content for built in images.values() for digest, content in _all_blobs(built)}
        for digest, content in blobs.items():
            archive.file(f"blobs/sha256/{hex_of(digest)}", blob_chunks(content), size=_size(content))
        archive.finish()


def write_docker_archive(path: Path, images: Mapping[str, BuiltImage], *, compressed: bool = False) -> None:
    """Write an archive like ``docker save``: keys are RepoTags, layers bare tars (as in a registry if *compressed*).

    The layout is that of Docker 25 and later (``blobs/sha256/…``), without its OCI half.
    """
    with path.open("wb") as out:
        archive = LayerBuilder(out)
        written: set[Digest] = set()
        items = []
        for name, image in images.items():
            parts: list[tuple[Digest, Blob]] = [(image.image_id, image.config)]
            for layer in image.layers:
                parts.append((layer.descriptor.digest, layer.content) if compressed else (layer.diff_id, layer.tar))
            for digest, content in parts:
                if digest not in written:
                    archive.file(f"blobs/sha256/{hex_of(digest)}", blob_chunks(content), size=_size(content))
                    written.add(digest)
            config, *layers = [f"blobs/sha256/{hex_of(digest)}" for digest, _ in parts]
            items.append({"Config": config, "RepoTags": [name] if name else None, "Layers": layers})
        archive.file("manifest.json", _json(items))
        archive.finish()


def blob_chunks(content: Blob) -> Iterator[bytes]:
    """The bytes of *content*, 1 MiB at a time if it is a file."""
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _compressed(chunks: Iterator[bytes], compression: Compression) -> Iterator[bytes]:
    match compression:
        case Compression.NONE:
            yield from chunks
        case Compression.GZIP:
            gzip = zlib.compressobj(6, wbits=31)
            for chunk in chunks:
                yield gzip.compress(chunk)
            yield gzip.flush()
        case Compression.GZIP_MEMBERS:
            for chunk in chunks:
                for start in range(0, len(chunk), _GZIP_MEMBER_BYTES):
                    yield zlib.compress(chunk[start : start + _GZIP_MEMBER_BYTES], 6, wbits=31)
        case Compression.ZSTD:
            compressor = zstd.ZstdCompressor()
            for chunk in chunks:
                yield compressor.compress(chunk)
            yield compressor.flush()
        case _:
            assert_never(compression)


def _layer_type(compression: Compression, docker: bool) -> str:
    if docker:
        match compression:
            case Compression.NONE:
                return "application/vnd.docker.image.rootfs.diff.tar"
            case Compression.GZIP | Compression.GZIP_MEMBERS:
                return "application/vnd.docker.image.rootfs.diff.tar.gzip"
            case Compression.ZSTD:
                raise ValueError("Docker has no media type for zstd layers")
            case _:
                assert_never(compression)
    suffix = "+" + compression.value.split()[0] if compression.value else ""
    return "application/vnd.oci.image.layer.v1.tar" + suffix


def _descriptor(descriptor: Descriptor) -> dict[str, object]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}


def _index_entry(image: BuiltImage) -> dict[str, object]:
    entry = _descriptor(Descriptor(image.media_type, image.digest, len(image.manifest)))
    platform = {"os": image.platform.os, "architecture": image.platform.architecture}
    return {
        **entry,
        "platform": {**platform, **({"variant": image.platform.variant} if image.platform.variant else {})},
    }


def _layout_index(images: Mapping[str, BuiltImage | BuiltIndex]) -> bytes:
    entries = []
    for name, built in images.items():
        content = built.manifest if isinstance(built, BuiltImage) else built.content
        entry = _descriptor(Descriptor(built.media_type, built.digest, len(content)))
        entries.append({**entry, **({"annotations": {"org.opencontainers.image.ref.name": name}} if name else {})})
    return _json({"schemaVersion": 2, "mediaType": MEDIA_TYPE_OCI_INDEX, "manifests": entries})


def _images(built: BuiltImage | BuiltIndex) -> tuple[BuiltImage, ...]:
    return (built,) if isinstance(built, BuiltImage) else built.images


def _manifests(built: BuiltImage | BuiltIndex) -> Iterator[tuple[Digest, str, bytes]]:
    for image in _images(built):
        yield image.digest, image.media_type, image.manifest
    if isinstance(built, BuiltIndex):
        yield built.digest, built.media_type, built.content


def _all_blobs(built: BuiltImage | BuiltIndex) -> Iterator[tuple[Digest, Blob]]:
    for digest, _, manifest in _manifests(built):
        yield digest, manifest
    for image in _images(built):
        yield from image.blobs.items()


def _digest_and_size(content: Blob) -> tuple[Digest, int]:
    hasher, size = hashlib.sha256(), 0
    for chunk in blob_chunks(content):
        hasher.update(chunk)
        size += len(chunk)
    return Digest("sha256:" + hasher.hexdigest()), size


def _size(content: Blob) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
